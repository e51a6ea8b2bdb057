"""Quantile regression for the distribution of returns (Dabney et al. 2018a)."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from agents.explore import epsilon_greedy
from agents.returns import pick_atoms, quantile_huber
from agents.sequence import Sequence
from agents.transition import fold, output


@dataclass(frozen=True)
class QRDQN:
    """Settings and equations; the network gives quantiles theta [..., A, N]."""

    discount: float = 0.99
    """gamma, per agent step"""
    n_steps: int = 1
    """agent steps folded into one before the bootstrap"""
    double: bool = False
    """choose the bootstrap action with the online network (van Hasselt et al. 2016)"""
    reward_clip: float = 1.0
    """rewards count as -x to x in the loss; scores stay raw"""
    quantiles: int = 200
    """N, at the fractions (2i - 1) / 2N"""
    kappa: float = 1.0
    """where the Huber loss turns straight; 0 for the quantile regression loss itself"""

    @property
    def length(self) -> int:
        """Steps per sequence: a start and up to n steps after it."""
        return self.n_steps + 1

    def choose(self, theta: Tensor, epsilon: float | Tensor) -> tuple[Tensor, Any]:
        """Epsilon-greedy actions, int64 [N], of quantiles [N, A, quantiles]."""
        return epsilon_greedy(theta.mean(-1), epsilon), ()

    def loss(self, online: Any, target: Any, seq: Sequence) -> tuple[Tensor, Tensor, dict[str, Tensor]]:
        """Quantile Huber loss (Dabney et al. 2018a, alg. 1): (loss [B], priority [B], metrics).

        The loss is the priority.
        """
        x = fold(seq, self.discount, self.n_steps, self.reward_clip)
        theta = output(online, x.here)  # [B, A, N]
        with torch.no_grad():
            there = output(target, x.there)
            best = (output(online, x.there) if self.double else there).mean(-1).argmax(-1)
            goal = x.total[:, None] + x.scale[:, None] * pick_atoms(there, best)  # [B, N]
            tau = (torch.arange(self.quantiles, device=goal.device) + 0.5) / self.quantiles
        loss = quantile_huber(pick_atoms(theta, x.action), tau, goal, self.kappa)
        metrics = {"losses/td_loss": loss.mean().detach(), "losses/q_values": theta.mean().detach()}
        return loss, loss.detach(), metrics
