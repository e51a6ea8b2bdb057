"""Bigger, Better, Faster (Schwarzer et al. 2023): SPR that looks farther ahead the longer it learns."""

import math
from dataclasses import dataclass

from torch import Tensor

from agents.sequence import Sequence
from agents.spr import SPR


@dataclass(frozen=True)
class BBF(SPR):
    """Settings and equations; resets, the target network's average and weight decay are the agent's."""

    first_n_steps: int = 10
    """agent steps folded into one at first, and after every reset; they fall to --algorithm.n-steps"""
    first_discount: float = 0.97
    """gamma at first, and after every reset; it rises to --algorithm.discount"""
    horizon_updates: int = 10_000
    """updates that this takes"""

    @property
    def reach(self) -> int:
        """Agent steps that are ever folded into one."""
        return max(self.first_n_steps, self.n_steps)

    def horizon(self, updates: int) -> tuple[int, float]:
        """(n, gamma) after so many updates since the last reset: n and 1 - gamma go geometrically to their ends."""
        left = max(1 - updates / self.horizon_updates, 0.0)
        n = geometric(self.first_n_steps, self.n_steps, left)
        return round(n), 1 - geometric(1 - self.first_discount, 1 - self.discount, left)

    def horizon_of(self, seq: Sequence) -> tuple[int | Tensor | None, float | Tensor]:
        """What was noted for them; where nothing was, as if nothing were left of the way."""
        return seq.horizon or (self.n_steps, self.discount)


def geometric(first: float, last: float, left: float) -> float:
    """From `first`, with all of the way left (1), to `last` (0), by equal factors in equal times."""
    return math.exp(left * math.log(first) + (1 - left) * math.log(last))
