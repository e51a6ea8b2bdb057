"""Observations to features: uint8 [B, stack, C, H, W], or [B, C, H, W], to float32 [B, F].

A torso is made for `shape` (channels of all frames of a stack, H, W), and flattens those axes itself, as `see` does.
"""

import math

import torch
from torch import Tensor, nn


def factors(x: Tensor) -> Tensor:
    """Numbers of any shape in the type of a convolution's factors: bfloat16 while one learns with it, else float32.

    A byte is exact in both.
    """
    kind = x.device.type
    return x.to(torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else torch.float32)


def to_unit_range(obs: Tensor) -> Tensor:
    """uint8 [B, C, H, W], or with several axes of channels, to `factors` in [0, 1].

    Channels are last in memory: convolutions are faster so.
    """
    return factors(obs.flatten(1, -3)).contiguous(memory_format=torch.channels_last).mul_(1 / 255)


def standardise(obs: Tensor) -> Tensor:
    """uint8 [B, C, H, W], or with several axes of channels, to `factors` of mean 0 and variance 1 in each observation.

    Inputs that are all positive let a filter's weights rise and fall only together (LeCun et al. 1998, sec. 4.3), and
    where the background is not black, a filter whose weights sum to less than 0 is switched off by it, for good. To the
    variance, 1 grey level squared is added, for frames that are all one colour. Channels are last in memory.
    """
    obs = obs.flatten(1, -3)
    pixels = factors(obs.flatten(1))
    seen = nn.functional.layer_norm(pixels, pixels.shape[1:], eps=1.0)
    return seen.view_as(obs).contiguous(memory_format=torch.channels_last)


class Convolutions(nn.Module):
    """Observations, uint8 [B, (stack,) C, H, W], through convolutions to features, float32 [B, F].

    The last ReLU comes after the features are laid out in a row: a network that is compiled keeps for its gradient what
    the next layer is given anyway, and writes no mask of its own (a 20th of an update of `ppo` on a CPU with AVX2).

    Attributes:
        conv: everything before that ReLU.
        shape: (C, H, W) of the features, before they are laid out in a row.
        see: how bytes become the `factors` that the first layer is given; `to_unit_range` or `standardise`.
    """

    see = staticmethod(to_unit_range)
    conv: nn.Module
    shape: tuple[int, ...]

    def forward(self, obs: Tensor) -> Tensor:
        return torch.relu(self.conv(self.see(obs)).flatten(1))


class NatureCNN(Convolutions):
    """The convolutions of Mnih et al. (2015), Methods, "Model architecture"; the dense layer is the head's.

    Args:
        shape: (C, H, W) of one observation; 84 x 84 pixels give F = 3136 features.
        layer_norm: normalises over a layer's outputs, before its ReLU (Gallici et al. 2025, sec. 4).

    Raises:
        ValueError: observations are too small for it.
    """

    layers: tuple[tuple[int, int, int], ...] = ((32, 8, 4), (64, 4, 2), (64, 3, 1))  # channels, side, stride
    padded = False  # with zeros around what each layer is given, so that it loses no border

    def __init__(self, shape: tuple[int, ...], layer_norm: bool = False):
        super().__init__()
        layers: list[nn.Module] = []
        height, width = shape[1:]
        for out, kernel, stride in self.layers:
            channels, *sides = shape
            if self.padded:
                borders = [border(side, kernel, stride) for side in sides]
                layers.append(nn.ZeroPad2d((*borders[1], *borders[0])))
                sides = [before + side + after for side, (before, after) in zip(sides, borders, strict=True)]
            layers.append(nn.Conv2d(channels, out, kernel, stride))
            shape = (out, *((side - kernel) // stride + 1 for side in sides))
            if min(shape) < 1:
                raise ValueError(
                    f"{type(self).__name__} is for larger observations than {height} x {width};"
                    " try --network.torso minatar"
                )
            layers += [nn.GroupNorm(1, out), nn.ReLU()] if layer_norm else [nn.ReLU()]
        self.conv = nn.Sequential(*layers[:-1])
        self.shape, self.size = shape, math.prod(shape)


class PaddedNatureCNN(NatureCNN):
    """The same in Dopamine (Castro et al. 2018), whose layers see beyond the border: 84 x 84 pixels give F = 7744."""

    padded = True


def border(side: int, kernel: int, stride: int) -> tuple[int, int]:
    """Zeros, in pixels (before, after): a convolution makes ceil(side / stride) of a side; an odd one is after."""
    zeros = max((-(-side // stride) - 1) * stride + kernel - side, 0)
    return zeros // 2, zeros - zeros // 2


class NipsCNN(NatureCNN):
    """The smaller convolutions of Mnih et al. (2013), sec. 4.1: a third of the work, F = 2592 features."""

    layers = ((16, 8, 4), (32, 4, 2))


class DataEfficientCNN(NatureCNN):
    """The two convolutions of van Hasselt et al. (2019), for few samples: a seventh of the work, F = 576 features."""

    layers = ((32, 5, 5), (64, 5, 5))


class Residual(nn.Module):
    """x + conv(ReLU(conv(ReLU(x)))) (Espeholt et al. 2018, fig. 3)."""

    def __init__(self, channels: int, layer_norm: bool):
        super().__init__()
        layers: list[nn.Module] = []
        for _ in range(2):
            layers += [nn.GroupNorm(1, channels)] if layer_norm else []
            layers += [nn.ReLU(), nn.Conv2d(channels, channels, 3, padding=1)]
        self.layers = nn.Sequential(*layers)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.layers(x)


class ImpalaCNN(Convolutions):
    """The deep residual network of Espeholt et al. (2018), fig. 3; width, norm and pooling are Clark et al.'s (2025).

    Args:
        shape: (C, H, W) of one observation.
        width: times the channels of each stage, `stages`.
        blocks: residual blocks in each of the stages.
        layer_norm: normalises before every ReLU of the residual blocks.
        pooling: side of the adaptive max-pooling at the end, which makes any observation size work; 0 for none.
    """

    stages: tuple[int, ...] = (16, 32, 32)  # channels
    stride: int = 1  # of the first convolution
    pools: bool = True  # halve both sides in each stage

    def __init__(
        self, shape: tuple[int, ...], width: int = 1, blocks: int = 2, layer_norm: bool = False, pooling: int = 0
    ):
        super().__init__()
        layers: list[nn.Module] = []
        channels, *sides = shape
        stride, sides = self.stride, [(side - 1) // self.stride + 1 for side in sides]
        for stage in self.stages:
            out = stage * width
            layers.append(nn.Conv2d(channels, out, 3, stride, padding=1))
            if self.pools:
                layers.append(nn.MaxPool2d(3, 2, padding=1))
                sides = [(side + 1) // 2 for side in sides]
            layers += [Residual(out, layer_norm) for _ in range(blocks)]
            channels, stride = out, 1
        if pooling:
            layers.append(nn.AdaptiveMaxPool2d(pooling))
            sides = [pooling, pooling]
        self.conv = nn.Sequential(*layers)
        self.shape, self.size = (channels, *sides), channels * math.prod(sides)

    def normalise_spectrum(self) -> None:
        """Divides the residual blocks' weights by their largest singular value (Clark et al. 2025), from now on.

        Estimated by a power iteration at every forward pass in training mode (Miyato et al. 2018).
        """
        for block in self.modules():
            if isinstance(block, Residual):
                for layer in block.layers:
                    if isinstance(layer, nn.Conv2d):
                        nn.utils.parametrizations.spectral_norm(layer)


class SmallImpalaCNN(ImpalaCNN):
    """The same at half the resolution and with two stages: with one block each, a fifth of the products.

    84 x 84 pixels become 11 x 11 places, as there: F = 3872 features. Not published.
    """

    stages, stride = (16, 32), 2


class BoardCNN(ImpalaCNN):
    """A tower of residual blocks that keeps every place of a board (Silver et al. 2017), here without batch
    normalisation: 32 channels, and a block's worth of `Residual` each.

    Arguments as those of ImpalaCNN.
    """

    stages, pools = (32,), False


class MinAtarCNN(Convolutions):
    """One convolution of 16 3 x 3 filters (Young & Tian 2019, sec. 4); the dense layer of 128 is the head's.

    Args:
        shape: (C, H, W) of one observation; 10 x 10 cells give F = 1024 features.
        layer_norm: normalises before the ReLU.
    """

    def __init__(self, shape: tuple[int, ...], layer_norm: bool = False):
        super().__init__()
        norm = [nn.GroupNorm(1, 16)] if layer_norm else []
        self.conv = nn.Sequential(nn.Conv2d(shape[0], 16, 3), *norm)
        self.shape = (16, shape[1] - 2, shape[2] - 2)
        self.size = math.prod(self.shape)


class MLP(nn.Module):
    """One hidden layer, for the probe games: uint8 [B, ...] to [B, F]."""

    def __init__(self, shape: tuple[int, ...], size: int = 64, layer_norm: bool = False):
        super().__init__()
        self.shape, self.size = (size, 1, 1), size
        norm = nn.LayerNorm(size) if layer_norm else nn.Identity()
        self.layers = nn.Sequential(nn.Flatten(), nn.Linear(math.prod(shape), size), norm, nn.ReLU())

    @staticmethod
    def see(obs: Tensor) -> Tensor:
        return obs.float() / 255

    def forward(self, obs: Tensor) -> Tensor:
        return self.layers(self.see(obs))
