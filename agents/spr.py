"""Self-predictive representations (Schwarzer et al. 2021): C51 whose features foretell those that come after them."""

from dataclasses import dataclass, replace
from typing import Any, ClassVar

import torch
from torch import Tensor

from agents.c51 import C51
from agents.returns import mean_over_time, self_prediction, spread
from agents.sequence import Sequence, tree_map
from agents.transition import Transitions


@dataclass(frozen=True)
class SPR(C51):
    """Settings and equations. The network has no memory, and a part `prediction` (networks/prediction.py)."""

    foresees: ClassVar[bool] = False

    jumps: int = 5
    """K, agent steps whose features are foretold, one from the other"""
    prediction_cost: float = 2.0
    """lambda, of what they miss by, beside the returns' loss (Schwarzer et al. 2021, eq. 5); 0 foretells nothing"""

    @property
    def length(self) -> int:
        """Steps per sequence: those learned from, and as many after them as are folded or foretold."""
        return self.burn_in + self.unroll + max(self.reach, self.jumps)

    @property
    def plain(self) -> "SPR":
        """The same without what bears on no priority."""
        return replace(super().plain, prediction_cost=0.0)

    def fold(self, seq: Sequence) -> Transitions:
        """As other algorithms, of the steps that returns are of."""
        return super().fold(first_steps(seq, self.burn_in + self.unroll + self.reach))

    def loss(self, online: Any, target: Any, seq: Sequence) -> tuple[Tensor, Tensor, dict[str, Tensor]]:
        """C51's, and lambda times how far projected features are from where they were foretold to be (ibid., eq. 4):
        (loss [B], priority [B], metrics); the priority is C51's.

        Foretold by the online network from the very images that returns are learned from, and compared with what the
        target network makes of the images that came, each augmented by a draw of its own.
        """
        if not self.prediction_cost:
            return super().loss(online, target, seq)
        x = self.fold(seq)
        features = online.encode(x.sooner.obs[0])  # [B, F], with unroll K * B
        loss, priority, metrics = self.bootstrap(x, online.judge(features), online, target)
        step = seq.step
        after = tree_map(lambda leaf: leaf[self.burn_in :], (step.obs, seq.action, step.last, step.terminal))
        obs, action, last, terminal = (leaf[: self.unroll + self.jumps] for leaf in after)
        foretold = online.foretell(features, windows(action, self.jumps, self.unroll))  # [J, K * B, P]
        with torch.no_grad():
            came = target.project(target.encode(self.augment(obs[1:].flatten(0, 1))))
            came = windows(came.unflatten(0, obs[1:].shape[:2]), self.jumps, self.unroll)
        # Whether episode and life go on up to there; what a lost life began is a beginning as any other.
        going = windows(~(last | terminal), self.jumps, self.unroll)
        live = torch.cat([~last[None, : self.unroll].flatten(1), going[1:]]).cumprod(0)
        missed = self_prediction(foretold, came, live).view(self.unroll, -1)
        missed = mean_over_time(missed, ~last[: self.unroll])
        metrics |= {
            "losses/self_prediction": missed.mean().detach(),
            "losses/projection_spread": spread(came.flatten(0, 1)),
        }
        return loss + self.prediction_cost * missed, priority, metrics


def first_steps(seq: Sequence, count: int) -> Sequence:
    """The first steps of sequences."""
    step, action, note, earned = tree_map(
        lambda x: x[:count], (seq.step, seq.action, seq.note, seq.intrinsic_reward)
    )  # fmt: skip
    return seq._replace(step=step, action=action, note=note, intrinsic_reward=earned)


def windows(x: Tensor, count: int, length: int) -> Tensor:
    """`count` windows of `length` rows, each a row later than the last: [T, B, ...] to [count, length * B, ...]."""
    return torch.stack([x[i : i + length].flatten(0, 1) for i in range(count)])
