"""The show behind the page: wishes are obeyed, a person takes over, episodes have time lines."""

import json
import shutil
import threading
import time
from dataclasses import replace

import pytest
import torch
from starlette.testclient import TestClient
from starlette.websockets import WebSocketDisconnect

from envs.protocols import MACHADO
from experiments.cli import run_command
from experiments.episodes import find_episode, people_episodes, progress_episodes
from experiments.viewer import history, server
from experiments.viewer.player import Player
from experiments.viewer.server import Hub, Viewer, application
from experiments.viewer.show import Show, Wishes
from experiments.viewer.source import find_source
from tests.watched import CPU


@pytest.fixture
def show(watched_run):
    sent = []
    made = Show(find_source(watched_run.path), MACHADO, CPU, "agent", [], Wishes(epsilon=0.9), sent.append)
    made.sent = sent
    made.begin()
    yield made
    for lane in made.lanes:
        lane.player.close()


def header_of(show):
    return show.sent[-1].header


def test_wishes_are_obeyed_without_restarting(show):
    for _ in range(5):
        show.advance()
    assert header_of(show)["cursor"] == 5 and header_of(show)["checkpoints"] == ["1000", "2000"]
    show.obey({"do": "pause", "value": True})
    sent = len(show.sent)
    show.turn()
    assert len(show.sent) == sent and header_of(show)["paused"]
    show.obey({"do": "step"})
    show.turn()
    assert header_of(show)["cursor"] == 6
    show.obey({"do": "seek", "value": 2})
    assert header_of(show)["cursor"] == 2 and header_of(show)["length"] == 7 and header_of(show)["still"]
    show.obey({"do": "checkpoint", "value": "1000"})
    assert header_of(show)["checkpoint"] == "1000" and header_of(show)["length"] == 1
    show.obey({"do": "seed", "value": "9"})
    assert header_of(show)["seed"] == 9 and show.lanes[0].player.seed == 9
    show.obey({"do": "epsilon", "value": "0.25"})
    assert show.lanes[0].player.epsilon == 0.25
    for saliency in ("gradient", "perturbation"):
        show.obey({"do": "saliency", "value": saliency})
        names = [picture["name"] for picture in header_of(show)["pictures"]]
        assert names == ["screen0", "sound", "input", "saliency"] and len(show.sent[-1].pictures) == len(names)
    show.obey({"do": "features", "value": True})
    first = header_of(show)["lanes"][0]
    assert len(first["values"]) == 4 and max(first["values"]) == pytest.approx(first["value"], rel=1e-3)
    assert sum(header_of(show)["spread"]["p"][0]) == pytest.approx(1, abs=1e-3) and first["memory"][0] > 0
    json.dumps(show.sent[-1].pack(0)[1], allow_nan=False)


def test_a_checkpoint_that_the_training_removed_meanwhile_is_played_on(watched_run, tmp_path):
    """It keeps two; what is watched may be gone when somebody wants to play against it, and newer ones come."""
    path = tmp_path / "run"
    shutil.copytree(watched_run.path, path)
    show = Show(find_source(path), MACHADO, CPU, "agent", [], Wishes(epsilon=0.9), lambda message: None)
    show.begin()
    shutil.move(path / "checkpoints/000000002000", path / "checkpoints/000000003000")
    show.obey({"do": "kind", "value": "duel"})
    assert show.kind == "duel" and len(show.lanes) == 2 and show.note.startswith("Press")
    assert list(show.source.checkpoints) == ["1000", "2000", "3000"]
    show.obey({"do": "checkpoint", "value": "3000"})
    assert show.wishes.checkpoint == "3000" and list(show.source.checkpoints) == ["1000", "3000"]
    show.close()


@pytest.mark.parametrize(
    "command, words",
    [
        ({"do": "checkpoint", "value": "77"}, "there are 1000, 2000"),
        ({"do": "seed", "value": "-1"}, "whole number"), ({"do": "seed", "value": None}, "whole number"),
        ({"do": "seed", "value": "1.5"}, "the seed is a whole number"), ({"do": "seed", "value": ""}, "whole number"),
        ({"do": "epsilon", "value": ""}, "probability"),
        ({"do": "epsilon", "value": "nan"}, "probability"), ({"do": "speed", "value": 77}, "none of 0.1"),
        ({"do": "saliency", "value": "x"}, "none of off"), ({"do": "kind", "value": "progress"}, "none of agent"),
        ({"do": "keys", "value": {"a": 1}}, ""), ({"do": "nothing"}, ""),
        ({"do": "seek", "value": float("inf")}, "infinity"),
        ({"do": "keys", "value": ["9" * 9_999, {}, None]}, ""), ({"do": []}, ""),
    ],
)  # fmt: skip
def test_wishes_that_make_no_sense_are_answered(show, command, words):
    show.obey(command)
    show.advance()
    assert words in header_of(show)["note"] or not words
    assert show.wishes.seed == 0 and show.wishes.checkpoint == "2000" and show.wishes.speed == 1


def test_a_person_takes_over_and_the_episode_is_recorded(watched_run, show, capsys):
    for _ in range(6):
        show.advance()
    show.obey({"do": "seek", "value": 3})
    show.obey({"do": "pause", "value": False})
    show.obey({"do": "keys", "value": ["ArrowRight"]})
    show.advance()
    first = header_of(show)["lanes"][0]
    assert header_of(show)["length"] == 5 and first["taken"] and header_of(show)["actions"][first["played"]] == "RIGHT"
    show.obey({"do": "keys", "value": []})
    show.advance()
    assert header_of(show)["lanes"][0]["played"] == 0  # lets go: nothing for a moment, then the agent again
    show._key_held = -10
    show.advance()
    assert not header_of(show)["lanes"][0]["taken"]
    count = len(people_episodes(watched_run.path))
    while not show.lanes[0].ended:
        show.advance()
    assert header_of(show)["note"] == f"recorded as episode people/{count + 1}"
    recording = find_episode(watched_run, f"people/{count + 1}")
    assert recording == show.lanes[0].player.record() and recording.score == show.lanes[0].player.scene.score
    assert run_command("list", ["episodes", str(watched_run.path)]) == 0
    assert f"people/{count + 1}" in capsys.readouterr().out


def test_a_duel_is_the_same_game_twice_and_counts(show):
    show.obey({"do": "kind", "value": "duel"})
    agent, you = show.lanes
    assert show.wishes.paused and agent.shown[0].picture == you.shown[0].picture
    show.obey({"do": "keys", "value": [" "]})
    assert not show.wishes.paused
    show.advance()
    assert you.shown[1].facts["played"] == 1 and not agent.shown[1].facts["taken"]
    show.obey({"do": "keys", "value": []})
    for _ in range(3):
        show.advance()
    assert you.shown[4].facts["played"] == 0 and you.player.games.logs[0].seed == agent.player.games.logs[0].seed
    for lane, score in ((agent, 3.0), (you, 5.0)):
        lane.player.scene = lane.player.scene._replace(
            score=score, step=lane.player.scene.step._replace(last=torch.tensor([True]))
        )
    you.player.person = False  # nothing to record here
    show._finish(you)
    assert show.tally == {"agent": 0, "you": 1}


def test_recorded_episodes_have_a_time_line_and_progress_stands_side_by_side(watched_run):
    sent = []
    chosen = find_episode(watched_run, "000000002000/1")
    show = Show(
        find_source(watched_run.path), MACHADO, CPU, "episode", [("it", chosen)], Wishes(paused=True), sent.append
    )
    show.begin()
    while not show.lanes[0].ended:
        show.turn()  # the time line is drawn while the picture stands still
    assert show.cursor == 0 and len(show.lanes[0]) == len(chosen.actions) + 1
    assert sum(show.lanes[0].tracks["reward"]) == chosen.score
    show.obey({"do": "seek", "value": 10**9})
    assert sent[-1].header["lanes"][0]["last"] and sent[-1].header["lanes"][0]["score"] == chosen.score
    show.obey({"do": "seek", "value": 5})
    show.obey({"do": "keys", "value": ["ArrowRight"]})
    show.advance()  # a person takes over, and nothing is drawn ahead of them
    show.wishes.paused = True
    show.turn()
    assert (show.cursor, len(show.lanes[0])) == (6, 7)
    episodes = progress_episodes(watched_run, 4)
    assert [label for label, _ in episodes] == ["4,000 frames", "8,000 frames"]
    show.recordings = episodes
    show._cast("progress", show.wishes.checkpoint)
    show.advance()
    assert [lane["label"] for lane in sent[-1].header["lanes"]] == ["4,000 frames", "8,000 frames"]
    assert "value" not in sent[-1].header["lanes"][0]
    show.lanes[0].failure = "it ends here"
    show.advance(), show.advance()  # and the other goes on
    header = sent[-1].header
    assert header["lanes"][0]["over"] and "over" not in header["lanes"][1] and header["length"] == show.edge + 1 == 4
    assert {picture["name"]: picture["size"] for picture in header["pictures"]}["sound"] == 0
    for lane in show.lanes:
        lane.player.close()


def test_an_episode_that_cannot_go_on_is_told_and_stands_still(watched_run):
    sent, recording = [], replace(find_episode(watched_run, "1"), score=77.0)
    show = Show(
        find_source(watched_run.path), MACHADO, CPU, "episode", [("it", recording)], Wishes(paused=True), sent.append
    )
    show.begin()
    while not show.lanes[0].ended:
        show.turn()
    show.obey({"do": "seek", "value": 10**9})
    assert "not 77" in sent[-1].header["note"]
    show.advance()
    show.obey({"do": "pause", "value": False})
    assert show.cursor == 0 and not show.wishes.paused  # it begins again
    show.cursor = show.edge
    show.advance()
    assert show.wishes.paused and "not 77" in sent[-1].header["note"]
    show.lanes[0].player.close()


def test_a_slow_viewer_misses_messages_and_holds_nobody_up():
    class Loop:
        def call_soon_threadsafe(self, call, *args):
            call(*args)

    hub = Hub()
    hub.loop = Loop()
    slow = Viewer(None)
    hub.viewers.add(slow)
    for message in range(1_000):
        hub.publish(message)
    assert list(slow.waiting) == [997, 998, 999]


def until(true):
    end = time.monotonic() + 20
    while not true():
        assert time.monotonic() < end, "it did not happen"
        time.sleep(0.01)


def out_of_memory(*args):
    raise torch.OutOfMemoryError("CUDA out of memory.\nTried to allocate 2 GiB")


def test_what_fails_stops_nothing_but_itself(show, monkeypatch):
    """As on a GPU whose memory a training holds: the page says so, stands still and goes on when it is asked to."""

    thread = threading.Thread(target=show.run)
    monkeypatch.setattr("experiments.viewer.message.explain.perturbed", out_of_memory)
    monkeypatch.setattr("experiments.viewer.show.traceback.print_exc", lambda: None)
    thread.start()
    show.commands.put({"do": "saliency", "value": "perturbation"})
    until(lambda: header_of(show)["note"] == "CUDA out of memory.")
    assert header_of(show)["paused"] and header_of(show)["saliency"] == "off"
    show.commands.put({"do": "pause", "value": False})
    cursor = show.cursor
    until(lambda: show.cursor > cursor)
    monkeypatch.setattr(Player, "extend", out_of_memory)
    until(lambda: show.wishes.paused and "out of memory" in header_of(show)["note"])
    assert show.lanes[0].ended  # the game may have gone on without it
    show.stop()
    thread.join(timeout=10)
    assert not thread.is_alive()


@pytest.mark.parametrize("command", [{"do": "checkpoint", "value": "1000"}, {"do": "kind", "value": "duel"}])
def test_players_that_cannot_begin_take_nobodys_place(show, monkeypatch, command):
    for _ in range(3):
        show.advance()
    before = show.kind, show.wishes.checkpoint, show.lanes, show.cursor, show._loaded
    with monkeypatch.context() as patches, pytest.raises(torch.OutOfMemoryError):
        patches.setattr(Player, "start", out_of_memory)
        show.obey(command)
    assert before == (show.kind, show.wishes.checkpoint, show.lanes, show.cursor, show._loaded)
    show.advance()
    assert header_of(show)["cursor"] == 4 and show.tally == {"agent": 0, "you": 0}


def test_what_fails_at_every_turn_fills_no_core(show, monkeypatch):
    turns = []
    monkeypatch.setattr("experiments.viewer.show.traceback.print_exc", lambda: turns.append(1))
    monkeypatch.setattr(show, "turn", out_of_memory)
    monkeypatch.setattr("experiments.viewer.show.ALONE", 3.0)
    thread = threading.Thread(target=show.run)
    thread.start()
    until(lambda: turns)
    time.sleep(0.3)
    show.stop(), thread.join(timeout=10)
    assert len(turns) == 1


def test_a_show_that_cannot_begin_tells_its_pages_why(show, monkeypatch):
    """Those that are open, and those that come a little later."""
    ended, fails = threading.Event(), threading.Event()
    monkeypatch.setattr(server, "end", ended.set)
    monkeypatch.setattr(server, "LAST_WORDS", 2.0)
    monkeypatch.setattr(show, "run", lambda: fails.wait(20) and out_of_memory())
    hub = Hub()
    with TestClient(application(hub, show), base_url="http://localhost") as client:
        for _ in range(2):
            here = {"headers": {"host": "localhost", "origin": "http://localhost"}}
            with client.websocket_connect("/live", **here) as page, pytest.raises(WebSocketDisconnect) as closed:
                fails.set()
                page.receive_bytes()
            assert closed.value.reason == "CUDA out of memory."
        assert not ended.is_set() and ended.wait(5)
    assert isinstance(hub.failure, torch.OutOfMemoryError)


def test_a_show_plays_for_those_who_look_and_keys_belong_to_their_page(show, monkeypatch):
    left = threading.Event()
    monkeypatch.setattr(server, "end", left.set)
    app = application(Hub(), show, patience=0.3)
    with TestClient(app, base_url="http://localhost") as client:
        time.sleep(0.2)
        assert show.alone and show.cursor == 0
        here = {"headers": {"host": "localhost", "origin": "http://localhost"}}
        with client.websocket_connect("/live", **here) as one:
            until(lambda: show.cursor > 2)
            left.clear()
            with client.websocket_connect("/live", **here):
                one.send_text(json.dumps({"do": "keys", "value": ["ArrowLeft"]}))
                until(lambda: show.wishes.keys == ["ArrowLeft"])
            time.sleep(0.1)
            assert show.wishes.keys == ["ArrowLeft"]  # of the page that is still there
            time.sleep(0.4)
            assert not left.is_set()
        until(lambda: show.alone and not show.wishes.keys)
        time.sleep(0.2)  # a step may have begun
        cursor = show.cursor
        assert left.wait(5) and show.cursor == cursor


def test_what_came_before_an_episode_is_not_waited_for(watched_run):
    """The page has its address first; and who stops it meanwhile does not wait either."""
    chosen, sent = find_episode(watched_run, "2"), []
    assert chosen.begin
    show = Show(find_source(watched_run.path), MACHADO, CPU, "episode", [("it", chosen)], Wishes(), sent.append)
    assert not sent and not show.lanes[0].shown
    show.stop()
    with pytest.raises(InterruptedError):
        show.run()
    show.close()


def test_memories_that_are_not_kept_are_computed_again(watched_run, monkeypatch):
    """Bit for bit, when they are looked at and when a person goes back to them."""
    monkeypatch.setattr(history, "MEMORY_BYTES", 4 * 64)  # of an LSTM of 8 units: 64 bytes
    show = Show(find_source(watched_run.path), MACHADO, CPU, "agent", [], Wishes(epsilon=0.9), lambda message: None)
    show.begin()
    lane, states = show.lanes[0], []
    for _ in range(20):
        states.append(lane.player.scene.state)
        lane.extend(None)
    assert list(lane.memories) == [0, 8, 16] and lane.shown[5].scene.state == ()
    for t in (7, 13, 14, 8, 19):
        assert all(map(torch.equal, lane.scene(t).state, states[t]))
    assert all(map(torch.equal, lane.scene(20).state, lane.player.scene.state))
    lane.cut(10)
    assert list(lane.memories) == [0, 8] and all(map(torch.equal, lane.player.scene.next_state, states[11]))
    lane.extend(None)
    lane.extend(None)
    assert all(map(torch.equal, lane.scene(11).state, states[11]))
    show.close()
