"""Networks that begin anew now and then, so that they do not fit what they saw first too closely."""

from dataclasses import dataclass

import torch
from torch import nn

SHRUNK = ("torso.", "prediction.transition.")  # what sees and foretells; all that is above it begins anew
KEPT = "bonus."  # what is new to see is no matter of learning


@dataclass(frozen=True)
class Reset:
    """How often, and how much stays (Nikishin et al. 2022; D'Oro et al. 2023; Schwarzer et al. 2023, sec. 3)."""

    period: int = 0
    """agent steps from one reset of the weights to the next; none comes so late that less than that is left; 0 for none
    """
    keep: float = 0.5
    """of the torso's weights and the transition model's, how much stays, beside fresh ones ("shrink and perturb", Ash &
    Adams 2020); all that is above begins anew"""

    @torch.no_grad()
    def renew(self, network: nn.Module, fresh: nn.Module) -> None:
        """Mixes fresh parameters of a network of the same making into those it has, in place."""
        new = dict(fresh.named_parameters())
        for name, p in network.named_parameters():
            if not name.startswith(KEPT):
                keep = self.keep if name.startswith(SHRUNK) else 0.0
                p.copy_(keep * p + (1 - keep) * new[name])
