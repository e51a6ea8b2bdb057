"""Suites: real trainings that are launched, stopped, continued and compared."""

import io
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from rich.console import Console
from starlette.testclient import TestClient

from envs.library import game_of
from experiments.cli import parse, parse_train, run_command
from experiments.dashboard.server import application
from experiments.files import NO_ROOM, RunError
from experiments.matrix import cells, make_spec, read_spec, recipes
from experiments.progress import status
from experiments.resume import Resume
from experiments.scheduler import Job, Launch, Listed, Room, Scheduler
from experiments.suite import Suite, run_suite, spec_of
from experiments.suite_board import Board
from experiments.suite_checks import check_alike, check_folder, experiment_of
from experiments.suite_record import unfinished
from tests.test_scheduler import Process

TINY = """
agents = ["dqn", "c51"]
games = ["Breakout"]
seeds = "1-2"
[settings]
frames = 1200
protocol = "machado"
num-envs = 2
checkpoint-period = 400
network.hidden = 16
explore = {steps = 300, begin = 100}
replay = {capacity = 400, batch-size = 4, learn-start = 100, learn-period = 16}
evaluation = {period = 1200, episodes = 1, epsilon = 0.5, video-seconds = 0}
"""


def test_the_command_line_overrides_the_file(tmp_path):
    what = str(tmp_path / "s.toml")
    Path(what).write_text(TINY)
    spec = spec_of(Suite(what, games=("Qbert",), seeds=("7",), set=("frames=5k",), grid=("algorithm.n-steps=1,3,5",)))
    assert (spec.games, spec.seeds, spec.settings["frames"], spec.settings["num-envs"]) == (["Qbert"], [7], "5k", 2)
    assert spec.grid == {"algorithm.n-steps": ["1", "3", "5"]} and spec.agents == ["dqn", "c51"]
    assert len(cells(spec)) == 6


def test_what_makes_no_sense_is_refused_before_anything_starts(tmp_path, capsys):
    path = tmp_path / "s.toml"
    path.write_text(TINY.replace('["dqn", "c51"]', '["dqn"]'))
    for args, words in (
        (["nothing"], "there are atari100k, atari5"), ([str(path), "--seeds", "4-1"], "such as 0-4"),
        ([str(path), "--games", "Pnog"], "did you mean Pong"), ([str(path), "--agents", "dqnn"], "did you mean dqn"),
        ([str(path), "--set", "frames=10"], "before learning begins"), ([str(path), "--grid", "x"], "n-steps=3"),
        ([str(path), "--jobs", "0"], "--jobs"), (["learning-rate"], "--search 30"),
        ([str(path), "--search", "3"], "[search] table"), ([str(path), "--seeds", "1,1"], "would be run twice"),
        ([str(path), "--sampler", "random"], "are a search's"), ([str(path), "--objective", "median"], "--search 30"),
        ([str(path), "--set", "replay.capacity=2000M"], "try --replay.capacity"),
        ([str(path), "--set", "seed=3"], "--seeds 0-4"), ([str(path), "--grid", "game=Pong,Qbert"], "--games Pong"),
        ([str(path), "--set", "name=x"], "write --name"), ([str(path), "--set", "wandb_project=x"], "--wandb-project"),
        (["learning-rate", "--search", "3", "--games", "minatar/breakout,Pong"], "minatar/breakout have none"),
        (["rainbow-parts", "--agents", "no-dubble"], "did you mean no-double"),
        ([str(path), "--games", "minatar/breakout", "--set", "protocol=minatar"], "--network.torso minatar"),
        ([str(path), "--grid", "network.blocks=2,3"], "--network.torso impala"),
    ):  # fmt: skip
        status = NO_ROOM if "replay.capacity" in words else 2
        assert run_command("suite", [*args, "--runs", str(tmp_path / "runs")]) == status, args
        err = capsys.readouterr().err
        assert words in err and err.count("\n") == 1
    path.write_text("agents = [")
    assert run_command("suite", [str(path)]) == 2 and "cannot be read" in capsys.readouterr().err
    for bad in ({"agents": ["dqn"]}, {"agents": "dqn", "games": "Pong", "seed": 1}):
        with pytest.raises(ValueError, match=r"names no games|has no seed"):
            make_spec(bad)
    with pytest.raises(ValueError, match="low < high"):
        make_spec({"agents": "dqn", "games": "Pong", "search": {"x": {"low": 2, "high": 1}}})
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize("mixed", ["True", "False"])
def test_what_a_variant_is_refused_for_names_it(tmp_path, capsys, mixed):
    path = tmp_path / "s.toml"
    for setting, words in (
        ('"algorithm.clip" = 0.0', "highscore suite: variant no-clip: --algorithm.clip must be positive, got 0.0\n"),
        ('"replay.capacity" = "2000M"', "highscore suite: variant no-clip: "), ("clp = 0.1", "variant no-clip is what"),
    ):  # fmt: skip
        preset = "dqn" if "replay" in setting else "ppo"
        path.write_text(
            f'agents = "{preset},no-clip"\ngames = "Pong"\n[variants.no-clip]\npreset = "{preset}"\n{setting}'
        )
        try:
            status = run_command("suite", [str(path), "--runs", str(tmp_path), "--mixed", mixed])
        except SystemExit as end:
            status = end.code
        err = capsys.readouterr().err
        assert status in (2, NO_ROOM) and words in err and err.count("variant no-clip") == 1


def test_agents_that_are_evaluated_differently_are_told_before_they_train(tmp_path, capsys):
    (tmp_path / "s.toml").write_text('agents = "demo,ppo"\ngames = "Pong"\n')
    assert run_command("suite", [str(tmp_path / "s.toml")]) == 2
    err = capsys.readouterr().err
    flags = "protocol=machado evaluation.episodes=8 evaluation.epsilon=0.01"
    assert f"add --set {flags}, or --mixed True" in err and err.count("\n") == 1
    assert check_alike(cells(make_spec({"agents": "demo,ppo", "games": "Pong", "settings": dict(
        pair.split("=") for pair in flags.split())}))) is None  # fmt: skip


def test_the_suites_that_come_with_it_are_listed_with_their_sizes(capsys):
    assert run_command("suite", ["list"]) == 0
    said = " ".join(capsys.readouterr().out.replace("│", " ").split())
    assert "figure 3) (36 runs)" in said and "2 M frames (2 runs a trial)" in said and "(171 runs)" in said


def test_every_recipe_can_work_and_says_what_to_expect():
    for name, content in recipes().items():
        spec = make_spec(read_spec(name))
        assert content.startswith("# ") and "# Cost: " in content, name
        check_alike(cells(spec))
        command = re.search(rf"^# highscore suite ({name}( .*)?)$", content, re.M)
        assert command, name
        check_alike(cells(spec_of(parse(Suite, command[1].split()))))
        for cell in cells(spec):
            if (cell.seed, cell.game) == (spec.seeds[0], spec.games[0]):
                experiment = experiment_of(cell)
                assert game_of(cell.game).protocol(experiment.protocol)
                assert experiment.frames // experiment.frame_skip >= 20_000


def test_a_run_goes_on_where_the_suite_says(tmp_path, monkeypatch):
    (tmp_path / "s.toml").write_text(TINY.replace('["dqn", "c51"]', '["dqn"]').replace('"1-2"', "1"))
    (tmp_path / "s/dqn-Breakout-s1/checkpoints/000000000100").mkdir(parents=True)
    monkeypatch.setattr("experiments.scheduler.POLL", 0)
    started = []
    monkeypatch.setattr("experiments.scheduler.start_here", lambda words, *_: started.append(words) or Process())
    for device in ("cpu", "auto"):
        suite = Suite(str(tmp_path / "s.toml"), runs=tmp_path, device=device)
        assert run_suite(suite, Console(file=io.StringIO())) == 1
    assert [(words[0], parse(Resume, words[1:]).device) for words in started] == [("resume", "cpu"), ("resume", "same")]


def test_an_experiment_is_what_train_would_make_of_its_line():
    """A game's own protocol, too, where the preset's is for other games."""
    for cell in cells(make_spec({"agents": "pqn", "games": "Pong,probe/catch", "seeds": "3"})):
        assert experiment_of(cell) == parse_train(cell.arguments).experiment


def test_the_table_says_what_runs_what_is_left_and_when_it_ends(tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "a/config.json").write_text('{"experiment": {"frames": 1000000}}')
    rows = ({"frames": 0}, {"frames": 250_000, "charts/episodic_return": 12.34}, {"frames": 260_000, "eval/mean": 1.0})
    (tmp_path / "a/metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    cell = cells(make_spec({"agents": "dqn", "games": "Pong", "seeds": "0"}))[0]._replace(name="a")
    scheduler = Scheduler(Launch(tmp_path, (), lambda cell: [], 0), 1, lambda cell: Room(4), Room(10), print)
    scheduler.running["a"] = Job(cell, None, time.monotonic() - 100, 60_000)  # 200,000 frames in 100 s
    scheduler.failed["b"] = "the [reason]"
    scheduler.waiting = cell  # for memory
    console = Console(width=120, record=True, file=open(os.devnull, "w"))
    console.print(Board(console, 3).draw(scheduler, Listed([])))
    said = console.export_text()
    assert "0.26 of 1.00 M" in said and "12.3" in said and "2,000" in said and "6 min" in said  # 740 of 2,000 a second
    assert "0 of 3 finished, 1 running, 1 waiting, 1 failed; ends in: 14 min" in said  # and 500 s for the next
    assert "failed: b: the [reason]" in said


@pytest.fixture(scope="module")
def suite(tmp_path_factory):
    """2 agents x 2 seeds of real trainings: launched, stopped in the middle, continued to the end."""
    root = tmp_path_factory.mktemp("suite")
    (root / "tiny.toml").write_text(TINY)
    line = [str(root / "tiny.toml"), "--runs", str(root), "--jobs", "2"]
    command = [sys.executable, "-m", "experiments.cli", "suite", *line]
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parent.parent)}
    with (root / "out").open("w") as out:
        launched = subprocess.Popen(command, stdout=out, stderr=out, env=environment)
        until = time.monotonic() + 120
        while (root / "out").read_text().count(": begun") < 3 and time.monotonic() < until:
            time.sleep(0.1)  # the third begins when one of the first two is finished
        launched.send_signal(signal.SIGINT)
        assert launched.wait(60) == 128 + signal.SIGINT
    first = {p.parent.name: p.stat().st_mtime_ns for p in (root / "tiny").glob("*/summary.json")}
    finished = {name for name in first if status(root / "tiny" / name) == "finished"}
    assert run_suite(parse(Suite, line), Console(file=(root / "again").open("w"))) == 0
    return root / "tiny", {name: first[name] for name in finished}, (root / "out").read_text()


def test_players_that_cannot_share_the_games_are_refused_before_anything_begins(tmp_path, capsys):
    line = ["dev", "--set", "distributed=local", "players=3", "--runs", str(tmp_path)]
    assert run_command("suite", line) == 2
    assert "cannot be shared equally by --players 3" in capsys.readouterr().err and not list(tmp_path.iterdir())


def test_a_suite_goes_on_where_it_was_stopped(suite):
    folder, finished, said = suite
    assert 1 <= len(finished) < 4 and "Stopped and saved" in said
    assert "at most 2 at once, each with 1 thread, on which its results depend: a later --jobs cannot" in said
    runs = sorted(p.parent.name for p in folder.glob("*/config.json"))
    assert len(runs) == 4 and all(status(folder / name) == "finished" for name in runs)
    for name, written in finished.items():  # those that were finished were left alone
        assert (folder / name / "summary.json").stat().st_mtime_ns == written
    assert json.loads((folder / "suite.json").read_text())["seeds"] == [1, 2]


def test_what_earlier_commands_asked_of_a_suite_stays_and_is_told_if_unfinished(suite, tmp_path, monkeypatch):
    """Seeds 1 and 2 are finished; 3 and 4 fail at once, and then another 4."""
    folder = Path(shutil.copytree(suite[0], tmp_path / "tiny"))
    monkeypatch.setattr("experiments.scheduler.POLL", 0)
    monkeypatch.setattr("experiments.scheduler.start_here", lambda *_: Process())
    said = []
    for more in (["--seeds", "3-4"], ["--seeds", "4", "--agents", "dqn"], []):
        options = parse(Suite, [str(suite[0].parent / "tiny.toml"), "--runs", str(tmp_path), *more])
        run_suite(options, console := Console(file=io.StringIO(), width=400))
        said.append(console.file.getvalue())
    facts = json.loads((folder / "suite.json").read_text())
    assert facts["seeds"] == [1, 2] and [one["seeds"] for one in facts["earlier"]] == [[3, 4], [4]]
    assert "not finished" not in said[0] and f"  3 others are not finished in {folder}: the command" in said[1]
    assert "4 of 4 finished, 0 failed\n  4 others are not finished" in said[2]
    shutil.copytree(folder / "dqn-Breakout-s1", folder / "dqn-Breakout-s3")
    (folder / "suite.json").write_text(json.dumps({name: facts[name] for name in facts if name != "earlier"}))
    assert unfinished(folder, []) == []  # as they are in files of before
    (folder / "dqn-Breakout-s3/summary.json").unlink()
    assert unfinished(folder, []) == ["dqn-Breakout-s3"]


def test_a_suite_that_is_resumed_as_if_it_were_a_run_is_told_its_command(suite, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    path = str(suite[0].parent / "tiny.toml")
    Path("runs").mkdir()
    for folder, more in (("runs/tiny", ""), ("runs/other", " --name other"), ("tiny", f" --runs {tmp_path}")):
        Path(folder).mkdir()
        shutil.copy(suite[0] / "suite.json", folder)
        assert run_command("resume", [folder]) == 2
        said = (
            f"{folder} is a suite; the command that began it goes on with all its runs: highscore suite {path}{more}\n"
        )
        assert capsys.readouterr().err == f"highscore resume: {said}"
    (tmp_path / "tiny/suite.json").write_text("[]")
    assert run_command("resume", ["tiny"]) == 2 and "is not a run directory" in capsys.readouterr().err


def test_a_suite_that_is_finished_needs_no_room(suite, capsys, monkeypatch):
    for module in ("checks", "limits"):
        monkeypatch.setattr(f"experiments.{module}.available_memory", lambda device: 10_000)
    path = suite[0].parent / "tiny.toml"
    assert run_command("suite", [str(path), "--runs", str(path.parent)]) == 0
    assert "4 of 4 finished, 0 failed" in capsys.readouterr().out


def test_a_suite_of_other_settings_is_not_mixed_in(suite, capsys):
    path = suite[0].parent / "tiny.toml"
    line = [str(path), "--runs", str(path.parent), "--set", "optimiser.learning-rate=1e-3"]
    assert run_command("suite", line) == 2 and "begun with other settings" in capsys.readouterr().err


def test_a_suite_goes_on_after_settings_were_added(suite, tmp_path):
    """Which have the value that they had before there were such."""
    folder = Path(shutil.copytree(suite[0], tmp_path / "tiny"))
    planned = cells(spec_of(Suite(str(suite[0].parent / "tiny.toml"))))
    path = folder / planned[0].name / "config.json"
    config = json.loads(path.read_text())
    del config["experiment"]["compile"]
    path.write_text(json.dumps(config))
    check_folder(folder, planned)
    del config["experiment"]["network"]["standardise"]
    config["experiment"]["seed"] = 9
    path.write_text(json.dumps(config))
    with pytest.raises(RunError, match="begun with other settings"):
        check_folder(folder, planned)
    with pytest.raises(RunError, match="is a run, and a suite is a folder of runs"):
        check_folder(folder / planned[1].name, planned)


def test_other_jobs_than_it_was_begun_with_are_said(suite):
    console = Console(file=io.StringIO(), width=400)
    assert run_suite(Suite(str(suite[0].parent / "tiny.toml"), runs=suite[0].parent, jobs=1), console) == 0
    said = console.file.getvalue()
    assert "begun with 1 thread for" in said and "--jobs 1 would give each all threads" in said


def test_the_suite_can_be_compared(suite, capsys):
    assert run_command("compare", [str(suite[0]), "--json", "-"]) == 0
    data = json.loads(capsys.readouterr().out)
    assert data["games"].keys() == {"Breakout"} and len(data["runs"]) == 4 and not data["mixed"]
    assert len({run["weights"] for run in data["runs"]}) == 4 and len(data["fingerprints"]) == 1


def test_the_suite_can_be_reported(suite, tmp_path):
    out = tmp_path / "report.html"
    assert run_command("report", [str(suite[0]), "--out", str(out)]) == 0
    text = out.read_text()
    assert text.count("<img") == 5 and all(words in text for words in ("c51-Breakout-s2", "machado", "fingerprint"))


def test_the_suite_is_in_the_dashboard_and_a_click_plays_an_episode(suite):
    """From a point of a curve to the film of the episode that was played there."""
    with TestClient(application(suite[0].parent), base_url="http://localhost") as client:
        runs = client.get("/api/runs").json()["runs"]
        assert len(runs) == 4 and {run["folder"] for run in runs} == {"tiny"}
        assert {run["status"] for run in runs} == {"finished"} and len({run["fingerprint"] for run in runs}) == 1
        (board,) = client.get("/api/leaderboard").json()
        assert [row["runs"] for row in board["rows"]] == [2, 2]
        run = next(run for run in runs if run["name"] == "dqn-Breakout-s1")
        page = client.get(f"/api/run/{run['id']}").json()
        assert "dqn on Breakout" in page["log"] and page["evaluations"][-1]["fingerprint"]["sticky_probability"] == 0.25
        episode = client.get(f"/api/run/{run['id']}/episode", params={"frames": 700}).json()
        rows = [json.loads(line) for line in (suite[0] / run["name"] / "episodes.jsonl").read_text().splitlines()]
        assert episode["episode"] == str(min(rows, key=lambda row: abs(row["frames"] - 700))["episode"])
        film = client.get(episode["film"])
        assert film.status_code == 200 and film.headers["content-type"] == "video/mp4" and film.content[4:8] == b"ftyp"
