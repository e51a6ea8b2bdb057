"""What goes wrong on real machines: full disks, lost numbers, dead emulators, jumping clocks."""

import errno
import json
import os
import resource
import shutil
import signal
import sys
import time
from dataclasses import replace

import ale_py
import gymnasium
import pytest
import torch
from rich.console import Console
from safetensors.torch import load_file

from agents.dqn import DQN
from agents.explore import Linear
from agents.sequence import tree_map
from envs.games import Games
from envs.gym_games import InProcess, Processes
from envs.probe import Catch
from experiments import selfcheck
from experiments.checkpoint import read_checkpoint
from experiments.cli import run_command
from experiments.episodes import find_episode
from experiments.files import NO_ROOM, DiskFull, RunError, read_rows
from experiments.presets import PRESETS
from experiments.resume import Resume, resume
from experiments.run import Run
from experiments.selfcheck import differences
from experiments.train import Train, run_training
from experiments.trainer import Diverged
from tests.test_resume import run_whole, sigterm_after, small

gymnasium.register_envs(ale_py)


def limit_files(size):
    """No file may grow beyond so many bytes: writing fails, as it does on a full disk."""
    sys.dont_write_bytecode = size != resource.RLIM_INFINITY  # Python would keep half a module, for all tests to come
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))


@pytest.fixture
def room_again():
    yield
    limit_files(resource.RLIM_INFINITY)


CATCH = small("prioritized", "probe/catch")
CATCH = replace(CATCH, network=replace(CATCH.network, hidden=512))  # a checkpoint of more than 100 kB


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    return run_whole(CATCH, tmp_path_factory.mktemp("whole"))


def test_a_full_disk_is_said_and_does_no_harm(tmp_path, room_again, capsys, whole):
    """Checkpoints fail for a while; the one before stays whole, and the training ends as if nothing had been."""
    count, whole_then = iter(range(10**6)), []

    def stop():
        number = next(count)
        if number == 185:  # checkpoints come every 85 iterations
            limit_files(100_000)
        if number == 290:
            (run_path,) = tmp_path.glob("r")
            limit_files(resource.RLIM_INFINITY)
            whole_then.append(read_checkpoint(Run.open(run_path).checkpoints()[-1])[1]["agent_steps"])
        return False

    run = run_whole(CATCH, tmp_path, "r", stop)
    assert whole_then == [pytest.approx(300, abs=2)]  # the next would come at 450
    events = [row["event"] for row in read_rows(run.path / "events.jsonl")]
    # A checkpoint, and the weights of the best evaluation.
    assert sum("NOT SAVED" in event and "the last good one is" in event for event in events) == 2
    assert not list(run.path.rglob(".*tmp*")) and not list(run.path.rglob(".writing*"))
    assert differences(whole.path, run.path) == []


def test_a_disk_that_stays_full_ends_the_training_with_a_clear_word(tmp_path, room_again, whole):
    count = iter(range(10**6))

    def stop():
        if next(count) == 185:
            limit_files(100_000)
        return False

    with pytest.raises(DiskFull, match="free some, then: highscore resume") as ended:
        run_whole(CATCH, tmp_path, "r", stop)
    assert ended.value.status == NO_ROOM  # so that a suite goes on with it once there is room
    limit_files(resource.RLIM_INFINITY)
    resume(Resume(tmp_path / "r", device="cpu", wandb="off"), Console(quiet=True))
    assert differences(whole.path, tmp_path / "r") == []


def test_a_row_that_does_not_fit_leaves_none_of_itself(tmp_path, room_again):
    run = Run.create(tmp_path, PRESETS["dqn"], "r")
    run.append("metrics.jsonl", {"a": 1})
    limit_files(20)
    with pytest.raises(OSError):
        run.append("metrics.jsonl", {"text": "x" * 100})
    limit_files(resource.RLIM_INFINITY)
    run.append("metrics.jsonl", {"a": 2})
    assert list(read_rows(run.path / "metrics.jsonl")) == [{"a": 1}, {"a": 2}]


@pytest.fixture(scope="module")
def whole_dqn(tmp_path_factory):
    return run_whole(small("dqn", "probe/catch"), tmp_path_factory.mktemp("dqn"))


@pytest.mark.parametrize("what", ["loss", "parameters", "parameters at a checkpoint"])
def test_a_training_without_numbers_ends_and_keeps_the_batch(tmp_path, whole_dqn, what):
    x = small("dqn", "probe/catch")
    if what == "loss":
        x = replace(x, optimiser=replace(x.optimiser, learning_rate=1e30))
    count = iter(range(10**6))
    setups = []

    def stop():
        # A checkpoint comes after the 269th iteration, and that learns nothing.
        if what != "loss" and next(count) == (200 if what == "parameters" else 267):
            with torch.no_grad():
                next(setups[0].agent.online.parameters()).fill_(float("nan"))
        return False

    from experiments import train

    def build(*args, original=train.build):
        setups.append(original(*args))
        return setups[-1]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(train, "build", build)
        with pytest.raises(Diverged, match="the batch is kept in") as ended:
            run_training(Train(x, device="cpu", wandb="off", runs=tmp_path, name="r"), Console(quiet=True), stop)
    assert ended.value.status == 1  # of the command, which was right
    (dump,) = (tmp_path / "r/diverged").iterdir()
    batch = load_file(dump)
    assert batch["0"].shape[2:] == (4, 6, 5)
    for path in Run.open(tmp_path / "r").checkpoints():
        tensors, _ = read_checkpoint(path)
        assert all(torch.isfinite(tensor).all() for tensor in tensors.values() if tensor.is_floating_point())
    if what != "loss":  # the last good checkpoint is there to go on from
        resume(Resume(tmp_path / "r", device="cpu", wandb="off"), Console(quiet=True))
        assert differences(whole_dqn.path, tmp_path / "r") == []


def test_a_mistake_in_an_algorithm_is_shown_where_it_is(tmp_path, monkeypatch):
    def mistaken(self, online, target, seq):
        raise ValueError("too many values")

    monkeypatch.setattr(DQN, "loss", mistaken)
    with pytest.raises(RuntimeError, match=r"failed after \d+ frames: too many values") as raised:
        run_whole(small("dqn", "probe/catch"), tmp_path)
    assert raised.value.__cause__.__traceback__ is not None


def breakout():
    return gymnasium.wrappers.ResizeObservation(gymnasium.make("ALE/Breakout-v5", obs_type="grayscale"), (84, 84))


@pytest.mark.parametrize("make", [Catch, breakout], ids=["catch", "breakout"])
def test_a_worker_that_is_killed_is_replaced_and_nothing_is_lost(make):
    """Games in processes of their own, one killed in the middle of an episode: the stream is the undisturbed one."""

    def play(make_env, disturb):
        games, said = Games(make_env, reseed_after=40), []
        games.say = said.append
        steps, generator = [games.reset(5)], torch.Generator().manual_seed(0)
        for t in range(100):
            if t in disturb:
                worker = games.env.processes[1]
                os.kill(worker.pid, signal.SIGKILL)
                worker.join()
            steps.append(games.step(torch.randint(games.num_actions, (3,), generator=generator)))
        games.close()
        return steps, said

    quiet, _ = play(lambda: InProcess([make] * 3), ())
    disturbed, said = play(lambda: Processes([make] * 3), (33, 71))
    for a, b in zip(quiet, disturbed, strict=True):
        tree_map(lambda x, y: torch.testing.assert_close(x, y, rtol=0, atol=0), a, b)
    assert len(said) == 2 and all("an emulator died" in text for text in said)


def test_a_worker_that_dies_as_it_is_seeded_anew_is_replaced(monkeypatch):
    whole_reset, killed = Games._reset, []

    def reset(games, mask=None):
        if mask is not None and isinstance(games.env, Processes) and not killed:
            killed.append(games.env.processes[1])
            os.kill(killed[0].pid, signal.SIGKILL)
            killed[0].join()
        return whole_reset(games, mask)

    monkeypatch.setattr(Games, "_reset", reset)
    shown = []
    for vector in (InProcess, Processes):
        games, generator = Games(lambda vector=vector: vector([Catch] * 3), reseed_after=40), torch.Generator()
        games.say = lambda text: None
        steps = [games.reset(5)]
        steps += [games.step(torch.randint(games.num_actions, (3,), generator=generator)) for _ in range(120)]
        games.close()
        shown.append(steps)
    assert killed
    for a, b in zip(*shown, strict=True):
        tree_map(lambda x, y: torch.testing.assert_close(x, y, rtol=0, atol=0), a, b)


def test_an_emulator_that_dies_again_at_once_is_an_error():
    class Mortal(Catch):
        def step(self, action):
            raise RuntimeError("it is broken")

    games = Games(lambda: InProcess([Mortal]))
    games.say = lambda text: None
    games.reset(0)
    with pytest.raises(RuntimeError, match="it is broken"):
        games.step(torch.zeros(1, dtype=torch.int64))


def test_a_clock_that_jumps_does_no_harm(tmp_path, monkeypatch):
    x = small("prioritized", "probe/catch")
    whole = run_whole(x, tmp_path)
    jumps = iter(range(10**9))
    real = time.time
    monkeypatch.setattr(time, "time", lambda: real() + (-1) ** next(jumps) * 1e8)
    parts = run_whole(x, tmp_path, "jumping")
    assert differences(whole.path, parts.path) == []


def test_recordings_of_a_run_are_found_and_play_again(tmp_path, capsys):
    """Every episode of training and evaluation, from the log alone, with the score that was recorded."""
    x = small("dqn")
    x = replace(
        x, frames=5_000, explore=Linear(1.0, 1.0, 0), replay=replace(x.replay, learn_start=1_200),
        evaluation=replace(x.evaluation, period=5_000),
    )  # fmt: skip
    run = run_whole(x, tmp_path, "r")
    rows = list(read_rows(run.path / "episodes.jsonl"))
    assert [row["episode"] for row in rows] == list(range(1, len(rows) + 1)) and len(rows) > 3
    shortest, video = min(rows[2:], key=lambda row: row["steps"]), tmp_path / "shortest.mp4"

    def last_second(row):
        return ["--skip", str(row["steps"] * 4 // 60 - 1)]

    command = [str(run.path), "--episode", str(shortest["episode"]), "--video", str(video), *last_second(shortest)]
    assert run_command("watch", command) == 0
    assert f"score {shortest['score']:.0f}," in capsys.readouterr().out and video.stat().st_size > 2_000
    (first, *_) = sorted((run.path / "evaluations").iterdir())
    result = json.loads(first.read_text())
    video = ["--video", str(tmp_path / "again.mp4")]
    assert len(result["scores"]) == 1
    assert run_command("watch", [str(run.path), "--episode", f"{first.stem}/1", "--seconds", "1", *video]) == 0
    assert "so far, 1 s of play" in capsys.readouterr().out
    assert run_command("list", ["episodes", str(run.path)]) == 0
    assert f"{len(rows)} recorded training episodes" in " ".join(capsys.readouterr().out.split())
    for wrong in ("0", "9999", "x", "../../etc/1", f"{first.stem}/2"):
        assert run_command("watch", [str(run.path), "--episode", wrong]) == 2
    capsys.readouterr()

    # A recording that claims another score than its actions earn, and one that is cut short.
    packed = replace(find_episode(run, "1"), score=1234.0).pack()
    (run.path / "recordings/training.rec").write_bytes(packed)
    (run.path / "episodes.jsonl").write_text(json.dumps(rows[0] | {"recording": [0, len(packed)]}) + "\n")
    assert run_command("watch", [str(run.path), "--episode", "1", *last_second(rows[0]), *video]) == 2
    assert "not 1234" in capsys.readouterr().err
    (run.path / "recordings/training.rec").write_bytes(packed[:-9])
    assert run_command("watch", [str(run.path), "--episode", "1"]) == 2
    assert "is damaged" in capsys.readouterr().err


def test_selfcheck_says_when_a_promise_does_not_hold(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(selfcheck.CHECKS, "resume", lambda options, console, folder: {"holds": False})
    assert run_command("selfcheck", ["resume", "--json", "out.json"]) == 1
    assert "DOES NOT HOLD" in capsys.readouterr().out
    assert json.loads((tmp_path / "out.json").read_text())["holds"] is False


def test_a_run_that_reaches_out_of_its_folder_is_not_gone_on_with(tmp_path, whole):
    """Locking, cutting and appending would change what a link leads to."""
    mine = tmp_path / "thesis.tex"
    for name in (".lock", "metrics.jsonl", "recordings/training.rec"):
        mine.write_text("years of work")
        path = shutil.copytree(whole.path, tmp_path / name.replace("/", "-"))
        (path / name).unlink(missing_ok=True)
        (path / name).symlink_to(mine)
        with pytest.raises(RunError, match=r"is a link|cannot be written"):
            Run.reopen(path)
        assert mine.read_text() == "years of work"


def test_a_disk_that_cannot_lock_is_named_and_leaves_nothing(tmp_path, monkeypatch):
    def unable(*args):
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr("fcntl.flock", unable)
    with pytest.raises(RunError, match="cannot be locked"):
        Run.create(tmp_path, small("dqn"), "r")
    assert not (tmp_path / "r").exists()


def test_other_code_is_written_down_where_a_run_goes_on(tmp_path, monkeypatch):
    x = small("dqn", "probe/catch")
    run = run_whole(x, tmp_path, "r", stop=sigterm_after(200))
    config = json.loads((run.path / "config.json").read_text())
    config |= {"commit": "before", "versions": config["versions"] | {"ale-py": "0.1"}}
    (run.path / "config.json").write_text(json.dumps(config))
    resume(Resume(run.path, device="cpu", wandb="off"), Console(quiet=True))
    events = (run.path / "events.jsonl").read_text()
    assert "other code: commit before to" in events and "ale-py 0.1 to" in events and "torch" not in events


def test_a_game_that_cannot_be_played_again_costs_its_episode_and_not_the_training(tmp_path, monkeypatch):
    x = small("dqn", "probe/catch")
    run = run_whole(x, tmp_path, "r", stop=sigterm_after(200))
    calls = []

    def fails(games, but=0):
        calls.append(but)
        raise RuntimeError("this level was drawn by chance")

    monkeypatch.setattr(Games, "_play_again", fails)
    resume(Resume(run.path, device="cpu", wandb="off"), Console(quiet=True))
    assert calls
    assert "every game begins a new episode" in (run.path / "events.jsonl").read_text()
    assert json.loads((run.path / "summary.json").read_text())["finished"]
