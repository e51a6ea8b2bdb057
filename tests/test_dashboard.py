"""The dashboard: what is new and no more, and nothing but what is shown."""

import json
import shutil

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from starlette.testclient import TestClient

from experiments.cli import run_command
from experiments.comparison import load
from experiments.dashboard.index import Index
from experiments.dashboard.server import application
from experiments.files import write_json
from tests.test_compare import make


def row(i, score=None, **more):
    score = float(i) if score is None else score
    return json.dumps({"frames": 10_000 * i, "agent_steps": 2_500 * i, "charts/episodic_return": score, **more}) + "\n"


def train(path, rows, **more):
    """Writes a run's rows as training does."""
    with (path / "metrics.jsonl").open("a") as file:
        file.writelines(row(i) for i in range(1, rows + 1))
    with (path / "perf.jsonl").open("a") as file:
        file.writelines(json.dumps({"frames": 10_000 * i, "charts/FPS": 1_000.0}) + "\n" for i in range(1, rows + 1))
    last = {"frames": 10_000 * rows, "finished": True, "evaluation": None} | more
    (path / "summary.json").write_text(json.dumps(last))


@pytest.fixture
def root(tmp_path):
    """Two runs of two agents on Pong."""
    for agent in ("dqn", "c51"):
        path = make(tmp_path, agent, "Pong", 1, [-20.0, 3.0])
        result = json.loads((path / "evaluations/000000500000.json").read_text())
        train(path, 50, evaluation=result)
    return tmp_path


@pytest.fixture
def client(root, monkeypatch):
    monkeypatch.setattr("experiments.dashboard.index.REFRESH", 0)
    monkeypatch.setattr("experiments.dashboard.index.SCAN", 0)
    with TestClient(application(root), base_url="http://localhost") as client:
        yield client


def curves(client, since=-1, **more):
    return client.get("/api/curves", params={"metric": "charts/episodic_return", "since": since, **more}).json()


def test_the_overview_tells_what_there_is(client):
    runs = {run["agent"]: run for run in client.get("/api/runs").json()["runs"]}
    assert runs.keys() == {"dqn", "c51"}
    dqn = runs["dqn"]
    assert (dqn["status"], dqn["frames"], dqn["whole"], dqn["evaluation"]) == ("finished", 500_000, 2_000_000, 3)
    assert dqn["normalised"] == pytest.approx((3 + 20.7) / (14.6 + 20.7)) and len(dqn["fingerprint"]) == 8
    about = client.get("/api/about").json()
    assert "algorithm" in about["settings"] and about["scales"]["Pong"] == [-20.7, 14.6]
    assert "DQN CNN (Dopamine)" in about["curves"]["Pong"]


def test_only_new_points_travel(client, root):
    first = curves(client)
    assert [len(curve["x"]) for curve in first["curves"]] == [50, 50] and all(c["anew"] for c in first["curves"])
    assert curves(client, first["version"])["curves"] == []
    path = next(root.glob("dqn*"))
    with (path / "metrics.jsonl").open("a") as file:
        file.write(row(51) + row(52)[:20])  # the second is torn
    second = curves(client, first["version"])
    assert [(c["anew"], c["x"], c["y"]) for c in second["curves"]] == [(False, [510_000], [51])]
    with (path / "metrics.jsonl").open("a") as file:
        file.write(row(52)[20:])
    assert curves(client, second["version"])["curves"][0]["x"] == [520_000]


def test_two_pages_that_ask_by_turns_miss_nothing(client, root, monkeypatch):
    """What one asks for is read, and is as new to the other."""
    monkeypatch.setattr("experiments.dashboard.index.REFRESH", 60)
    first = curves(client)
    with (next(root.glob("dqn*")) / "metrics.jsonl").open("a") as file:
        file.write(row(51))
    assert [c["x"] for c in curves(client, first["version"])["curves"]] == [[510_000]]
    assert [c["x"] for c in curves(client, first["version"])["curves"]] == [[510_000]]


def test_hours_only_go_on_while_a_run_is_watched(client, root):
    path, shown, version = next(root.glob("dqn*")), [], -1
    for i in range(51, 400):
        with (path / "metrics.jsonl").open("a") as file:
            file.write(row(i))
        with (path / "perf.jsonl").open("a") as file:
            file.write(json.dumps({"frames": 10_000 * i, "charts/FPS": 100.0 + 900 * (i % 7)}) + "\n")
        if i % 50 == 0:
            found = curves(client, version, axis="hours")
            version = found["version"]
            shown += next(c["x"] for c in found["curves"] if len(found["curves"]) == 1 or c["frames"][-1] > 500_000)
    assert shown == sorted(shown)
    with (path / "perf.jsonl").open("a") as file:  # resumed at 1.01 M frames: some rows are measured again
        file.writelines(json.dumps({"frames": 10_000 * i, "charts/FPS": 1e9}) + "\n" for i in range(102, 400))
    charts = curves(client, axis="hours")["curves"]
    spent = sum(10_000 / (1_000 if i < 51 else 100 + 900 * (i % 7)) for i in range(1, 102)) / 3600
    assert max(c["x"][-1] for c in charts) == pytest.approx(spent, rel=1e-3)


def test_hours_of_a_long_training_count_every_row(client, root):
    """A slow one, as when an evaluation came between, does not stand for its neighbours."""
    path, speeds = next(root.glob("dqn*")), [1.0 if i == 1_000 else 1_000.0 for i in range(1, 2_001)]
    for name, rows in (
        ("metrics", ({"frames": 10_000 * i, "agent_steps": i, "charts/episodic_return": 1.0} for i in range(1, 2_001))),
        ("perf", ({"frames": 10_000 * i, "charts/FPS": speed} for i, speed in enumerate(speeds, 1))),
    ):  # fmt: skip
        (path / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    hours = max(c["x"][-1] for c in curves(client, axis="hours")["curves"])
    assert hours == pytest.approx(sum(10_000 / speed for speed in speeds) / 3600, rel=1e-6)


def test_a_run_that_takes_the_place_of_another_is_another(client, root):
    before = client.get("/api/runs").json()
    old = next(run for run in before["runs"] if run["agent"] == "dqn")["id"]
    curves(client)
    path = next(root.glob("dqn*"))
    config = json.loads((path / "config.json").read_text())
    shutil.rmtree(path)
    shutil.copytree(next(root.glob("c51*")), path)
    config["experiment"]["game"] = "Breakout"
    (path / "config.json").write_text(json.dumps(config | {"created": "2026-11-28T10:00:00+0000"}))
    after = client.get("/api/runs", params={"since": before["version"]}).json()
    (new,) = (run for run in after["runs"] if run["name"] == path.name)
    assert after["gone"] == [old] and new["id"] != old and new["game"] == "Breakout"


def test_a_resumed_run_that_was_cut_is_read_anew(client, root):
    first = curves(client)
    path = next(root.glob("dqn*")) / "metrics.jsonl"
    lines = path.read_text().splitlines(keepends=True)
    path.write_text("".join(lines[:30]) + row(31, 99.0))
    (again,) = curves(client, first["version"])["curves"]
    assert again["anew"] and again["y"][-1] == 99 and len(again["x"]) == 31


def test_axes_and_sparse_metrics(client, root):
    path = next(root.glob("dqn*")) / "metrics.jsonl"
    with path.open("a") as file:
        file.write(json.dumps({"frames": 510_000, "agent_steps": 127_500, "eval/mean": 4.0}) + "\n")
    found = curves(client, axis="hours")["curves"][0]
    assert found["x"][-1] == pytest.approx(500_000 / 1000 / 3600, rel=1e-3) and found["frames"][-1] == 500_000
    assert curves(client, axis="steps")["curves"][0]["x"][:2] == [2_500, 5_000]
    evals = client.get("/api/curves", params={"metric": "eval/mean"}).json()["curves"]
    assert [(c["x"], c["y"]) for c in evals if c["x"]] == [([510_000], [4])]


def test_what_is_no_number_is_left_out(client, root):
    path = next(root.glob("dqn*"))
    with (path / "metrics.jsonl").open("a") as file:
        file.write(row(51, float("nan")) + row(52, float("inf")) + '"text"\n[1]\n{"frames": "x"}\n' + row(53))
    (path / "summary.json").write_text('{"finished": true, "training_score": NaN, "evaluation": {"mean": NaN}}')
    shutil.rmtree(path / "evaluations")
    by_length = sorted((c["y"] for c in curves(client)["curves"]), key=len)
    assert by_length[1][-2:] == [50, 53]
    for url in ("/api/runs", "/api/leaderboard", "/api/about"):
        assert "NaN" not in client.get(url).text
    run = next(run for run in client.get("/api/runs").json()["runs"] if run["agent"] == "dqn")
    assert run["evaluation"] is None
    page = client.get(f"/api/run/{run['id']}")
    assert page.status_code == 200 and "NaN" not in page.text


def test_a_run_that_is_deleted_while_open_says_so(client, root):
    first = client.get("/api/runs").json()
    victim = next(run for run in first["runs"] if run["agent"] == "dqn")["id"]
    curves(client)
    shutil.rmtree(next(root.glob("dqn*")))
    answer = client.get(f"/api/run/{victim}/charts")
    assert answer.status_code == 404 and "gone" in answer.json()["error"]
    assert client.get("/api/runs", params={"since": first["version"]}).json()["gone"] == [victim]


def test_no_path_leads_out_of_the_runs(client, root):
    (root / "secret.mp4").write_bytes(b"secret")
    run = client.get("/api/runs").json()["runs"][0]["id"]
    for name in ("..%2f..%2fsecret.mp4", "%2e%2e/secret.mp4", "....//secret.mp4", "secret.mp4", "%00.mp4"):
        for url in (f"/video/{run}/{name}", f"/video/{name}", f"/static/{name}", f"/static/..%2f{name}"):
            answer = client.get(url)
            assert answer.status_code in (400, 404) and b"secret" != answer.content, url
    assert client.get("/static/app.js").status_code == 200


def test_other_sites_are_kept_out(client):
    assert client.get("/api/runs", headers={"host": "evil.example"}).status_code == 403
    run = client.get("/api/runs").json()["runs"][0]["id"]
    assert client.post(f"/api/run/{run}/watch", headers={"origin": "http://evil.example"}).status_code == 403
    assert client.get(f"/api/run/{run}/watch").status_code == 405
    policy = client.get("/").headers["content-security-policy"]
    assert "default-src 'self'" in policy and "unsafe" not in policy


def test_the_leaderboard_keeps_fingerprints_apart(client, root):
    make(root, "dqn", "Pong", 2, [5.0], epsilon=0.05)
    other = max(root.glob("dqn*"), key=lambda p: p.name)
    result = json.loads((other / "evaluations/000000250000.json").read_text())
    train(other, 10, evaluation=result)
    boards = client.get("/api/leaderboard", params={"published": ["Agent57", "nobody"]}).json()
    assert sorted(board["runs"] for board in boards) == [1, 2]
    first = boards[0]
    assert [row["agent"] for row in first["rows"]] == ["c51", "dqn (frames 2M)"]  # the other dqn trains for 1 M
    assert first["rows"][0]["means"] == {"Pong": 3} and first["published"][0]["agent"] == "Agent57"
    assert "no sticky actions" in first["published"][0]["protocol"]


def test_a_curve_has_the_fingerprint_of_its_own_evaluations(client, root):
    for facts in client.get("/api/runs").json()["runs"]:
        assert facts["curve_fingerprint"] == facts["fingerprint"]
    path = next(root.glob("dqn*")) / "evaluations"
    result = json.loads((path / "000000500000.json").read_text())
    result["fingerprint"]["epsilon"] = 0.3
    write_json(path / "000000500000-by-hand.json", result | {"name": "by hand", "created": "2030"})
    (path / "000000500000.json").unlink()
    (facts,) = (one for one in client.get("/api/runs").json()["runs"] if one["preset"] == "dqn")
    assert facts["curve_fingerprint"] != facts["fingerprint"]


def test_a_summary_that_is_none_of_ours_hides_no_other_run(client, root):
    path = next(root.glob("dqn*")) / "summary.json"
    broken = json.loads(path.read_text())
    broken["evaluation"]["fingerprint"] = [1]
    path.write_text(json.dumps(broken))
    assert {run["agent"] for run in client.get("/api/runs").json()["runs"]} == {"dqn", "c51"}


HUGE = 10**400


def config_with(**strange):
    def damage(path):
        config = json.loads((path / "config.json").read_text())
        (path / "config.json").write_text(json.dumps(config | {"experiment": config["experiment"] | strange}))

    return damage


def file_with(name, text, mode="w"):
    def damage(path):
        (path / name).parent.mkdir(parents=True, exist_ok=True)
        with (path / name).open(mode) as file:
            file.write(text)

    return damage


STRANGE = {
    "frames": file_with("summary.json", '{"frames": null, "agent_steps": 7, "training_score": "x", "evaluation": 3}'),
    "a word": file_with("summary.json", '{"frames": "x", "agent_steps": 7, "evaluation": {"mean": "x"}}'),
    "mean": file_with("summary.json", f'{{"frames": {HUGE}, "evaluation": {{"mean": {HUGE}}}}}'),
    "evaluation": file_with("evaluations/000000500000.json", f'{{"mean": {HUGE}, "agent_steps": {HUGE}}}'),
    "no mean": file_with("evaluations/000000500000.json", '{"recordings": 3}'),
    "row": file_with("metrics.jsonl", row(51).replace("510000", str(HUGE)), "a"),
    "metric": file_with("metrics.jsonl", row(51, 1.0).replace("1.0", str(HUGE)), "a"),
    "speed": file_with("perf.jsonl", '{"frames": 520000, "charts/FPS": 5e-324}\n', "a"),
    "folder": file_with("checkpoints/²/x", ""),
    "preset": config_with(preset=["dqn"]), "seed": config_with(seed=float("nan")), "length": config_with(frames=HUGE),
}  # fmt: skip


@pytest.mark.parametrize("kind", STRANGE)
def test_a_strange_run_hides_no_other(root, kind):
    path = next(root.glob("dqn*"))
    (path / "checkpoints/000000000007").mkdir(parents=True)
    STRANGE[kind](path)
    client = TestClient(application(root), base_url="http://localhost")
    found = client.get("/api/runs").json()["runs"]
    assert "c51" in {run["agent"] for run in found}
    urls = [f"/api/run/{run['id']}{more}" for run in found for more in ("", "/charts?axis=hours")]
    for url in ("/api/leaderboard", "/api/about", "/api/curves?axis=hours", "/api/curves?metric=charts/FPS", *urls):
        assert client.get(url).status_code == 200, url
    assert run_command("list", ["runs", "--runs", str(root)]) == 0
    if kind not in ("preset", "seed", "length"):
        assert run_command("list", ["episodes", str(path)]) == 0


def test_a_run_that_cannot_be_looked_at_is_damaged_and_alone(client, root, monkeypatch):
    def status(path):
        if path.name.startswith("dqn"):
            raise RuntimeError

    monkeypatch.setattr("experiments.dashboard.index.status", status)
    for path in root.glob("*/metrics.jsonl"):
        path.write_text(row(60))
    assert {run["agent"]: run["status"] for run in client.get("/api/runs").json()["runs"]}["dqn"] == "damaged"
    assert [board["runs"] for board in client.get("/api/leaderboard").json()] == [1]


def test_it_takes_the_evaluation_that_compare_takes(client, root):
    path = next(root.glob("dqn*"))
    before = client.get("/api/runs").json()
    own = json.loads((path / "evaluations/000000500000.json").read_text())
    more = own | {"episodes": 100, "mean": 9.0, "fingerprint": own["fingerprint"] | {"episodes": 100}}
    write_json(path / "evaluations/later.json", more)
    (run,) = client.get("/api/runs", params={"since": before["version"]}).json()["runs"]
    assert run["evaluation"] == load([path]).runs[0].result["mean"] == 9
    boards = client.get("/api/leaderboard").json()  # with those that were measured alike, it still stands
    assert [[row["means"]["Pong"] for row in board["rows"]] for board in boards] == [[3, 3], [9]]


@pytest.mark.parametrize("display", [True, False])
def test_without_a_display_no_browser_is_started(tmp_path, monkeypatch, capsys, display):
    opened = []
    monkeypatch.setattr("webbrowser.open", opened.append)
    monkeypatch.setattr("experiments.web.has_display", lambda: display)
    monkeypatch.setattr("experiments.web.run", lambda app, listener: None)
    assert run_command("dashboard", ["--runs", str(tmp_path)]) == 0
    assert run_command("dashboard", ["here", "--runs", str(tmp_path)]) == 2  # which of the two?
    assert len(opened) == display and ("ssh -L" in capsys.readouterr().out) is not display


SCRAPS = st.sampled_from(
    ["..", "%2e%2e", "api", "run", "runs", "film", "video", "static", "x.mp4", "1.mp4", "%00", "é"]
)


@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(
    st.lists(st.one_of(SCRAPS, st.text(max_size=8)), max_size=5),
    st.dictionaries(st.sampled_from(["since", "metric", "axis", "runs", "frames", "agent", "game", "published"]),
                    st.one_of(st.text(max_size=12), st.integers().map(str)), max_size=3),
)  # fmt: skip
def test_whatever_is_asked_it_answers(client, parts, query):
    """No request makes an error of ours: neither on routes that exist, nor on strange ones."""
    from urllib.parse import quote

    run = client.get("/api/runs").json()["runs"][0]["id"]
    strange = "/" + "/".join(quote(part, safe="%.") for part in parts).lstrip("/")
    of_run = [f"/api/run/{run}", f"/api/run/{run}/charts", f"/api/run/{run}/episode", f"/video/{run}{strange}"]
    for path in (strange, "/api/curves", "/api/published", "/api/leaderboard", *of_run):
        assert client.get(path, params=query).status_code < 500, (path, query)


def test_the_index_forgets_what_is_gone(root):
    index = Index(root)
    assert len(index.runs(-1)["runs"]) == 2
    shutil.rmtree(next(root.glob("c51*")))
    index.scanned = index.refreshed = float("-inf")
    assert len(index.runs(index.version)["gone"]) == 1 and len(index.runs(-1)["runs"]) == 1
