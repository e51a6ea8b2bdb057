"""Games that play in processes of their own: the dead are replaced, and nobody is left behind."""

import contextlib
import fcntl
import os
import pty
import signal
import struct
import subprocess
import sys
import termios
import time
from dataclasses import replace

import psutil
import pytest
import torch

from envs.gym_games import make_games as wrap
from envs.probe import Catch
from envs.protocols import PROBE
from experiments.build import build_agent
from experiments.presets import preset
from experiments.run import Run
from tests.test_worlds import make, play, same


def children():
    return {p.pid for p in psutil.Process().children(recursive=True) if p.status() != psutil.STATUS_ZOMBIE}


def gone(before):
    """Whether, within five seconds, no child of this process is left but those there were."""
    for _ in range(50):
        if children() <= before:
            return True
        time.sleep(0.1)
    return False


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_no_process_is_left_behind(number):
    """A worker that dies is replaced, nothing is lost, and all that it had started goes, too."""
    before = children()
    games, said = make("doom/basic"), []
    games.say = said.append
    undisturbed = make("doom/basic")
    games.reset(1), undisturbed.reset(1)
    one, two = torch.Generator().manual_seed(0), torch.Generator().manual_seed(0)
    play(games, None, one, 10)
    engine = set(psutil.Process(games.env.processes[0].pid).children())
    assert len(engine) == 1
    os.kill(games.env.processes[0].pid, number)
    shown = play(games, None, one, 10)
    same(shown, play(undisturbed, None, two, 20)[10:])
    assert len(said) == 1 and "an emulator died" in said[0]
    assert not any(p.is_running() and p.status() != psutil.STATUS_ZOMBIE for p in engine)
    games.close(), undisturbed.close()
    assert gone(before)


def test_a_game_that_takes_its_time_to_end_is_not_waited_for():
    before, here = children(), os.getpid()

    class Slow(Catch):
        def close(self):
            time.sleep(1_000 * (os.getpid() != here))

    games = wrap(lambda protocol: Slow(), 2, PROBE, processes=True)
    games.reset(1)
    games.close()
    assert gone(before)


def test_a_game_that_cannot_begin_in_its_process_says_so(capfd):
    here = os.getpid()

    class Once(Catch):
        def __init__(self):
            if os.getpid() != here:
                raise OSError("the port is taken")
            super().__init__()

    with pytest.raises(RuntimeError, match="could not begin in a process of its own"):
        wrap(lambda protocol: Once(), 2, PROBE, processes=True)


def test_a_game_that_hangs_is_replaced(monkeypatch, tmp_path):
    class Hanging(Catch):
        def step(self, action):
            if (tmp_path / "hang").exists():
                (tmp_path / "hang").unlink()
                time.sleep(1_000)
            return super().step(action)

    monkeypatch.setattr("envs.gym_games.TIMEOUT", 2)
    before = children()
    games, said = wrap(lambda protocol: Hanging(), 2, PROBE, processes=True), []
    games.say = said.append
    undisturbed = make("probe/catch")
    games.reset(1), undisturbed.reset(1)
    one, two = torch.Generator().manual_seed(0), torch.Generator().manual_seed(0)
    play(games, None, one, 10)
    (tmp_path / "hang").touch()
    same(play(games, None, one, 10), play(undisturbed, None, two, 20)[10:])
    assert len(said) == 1 and "TimeoutError" in said[0]
    games.close()
    assert gone(before)


@pytest.mark.parametrize("how", [["--no-open", "--port", "8310"], ["--terminal"]], ids=["page", "terminal"])
def test_watching_leaves_no_game_behind(tmp_path, how):
    """Doom's engine is a process that its parent does not take with it: told to end, `watch` ends it first."""
    experiment = replace(preset("ppo-doom"), num_envs=1)
    run = Run.create(tmp_path, experiment, "r")
    agent = build_agent(experiment, (experiment.stack, 60, 80), 4, torch.device("cpu"))
    run.save_checkpoint(agent.tensors(), {"agent_steps": 4, "frames": 16, "finished": True})
    run.close()
    primary, secondary = pty.openpty()
    fcntl.ioctl(secondary, termios.TIOCSWINSZ, struct.pack("HHHH", 40, 120, 0, 0))
    process = subprocess.Popen(
        [sys.executable, "-m", "experiments.cli", "watch", str(run.path), *how],
        stdin=secondary, stdout=secondary, stderr=secondary, env=os.environ | {"TERM": "xterm-256color"},
    )  # fmt: skip
    os.close(secondary)
    written = b""
    while b"Watch it at" not in written and written.count(b"\x1b[H") < 3:
        written += os.read(primary, 1 << 16)
        assert process.poll() is None, written
    engines, until = [], time.monotonic() + 20
    while len(engines) < 2 and time.monotonic() < until:  # the page is there before its games are
        engines = [child for child in psutil.Process(process.pid).children(recursive=True) if child.name() == "vizdoom"]
    process.terminate()
    os.set_blocking(primary, False)
    until = time.monotonic() + 20
    while process.poll() is None and time.monotonic() < until:
        with contextlib.suppress(OSError):  # nothing to read, or the terminal is gone with it
            os.read(primary, 1 << 16)
        time.sleep(0.01)
    left = psutil.wait_procs(engines, 5)[1]
    for engine in left:
        engine.kill()
    os.close(primary)
    assert process.poll() == 143 and len(engines) == 2 and left == []
