"""Self-prediction (Schwarzer et al. 2021, sec. 2): from features and actions to the features that follow."""

import math

import torch
from torch import Tensor, nn

from networks.heads import stream


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
        foreseen = []
        for action in actions:
            features = self.after(features, action)
            foreseen.append(features)
        return torch.stack(foreseen)

    def after(self, features: Tensor, action: Tensor) -> Tensor:
        """Features [B, F] to those after an action, int64 [B]."""
        assert features.shape[1] == math.prod(self.shape), (features.shape, self.shape)
        planes = action[:, None] == torch.arange(self.num_actions, device=action.device)  # one_hot waits for a GPU
        planes = planes.to(features.dtype)[..., None, None].expand(-1, -1, *self.shape[1:])
        x = features.unflatten(1, self.shape)
        x = self.transition(torch.cat([x, planes], 1).contiguous(memory_format=torch.channels_last)).flatten(1)
        return renormalised(x) if self.renormalise else x


class Residually(nn.Module):
    """ReLU(x + layers(x and what follows x along the channels)), of so many channels of x."""

    def __init__(self, channels: int, layers: nn.Module):
        super().__init__()
        self.channels, self.layers = channels, layers

    def forward(self, x: Tensor) -> Tensor:
        return torch.relu(x[:, : self.channels] + self.layers(x))


class Dynamics(SelfPrediction):
    """The same for planning (Schrittwieser et al. 2020): it foretells rewards, too, and its transition model goes on
    from what is there, by residual blocks (ibid., app. F).

    Args:
        outputs: numbers of a reward's distribution.
        hidden: units of the layer before them.
    """

    def __init__(
        self, shape: tuple[int, ...], num_actions: int, size: int, renormalise: bool, outputs: int, hidden: int
    ):
        super().__init__(shape, num_actions, size, renormalise)
        c = shape[0]
        first = nn.Sequential(nn.Conv2d(c + num_actions, c, 3, padding=1))
        block = nn.Sequential(nn.Conv2d(c, c, 3, padding=1), nn.ReLU(), nn.Conv2d(c, c, 3, padding=1))
        self.transition = nn.Sequential(Residually(c, first), Residually(c, block))
        self.reward = stream(math.prod(shape), outputs, hidden, layer_norm=False, noise=0.0)
        self.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    def imagine(self, features: Tensor, action: Tensor) -> tuple[Tensor, Tensor]:
        """Features [B, F] to those after an action, int64 [B], and the reward on the way: logits [B, outputs]."""
        features = self.after(features, action)
        return features, self.reward(features)
