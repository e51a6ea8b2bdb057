"""Munchausen reinforcement learning (Vieillard et al. 2020): the log-policy is a part of the reward."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from agents.explore import epsilon_greedy
from agents.iqn import at_action
from agents.returns import huber, log_policy, munchausen_term, pick, quantile_huber, soft_value
from agents.sequence import Sequence
from agents.transition import fold


@dataclass(frozen=True)
class Munchausen:
    """M-DQN. It has no maximum, and so no double Q. The policy is softmax(Q_target / temperature), acting is greedy."""

    discount: float = 0.99
    """gamma, per agent step"""
    n_steps: int = 1
    """agent steps folded into one before the bootstrap; the log-policy is added at the first"""
    burn_in: int = 0
    """agent steps that only warm up the memory before those learned from"""
    unroll: int = 1
    """agent steps learned from in a row"""
    reward_clip: float = 1.0
    """rewards count as -x to x in the loss, 0 as they are; scores stay raw"""
    scaling: float = 0.9
    """alpha, of the log-policy in the reward"""
    temperature: float = 0.03
    """tau, of the entropy"""
    clip: float = -1.0
    """l_0, the least that the scaled log-policy counts"""

    @property
    def length(self) -> int:
        """Steps per sequence: those that warm up the memory, those learned from, and up to n after them."""
        return self.burn_in + self.unroll + self.n_steps

    def choose(self, q: Tensor, epsilon: float | Tensor) -> tuple[Tensor, Any]:
        """Epsilon-greedy actions, int64 [N], of action values [N, A]."""
        return epsilon_greedy(q, epsilon), ()

    def loss(self, online: Any, target: Any, seq: Sequence) -> tuple[Tensor, Tensor, dict[str, Tensor]]:
        """Huber loss against eq. 2 of Vieillard et al. (2020): (loss [B], priority [B], metrics)."""
        x = fold(seq, self.discount, self.n_steps, self.reward_clip, self.burn_in)
        q_all = x.here(online)  # [B, A]
        with torch.no_grad():
            bonus = munchausen_term(x.here(target), x.action, self.temperature, self.scaling, self.clip)
            goal = x.total + bonus + x.scale * soft_value(x.there(target), self.temperature)
        error = goal - pick(q_all, x.action)
        loss = huber(error)
        return x.summed_up(loss, error.detach().abs(), q_all)


@dataclass(frozen=True)
class MunchausenIQN:
    """M-IQN, and the algorithm of Beyond The Rainbow (Clark et al. 2025); the network is that of IQN."""

    discount: float = 0.99
    """gamma, per agent step"""
    n_steps: int = 1
    """agent steps folded into one before the bootstrap; the log-policy is added at the first"""
    burn_in: int = 0
    """agent steps that only warm up the memory before those learned from"""
    unroll: int = 1
    """agent steps learned from in a row"""
    reward_clip: float = 1.0
    """rewards count as -x to x in the loss, 0 as they are; scores stay raw"""
    samples: int = 64
    """fractions drawn: N and N' in the loss, K to act"""
    kappa: float = 1.0
    """where the Huber loss turns straight"""
    scaling: float = 0.9
    """alpha, of the log-policy in the reward"""
    temperature: float = 0.03
    """tau, of the entropy"""
    clip: float = -1.0
    """l_0, the least that the scaled log-policy counts"""

    @property
    def length(self) -> int:
        """Steps per sequence: those that warm up the memory, those learned from, and up to n after them."""
        return self.burn_in + self.unroll + self.n_steps

    def choose(self, output: tuple[Tensor, Tensor], epsilon: float | Tensor) -> tuple[Tensor, Any]:
        """Epsilon-greedy actions, int64 [N], of the mean over fractions."""
        return epsilon_greedy(output[0].mean(-2), epsilon), ()

    def loss(self, online: Any, target: Any, seq: Sequence) -> tuple[Tensor, Tensor, dict[str, Tensor]]:
        """Quantile Huber loss (Vieillard et al. 2020, appendix B.2): (loss [B], priority [B], metrics).

        The priority is sum_i mean_j |d_ij| (Clark et al. 2025, released code).
        """
        x = fold(seq, self.discount, self.n_steps, self.reward_clip, self.burn_in)
        values, tau = x.here(online)  # [B, N, A], [B, N]
        with torch.no_grad():
            q_here = x.here(target)[0].mean(-2)  # [B, A]
            bonus = munchausen_term(q_here, x.action, self.temperature, self.scaling, self.clip)
            there, _ = x.there(target)  # [B, N', A]
            log_pi = log_policy(there.mean(-2), self.temperature)[:, None]  # temperature times it, [B, 1, A]
            soft = ((log_pi / self.temperature).exp() * (there - log_pi)).sum(-1)  # [B, N']
            goal = (x.total + bonus)[:, None] + x.scale[:, None] * soft
        chosen = at_action(values, x.action)
        loss = quantile_huber(chosen, tau, goal, self.kappa)
        size = (goal[:, None, :] - chosen.detach()[:, :, None]).abs().mean(-1).sum(-1)
        return x.summed_up(loss, size, values)
