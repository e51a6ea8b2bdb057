"""A training whose games are played elsewhere: built from its experiment, and what its Trainer asks of it."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from agents.agent import Agent
from agents.shards import Shards
from envs.library import game_of
from experiments import build as single
from experiments.build import Setup, build_agent, seed_everything
from experiments.checks import with_room
from experiments.config import Experiment
from experiments.distributed.blocks import block_rows, example_row
from experiments.distributed.learner import learn
from experiments.distributed.local import LocalPlayers
from experiments.distributed.rows import ShardSegments
from experiments.limits import cores
from experiments.loop import Moment


@dataclass
class DistributedSetup:
    """What such a training needs, ready to start; it stands where a `Setup` does."""

    games: Any  # see `Players`
    agent: Agent
    experience: Any  # Shards, or what stands for them

    def __post_init__(self) -> None:
        self._waited = 0.0

    def moments(self, x: Experiment, begin: Moment | None) -> Iterator[Moment]:
        """The training from where it is."""
        anew = "; their games begin new episodes" if begin else ""
        self.games.say(f"{x.players} processes play {x.num_envs // x.players} games each{anew}")
        return learn(self.agent, self.games, self.experience, x.agent_steps)

    def segments(self, folder: Path) -> Any:
        """The experience's rows on disk."""
        return ShardSegments(folder, len(self.experience.shards))

    def speeds(self, seconds: float) -> dict[str, float]:
        """The share of so many seconds, of training since the last call, in which the learner waited for players."""
        before, self._waited = self._waited, self.games.waited
        return {"perf/learner_idle": (self._waited - before) / seconds}


def build(x: Experiment, device: torch.device) -> Setup | DistributedSetup:
    """Builds everything that an experiment names, whoever plays; seeds torch, NumPy and Python.

    Raises:
        ValueError: settings that cannot work, or more memory than the machine has; says what to change.
    """
    if x.distributed == "none":
        return single.build(x, device)
    single.check(x, device)
    check(x)
    x = with_room(x, device)
    seed_everything(x)
    if x.distributed == "local":
        # Players take a core each; threads that wait for one that is taken would wait busily.
        torch.set_num_threads(max(1, min(torch.get_num_threads(), cores() - x.players)))
    game = game_of(x.game)
    agent = build_agent(x, (x.stack, *game.frame_shape), len(game.actions()), device)
    row = example_row(x, agent)
    if x.compile:
        single.compile_agent(agent)
    assert x.replay is not None
    agent.plan(*x.replay.annealing(x.agent_steps))
    if x.distributed == "ray":
        from experiments.distributed.ray_setup import make_setup

        return make_setup(x, agent, row, device)
    experience = Shards(x.replay, x.num_envs, agent.algorithm.length, x.seed, x.players, row)
    return DistributedSetup(LocalPlayers(x, row, agent.acting, device), agent, experience)


def check(x: Experiment) -> None:
    """Refuses what players cannot do.

    Raises:
        ValueError: naming the flag to change.
    """
    if x.replay is None:
        raise ValueError(
            f"--distributed {x.distributed} needs a replay, and {type(x.algorithm).__name__} learns from rollouts"
        )
    if x.players < 1 or x.num_envs % x.players:
        raise ValueError(
            f"--num-envs {x.num_envs} cannot be shared equally by --players {x.players}; change one of them"
        )
    if x.distributed == "ray" and x.replay.storage == "cuda":
        raise ValueError("--replay.storage cuda: shards are in the memory of the cluster's machines; use ram")
    if x.bonus.weight:
        raise ValueError(f"--bonus.weight: with --distributed {x.distributed} there is no intrinsic reward")
    rows = x.replay.capacity // x.num_envs
    if rows < (least := 2 * (block_rows(x) + x.algorithm.length + 8 + x.stack)):
        raise ValueError(
            f"--replay.capacity {x.replay.capacity:_} is too small for blocks; it takes {least * x.num_envs:_} at least"
        )
