"""Arrays as PNG."""

import io
import math

import numpy as np
from PIL import Image
from torch import Tensor

from experiments.viewer.explain import gaussian_blur

GLOW = (255, 90, 0)  # of what an agent looks at: no game of ours is so orange
SMALL = 32  # cells a side: on a board each is seen by itself


def png(pixels: np.ndarray) -> bytes:
    """uint8 [H, W] grey, [H, W, 3] colour or [H, W, 4] colour and opacity, without loss."""
    out = io.BytesIO()
    Image.fromarray(pixels).save(out, "PNG", compress_level=1)
    return out.getvalue()


def strip(frames: list[np.ndarray]) -> bytes:
    """Frames [H, W, 3] below one another, as one picture."""
    return png(np.concatenate(frames))


def stacked(obs: Tensor) -> np.ndarray:
    """An observation uint8 [..., H, W] side by side, the newest on the right: [H, C W]."""
    return np.concatenate(list(obs.flatten(0, -3).cpu().numpy()), axis=1)


def heat(saliency: Tensor) -> np.ndarray:
    """Saliency [H, W] as a glow, uint8 [H, W, 4], blurred by 2.5 pixels unless it is of a small board: opaque where it
    is largest, and none where it is less than three tenths of that, so that it hides little."""
    smooth = saliency.float().cpu()
    if min(smooth.shape) >= SMALL:
        smooth = gaussian_blur(smooth, 2.5, edges="constant")  # repeated, what is at an edge would count many times
    share = smooth / smooth.amax().clamp(min=1e-12)
    opacity = ((share - 0.3) / 0.7).clamp(min=0).numpy()
    colour = np.broadcast_to(np.array(GLOW, np.uint8), (*opacity.shape, 3))
    return np.concatenate([colour, (230 * opacity).astype(np.uint8)[..., None]], axis=-1)


def mosaic(maps: Tensor) -> np.ndarray:
    """Feature maps [K, h, w] >= 0 side by side in rows of about twice as many, on one scale: uint8 [H, W]."""
    count, height, width = maps.shape
    columns = min(max(count, 1), 2 ** math.ceil(math.log2(max(math.sqrt(2 * count), 1))))
    rows = math.ceil(count / columns) if count else 1
    sheet = np.zeros((rows * (height + 1) - 1, columns * (width + 1) - 1), np.uint8)
    scaled = (255 * maps / maps.amax().clamp(min=1e-12) if count else maps).cpu().numpy().astype(np.uint8)
    for k, one in enumerate(scaled):
        y, x = k // columns * (height + 1), k % columns * (width + 1)
        sheet[y : y + height, x : x + width] = one
    return sheet
