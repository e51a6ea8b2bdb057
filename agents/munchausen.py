"""Munchausen reinforcement learning (Vieillard et al. 2020): the log-policy is a part of the reward."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from agents.iqn import at_action
from agents.returns import huber, munchausen_term, pick, quantile_huber, scaled_log_policy, soft_value
from agents.sequence import Sequence
from agents.transition import MultiStep


@dataclass(frozen=True)
class Munchausen(MultiStep):
    """M-DQN. It has no maximum, and so no double Q. The policy is softmax(Q_target / temperature), acting is greedy.

    Of n steps, the first has the log-policy in its reward.
    """

    scaling: float = 0.9
    """alpha, of the log-policy in the reward"""
    temperature: float = 0.03
    """tau, of the entropy"""
    clip: float = -1.0
    """l_0, the least that temperature times the log-policy counts, before it is scaled"""

    def policy(self, values: Tensor) -> Tensor:
        """pi(a|s) [..., A] of the network's values."""
        return (values / self.temperature).softmax(-1)

    def loss(self, online: Any, target: Any, seq: Sequence) -> tuple[Tensor, Tensor, dict[str, Tensor]]:
        """Huber loss against eq. 2 of Vieillard et al. (2020): (loss [B], priority [B], metrics)."""
        x = self.fold(seq)
        q_all = x.here(online)  # [K * B, A]
        with torch.no_grad():
            bonus = munchausen_term(x.here(target), x.action, self.temperature, self.scaling, self.clip)
            goal = x.total + bonus + x.scale * soft_value(x.there(target), self.temperature)
        error = goal - pick(q_all, x.action)
        loss = huber(error)
        return x.averaged(loss, error.detach().abs(), q_all)


@dataclass(frozen=True)
class MunchausenIQN(MultiStep):
    """M-IQN, and the algorithm of Beyond The Rainbow (Clark et al. 2025); the network is that of IQN.

    Of n steps, the first has the log-policy in its reward.
    """

    samples: int = 64
    """fractions drawn: N and N' in the loss, K to act"""
    kappa: float = 1.0
    """where the Huber loss turns straight"""
    scaling: float = 0.9
    """alpha, of the log-policy in the reward"""
    temperature: float = 0.03
    """tau, of the entropy"""
    clip: float = -1.0
    """l_0, the least that temperature times the log-policy counts, before it is scaled"""

    def values(self, output: tuple[Tensor, Tensor]) -> Tensor:
        """The means over fractions: Z_tau [..., N, A] to [..., A]."""
        return output[0].mean(-2)

    def distribution(self, output: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
        """Returns at the fractions that were drawn, and their probabilities, each [..., A, N]."""
        returns = output[0].mT
        return returns, torch.full_like(returns, 1 / returns.shape[-1])

    def policy(self, values: Tensor) -> Tensor:
        """pi(a|s) [..., A] of the means."""
        return (values / self.temperature).softmax(-1)

    def loss(self, online: Any, target: Any, seq: Sequence) -> tuple[Tensor, Tensor, dict[str, Tensor]]:
        """Quantile Huber loss (Vieillard et al. 2020, appendix B.2): (loss [B], priority [B], metrics).

        The priority is sum_i mean_j |d_ij| (Clark et al. 2025, released code).
        """
        x = self.fold(seq)
        values, tau = x.here(online)  # [K * B, N, A], [K * B, N]
        with torch.no_grad():
            q_here = x.here(target)[0].mean(-2)  # [K * B, A]
            bonus = munchausen_term(q_here, x.action, self.temperature, self.scaling, self.clip)
            there, _ = x.there(target)  # [K * B, N', A]
            tau_log_pi = scaled_log_policy(there.mean(-2), self.temperature)[:, None]  # [K * B, 1, A]
            soft = ((tau_log_pi / self.temperature).exp() * (there - tau_log_pi)).sum(-1)  # [K * B, N']
            goal = (x.total + bonus)[:, None] + x.scale[:, None] * soft
        chosen = at_action(values, x.action)
        loss = quantile_huber(chosen, tau, goal, self.kappa)
        size = (goal[:, None, :] - chosen.detach()[:, :, None]).abs().mean(-1).sum(-1)
        return x.averaged(loss, size, values)
