"""On-policy experience: the last few steps, used a few times and forgotten."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor

from agents.sequence import Sequence, onto, tree_leaves, tree_like, tree_map
from envs.timestep import TimeStep


@dataclass(frozen=True)
class RolloutConfig:
    """How a rollout is learned from before it is forgotten."""

    epochs: int = 2
    """times that each step is learned from"""
    minibatches: int = 8
    """updates per epoch, each from an equal share"""
    shuffle: Literal["steps", "games"] = "steps"
    """what a minibatch is drawn from: single steps, or the whole sequence of some games (for memories)"""


class Rollout:
    """The same interface as Replay: add, batches, update.

    The step that a rollout bootstraps from begins the next one. Its action was chosen before the updates in between,
    for the games play on while the agent learns; what is noted says by which policy. Or else they wait: then it is
    added again, with what is done there, and noted, by the network that has learned in between.

    Args:
        length: steps per rollout, the one that it bootstraps from included.
        games_wait: whether the games wait.
        targets: a sequence of `length` steps to one without the last, whose note holds what to learn;
            called once per rollout, so that every epoch has the targets of the network that acted.

    Raises:
        ValueError: the minibatches would not be equal.
    """

    def __init__(
        self, config: RolloutConfig, num_envs: int, length: int, targets: Callable[[Sequence], Sequence],
        games_wait: bool = False,
    ):  # fmt: skip
        share = num_envs if config.shuffle == "games" else num_envs * (length - 1)
        if share % config.minibatches:
            raise ValueError(
                f"{share} {config.shuffle} cannot be cut into {config.minibatches} equal minibatches;"
                " change --rollout.minibatches"
            )
        self.config, self.num_envs, self.length, self.targets = config, num_envs, length, targets
        self.games_wait = games_wait
        self.rows: list[Any] = []
        self.states: list[Any] = []  # before the rows that begin a rollout: the first, and once there the last

    def add(self, step: TimeStep, action: Tensor, note: Any = (), state: Any = (), on_host: Any = None) -> None:
        """Appends one step of every game, as `Replay.add` does; no flags are looked at."""
        if len(self.rows) % (self.length - 1) == 0:
            self.states.append(state)
        self.rows.append((step, action, note))

    @property
    def waits(self) -> bool:
        """Whether the next step completes a rollout for which the games wait."""
        return self.games_wait and len(self.rows) >= self.length - 1

    def batches(self, room: Callable[[], int] = lambda: 1) -> Iterator[tuple[Sequence, int]]:
        """Every step once per epoch, when the rollout is full.

        Args:
            room: how many minibatches may be drawn at once; comes with each sequence.
        """
        if len(self.rows) < self.length:
            return
        rows, self.rows = self.rows[: self.length], self.rows[self.length - 1 :]  # the bootstrap step begins the next
        state, *self.states = self.states
        if self.games_wait:  # but comes again
            self.rows, self.states = [], []
        step, action, note = tree_map(lambda *xs: torch.stack(xs), *rows)
        ones = torch.ones(self.num_envs, device=action.device)
        seq = self.targets(Sequence(step, action, note, state, ones, torch.arange(self.num_envs)))
        if self.config.shuffle == "steps":
            seq = one_step_each(seq)
        for _ in range(self.config.epochs):
            left = torch.randperm(len(seq.weight)).chunk(self.config.minibatches)
            while left:
                count = min(len(left), room())
                yield at(seq, torch.cat(left[:count])), count
                left = left[count:]

    def state(self) -> tuple[dict[str, Any], dict[str, Tensor]]:
        """The steps so far, as JSON-able facts and tensors."""
        columns = [*zip(*map(tree_leaves, self.rows), strict=True), *zip(*map(tree_leaves, self.states), strict=True)]
        return {"rows": len(self.rows)}, {str(i): torch.stack(column).cpu() for i, column in enumerate(columns)}

    def restore(self, facts: dict[str, Any], tensors: dict[str, Tensor], example: Any) -> None:
        """Takes up a `state`.

        Args:
            example: one row, (step, action, note, state), as given to `add`.

        Raises:
            ValueError: tensors of another shape.
        """
        *row, state = example
        rows, states = facts["rows"], 1 + (facts["rows"] == self.length)
        want = [(rows, *x.shape) for x in tree_leaves(tuple(row))] + [(states, *x.shape) for x in tree_leaves(state)]
        if {name: tuple(x.shape) for name, x in tensors.items()} != {str(i): shape for i, shape in enumerate(want)}:
            raise ValueError("these are not the steps of such a rollout")
        columns, kept = tree_like((tensors[str(i)] for i in range(len(tensors))), (tuple(row), state))
        self.rows = [tree_map(lambda x: x[t], columns) for t in range(rows)]
        self.states = [tree_map(lambda x: x[i], kept) for i in range(states)]

    def annealing(self, agent_steps: int) -> tuple[int, int]:
        """(agent steps over which a rate falls to 0, agent steps before) in a training of so many.

        It is not 0 in the last rollout, but as much of the first one's as a rollout is of the training.
        """
        return agent_steps, self.num_envs * (self.length - self.games_wait)

    def planned_updates(self, agent_steps: int) -> int:
        """Updates that so many agent steps will pay for, or a few more: restarts are not agent steps."""
        rollouts = agent_steps // (self.num_envs * (self.length - 1))
        return rollouts * self.config.epochs * self.config.minibatches

    def update(self, ids: Tensor, priority: Tensor) -> None:
        """Rollouts have no priorities."""


def one_step_each(seq: Sequence) -> Sequence:
    """T steps from each of B places as one step from each of T * B; memories must be ()."""
    assert seq.state == (), "a network with memory learns from whole games: --rollout.shuffle games"
    step, action, note = tree_map(lambda x: x.flatten(0, 1)[None], (seq.step, seq.action, seq.note))
    time = len(seq.action)
    return Sequence(step, action, note, (), seq.weight.repeat(time), seq.ids.repeat(time))


def at(seq: Sequence, places: Tensor) -> Sequence:
    """The sequences of some of the B places: int64 [b] on the host."""
    there = onto(seq.action.device, places)
    # The same as x[:, there], which copies bytes one by one.
    step, action, note = tree_map(lambda x: x.index_select(1, there), (seq.step, seq.action, seq.note))
    state = tree_map(lambda x: x.index_select(0, there), seq.state)
    return Sequence(step, action, note, state, seq.weight[there], seq.ids[places])
