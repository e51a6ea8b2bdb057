"""Several replays that are sampled as one, so that those who fill them need not keep in step."""

from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from agents.replay import Replay, ReplayBase, ReplayConfig, importance_weights
from agents.sequence import Sequence, below, onto, tree_map


class Shards(ReplayBase):
    """Replays of equal size, one for each share of N games; no sequence crosses from one to another.

    A sequence's number in `ids` is its number in its shard times the number of shards, plus that of its shard.

    Args:
        config: of all together.
        num_envs: games of all together.
        length: agent steps per sequence.
        count: shards.
        example: one row of one shard, (step, action, note, state), as given to `Replay.add`.

    Raises:
        ValueError: the shards would be too small.
    """

    def __init__(self, config: ReplayConfig, num_envs: int, length: int, seed: int, count: int, example: Any):
        share = replace(config, capacity=config.capacity // count)
        self.config = config
        # Of each batch a shard has a part of another size: a launch recorded for one would not do for the next.
        self.shards = [Replay(share, num_envs // count, length, captured=False) for _ in range(count)]
        for shard in self.shards:
            shard.allocate(example)
        self.rng = np.random.default_rng(seed)
        self.updates = 0  # batches handed out

    @property
    def steps_added(self) -> int:
        """Agent steps in all shards, as in Replay."""
        return sum(shard.steps_added for shard in self.shards)

    def extend(self, player: int, block: Any) -> None:
        """Appends a block to one shard: the arguments of `Replay.extend`, where the shards are."""
        self.meet(max(shard.max_priority for shard in self.shards))
        self.shards[player].extend(*block)

    def meet(self, largest: float) -> None:
        """New sequences of every shard get the largest priority that any has seen, as in one replay."""
        for shard in self.shards:
            shard.max_priority = max(shard.max_priority, largest)

    def sample(self, batch_size: int) -> Sequence:
        """A batch drawn from all shards with P(i) = p_i^alpha / sum_k p_k^alpha, as if they were one."""
        totals = np.array([shard.tree.total for shard in self.shards])
        ends = totals.cumsum()
        mass = self.rng.random(batch_size) * ends[-1]
        which = np.minimum(np.searchsorted(ends, mass, side="right"), np.flatnonzero(totals)[-1])
        parts, probability = [], []
        for i in np.unique(which):
            shard = self.shards[i]
            leaf = shard.tree.find(np.maximum(mass[which == i] - (ends[i] - totals[i]), 0.0))
            seq = shard.gather(leaf)
            parts.append(seq._replace(ids=seq.ids * len(self.shards) + i))
            probability.append(shard.tree[leaf])
        weight = importance_weights(np.concatenate(probability), self.config.importance_exponent(self.steps_added))
        seq = join(parts)
        return seq._replace(weight=onto(seq.action.device, torch.as_tensor(weight, dtype=torch.float32)))

    def update(self, ids: Tensor, priority: Tensor) -> None:
        """Sets the priorities [B] of sequences that `sample` returned; any overwritten since stay unsampled."""
        which, priority = ids % len(self.shards), priority.cpu()
        for i in which.unique().tolist():
            mine = which == i
            self.shards[i].update(ids[mine] // len(self.shards), priority[mine])

    def state(self) -> tuple[dict[str, Any], dict[str, Tensor]]:
        """All but the rows, as in Replay."""
        facts: list[dict[str, Any]] = []
        tensors: dict[str, Tensor] = {}
        for i, shard in enumerate(self.shards):
            own, of_shard = shard.state()
            facts.append(own)
            tensors |= {f"{i}.{name}": x for name, x in of_shard.items()}
        return {"shards": facts, "updates": self.updates, "rng": self.rng.bit_generator.state}, tensors

    def restore(self, facts: dict[str, Any], tensors: dict[str, Tensor], example: Any) -> None:
        """Takes up a `state`; whoever calls it then fills the rows.

        Raises:
            ValueError: it is not of such shards.
        """
        if len(facts["shards"]) != len(self.shards):
            raise ValueError(f"these are {len(facts['shards'])} shards, not {len(self.shards)}")
        for i, (shard, own) in enumerate(zip(self.shards, facts["shards"], strict=True)):
            shard.restore(own, below(tensors, f"{i}."), example)
        self.updates = facts["updates"]
        self.rng.bit_generator.state = facts["rng"]


def join(parts: list[Sequence]) -> Sequence:
    """The sequences of several batches as one."""
    if len(parts) == 1:
        return parts[0]
    rows = tree_map(lambda *xs: torch.cat(xs, 1), *((x.step, x.action, x.note) for x in parts))
    return Sequence(*rows, *tree_map(lambda *xs: torch.cat(xs), *((x.state, x.weight, x.ids) for x in parts)))
