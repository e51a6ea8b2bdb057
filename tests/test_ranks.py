"""Several learners that torchrun starts are one learner: the same steps, the same gradients, the same run."""

import json
import signal
import subprocess
import sys
import time
from dataclasses import replace

import psutil
import pytest
import torch
from safetensors.torch import load_file

from agents.curious import Bonus
from agents.explore import Ladder
from envs.recording import Recording, render
from experiments.build import build
from experiments.checks import NoRoom
from experiments.cli import run_command
from experiments.distributed.share import build_share, cut, exploration, seed_of, stored
from experiments.distributed.world import World
from experiments.files import read_rows
from experiments.presets import PRESETS
from experiments.run import Run
from experiments.selfcheck import differences
from tests.test_players import on_policy, small


def torchrun(what, folder):
    """Starts tests/ranks.py on two ranks; returns its status, its output, and which of its processes are left."""
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node=2", "--rdzv-backend=c10d"]
    command += ["--rdzv-endpoint=localhost:0", "-m", "tests.ranks", what, str(folder)]
    process = psutil.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    seen = set()
    while process.poll() is None:
        seen |= set(process.children(recursive=True))
        time.sleep(0.5)
    said = process.stdout.read()
    return process.returncode, said, psutil.wait_procs(seen, timeout=10)[1]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("ranks")


@pytest.fixture(scope="module")
def killed(folder):
    return torchrun("killed", folder)


@pytest.fixture(scope="module")
def facts(folder, killed):
    status, said, left = torchrun("stopped_and_resumed", folder)
    assert (status, left) == (0, []), said
    return [json.loads((folder / f"{rank}.json").read_text()) for rank in (0, 1)]


def test_a_killed_rank_ends_all_and_says_how_to_go_on(folder, killed):
    status, said, left = killed
    assert status != 0 and left == []
    assert "highscore train: another rank is gone" in said
    assert f"torchrun --nproc-per-node=2 -m experiments.resume {folder / 'killed'}" in said
    assert said.count("Traceback") == 1  # torchrun's own
    assert Run.open(folder / "killed").checkpoints()


def test_ranks_stop_together_when_one_is_asked(facts):
    assert [fact["signal"] for fact in facts] == [signal.SIGTERM] * 2
    assert facts[0]["stopped_at"] == facts[1]["stopped_at"] < 600


@pytest.mark.parametrize("name", ["stopped", "killed"])
def test_what_was_interrupted_becomes_the_same_run(folder, facts, name):
    """Weights, optimiser, both ranks' games, replays and chances, scores and logs: bit for bit."""
    assert differences(folder / "whole", folder / name) == []
    assert not (folder / name / "replay").exists()


def test_a_run_says_that_its_settings_are_those_of_the_whole(folder, facts):
    run = Run.open(folder / "whole")
    assert (run.ranks, run.experiment.num_envs, run.experiment.replay.batch_size) == (2, 4, 8)
    state = run.load_checkpoint()[1]
    assert state["agent_steps"] >= 600 and state["finished"]
    # As many updates as the steps of all ranks pay for: one each 8 steps from the 100th.
    assert state["updates"] == (state["agent_steps"] - 100) // 8


def test_ranks_play_games_of_their_own(folder, facts):
    tensors = load_file(Run.open(folder / "whole").checkpoints()[-1] / "tensors.safetensors")
    resume = Run.open(folder / "whole").load_checkpoint()[1]["resume"]
    other = resume["ranks"][0]
    assert not set(resume["games"]["seeds"]) & set(other["games"]["seeds"])
    assert tensors["games.actions"].tolist() != tensors["rank.1.games.actions"].tolist()
    assert resume["memory"]["updates"] == other["memory"]["updates"] > 0
    assert resume["games"]["agent_steps"] == other["games"]["agent_steps"]


def test_on_policy_ranks_learn_equally_often(folder, facts):
    state = Run.open(folder / "ppo").load_checkpoint()[1]
    assert state["finished"] and state["updates"] == state["resume"]["ranks"][0]["updates"] > 0


def test_every_episode_of_every_rank_is_counted_and_can_be_shown_again(folder, facts):
    rows = list(read_rows(folder / "whole" / "episodes.jsonl"))
    assert {row["game"] for row in rows} == {0, 1, 2, 3}
    assert [row["episode"] for row in rows] == list(range(1, len(rows) + 1))
    content = (folder / "whole" / "recordings" / "training.rec").read_bytes()
    for game in range(4):
        *before, last = [row for row in rows if row["game"] == game][:4]
        packed = [content[offset : offset + length] for offset, length in (row["recording"] for row in [*before, last])]
        recording = Recording.unpack(packed.pop(), packed.pop)
        assert sum(reward for _, reward in render(recording)) == recording.score == last["score"]


@pytest.mark.parametrize(
    "changes, told",
    [
        ({"num_envs": 7}, "--num-envs is 7, which 2 ranks cannot share equally; try --num-envs 8"),
        ({"bonus": Bonus(weight=1.0)}, "--bonus.weight"),
        ({"replay": replace(PRESETS["dqn"].replay, batch_size=33)}, "try --replay.batch-size 34"),
    ],
)
def test_what_cannot_be_shared_is_refused(changes, told):
    with pytest.raises(ValueError, match=told):
        cut(replace(PRESETS["dqn"], **changes), 2)


def test_a_share_is_the_whole_cut():
    share = cut(PRESETS["dqn"], 4)
    assert (share.num_envs, share.replay.capacity, share.replay.batch_size) == (2, 250_000, 8)
    assert (share.replay.learn_start, share.replay.learn_period) == (20_000, 4)


@pytest.mark.parametrize(
    ("free", "device", "storage"), [(9.0, "cpu", "auto"), (6.0, "cpu", "compressed"), (5.0, "cuda", "cuda")]
)
def test_ranks_of_one_machine_share_its_memory_and_have_a_gpu_each(monkeypatch, free, device, storage):
    """In GB: the frames of all take 7.1, those of one of two ranks 3.6."""
    monkeypatch.setattr("experiments.checks.available_memory", lambda _: int(1e9 * free))
    x, device = PRESETS["dqn"], torch.device(device)
    share = stored(x, cut(x, 2), device)
    assert share == replace(cut(x, 2), replay=replace(cut(x, 2).replay, storage=storage))
    monkeypatch.setattr("experiments.checks.available_memory", lambda _: int(1e9 * 2))
    with pytest.raises(NoRoom, match=f"and the {device.type} has"):
        stored(x, cut(x, 2), device)
    assert stored(PRESETS["ppo"], cut(PRESETS["ppo"], 2), device) == cut(PRESETS["ppo"], 2)


def test_ranks_share_the_rungs_of_a_ladder():
    x = replace(PRESETS["dqn"], num_envs=4, explore=Ladder(4))
    rungs = [exploration(x, World(rank, 2))(0).tolist() for rank in (0, 1)]
    assert rungs[0] + rungs[1] == Ladder(4)(0).tolist()
    assert len({seed_of(seed, rank) for seed in (1, 2) for rank in range(8)}) == 16 and seed_of(5, 0) == 5


def test_a_run_of_two_ranks_needs_two(folder, facts, capsys):
    assert run_command("resume", [str(folder / "stopped")]) == 2
    assert "go on with it so: torchrun --nproc-per-node=2 -m experiments.resume" in capsys.readouterr().err


@pytest.mark.parametrize("x", [small("dqn"), on_policy("ppo", frames=4_000, num_envs=8)], ids=["dqn", "ppo"])
def test_learning_rates_fall_on_ranks_as_they_do_on_one_and_each_rank_draws_its_own(x):
    x = replace(x, distributed="none", optimiser=replace(x.optimiser, anneal=True))
    one = build(x, torch.device("cpu"))
    shares = [build_share(x, World(rank, 2), torch.device("cpu")) for rank in (0, 1)]
    for setup in (one, *shares):
        setup.games.close()
    for steps in range(0, x.agent_steps, 50):
        assert len({setup.agent.learning_rate(steps) for setup in (one, *shares)}) == 1
    assert one.agent.learning_rate(x.agent_steps) < one.agent.learning_rate(0) / 2
    if x.replay:  # rollouts are shuffled by torch's numbers
        drawn = [setup.experience.rng.random(3).tolist() for setup in (one, *shares)]
        assert drawn[0] == drawn[1] != drawn[2]
