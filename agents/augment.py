"""Images as they might have looked as well, for learning from few samples (Kostrikov et al. 2021, DrQ)."""

import torch
from torch import Tensor


def random_shift(obs: Tensor, pixels: int) -> Tensor:
    """Moves each image by -pixels to pixels both ways; what comes in from beyond a border repeats it ("random shifts").

    Args:
        obs: uint8 [B, ..., H, W]; all channels and frames of one of B move together.
    """
    height, width = obs.shape[-2:]
    down, right = torch.randint(-pixels, pixels + 1, (2, len(obs), 1), device=obs.device)
    row = (torch.arange(height, device=obs.device) + down).clamp(0, height - 1)  # [B, H]
    column = (torch.arange(width, device=obs.device) + right).clamp(0, width - 1)  # [B, W]
    place = (row[:, :, None] * width + column[:, None]).flatten(1)[:, None]  # [B, 1, H * W]
    planes = obs.flatten(1, -3).flatten(2)  # [B, C, H * W]
    move = moved if torch.compiler.is_compiling() else torch.gather
    return move(planes, 2, place.expand_as(planes)).view_as(obs)


@torch.library.custom_op("highscore::moved", mutates_args=())
def moved(x: Tensor, dim: int, place: Tensor) -> Tensor:
    """torch.gather without a gradient, and never compiled together with what comes after it (see `looked_up`)."""
    return x.gather(dim, place)


@moved.register_fake
def _(x: Tensor, dim: int, place: Tensor) -> Tensor:
    return torch.empty_like(x)


def random_intensity(obs: Tensor, deviation: float) -> Tensor:
    """Multiplies each image by 1 + deviation * e, with e normal and cut at -2 and 2 ("intensity").

    Args:
        obs: uint8 [B, ..., H, W]; rounded, and white is as bright as it gets.
    """
    factor = 1 + deviation * torch.randn(len(obs), device=obs.device).clamp(-2, 2)
    return (obs * factor.view(-1, *[1] * (obs.dim() - 1))).round_().clamp_(0, 255).to(torch.uint8)
