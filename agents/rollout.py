"""On-policy experience: the last few steps, used a few times and forgotten."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from agents.sequence import Sequence, tree_map
from envs.timestep import TimeStep


@dataclass(frozen=True)
class RolloutConfig:
    """Settings of a rollout: how often each step is learned from, and into how many groups of games it is cut."""

    epochs: int = 2
    minibatches: int = 8


class Rollout:
    """The same interface as Replay: add, batches, update."""

    def __init__(self, config: RolloutConfig, num_envs: int, length: int):
        if num_envs % config.minibatches:
            raise ValueError(f"{num_envs} games cannot be cut into {config.minibatches} equal minibatches")
        self.config, self.num_envs, self.length = config, num_envs, length
        self.rows: list[Any] = []

    def add(self, step: TimeStep, action: Tensor, note: Any = (), state: Any = ()) -> None:
        """Appends one step of every game: what was seen, then done and noted, and the memory before it."""
        self.rows.append((step, action, note, state))

    def batches(self) -> Iterator[Sequence]:
        """Every game's steps once per epoch, whole sequences at a time, when the rollout is full."""
        if len(self.rows) < self.length:
            return
        step, action, note = tree_map(lambda *xs: torch.stack(xs), *[row[:3] for row in self.rows])
        state = self.rows[0][3]
        for _ in range(self.config.epochs):
            for games in torch.randperm(self.num_envs).chunk(self.config.minibatches):
                on = games.to(action.device)
                yield Sequence(
                    tree_map(lambda x: x[:, on], step), action[:, on], tree_map(lambda x: x[:, on], note),
                    tree_map(lambda x: x[on], state), torch.ones(len(games), device=action.device), games,
                )  # fmt: skip
        self.rows = self.rows[-1:]  # the bootstrap step begins the next rollout

    def update(self, ids: Tensor, priority: Tensor) -> None:
        """Rollouts have no priorities."""
