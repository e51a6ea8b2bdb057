"""highscore watch: what is shown is what is evaluated; wishes are obeyed; films decode."""

import json
import os
import pty
import shutil
import signal
import socket
import subprocess
import sys
import time
from dataclasses import replace
from itertools import islice

import av
import numpy as np
import pytest
import torch
from PIL import Image

from agents.iqn import IQN
from envs.atari import make_atari
from envs.library import game_of
from envs.protocols import MACHADO, NATURE
from envs.recording import Recording, render
from envs.screen import AtariScreen, PictureScreen, screen_of
from experiments.build import build_agent
from experiments.cli import run_command
from experiments.episodes import find_episode, people_episodes, progress_episodes
from experiments.evaluate import score_agent
from experiments.viewer.history import History
from experiments.viewer.player import Player
from experiments.viewer.server import Hub, Viewer
from experiments.viewer.show import Show, Wishes
from experiments.viewer.source import find_source
from tests.watched import CPU, EXPERIMENT, make_run


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    torch.set_num_threads(1)
    return make_run(tmp_path_factory.mktemp("runs"))


@pytest.fixture(scope="module")
def agent(run):
    source = find_source(run.path)
    return source.load(source.chosen, (1, 84, 84), 4, CPU)


def watched(agent, seed, epsilon=0.9, recording=None):
    player = Player(EXPERIMENT, MACHADO, CPU, agent, recording)
    player.start(seed, epsilon)
    return player


def test_watched_episodes_are_those_of_evaluation(agent):
    """Score and every action, for the same seeds, of two that are watched side by side; one draws to look, too."""
    implicit = replace(EXPERIMENT, algorithm=IQN(samples=4), network=replace(EXPERIMENT.network, memory="none"))
    agents = agent, build_agent(implicit, (1, 84, 84), 4, CPU)
    agents[1].online.eval()
    both = [watched(one, seed, epsilon=0.5) for seed, one in enumerate(agents)]
    while not all(player.ended for player in both):
        for player in both:
            if not player.ended:
                player.extend()
    for seed, player in enumerate(both):
        result, (recording,) = score_agent(agents[seed], EXPERIMENT, 1, epsilon=0.5, seed=seed, device=CPU)
        assert player.scene.score == result["mean"] and player.record() == recording
        player.close()


def test_the_screen_is_that_of_the_recording(run, agent):
    """Every frame in colour of an episode that began inside its environment's log; and its sound."""
    recording = find_episode(run, "2")
    assert recording.begin > 100
    player = watched(None, 0, recording=recording)
    shown, sounds = list(player.scene.frames), set()
    while not player.ended:
        shown += player.extend().frames
    for frame, (pixels, _) in zip(shown, render(recording), strict=True):
        assert np.array_equal(frame.pixels, pixels)
        assert frame.sound.shape == (512,)
        sounds.add(frame.sound.tobytes())
    assert len(sounds) > 5
    player.close()


def test_no_ops_are_followed_into_the_next_episode():
    games = make_atari("Seaquest", 1, NATURE)
    screen = AtariScreen("Seaquest", NATURE)
    step, generator, episodes = games.reset(3), np.random.default_rng(0), 0
    screen.follow(games, step)
    while episodes < 1 or not step.first.item():
        step = games.step(torch.tensor([int(generator.integers(games.num_actions))]))
        screen.follow(games, step, show=False)  # refuses a reward or a life that is not the game's
        episodes += int(step.last)
    step = games.step(torch.tensor([0]))
    (frame, *_) = screen.follow(games, step)
    assert frame.pixels.shape == (210, 160, 3)
    with pytest.raises(ValueError, match="not that of the game"):
        screen.follow(games, step._replace(reward=step.reward + 1))
    games.close()


@pytest.mark.parametrize("name", ["probe/catch", "minatar/breakout"])
def test_a_game_of_another_world_has_its_picture(name):
    game = game_of(name)
    rules = game.protocol(game.protocols[0])
    games, screen = game.make(1, rules), screen_of(name, rules)
    assert isinstance(screen, PictureScreen) and len(screen.action_names) == games.num_actions
    step, frames = games.reset(0), []
    while True:
        frames += screen.follow(games, step)
        if step.last.item():
            break
        step = games.step(torch.tensor([len(frames) % games.num_actions]))
    recorded = [pixels for pixels, _ in render(Recording.of(name, rules, games.played(0)))]
    assert all(np.array_equal(frame.pixels, pixels) for frame, pixels in zip(frames, recorded, strict=True))
    (frame,) = screen.follow(games, games.step(torch.tensor([0])))  # the next episode
    assert frame.pixels.dtype == np.uint8 and frame.sound.size == 0
    games.close()


def test_going_back_and_on_is_as_if_nothing_had_been(agent):
    history = History(watched(agent, 4), "agent")
    history.start(4, 0.9)
    for _ in range(40):
        history.extend(None)
    before = [shown.picture for shown in history.shown], dict(history.tracks)
    actions = list(history.player.games.logs[0].actions)
    history.cut(15)
    assert len(history) == 16 and len(history.tracks["value"]) == 16
    for action in actions[15:]:
        history.extend(action)
    assert [shown.picture for shown in history.shown] == before[0] and history.tracks == before[1]
    assert history.player.person and torch.equal(history.scene(40).step.obs, history.player.scene.step.obs)
    history.player.close()


@pytest.fixture
def show(run):
    sent = []
    made = Show(find_source(run.path), MACHADO, CPU, "agent", [], Wishes(epsilon=0.9), sent.append)
    made.sent = sent
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


@pytest.mark.parametrize(
    "command, words",
    [
        ({"do": "checkpoint", "value": "77"}, "there are 1000, 2000"),
        ({"do": "seed", "value": "-1"}, "whole number"), ({"do": "seed", "value": None}, ""),
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


def test_a_person_takes_over_and_the_episode_is_recorded(run, show, capsys):
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
    count = len(people_episodes(run.path))
    while not show.lanes[0].ended:
        show.advance()
    assert header_of(show)["note"] == f"recorded as episode people/{count + 1}"
    recording = find_episode(run, f"people/{count + 1}")
    assert recording == show.lanes[0].player.record() and recording.score == show.lanes[0].player.scene.score
    assert run_command("list", ["episodes", str(run.path)]) == 0
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


def test_recorded_episodes_have_a_time_line_and_progress_stands_side_by_side(run):
    sent = []
    chosen = find_episode(run, "000000002000/1")
    show = Show(find_source(run.path), MACHADO, CPU, "episode", [("it", chosen)], Wishes(paused=True), sent.append)
    while not show.lanes[0].ended:
        show.turn()  # the time line is drawn while the picture stands still
    assert show.cursor == 0 and len(show.lanes[0]) == len(chosen.actions) + 1
    assert sum(show.lanes[0].tracks["reward"]) == chosen.score
    show.obey({"do": "seek", "value": 10**9})
    assert sent[-1].header["lanes"][0]["last"] and sent[-1].header["lanes"][0]["score"] == chosen.score
    episodes = progress_episodes(run, 4)
    assert [label for label, _ in episodes] == ["4,000 frames", "8,000 frames"]
    show.recordings, show.kind = episodes, "progress"
    show._cast()
    show.advance()
    assert [lane["label"] for lane in sent[-1].header["lanes"]] == ["4,000 frames", "8,000 frames"]
    assert "value" not in sent[-1].header["lanes"][0]
    for lane in show.lanes:
        lane.player.close()


def test_a_recording_that_plays_otherwise_is_refused(run):
    recording = replace(find_episode(run, "1"), score=77.0)
    player = watched(None, 0, recording=recording)
    with pytest.raises(ValueError, match="not 77"):
        while True:
            player.extend()


def test_an_episode_that_cannot_go_on_is_told_and_stands_still(run):
    sent, recording = [], replace(find_episode(run, "1"), score=77.0)
    show = Show(find_source(run.path), MACHADO, CPU, "episode", [("it", recording)], Wishes(paused=True), sent.append)
    while not show.lanes[0].ended:
        show.turn()
    show.obey({"do": "seek", "value": 10**9})
    assert "not 77" in sent[-1].header["note"]
    show.obey({"do": "pause", "value": False})
    show.advance()
    assert show.wishes.paused and "not 77" in sent[-1].header["note"]
    show.lanes[0].player.close()


def test_ctrl_c_ends_it_in_order(run):
    """One command, one address, and a port in use is passed over."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        process = subprocess.Popen(
            [sys.executable, "-m", "experiments.cli", "watch", str(run.path), "--port", str(port)],
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
            env={name: value for name, value in os.environ.items() if "DISPLAY" not in name} | {"COLUMNS": "200"},
        )  # fmt: skip
        lines = [process.stdout.readline() for _ in range(3)]
        assert lines[0] == f"port {port} is in use; taking {lines[1].split(':')[-1].split()[0]}\n"
        assert lines[1].startswith("Watch it at http://localhost:") and "ssh -L" in lines[2]
        host = ("127.0.0.1", int(lines[1].split(":")[-1].split()[0]))
        with socket.create_connection(host, timeout=10) as page:
            page.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
            assert page.recv(15) == b"HTTP/1.1 200 OK"
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=20)
    assert (process.returncode, out, err) == (0, "", "")


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


def test_a_checkpoint_is_enough(run, tmp_path):
    whole = find_source(run.path)
    assert (whole.chosen, list(whole.checkpoints), whole.run.path) == ("2000", ["1000", "2000"], run.path)
    inside = find_source(run.path / "checkpoints/000000001000")
    assert (inside.chosen, inside.run.path) == ("1000", run.path)
    assert find_source(run.path / "checkpoints/000000001000/tensors.safetensors").chosen == "1000"
    away = tmp_path / "agent"
    shutil.copytree(run.path / "checkpoints/000000002000", away)
    with pytest.raises(ValueError, match="copy that of its run"):
        find_source(away)
    shutil.copy(run.path / "config.json", away)
    given = find_source(away)
    assert (given.chosen, given.run) == ("agent", None) and given.load("agent", (1, 84, 84), 4, CPU)
    with pytest.raises(ValueError, match="another game"):
        given.load("agent", (1, 84, 84), 18, CPU)


def test_a_film_with_overlay_and_sound(run, tmp_path, capsys):
    path = tmp_path / "out.mp4"
    args = ["--video", str(path), "--overlay", "--sound", "--seconds", "1", "--epsilon", "0.9"]
    assert run_command("watch", [str(run.path), *args]) == 0
    assert "Breakout, machado: score" in capsys.readouterr().out
    with av.open(str(path)) as film:
        picture, sound = film.streams.video[0], film.streams.audio[0]
        assert (picture.codec_context.name, picture.pix_fmt, picture.average_rate) == ("h264", "yuv420p", 60)
        assert (sound.codec_context.name, sound.rate) == ("aac", 48_000)
        frames = [frame.to_ndarray(format="rgb24") for frame in film.decode(video=0)]
    with av.open(str(path)) as film:
        heard = np.concatenate([frame.to_ndarray()[0] for frame in film.decode(audio=0)])
    assert len(frames) == 60 and frames[0].shape == (630, 900, 3)
    assert abs(len(heard) / 48_000 - 1) < 0.1 and np.abs(heard).max() > 0.01
    assert not np.array_equal(frames[10][:, 480:], frames[50][:, 480:])  # the numbers beside it move
    bare = watched(None, 0)
    warm = frames[40][:, :480].astype(int) - np.kron(bare.scene.frames[0].pixels, np.ones((3, 3, 1)))
    assert warm[..., 0].max() > 60  # and something glows
    bare.close()


def test_a_gif_and_progress_side_by_side(run, tmp_path):
    path = tmp_path / "out.gif"
    assert run_command("watch", [str(run.path), "--progress", "--video", str(path), "--seconds", "2"]) == 0
    with Image.open(path) as gif:
        assert gif.size == (640, 448) and gif.info["loop"] == 0
        durations = []
        for frame in range(gif.n_frames):  # alike ones are one that lasts longer
            gif.seek(frame)
            durations.append(gif.info["duration"])
    assert sum(durations) == 30 * 70 and len(durations) > 20


@pytest.mark.parametrize(
    "args, words",
    [
        (["--video", "x.avi"], ".mp4 or .gif"), (["--sound"], "give --video"), (["--overlay"], "give --video"),
        (["--video", "x.gif", "--sound"], "GIF has none"), (["--epsilon", "2"], "probability"),
        (["--progress", "--episode", "1"], "not both"), (["--seed", "-1"], "--seed"), (["--port", "0"], "--port 0"),
        (["--video", "x.mp4", "--seconds", "-1"], "negative"), (["--checkpoint", "5"], "there are 1000, 2000"),
        (["--protocol", "mine"], "there are machado"), (["--episode", "99"], "1 to 2"),
        (["--episode", "x"], "people/1"),
        (["--terminal"], "this is none"), (["--terminal", "--video", "x.mp4"], "not both"),
    ],
)  # fmt: skip
def test_bad_wishes_are_one_line(run, capsys, args, words):
    assert run_command("watch", [str(run.path), *args]) == 2
    out, err = capsys.readouterr()
    assert words in err and err.count("\n") == 1 and out == ""


def terminal(run, columns, rows, term, **more):
    """Runs `watch --terminal` in a terminal of its own; q after a while. Returns what it wrote and its status."""
    primary, secondary = pty.openpty()
    import fcntl
    import struct
    import termios

    fcntl.ioctl(secondary, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
    environment = {name: value for name, value in os.environ.items() if name not in ("COLORTERM", "COLUMNS", "LINES")}
    process = subprocess.Popen(
        [sys.executable, "-m", "experiments.cli", "watch", str(run.path), "--terminal", "--epsilon", "0.9"],
        stdin=secondary, stdout=secondary, stderr=secondary, env=environment | {"TERM": term} | more,
    )  # fmt: skip
    os.close(secondary)
    written, asked = b"", False
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        try:
            piece = os.read(primary, 1 << 16)
        except OSError:
            break
        if not piece:
            break
        written += piece
        if not asked and written.count(b"\x1b[H") >= 12:
            os.write(primary, b"q")
            asked = True
    os.close(primary)
    return written.decode(), process.wait(timeout=10)


def test_it_plays_in_a_terminal_and_leaves_it_as_it_was(run):
    written, status = terminal(run, 100, 32, "xterm-256color", COLORTERM="truecolor")
    assert status == 0 and written.count("\x1b[H") >= 12 and "▀" in written and "\x1b[38;2;" in written
    assert "q quits" in written and "FIRE" in written
    assert written.startswith("\x1b[?1049h") and written.rstrip().endswith("\x1b[?1049l")


@pytest.mark.parametrize("size, term, words", [((30, 10), "xterm-256color", "40 x 15"), ((80, 24), "dumb", "colours")])
def test_terminals_that_show_nothing_are_refused(run, size, term, words):
    written, status = terminal(run, *size, term)
    assert status == 2 and words in written and written.count("\n") == 1


def test_help_comes_without_torch():
    code = "import sys; from experiments.cli import run_command\n"
    code += "try: run_command('watch', ['--help'])\nexcept SystemExit: print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout.rstrip().endswith("False") and "--terminal" in done.stdout


def test_pictures_of_an_episode_come_in_order(agent):
    """The frames in a scene are those that led to what the agent sees: the newest grey one is the last in colour."""
    player = watched(agent, 2)
    for scene in islice(iter(player.extend, None), 30):
        last = scene.frames[-1].pixels.astype(float) @ [0.299, 0.587, 0.114]
        seen = scene.step.obs[0, -1].numpy().astype(float)
        small = np.asarray(Image.fromarray(last.astype(np.uint8)).resize((84, 84), Image.Resampling.BOX), float)
        assert np.corrcoef(small.flat, seen.flat)[0, 1] > 0.98
    player.close()
