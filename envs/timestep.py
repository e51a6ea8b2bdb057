"""What a game tells an agent."""

from typing import NamedTuple

import torch
from torch import Tensor


class TimeStep(NamedTuple):
    """Everything an agent may look at before it acts.

    Fields are [N, ...] while acting (one row per game) and [T, B, ...] while learning. A row with
    `last` still holds a real observation; the action chosen there is ignored, and the next row is
    the `first` of a new episode. That is Gymnasium's NEXT_STEP autoreset, so no observation is ever
    hidden in an info dictionary.
    """

    obs: Tensor  # uint8 [..., stack, 84, 84] for Atari, [..., stack, 3, 64, 64] in colour; newest frame last
    prev_action: Tensor  # int64, the action that led here; 0 on the first step
    reward: Tensor  # float32, earned by prev_action, never clipped; 0 on the first step
    first: Tensor  # bool, an episode starts here: clear any memory
    last: Tensor  # bool, an episode stops here, for whatever reason
    terminal: Tensor  # bool, nothing more can be earned from here (game over, or a lost life)


NO_STEP = TimeStep(*[torch.zeros(0)] * 6)
"""What no games tell."""


def copy_to_host(x: Tensor) -> tuple[Tensor, torch.cuda.Event]:
    """x of a GPU, of any shape, in this machine's memory, and what says that it is there."""
    here = torch.empty(x.shape, dtype=x.dtype, pin_memory=True)
    here.copy_(x, non_blocking=True)
    arrived = torch.cuda.Event()
    arrived.record()
    return here, arrived
