"""Implicit quantile networks (Dabney et al. 2018b)."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from agents.returns import pick, quantile_huber
from agents.sequence import Sequence
from agents.transition import MultiStep


@dataclass(frozen=True)
class IQN(MultiStep):
    """Settings and equations; the network gives (values Z_tau [..., N, A], tau [..., N]) at fractions that it draws."""

    double: bool = False
    """choose the bootstrap action with the online network (van Hasselt et al. 2016)"""
    samples: int = 64
    """fractions drawn: N and N' in the loss, K to act"""
    kappa: float = 1.0
    """where the Huber loss turns straight"""

    def values(self, output: tuple[Tensor, Tensor]) -> Tensor:
        """The means over fractions (Dabney et al. 2018b, eq. 1): Z_tau [..., N, A] to [..., A]."""
        return output[0].mean(-2)

    def distribution(self, output: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
        """Returns at the fractions that were drawn, and their probabilities, each [..., A, N]."""
        returns = output[0].mT
        return returns, torch.full_like(returns, 1 / returns.shape[-1])

    def loss(self, online: Any, target: Any, seq: Sequence) -> tuple[Tensor, Tensor, dict[str, Tensor]]:
        """Quantile Huber loss of sampled fractions (ibid., eq. 3): (loss [B], priority [B], metrics).

        The loss is the priority.
        """
        x = self.fold(seq)
        values, tau = x.here(online)  # [K * B, N, A], [K * B, N]
        with torch.no_grad():
            there, _ = x.there(target)
            best = (x.there(online)[0] if self.double else there).mean(-2).argmax(-1)
            goal = x.total[:, None] + x.scale[:, None] * at_action(there, best)
        loss = quantile_huber(at_action(values, x.action), tau, goal, self.kappa)
        return x.averaged(loss, loss.detach(), values)


def at_action(values: Tensor, action: Tensor) -> Tensor:
    """Z_tau(s, a) of one action: [B, N, A] and int64 [B] to [B, N]."""
    return pick(values, action[:, None].expand(values.shape[:-1]))
