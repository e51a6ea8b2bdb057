"""Observations to features: uint8 [B, C, H, W] to float32 [B, F]."""

import math

import torch
from torch import Tensor, nn


def to_unit_range(obs: Tensor) -> Tensor:
    """uint8 [B, C, H, W] to float32 in [0, 1], channels last in memory: convolutions are faster so."""
    return obs.contiguous(memory_format=torch.channels_last).float().mul_(1 / 255)


class NatureCNN(nn.Module):
    """The convolutions of Mnih et al. (2015), Methods, "Model architecture"; the dense layer is the head's.

    Args:
        shape: (C, H, W) of one observation; 84 x 84 pixels give F = 3136 features.
        layer_norm: normalises over a layer's outputs, before its ReLU (Gallici et al. 2025, sec. 4).
    """

    def __init__(self, shape: tuple[int, ...], layer_norm: bool = False):
        super().__init__()
        layers: list[nn.Module] = []
        for out, kernel, stride in ((32, 8, 4), (64, 4, 2), (64, 3, 1)):
            layers.append(nn.Conv2d(shape[0], out, kernel, stride))
            shape = (out, *((side - kernel) // stride + 1 for side in shape[1:]))
            if min(shape) < 1:
                raise ValueError("NatureCNN needs observations of at least 36 x 36 pixels")
            layers += [nn.GroupNorm(1, out), nn.ReLU()] if layer_norm else [nn.ReLU()]
        self.conv = nn.Sequential(*layers)
        self.size = math.prod(shape)

    def forward(self, obs: Tensor) -> Tensor:
        return self.conv(to_unit_range(obs)).flatten(1)


class MLP(nn.Module):
    """One hidden layer, for the probe games: uint8 [B, ...] to [B, F]."""

    def __init__(self, shape: tuple[int, ...], size: int = 64, layer_norm: bool = False):
        super().__init__()
        self.size = size
        norm = nn.LayerNorm(size) if layer_norm else nn.Identity()
        self.layers = nn.Sequential(nn.Flatten(), nn.Linear(math.prod(shape), size), norm, nn.ReLU())

    def forward(self, obs: Tensor) -> Tensor:
        return self.layers(obs.float() / 255)
