"""Categorical distributions of the return (Bellemare et al. 2017); with double Q and n steps, the core of Rainbow."""

from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor

from agents.returns import categorical_projection, pick_atoms
from agents.sequence import Sequence
from agents.transition import MultiStep, Transitions


@dataclass(frozen=True)
class C51(MultiStep):
    """Settings and equations; the network gives logits [..., A, atoms]."""

    foresees: ClassVar[bool] = True

    double: bool = False
    """choose the bootstrap action with the online network (van Hasselt et al. 2016)"""
    atoms: int = 51
    """of the support"""
    v_max: float = 10.0
    """the support reaches from -v_max to v_max"""
    priority: Literal["divergence", "loss"] = "divergence"
    """what replay's priorities are made of: the divergence (Hessel et al. 2018), 0 where a transition surprises nobody,
    or the loss, which is larger by the target's entropy, as the code of Dopamine and of DQN Zoo has it"""

    def support(self, like: Tensor) -> Tensor:
        """z_i, evenly spaced: [atoms], of the kind of `like`."""
        return torch.linspace(-self.v_max, self.v_max, self.atoms, dtype=like.dtype, device=like.device)

    def values(self, logits: Tensor) -> Tensor:
        """Q(s, a) = sum_i z_i p_i(s, a): [..., A, atoms] to [..., A]."""
        return logits.softmax(-1) @ self.support(logits)

    def distribution(self, logits: Tensor) -> tuple[Tensor, Tensor]:
        """Returns and their probabilities, each [..., A, atoms]."""
        return self.support(logits).expand_as(logits), logits.softmax(-1)

    def loss(self, online: Any, target: Any, seq: Sequence) -> tuple[Tensor, Tensor, dict[str, Tensor]]:
        """Cross entropy of the projected target (Bellemare et al. 2017, alg. 1): (loss [B], priority [B], metrics).

        The priority is the Kullback-Leibler divergence (Hessel et al. 2018, "The Integrated Agent"), or that loss.
        """
        x = self.fold(seq)
        return self.bootstrap(x, x.here(online), online, target)

    def bootstrap(
        self, x: Transitions, logits: Tensor, online: Any, target: Any
    ) -> tuple[Tensor, Tensor, dict[str, Tensor]]:
        """`loss` of transitions, and of what the online network says where they begin: logits [K * B, A, atoms]."""
        with torch.no_grad():
            there = x.there(target)
            best = self.values(x.there(online) if self.double else there).argmax(-1)
            support = self.support(logits)
            z = x.total[:, None] + x.scale[:, None] * support
            goal = categorical_projection(z, pick_atoms(there, best).softmax(-1), support)
        log_p = pick_atoms(logits, x.action).log_softmax(-1)
        loss = -(goal * log_p).sum(-1)
        entropy = -torch.xlogy(goal, goal).sum(-1) if self.priority == "divergence" else 0.0
        return x.averaged(loss, (loss.detach() - entropy).clamp(min=0), self.values(logits))
