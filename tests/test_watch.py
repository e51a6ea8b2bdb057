"""highscore watch: the command, its films, and its terminal."""

import itertools
import os
import pty
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import av
import numpy as np
import pytest
from PIL import Image

from envs.doom import BUTTONS
from envs.screen import ScreenFrame
from experiments.cli import run_command
from experiments.episodes import training_episodes
from experiments.viewer import film
from experiments.viewer.overlay import DOUBT, LABEL, TRACK, Panel, doubt_text, font, label_size
from tests.watched import watched


def test_ctrl_c_ends_it_in_order(watched_run):
    """One command, one address, and a port in use is passed over."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        process = subprocess.Popen(
            [sys.executable, "-m", "experiments.cli", "watch", str(watched_run.path), "--port", str(port)],
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
            env={name: value for name, value in os.environ.items() if "DISPLAY" not in name} | {"COLUMNS": "200"},
        )  # fmt: skip
        lines = [process.stdout.readline() for _ in range(3)]
        assert process.poll() is None, process.stderr.read()
        assert lines[0] == f"port {port} is in use; taking {lines[1].split(':')[-1].split()[0]}\n"
        assert lines[1].startswith("Watch it at http://localhost:") and "ssh -L" in lines[2]
        host = ("127.0.0.1", int(lines[1].split(":")[-1].split()[0]))
        with socket.create_connection(host, timeout=10) as page:
            page.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
            assert page.recv(15) == b"HTTP/1.1 200 OK"
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=20)
    assert (process.returncode, out, err) == (0, "", "")


def test_a_film_with_overlay_and_sound(watched_run, tmp_path, capsys):
    path = tmp_path / "out.mp4"
    args = ["--video", str(path), "--overlay", "--sound", "--seconds", "1", "--epsilon", "0.9"]
    assert run_command("watch", [str(watched_run.path), *args]) == 0
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


@pytest.mark.parametrize("entropy, share", [(np.log(4), 1.0), (np.log(4) / 2, 0.5), (0.0, 0.0)])
def test_an_entropy_in_a_film_is_drawn_from_none_to_that_of_a_uniform_policy(monkeypatch, entropy, share):
    """Its line, by the colours in its strip; however little it has moved up to then."""
    facts = {
        "score": 0.0, "normalised": None, "values": None, "policy": [0.25] * 4, "action": 0, "value": 1.234,
        "reward": 0.0, "plan": [], "doubt": entropy, "doubt_name": "entropy", "doubt_most": np.log(4),
    }  # fmt: skip
    monkeypatch.setattr("experiments.viewer.overlay.facts_of", lambda player, label: facts)
    player = SimpleNamespace(game="Pong", scene=SimpleNamespace(view=None), screen=SimpleNamespace(action_names="ABCD"))
    panel = Panel(player, 210, 2)
    for _ in range(100):
        sheet = panel.draw()
    strip = np.flatnonzero((sheet[:, 250] == TRACK).all(-1))  # right of the lines' ends
    line = np.flatnonzero((sheet[:, 100] == DOUBT).all(-1))
    low, high = strip.max(), strip[strip > 180].min()  # below the bars
    assert line.mean() == pytest.approx(low + share * (high - low), abs=1.5)
    assert doubt_text(facts) == f"entropy {['0', '0.693', '1.39'][round(2 * share)]} of 1.39"
    assert doubt_text({"doubt_name": "action gap", "doubt": 0.0123, "doubt_most": None}) == "action gap 0.0123"


def test_the_smallest_world_has_no_room_for_lines_and_a_film_all_the_same(monkeypatch):
    facts = {
        "score": 0.0, "normalised": None, "values": [1.0, 2.0], "policy": None, "action": 0, "value": 2.0,
        "reward": 0.0, "plan": [], "doubt": 1.0, "doubt_name": "action gap", "doubt_most": None,
    }  # fmt: skip
    monkeypatch.setattr("experiments.viewer.overlay.facts_of", lambda player, label: facts)
    player = SimpleNamespace(game="x", scene=SimpleNamespace(view=None), screen=SimpleNamespace(action_names="AB"))
    assert Panel(player, 24, 2).draw().shape == (48, 280, 3)


@pytest.mark.parametrize("scenario", BUTTONS)
def test_no_name_of_an_action_runs_into_its_bar(scenario):
    names = BUTTONS[scenario].split()
    for row, scale in itertools.product([11.0, 95 / 21], [1, 3]):
        size = label_size(names, row, scale)
        assert size >= 2 and max(map(font(size).getlength, names)) <= (LABEL - 1) * scale
    assert label_size(["UP"], 11.0, 3) == 21  # as large as a row allows


def test_an_episode_that_has_ended_stands_still_and_silent_beside_the_others():
    """Of side by side episodes, the first of which is shorter."""

    class Stub:
        def __init__(self, steps):
            self.steps, self.t = steps, -1
            self.extend()

        def extend(self):
            self.t += 1
            frames = [ScreenFrame(np.full((2, 2, 3), 4 * self.t + k, np.uint8), np.ones(3)) for k in range(4)]
            self.scene = SimpleNamespace(frames=frames)

        @property
        def ended(self):
            return self.t == self.steps

    shown = list(film.play([Stub(1), Stub(3)], False, 1, [], 0))
    assert [picture[0, 0, 0] for picture, _ in shown] == [*range(8), *[7] * 8]
    assert [picture[0, -1, 0] for picture, _ in shown] == list(range(16))
    assert [sound.size for _, sound in shown] == [3] * 8 + [0] * 8


def test_a_film_of_what_comes_after_the_end_is_refused(watched_run, tmp_path, capsys):
    path = tmp_path / "out.mp4"
    assert run_command("watch", [str(watched_run.path), "--episode", "1", "--video", str(path), "--skip", "9999"]) == 2
    assert "--skip 9999: the episode is shorter" in capsys.readouterr().err and not path.exists()


@pytest.mark.parametrize("content", ["[1]", "{", '{"games": 3, "recordings": 4}'])
def test_an_evaluation_that_is_none_is_a_line(watched_run, tmp_path, capsys, content):
    path = Path(shutil.copytree(watched_run.path, tmp_path / "r"))
    (path / "evaluations/000000002000.json").write_text(content)
    with (path / "episodes.jsonl").open("a") as file:
        file.write('{"recording": [0, 1], "frames": "many"}\n')
    assert run_command("watch", [str(path), "--episode", "000000002000/1", "--video", str(tmp_path / "x.mp4")]) == 2
    err = capsys.readouterr().err
    assert "000000002000" in err and "damaged" in err and err.count("\n") == 1
    assert all(row["frames"] != "many" for row in training_episodes(path))


def test_a_gif_and_progress_side_by_side(watched_run, tmp_path):
    path = tmp_path / "out.gif"
    assert run_command("watch", [str(watched_run.path), "--progress", "--video", str(path), "--seconds", "2"]) == 0
    with Image.open(path) as gif:
        assert gif.size == (640, 448) and gif.info["loop"] == 0
        durations = []
        for frame in range(gif.n_frames):  # alike ones are one that lasts longer
            gif.seek(frame)
            durations.append(gif.info["duration"])
    assert sum(durations) == 2_000 and len(durations) > 20


@pytest.mark.parametrize(
    "args, words",
    [
        (["--video", "x.avi"], ".mp4 or .gif"), (["--sound"], "give --video"), (["--overlay"], "give --video"),
        (["--video", "x.gif", "--sound"], "GIF has none"), (["--epsilon", "2"], "probability"),
        (["--progress", "--episode", "1"], "not both"), (["--seed", "-1"], "--seed"), (["--port", "0"], "--port 0"),
        (["--video", "x.mp4", "--seconds", "-1"], "negative"), (["--checkpoint", "5"], "there are 1000, 2000"),
        (["--patience", "-1"], "negative"),
        (["--protocol", "mine"], "there are machado"), (["--episode", "99"], "1 to 2"),
        (["--episode", "x"], "people/1"),
        (["--terminal"], "this is none"), (["--terminal", "--video", "x.mp4"], "not both"),
        (["--terminal", "--no-open"], "is for the page"), (["--video", "x.mp4", "--patience", "3"], "is for the page"),
    ],
)  # fmt: skip
def test_bad_wishes_are_one_line(watched_run, capsys, args, words):
    assert run_command("watch", [str(watched_run.path), *args]) == 2
    out, err = capsys.readouterr()
    assert words in err and err.count("\n") == 1 and out == ""


def terminal(watched_run, columns, rows, term, **more):
    """Runs `watch --terminal` in a terminal of its own; q after a while. Returns what it wrote and its status."""
    primary, secondary = pty.openpty()
    import fcntl
    import struct
    import termios

    fcntl.ioctl(secondary, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
    environment = {name: value for name, value in os.environ.items() if name not in ("COLORTERM", "COLUMNS", "LINES")}
    process = subprocess.Popen(
        [sys.executable, "-m", "experiments.cli", "watch", str(watched_run.path), "--terminal", "--epsilon", "0.9"],
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


def test_it_plays_in_a_terminal_and_leaves_it_as_it_was(watched_run):
    written, status = terminal(watched_run, 100, 32, "xterm-256color", COLORTERM="truecolor")
    assert status == 0 and written.count("\x1b[H") >= 12 and "▀" in written and "\x1b[38;2;" in written
    assert "q quits" in written and "FIRE" in written
    assert written.startswith("\x1b[?1049h") and written.rstrip().endswith("\x1b[?1049l")


@pytest.mark.parametrize(
    "size, term, encoding, words",
    [
        ((30, 10), "xterm-256color", "utf-8", "40 x 15"), ((80, 24), "dumb", "utf-8", "colours"),
        ((80, 24), "xterm-256color", "latin-1", "needs UTF-8"),
    ],
)  # fmt: skip
def test_terminals_that_show_nothing_are_refused(watched_run, size, term, encoding, words):
    written, status = terminal(watched_run, *size, term, PYTHONIOENCODING=encoding)
    assert status == 2 and words in written and written.count("\n") == 1


def test_help_comes_without_torch():
    code = "import sys; from experiments.cli import run_command\n"
    code += "try: run_command('watch', ['--help'])\nexcept SystemExit: print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout.rstrip().endswith("False") and "--terminal" in done.stdout
