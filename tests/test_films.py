"""Films of recorded episodes: one at a time, none that nobody waits for; and how an episode is found among many."""

import asyncio
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from starlette.testclient import TestClient

from experiments.dashboard.films import FilmError, Films
from experiments.dashboard.index import Index
from experiments.dashboard.pages import videos
from experiments.dashboard.server import application
from experiments.dashboard.tails import Tail
from experiments.lines import Lines, episodes_back, nearest
from tests.test_compare import make


@pytest.fixture
def slow(tmp_path, monkeypatch):
    """Films that are never ready; returns what tells (episode, process) of all that were begun."""
    log, script = tmp_path / "log", tmp_path / "python"
    script.write_text(f'#!/bin/sh\necho "$7 $$" >> {log}\nexec sleep 60\n')
    script.chmod(0o755)
    monkeypatch.setattr("sys.executable", str(script))
    return lambda: [tuple(map(int, line.split())) for line in log.read_text().splitlines()] if log.exists() else []


async def until(what):
    async with asyncio.timeout(30):
        while not what():
            await asyncio.sleep(0.01)


def lives(process):
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    return True


def test_the_end_of_the_dashboard_ends_the_film_and_begins_no_other(tmp_path, slow):
    async def scene():
        films = Films()
        queue = [asyncio.create_task(films.episode(tmp_path, f"x-{n}", str(n))) for n in (1, 2, 3)]
        await until(slow)
        films.close()
        return await asyncio.gather(*queue, return_exceptions=True)

    assert all(isinstance(error, FilmError) for error in asyncio.run(scene()))
    ((episode, process),) = slow()
    assert episode == 1 and not lives(process)


def test_a_film_that_nobody_waits_for_is_given_up_and_one_at_the_end_says_so(tmp_path, slow, monkeypatch):
    monkeypatch.setattr("experiments.dashboard.server.LOOKS", 0.01)
    rewrite(make(tmp_path, "dqn", "Pong", 1, [3.0]), [1, 2, 3])
    app, run = application(tmp_path), Index(tmp_path).runs(-1)["runs"][0]["id"]

    async def ask(number, gone):
        """The status of an answer; the page is closed when `gone` is set."""
        messages, statuses = [{"type": "http.request", "body": b""}], []

        async def receive():
            if not messages:
                await gone.wait()
            return messages.pop() if messages else {"type": "http.disconnect"}

        async def send(message):
            statuses.append(message.get("status"))

        scope = {"type": "http", "method": "GET", "path": f"/film/{run}/{number}.mp4", "query_string": b""}
        await app(scope | {"headers": [(b"host", b"localhost")]}, receive, send)
        return statuses[0]

    async def scene():
        gone = [asyncio.Event() for _ in range(3)]
        one = asyncio.create_task(ask(1, gone[0]))
        await until(slow)
        two, three = asyncio.create_task(ask(2, gone[1])), asyncio.create_task(ask(3, gone[2]))
        gone[0].set()
        gone[1].set()
        answers = await asyncio.gather(one, two)  # whether it plays or still waits
        await until(lambda: slow()[-1][0] == 3)
        three.cancel()  # as the server does when it ends
        return [*answers, await three]

    assert asyncio.run(scene()) == [503, 503, 503]
    assert not any(lives(process) for _, process in slow())


def rewrite(path, scores):
    """A training's episodes, of two games by turns."""
    rows = [
        {"episode": i, "frames": 100 * i, "game": i % 2, "score": score, "steps": 5, "recording": [9 * i, 9]}
        for i, score in enumerate(scores, 1)
    ]
    (path / "episodes.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows) + '{"torn')


def test_an_episode_of_a_lost_time_line_has_another_film(tmp_path, monkeypatch):
    script = tmp_path / "python"
    script.write_text('#!/bin/sh\necho $$ > "$9"\n')
    script.chmod(0o755)
    monkeypatch.setattr("sys.executable", str(script))
    path = make(tmp_path, "dqn", "Pong", 1, [3.0])
    with TestClient(application(tmp_path), base_url="http://localhost") as client:
        run, films = client.get("/api/runs").json()["runs"][0]["id"], []
        assert client.get(f"/api/run/{run}/episode").json() == {"error": "no episode of this run was recorded"}
        for scores in ([1, 2, 3], [1, 2, 4, 5], [1, 7]):  # goes on, and is resumed before its second episode
            rewrite(path, scores)
            films.append(client.get(f"/film/{run}/2.mp4").content)
    assert films[0] == films[1] != films[2]


def test_a_point_of_an_evaluation_is_its_median_episode(tmp_path, monkeypatch):
    script = tmp_path / "python"
    script.write_text('#!/bin/sh\nprintf %s "$7" > "$9"\n')
    script.chmod(0o755)
    monkeypatch.setattr("sys.executable", str(script))
    path = make(tmp_path, "dqn", "Pong", 1, [3.0, 4.0])
    first, last = (path / f"evaluations/{name}.json" for name in ("000000125000", "000000250000"))
    for file, scores in ((first, [5.0, -1.0, 2.0]), (last, [1.0])):
        found = {"scores": scores, "recordings": [[0, 9]] * len(scores), "agent_steps": int(file.stem)}
        file.write_text(json.dumps(json.loads(last.read_text()) | found | {"frames": 4 * int(file.stem)}))
    with TestClient(application(tmp_path), base_url="http://localhost") as client:
        run = client.get("/api/runs").json()["runs"][0]["id"]
        found = client.get(f"/api/run/{run}/episode", params={"frames": 600_000, "metric": "eval/median"}).json()
        assert (found["episode"], found["frames"], found["score"], found["of"]) == ("000000125000/3", 500_000, 2.0, 3)
        assert client.get(found["film"]).text == "000000125000/3"
        for name in ("000000125001/1", "..%2Fevaluations%2F000000125000/1", "--help/1", "people/1", "000000125000/x"):
            assert client.get(f"/film/{run}/{name}.mp4").status_code == 404
            assert client.post(f"/api/run/{run}/watch", params={"episode": name}).status_code == 404
        rewrite(path, [1, 2])
        found = client.get(f"/api/run/{run}/episode", params={"frames": 600_000, "metric": "losses/loss"}).json()
        assert found["episode"] == "2" and "of" not in found


def test_an_episode_is_found_without_reading_all(tmp_path, monkeypatch):
    rewrite(tmp_path, range(20_000))
    parsed, loads = [], json.loads
    monkeypatch.setattr("json.loads", lambda text: parsed.append(text) or loads(text))
    for number in (1, 2, 777, 11_416, 19_999, 20_000):
        found = episodes_back(tmp_path, number)
        first, *earlier = [next(found)["episode"] for _ in range(min(5, (number + 1) // 2))]
        assert first == number and earlier == [number - 2 * i for i in range(1, len(earlier) + 1)]
    assert len(parsed) < 2_000
    assert [row["episode"] for row in episodes_back(tmp_path, 9_001)] == list(range(9_001, 0, -2))
    assert [*episodes_back(tmp_path, 0), *episodes_back(tmp_path, 20_001)] == []


def test_a_file_that_is_cut_while_it_is_read_ends_nothing(tmp_path, monkeypatch):
    """If it were mapped into memory, that would end this process (SIGBUS)."""
    path = tmp_path / "episodes.jsonl"
    rewrite(tmp_path, range(5_000))
    begin, tail = Lines.begin, Tail(path)

    def cut(lines, at):
        found = begin(lines, at)
        path.write_text("")
        return found

    with path.open("rb") as file, monkeypatch.context() as patches:
        lines = Lines(file)
        patches.setattr(Lines, "begin", cut)
        assert tail.sample() == [] and nearest(path, 5) is None
        assert list(lines.before(lines.end)) == list(lines.having(b"episode", lines.end)) == []
    assert tail.fresh() is None


def test_films_of_the_training_come_first(tmp_path):
    (tmp_path / "recordings").mkdir()
    for name in ("²", "untrained", "000000125002", "1000000000000", "000000250000", "after", ".x"):
        (tmp_path / "recordings" / f"{name}.mp4").touch()
    assert videos(tmp_path) == [
        f"{name}.mp4" for name in ("1000000000000", "000000250000", "000000125002", "after", "untrained", "²")
    ]


def test_a_film_that_cannot_be_made_says_why(tmp_path):
    path, films = make(tmp_path, "dqn", "Pong", 1, [3.0]), Films()
    with pytest.raises(FilmError, match="recorded none there"):
        asyncio.run(films.episode(path, "x", "1"))
    films.close()


def test_the_nearest_episode_is_found_without_reading_all(tmp_path):
    path = tmp_path / "episodes.jsonl"
    with path.open("w") as file:
        for i in range(20_000):
            file.write(json.dumps({"episode": i + 1, "frames": 100 * i, "score": 0, "recording": [0, 1]}) + "\n")
        file.write('{"torn')
    for frames, episode in ((0, 1), (1_000_049, 10_001), (1_000_051, 10_002), (10**9, 20_000)):
        assert nearest(path, frames)["episode"] == episode
    assert nearest(tmp_path / "none", 5) is None


def test_a_live_page_that_never_had_an_address_is_not_taken_for_one(tmp_path, slow, monkeypatch):
    monkeypatch.setattr("experiments.dashboard.films.LIVE_PATIENCE", 0.5)
    films = Films()
    for _ in range(2):
        with pytest.raises(FilmError, match="it said nothing"):
            films.watch(tmp_path, "x")
        assert films.live == {}
    films.live["x", 0, ""] = (left := subprocess.Popen(["sleep", "60"])), ""
    with pytest.raises(FilmError, match="it said nothing"):
        films.watch(tmp_path, "x")
    left.kill()
    left.wait()
    films.close()


def test_a_film_that_is_there_does_not_wait_for_another(tmp_path):
    async def scene():
        films = Films()
        made = Path(films.folder.name) / "x-1.mp4"
        made.write_bytes(b"film")
        async with films.filming, asyncio.timeout(10):
            assert await films.episode(tmp_path, "x-1", "1") == made
        films.close()

    asyncio.run(scene())


def test_a_live_page_is_known_by_the_address_it_prints():
    def started(code):
        return subprocess.Popen(
            [sys.executable, "-uc", code], text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
        )  # fmt: skip

    serving = started("print('starting'); print('Watch it at http://localhost:8010   (Ctrl-C ends this)'); input()")
    assert Films._address(serving)[0] == "http://localhost:8010"
    serving.terminate()
    serving.wait()
    failing = started("print('first'); print('highscore watch: there is no checkpoint yet')")
    assert Films._address(failing) == ("", "highscore watch: there is no checkpoint yet")
    failing.wait()
