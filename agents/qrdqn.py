"""Quantile regression for the distribution of returns (Dabney et al. 2018a)."""

from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

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

    def values(self, theta: Tensor) -> Tensor:
        """The means of quantiles: [..., A, N] to [..., A]."""
        return theta.mean(-1)

    def distribution(self, theta: Tensor) -> tuple[Tensor, Tensor]:
        """Returns and their probabilities, each [..., A, N]."""
        return theta, torch.full_like(theta, 1 / theta.shape[-1])

    def loss(self, online: Any, target: Any, seq: Sequence) -> tuple[Tensor, Tensor, dict[str, Tensor]]:
        """Quantile Huber loss (Dabney et al. 2018a, alg. 1): (loss [B], priority [B], metrics).

        The loss is the priority.
        """
        x = self.fold(seq)
        theta = x.here(online)  # [K * B, A, N]
        with torch.no_grad():
            there = x.there(target)
            best = self.values(x.there(online) if self.double else there).argmax(-1)
            goal = x.total[:, None] + x.scale[:, None] * pick_atoms(there, best)  # [K * B, N]
            tau = (torch.arange(self.quantiles, device=goal.device) + 0.5) / self.quantiles
        loss = quantile_huber(pick_atoms(theta, x.action), tau, goal, self.kappa)
        return x.averaged(loss, loss.detach(), theta)
