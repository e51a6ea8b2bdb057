"""Self-prediction (Schwarzer et al. 2021, sec. 2): from features and actions to the features that follow."""

import math

import torch
from torch import Tensor, nn


def renormalised(features: Tensor) -> Tensor:
    """Features [B, F] of each observation from 0 to 1 (Schrittwieser et al. 2020, app. G)."""
    low, high = features.amin(1, keepdim=True), features.amax(1, keepdim=True)
    return (features - low) / (high - low + 1e-5)


class SelfPrediction(nn.Module):
    """A transition model of features, and a predictor of their projections (ibid., sec. 2.2 and 2.3).

    Args:
        shape: (C, H, W) of the torso's features.
        num_actions: the transition model is given an action as so many planes, all 1 or all 0.
        size: P, numbers of a projection.
        renormalise: bring what it foresees from 0 to 1, as the torso's features are.
    """

    def __init__(self, shape: tuple[int, ...], num_actions: int, size: int, renormalise: bool):
        super().__init__()
        channels = shape[0]
        self.shape, self.num_actions, self.renormalise = shape, num_actions, renormalise
        self.transition = nn.Sequential(
            nn.Conv2d(channels + num_actions, channels, 3, padding=1), nn.ReLU(),
            nn.Conv2d(channels, channels, 3, padding=1), nn.ReLU(),
        )  # fmt: skip
        self.predictor = nn.Linear(size, size)
        self.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    def forward(self, features: Tensor, actions: Tensor) -> Tensor:
        """Features [B, F] to those after each of some actions, int64 [J, B], one after the other: [J, B, F]."""
        assert features.shape[1] == math.prod(self.shape), (features.shape, self.shape)
        planes = actions[..., None] == torch.arange(self.num_actions, device=actions.device)  # one_hot waits for a GPU
        planes = planes.to(features.dtype)[..., None, None]
        planes = planes.expand(*planes.shape[:3], *self.shape[1:])
        foreseen = []
        for plane in planes:
            x = torch.cat([features.unflatten(1, self.shape), plane], 1)
            features = self.transition(x.contiguous(memory_format=torch.channels_last)).flatten(1)
            features = renormalised(features) if self.renormalise else features
            foreseen.append(features)
        return torch.stack(foreseen)
