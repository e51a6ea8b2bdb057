"""Deep Q-learning (Mnih et al. 2015), with double Q (van Hasselt et al. 2016) and n steps."""

from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor

from agents.returns import huber, pick, q_learning_target, rescale, unscale
from agents.sequence import Sequence
from agents.transition import MultiStep


@dataclass(frozen=True)
class DQN(MultiStep):
    """Settings and equations of deep Q-learning."""

    foresees: ClassVar[bool] = True

    double: bool = False
    """choose the bootstrap action with the online network (van Hasselt et al. 2016)"""
    value_rescaling: bool = False
    """learn h(Q) (Pohlen et al. 2018; Kapturowski et al. 2019, sec. 2.3), which needs no clipped rewards"""
    error_loss: Literal["squared", "huber"] = "squared"
    """of the temporal-difference error; huber has slope 1, as the clipped error of Mnih et al. (2015)"""

    def loss(self, online: Any, target: Any, seq: Sequence) -> tuple[Tensor, Tensor, dict[str, Tensor]]:
        """Errors against n-step targets, averaged over the unroll: (loss [B], priority [B], metrics)."""
        x = self.fold(seq)
        q_all = x.here(online)  # [K * B, A]
        with torch.no_grad():
            q_target = x.there(target)
            q_selector = x.there(online) if self.double else q_target
            if self.value_rescaling:
                goal = rescale(q_learning_target(x.total, x.scale, unscale(q_target), q_selector))
            else:
                goal = q_learning_target(x.total, x.scale, q_target, q_selector)
        error = goal - pick(q_all, x.action)
        loss = huber(error) if self.error_loss == "huber" else error**2
        shown = unscale(q_all.detach()) if self.value_rescaling else q_all
        return x.averaged(loss, error.detach().abs(), shown)
