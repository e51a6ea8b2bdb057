"""A training that is stopped or killed goes on as if nothing had happened: bit for bit."""

import errno
import json
import os
import random
import shutil
import signal
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from rich.console import Console

from agents.alphazero import AlphaZero
from agents.curious import Bonus
from agents.explore import Ladder, Linear
from agents.reset import Reset
from envs.library import game_of
from experiments import checks, selfcheck, snapshot, trainer
from experiments.cli import run_command
from experiments.config import Evaluation
from experiments.files import read_rows
from experiments.presets import PRESETS
from experiments.resume import Resume, resume
from experiments.run import Run
from experiments.segments import Segments
from experiments.selfcheck import differences
from experiments.train import Train, run_training


def small(preset, game="Breakout"):
    """A preset cut to some seconds, on another game if its own is of Atari: what it is made of stays."""
    x = PRESETS[preset]
    if game_of(x.game).world == "atari":
        torso = "mlp" if game.startswith("probe/") else "nips" if x.network.torso == "nature" else x.network.torso
        x = replace(x, game=game, protocol=game_of(game).protocols[0], network=replace(x.network, torso=torso))
    x = replace(
        x, num_envs=2, frames=650 * x.frame_skip, checkpoint_period=150 * x.frame_skip,
        explore=Ladder(2) if isinstance(x.explore, Ladder) else Linear(1.0, 0.1, 300, 100),
        target_period=min(x.target_period, 5),
        evaluation=Evaluation(350 * x.frame_skip, episodes=1, epsilon=0.5, video_seconds=0),
        network=replace(
            x.network, hidden=min(x.network.hidden, 16), dense=min(x.network.dense, 16), memory_size=16, width=1,
            blocks=1 if x.network.torso.startswith("impala") else 2,
        ),
    )  # fmt: skip
    if x.replay is None:
        rollout = replace(x.rollout, epochs=min(x.rollout.epochs, 2), minibatches=2)
        short = {"unroll": 8} | ({"simulations": 3} if isinstance(x.algorithm, AlphaZero) else {})
        return replace(x, algorithm=replace(x.algorithm, **short), rollout=rollout)
    most = {name: n for name, n in (("burn_in", 3), ("unroll", 5), ("simulations", 3)) if hasattr(x.algorithm, name)}
    algorithm = replace(x.algorithm, **{name: min(getattr(x.algorithm, name), n) for name, n in most.items()})
    shrunk = replace(x.replay, capacity=400, batch_size=4, learn_start=60, learn_period=8)
    return replace(x, algorithm=algorithm, replay=replace(shrunk, stride=min(shrunk.stride, 5)))


def run_whole(x, root, name="whole", stop=lambda: False):
    return run_training(Train(x, device="cpu", wandb="off", runs=root, name=name), Console(quiet=True), stop)[0]


def sigterm_after(iterations):
    """Asks the process to stop, as another one would."""
    countdown = iter(range(10**6))

    def stop():
        if next(countdown) == iterations:
            os.kill(os.getpid(), signal.SIGTERM)
        return False

    return stop


def surprised_transformer():
    """No preset, but parts that combine: a window of bools and floats in the replay, statistics that run."""
    x = small("r2d2-small", "probe/catch")
    network = replace(x.network, memory="gtrxl", memory_size=8, memory_window=4, memory_layers=1)
    return replace(x, network=network, bonus=Bonus(weight=0.5))


def kinds():
    """As few presets as have, between them, every part that has a state of its own, or draws by chance."""

    def parts(name):
        x, off_policy = PRESETS[name], PRESETS[name].replay is not None
        replay = off_policy and (x.replay.priority_exponent > 0, x.replay.stride > 1)
        network = ((x.network.memory, off_policy), (x.network.noise > 0, off_policy), x.network.spectral_norm)
        optimiser = (type(x.optimiser), x.optimiser.anneal)
        in_processes = game_of(x.game).world in ("doom", "crafter")
        others = (type(x.explore), (x.bonus.weight > 0, off_policy), x.target_period > 0, in_processes)
        return set(enumerate((type(x.algorithm), optimiser, replay, *network, *others)))

    chosen = ["prioritized"]
    left = set().union(*map(parts, PRESETS)) - parts("prioritized")
    while left:
        chosen.append(max(PRESETS, key=lambda name: len(parts(name) & left)))
        left -= parts(chosen[-1])
    return chosen


def half_as_precise():
    x = small("dqn", "probe/catch")
    moved, packed = replace(x.algorithm, shift=1, intensity=0.05), replace(x.replay, storage="compressed")
    return replace(x, algorithm=moved, precision="bf16", replay=packed)


def several_updates_at_once():
    x = small("dqn", "probe/catch")
    return replace(x, target_period=20, replay=replace(x.replay, storage="disk", learn_period=0.5))


def begun_anew():
    x = small("bbf", "probe/catch")
    moving = replace(x.algorithm, first_n_steps=4, horizon_updates=30, shift=1)
    return replace(x, algorithm=moving, reset=Reset(40, 0.5), replay=replace(x.replay, learn_period=2))


def flickering():
    return replace(small("ppo"), protocol="flicker")


# Emulators and pictures cost most, and are alike for all: other presets of Atari play a probe instead, and that with
# spectral norms a board that is large enough for its convolutions.
GAMES = {"prioritized": "Breakout", "btr": "minatar/breakout"}

MORE = (surprised_transformer, half_as_precise, several_updates_at_once, begun_anew, flickering)


@pytest.mark.parametrize("preset", [*kinds(), *MORE])
def test_every_kind_of_preset_goes_on_as_if_it_had_never_stopped(tmp_path, preset, monkeypatch):
    x, iterations = preset() if callable(preset) else small(preset, GAMES.get(preset, "probe/catch")), 181
    monkeypatch.setattr(trainer, "LOG_PERIOD", 50 * x.frame_skip)  # what is logged must be the same, too
    x = replace(x, frames=450 * x.frame_skip)
    if preset != "prioritized":  # fewer, and no evaluations: these are the same for all
        x, iterations = replace(x, frames=180 * x.frame_skip), 55
        monkeypatch.setattr(trainer.Trainer, "evaluate", lambda self: setattr(self, "evaluation_due", False))
    whole = run_whole(x, tmp_path)
    parts = run_whole(x, tmp_path, "parts", sigterm_after(iterations))
    assert not json.loads((parts.path / "summary.json").read_text())["finished"]
    random.seed(7)  # nothing of the process that resumes may matter
    if preset == "prioritized":  # twice is as good as once
        resume(Resume(parts.path, device="cpu", wandb="off"), Console(quiet=True), sigterm_after(20))
    resume(Resume(parts.path, device="cpu", wandb="off"), Console(quiet=True))
    events = [row["event"] for row in read_rows(parts.path / "events.jsonl")]
    assert not any("new episode" in event for event in events), events  # every emulator repeats itself
    assert differences(whole.path, parts.path) == []
    logged = (parts.path / "metrics.jsonl").read_bytes()
    assert b"losses/loss" in logged and (b"eval/" in logged) == (preset == "prioritized")
    assert any("going on at" in event for event in events)
    assert not (parts.path / "replay").exists()


def test_rows_that_are_written_beside_a_training_are_those_that_it_goes_on_with(tmp_path, monkeypatch):
    """As on a GPU. The disk is full twice, and that is said, but for what a checkpoint writes before it could be."""
    monkeypatch.setattr(trainer, "LOG_PERIOD", 50)
    x = small("prioritized", "probe/catch")
    whole = run_whole(x, tmp_path)
    begin, append, calls = trainer.Trainer.__init__, Segments._append, []

    def beside(self, *args):
        begin(self, *args)
        self.beside = ThreadPoolExecutor(1)

    def full_at_times(self, *args):
        calls.append(threading.current_thread())
        if len(calls) in (2, 3):
            raise OSError(28, "No space left on device")
        append(self, *args)

    monkeypatch.setattr(trainer.Trainer, "__init__", beside)
    monkeypatch.setattr(Segments, "_append", full_at_times)
    parts = run_whole(x, tmp_path, "parts", sigterm_after(200))
    assert len(set(calls)) == 2  # checkpoints are written by the training
    resume(Resume(parts.path, device="cpu", wandb="off"), Console(quiet=True))
    assert differences(whole.path, parts.path) == []
    events = [row["event"] for row in read_rows(parts.path / "events.jsonl")]
    assert 1 <= sum("NOT SAVED: No space left" in event for event in events) <= 2


def test_the_comparison_sees_a_difference(tmp_path, monkeypatch):
    """One seed more, and everything differs: the comparison that the other tests stand on can fail."""
    monkeypatch.setattr(trainer, "LOG_PERIOD", 50)
    x = small("prioritized", "probe/catch")
    one, other = (run_whole(replace(x, seed=seed), tmp_path, str(seed)) for seed in (1, 2))
    found = differences(one.path, other.path)
    assert {"metrics.jsonl", "recordings/training.rec", "online.head.layers.0.weight", "resume"} <= set(found)
    assert {"memory.priorities", "games.actions", "random.torch", "optimiser.0.mean"} <= set(found)


def test_a_killed_training_goes_on_as_if_nothing_had_happened(tmp_path, monkeypatch):
    """SIGKILL at random moments, one of them while a checkpoint is written; the long form is a command."""
    shorter = "--network.torso nips --checkpoint-period 1500 --replay.learn-start 300 --evaluation.episodes 1"
    monkeypatch.setattr(selfcheck, "SHORT", [*selfcheck.SHORT, *shorter.split()])
    figures = selfcheck.check_resume(
        selfcheck.Selfcheck("resume", kills=2, games=("Breakout",), frames=3_000), Console(quiet=True), tmp_path
    )
    assert figures["runs"][0]["kills"] == 2
    assert figures["holds"], figures


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    return run_whole(small("prioritized", "probe/catch"), tmp_path_factory.mktemp("whole"))


@pytest.fixture(scope="module")
def half(tmp_path_factory):
    x = small("prioritized", "probe/catch")
    return run_whole(x, tmp_path_factory.mktemp("half"), "r", sigterm_after(300))


def stopped(tmp_path, half):
    """A copy of a run that was stopped."""
    return Run.open(shutil.copytree(half.path, tmp_path / "r"))


def flip(path):
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


@pytest.mark.parametrize(
    "spoil",
    [
        lambda run: flip(run.checkpoints()[-1] / "tensors.safetensors"),
        lambda run: os.truncate(run.checkpoints()[-1] / "checkpoint.json", 1_000),
        lambda run: (run.checkpoints()[-1] / "tensors.safetensors").unlink(),
        lambda run: (run.checkpoints()[-1] / "tensors.safetensors").write_bytes(b"a foreign file"),
    ],
    ids=["flipped", "truncated", "missing", "foreign"],
)
def test_damage_takes_it_one_checkpoint_back_and_it_ends_the_same(tmp_path, capsys, whole, half, spoil):
    run = stopped(tmp_path, half)
    assert len(run.checkpoints()) == 2
    spoil(run)
    assert run_command("resume", [str(run.path), "--device", "cpu", "--wandb", "off"]) == 0
    out = capsys.readouterr().out
    assert "PASSED OVER" in out and "trying the one before" in out
    assert differences(whole.path, run.path) == []


def test_damaged_rows_of_the_replay_are_seen(tmp_path, capsys, half):
    run = stopped(tmp_path, half)
    flip(next((run.path / "replay").glob("*.rows")))
    assert run_command("resume", [str(run.path), "--wandb", "off"]) == 2
    err = capsys.readouterr().err
    assert err.count("PASSED OVER") == 2 and "is not what was written" in err
    again = f"highscore train {run.path}"
    assert f"train it anew: {again}, or with its weights: {again} --weights {run.path}" in err


def test_what_a_kill_after_the_last_checkpoint_left_undone_is_done_when_it_is_asked_to_go_on(tmp_path, capsys, whole):
    run = Run.open(shutil.copytree(whole.path, tmp_path / "run"))
    said = (run.path / "summary.json").read_bytes()
    (run.path / "summary.json").write_text('{"finished": false}')
    (run.path / "replay").mkdir()
    assert run_command("resume", [str(run.path)]) == 2 and "is finished" in capsys.readouterr().err
    assert (run.path / "summary.json").read_bytes() == said and not (run.path / "replay").exists()


@pytest.mark.parametrize("error", [
    torch.OutOfMemoryError("no room"), RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried"),
    RuntimeError("CUDA error: unspecified launch failure"),
])  # fmt: skip
def test_a_machine_without_room_costs_no_checkpoint(tmp_path, monkeypatch, half, error):
    run = stopped(tmp_path, half)
    saved = run.checkpoints()
    with monkeypatch.context() as patch:
        patch.setattr(snapshot, "_restore", lambda *_: (_ for _ in ()).throw(error))
        with pytest.raises(type(error)):
            resume(Resume(run.path, device="cpu", wandb="off"), Console(quiet=True))
    assert run.checkpoints() == saved and len(saved) == 2


@pytest.mark.parametrize("number", [errno.ESTALE, errno.EIO, errno.EACCES])
def test_a_disk_that_does_not_give_a_checkpoint_costs_none(tmp_path, capsys, monkeypatch, half, number):
    run = stopped(tmp_path, half)
    saved, read = run.checkpoints(), Path.read_bytes

    def fail(path):
        if path.parent == saved[-1]:
            raise OSError(number, os.strerror(number))
        return read(path)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "read_bytes", fail)
        assert run_command("resume", [str(run.path), "--wandb", "off"]) == 2
    said = capsys.readouterr().err
    assert f"{saved[-1]} cannot be read ({os.strerror(number)}): put that right and try again; without " in said
    assert run.checkpoints() == saved and len(saved) == 2


def test_settings_that_somebody_changed_meanwhile_are_named(tmp_path, half):
    run = stopped(tmp_path, half)
    config = json.loads((run.path / "config.json").read_text())
    config["experiment"]["optimiser"]["learning_rate"], config["experiment"]["target_period"] = 0.5, 9
    (run.path / "config.json").write_text(json.dumps(config))
    resume(Resume(run.path, device="cpu", wandb="off"), Console(quiet=True), sigterm_after(5))
    resume(Resume(run.path, device="cpu", wandb="off"), Console(quiet=True))
    events = [row["event"] for row in read_rows(run.path / "events.jsonl")]
    (said,) = [event for event in events if "with other settings" in event]
    assert said.endswith(" now: optimiser.learning_rate 6.25e-05 to 0.5, target_period 5 to 9")


def test_a_training_that_finds_no_room_to_go_on_is_told_what_helps(tmp_path, capsys, half, monkeypatch):
    run = stopped(tmp_path, half)
    monkeypatch.setattr(checks, "available_memory", lambda device: 1_000)
    assert run_command("resume", [str(run.path)]) == os.EX_TEMPFAIL
    said = capsys.readouterr().err
    assert f"GB free; free some, then: highscore resume {run.path}" in said and "--replay" not in said
    assert len(run.checkpoints()) == 2


def test_what_cannot_go_on_is_refused(tmp_path, capsys, whole):
    run = run_whole(small("demo", "probe/catch"), tmp_path, "r", sigterm_after(300))
    again = Run.reopen(run.path)
    assert run_command("resume", [str(run.path)]) == 2
    assert "another process" in capsys.readouterr().err
    again.close()
    assert run_command("train", ["demo", "--runs", str(tmp_path), "--name", "r", "--wandb", "off"]) == 2
    assert f"highscore resume {run.path}" in capsys.readouterr().err  # offered, where the name is taken
    for path in run.checkpoints():
        (path / "checkpoint.json").unlink()
    assert run_command("resume", [str(run.path)]) == 2
    assert "train it anew" in capsys.readouterr().err
    assert run_command("resume", [str(whole.path)]) == 2
    assert "is finished" in capsys.readouterr().err


def test_games_that_cannot_repeat_themselves_begin_new_episodes(tmp_path, monkeypatch):
    """The log says so; what had been learned and remembered stays."""
    from envs.games import Games

    run = run_whole(small("prioritized", "probe/catch"), tmp_path, "r", sigterm_after(303))
    play_again = Games._play_again
    monkeypatch.setattr(Games, "_play_again", lambda self, but=0: play_again(self, but) + 1)
    resume(Resume(run.path, device="cpu", wandb="off"), Console(quiet=True))
    events = [row["event"] for row in read_rows(run.path / "events.jsonl")]
    assert any("begins a new episode" in event for event in events)
    assert json.loads((run.path / "summary.json").read_text())["finished"]
    # One has 9, if what was begun is not given up.
    assert {row["steps"] for row in read_rows(run.path / "episodes.jsonl")} == {5}
