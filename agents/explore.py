"""Exploration, and the schedules that anneal it."""

from dataclasses import dataclass

import torch
from torch import Tensor

from agents.sequence import onto


@dataclass(frozen=True)
class Linear:
    """A number that stays where it starts, then moves in a straight line to its end."""

    start: float
    """until `begin`"""
    end: float
    """from `begin` + `steps` on"""
    steps: int
    """agent steps from start to end"""
    begin: int = 0
    """agent steps before it moves"""
    until: int = 0
    """agent steps after which it is 0; 0 for never"""

    def __call__(self, step: int) -> float:
        if 0 < self.until <= step:
            return 0.0
        progress = min(max((step - self.begin) / max(self.steps, 1), 0.0), 1.0)
        return self.start + progress * (self.end - self.start)


@dataclass(frozen=True)
class Ladder:
    """Game i explores at its own rate for ever: base^(1 + alpha i / (N - 1)) (Horgan et al. 2018, sec. 4.1)."""

    num_envs: int
    """N, the games played at once"""
    base: float = 0.4
    """the highest rate"""
    alpha: float = 7.0
    """how steeply it falls"""

    def __call__(self, step: int) -> Tensor:
        """Rates [N]."""
        share = torch.arange(self.num_envs) / max(self.num_envs - 1, 1)
        return self.base ** (1 + self.alpha * share)


def epsilon_greedy(q: Tensor, epsilon: float | Tensor) -> Tensor:
    """Best action of q [N, A], or with probability epsilon (a number or [N]) any action: int64 [N]."""
    best = q.argmax(-1)
    if isinstance(epsilon, Tensor):
        epsilon = onto(q.device, epsilon)
    explore = torch.rand(len(q), device=q.device) < epsilon
    return torch.where(explore, torch.randint_like(best, q.shape[-1]), best)


def sampled(log_pi: Tensor) -> Tensor:
    """Actions drawn from policies, given as ln pi [..., A]: int64 [...].

    The first to arrive of exponential clocks with rates pi; torch.multinomial does the same, and makes Python wait for
    a GPU to see whether pi are probabilities.
    """
    return (log_pi.exp() / torch.empty_like(log_pi).exponential_()).argmax(-1)
