"""Quantile regression for the distribution of returns (Dabney et al. 2018a)."""

from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from agents.explore import epsilon_greedy
from agents.returns import pick_atoms, quantile_huber
from agents.sequence import Sequence
from agents.transition import MultiStep


@dataclass(frozen=True)
class QRDQN(MultiStep):
    """Settings and equations; the network gives quantiles theta [..., A, N]."""

    foresees: ClassVar[bool] = True

    double: bool = False
    """choose the bootstrap action with the online network (van Hasselt et al. 2016)"""
    quantiles: int = 200
    """N, at the fractions (2i - 1) / 2N"""
    kappa: float = 1.0
    """where the Huber loss turns straight; 0 for the quantile regression loss itself"""

    def choose(self, theta: Tensor, epsilon: float | Tensor) -> tuple[Tensor, Any]:
        """Epsilon-greedy actions, int64 [N], of quantiles [N, A, quantiles]."""
        return epsilon_greedy(theta.mean(-1), epsilon), ()

    def loss(self, online: Any, target: Any, seq: Sequence) -> tuple[Tensor, Tensor, dict[str, Tensor]]:
        """Quantile Huber loss (Dabney et al. 2018a, alg. 1): (loss [B], priority [B], metrics).

        The loss is the priority.
        """
        x = self.fold(seq)
        theta = x.here(online)  # [K * B, A, N]
        with torch.no_grad():
            there = x.there(target)
            best = (x.there(online) if self.double else there).mean(-1).argmax(-1)
            goal = x.total[:, None] + x.scale[:, None] * pick_atoms(there, best)  # [K * B, N]
            tau = (torch.arange(self.quantiles, device=goal.device) + 0.5) / self.quantiles
        loss = quantile_huber(pick_atoms(theta, x.action), tau, goal, self.kappa)
        return x.averaged(loss, loss.detach(), theta)
