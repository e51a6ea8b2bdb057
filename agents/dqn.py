"""Deep Q-learning (Mnih et al. 2015), with double Q (van Hasselt et al. 2016) and n steps."""

from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor

from agents.explore import epsilon_greedy
from agents.returns import huber, pick, q_learning_target
from agents.sequence import Sequence
from agents.transition import fold, output


@dataclass(frozen=True)
class DQN:
    """Settings and equations of deep Q-learning."""

    discount: float = 0.99
    """gamma, per agent step"""
    n_steps: int = 1
    """agent steps folded into one before the bootstrap"""
    double: bool = False
    """choose the bootstrap action with the online network (van Hasselt et al. 2016)"""
    reward_clip: float = 1.0
    """rewards count as -x to x in the loss; scores stay raw"""
    error_loss: Literal["squared", "huber"] = "squared"
    """of the temporal-difference error; huber has slope 1, as the clipped error of Mnih et al. (2015)"""

    @property
    def length(self) -> int:
        """Steps per sequence: a start and up to n steps after it."""
        return self.n_steps + 1

    def choose(self, q: Tensor, epsilon: float | Tensor) -> tuple[Tensor, Any]:
        """Epsilon-greedy actions, int64 [N], of action values [N, A]."""
        return epsilon_greedy(q, epsilon), ()

    def loss(self, online: Any, target: Any, seq: Sequence) -> tuple[Tensor, Tensor, dict[str, Tensor]]:
        """The error of step 0 against its n-step target: (loss [B], priority [B], metrics)."""
        x = fold(seq, self.discount, self.n_steps, self.reward_clip)
        q_all = output(online, x.here)  # [B, A]
        with torch.no_grad():
            q_target = output(target, x.there)
            q_selector = output(online, x.there) if self.double else q_target
            goal = q_learning_target(x.total, x.scale, q_target, q_selector)
        error = goal - pick(q_all, x.action)
        loss = huber(error) if self.error_loss == "huber" else error**2
        metrics = {"losses/td_loss": loss.mean().detach(), "losses/q_values": q_all.mean().detach()}
        return loss, error.detach().abs(), metrics
