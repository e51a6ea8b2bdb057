"""What tests/test_ranks.py lets torchrun start: `torchrun --nproc-per-node=2 -m tests.ranks WHAT FOLDER`."""

import json
import os
import signal
import sys
from pathlib import Path

import torch
from rich.console import Console

from agents.sequence import Sequence, tree_map
from envs.timestep import TimeStep
from experiments.build import build_agent
from experiments.cli import parse_train, run_command
from experiments.distributed import together
from experiments.distributed.ranks import First, Other
from experiments.distributed.world import World
from experiments.resume import Resume

TRAIN = (
    "prioritized --game probe/catch --num-envs 4 --network.torso mlp --network.hidden 16 --frames 600"
    " --replay.capacity 600 --replay.batch-size 8 --replay.learn-start 100 --replay.learn-period 8"
    " --evaluation.period 450 --evaluation.episodes 1 --evaluation.video-seconds 0 --checkpoint-period 200"
    " --device cpu --wandb off"
).split()
PPO = (
    "ppo --game probe/catch --num-envs 4 --network.torso mlp --network.hidden 16 --frames 400 --algorithm.unroll 16"
    " --rollout.minibatches 2 --evaluation.episodes 1 --evaluation.video-seconds 0 --device cpu --wandb off"
).split()


def signal_after(number, iterations):
    """Sends rank 1 a signal from within, in the middle of an iteration that no other rank knows of."""
    follow, left = Other.follow, iter(range(iterations, -1, -1))

    def counted(self, moment):
        if next(left, -1) == 0:
            os.kill(os.getpid(), number)
        follow(self, moment)

    Other.follow = counted


def stop_in_the_evaluation():
    """Asks rank 0 to stop while it evaluates, once."""
    evaluate = First._evaluate

    def told(self):
        First._evaluate = evaluate
        os.kill(os.getpid(), signal.SIGTERM)
        evaluate(self)

    First._evaluate = told


def killed(folder, world):
    """Through the command itself; rank 1 is killed."""
    signal_after(signal.SIGKILL, 150)
    raise SystemExit(run_command("train", [*TRAIN, "--runs", str(folder), "--name", "killed"]))


def stopped_and_resumed(folder, world):
    """One training undisturbed, one that rank 1 is asked to stop, one that was killed: all to their ends."""
    console = Console(quiet=True)
    for name, args in (("whole", TRAIN), ("ppo", PPO)):
        together.train(parse_train([*args, "--runs", str(folder), "--name", name]), world, console)
    follow = Other.follow
    signal_after(signal.SIGTERM, 90)
    options = parse_train([*TRAIN, "--runs", str(folder), "--name", "stopped"])
    run, number = together.train(options, world, console)
    Other.follow = follow
    stopped_at = run.load_checkpoint()[1]["agent_steps"]
    stop_in_the_evaluation()
    together.resume(Resume(folder / "stopped", wandb="off"), world, console)
    stopped_again = run.load_checkpoint()[1]
    assert stopped_again["resume"]["evaluation_due"] and stopped_again["agent_steps"] == 452
    for name in ("stopped", "killed"):
        together.resume(Resume(folder / name, wandb="off"), world, console)
    whole_batch(world)
    (folder / f"{world.rank}.json").write_text(json.dumps({"signal": number, "stopped_at": stopped_at}))


def whole_batch(world):
    """Two halves of a batch, a rank each, teach what the whole batch teaches one agent."""

    x = parse_train([*TRAIN, "--optimiser.clip-norm", "0.05"]).experiment

    def agent():
        torch.manual_seed(0)
        return build_agent(x, (4, 1, 6, 5), 3, torch.device("cpu"))

    torch.manual_seed(0)
    t, b = x.algorithm.length, 8
    obs, flags = torch.randint(255, (t, b, 4, 1, 6, 5), dtype=torch.uint8), torch.zeros(t, b, dtype=torch.bool)
    action = torch.randint(3, (t, b))
    step = TimeStep(obs, action, torch.randn(t, b), flags, flags, flags)
    whole = Sequence(step, action, (), (), torch.rand(b), torch.arange(b))
    half = slice(4 * world.rank, 4 * world.rank + 4)
    own = whole._replace(weight=whole.weight[half], ids=whole.ids[half])
    own = own._replace(step=tree_map(lambda x: x[:, half], step), action=action[:, half])
    alone, together_ = agent(), agent()
    together_.average = world.average
    for _ in range(3):
        alone.learn(whole)
        together_.learn(own)
    for x, y in zip(alone.online.parameters(), together_.online.parameters(), strict=True):
        torch.testing.assert_close(x, y)


if __name__ == "__main__":
    what, folder = sys.argv[1:]
    globals()[what](Path(folder), World.of_torchrun())
