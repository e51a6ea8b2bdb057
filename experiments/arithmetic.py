"""How much arithmetic a preset needs, and how fast this machine does arithmetic at best."""

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch.utils.flop_counter import FlopCounterMode

from experiments.config import Experiment
from experiments.speed import rehearse, timed

SIDE = {"cpu": 2_048, "cuda": 8_192}  # of matrices that are large enough to keep a device busy


class Arithmetic(NamedTuple):
    """Floating-point operations (FLOPs) of one agent step, and this device's FLOPs a second in matrix products."""

    acting: float
    learning: float
    peak_acting: float  # in float32
    peak_learning: float  # in what is learned in

    @property
    def agent_steps_per_second(self) -> float:
        """If all arithmetic were as fast as the product of large matrices, and nothing else took time.

        What a training reaches of it is its model FLOPs utilisation (MFU; Chowdhery et al. 2022, app. B), here of a
        peak that was measured.
        """
        return 1 / (self.acting / self.peak_acting + self.learning / self.peak_learning)


def arithmetic_of(x: Experiment, device: torch.device) -> Arithmetic:
    """Counts the convolutions' and products' FLOPs of a preset, and times products.

    Raises:
        ValueError: it has a memory, whose kernels torch does not count.
    """
    if x.network.memory != "none":
        raise ValueError(f"torch does not count what an {x.network.memory} computes")
    agent, step, state, seq, block, updates = rehearse(x, device)
    acting = flops(lambda: agent.act(step, state, 0.1))
    learning = flops(lambda: agent.learn(seq, block)) / block * updates
    dtype = torch.bfloat16 if x.precision == "bf16" else torch.float32
    peaks = product_speed(torch.float32, device), product_speed(dtype, device)
    return Arithmetic(acting / x.num_envs, learning / x.num_envs, *peaks)


def flops(call: Callable[[], Any]) -> int:
    """FLOPs of a call's convolutions and products; one multiplication and addition are two."""
    with FlopCounterMode(display=False) as counter:
        call()
    return counter.get_total_flops()


def product_speed(dtype: torch.dtype, device: torch.device) -> float:
    """FLOPs a second in the product of two large square matrices.

    On a GPU float32 factors are rounded to TensorFloat-32, as torch rounds those of convolutions there.
    """
    side, allowed = SIDE[device.type], torch.backends.cuda.matmul.allow_tf32
    a, b = torch.rand(2, side, side, device=device).to(dtype)
    torch.backends.cuda.matmul.allow_tf32 = True
    try:
        return 2 * side**3 / timed(lambda: (a @ b)[0, 0].item(), 0.5)
    finally:
        torch.backends.cuda.matmul.allow_tf32 = allowed
