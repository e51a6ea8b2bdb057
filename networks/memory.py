"""Features over time: [T, B, F] and a state [B, ...] to [T, B, F'] and the next state.

A memory clears itself wherever `step.first`; its state is a required argument, never a default.
"""

from typing import Any

import torch
from torch import Tensor, nn

State = tuple[Tensor, ...]  # each [B, ...]; () for memoryless networks


class Memoryless(nn.Module):
    """Passes features through; its state is ()."""

    def __init__(self, inputs: int):
        super().__init__()
        self.size = inputs

    def initial_state(self, batch: int) -> State:
        return ()

    def forward(self, features: Tensor, step: Any, state: State) -> tuple[Tensor, State]:
        return features, state


class Recurrent(nn.Module):
    """LSTM (Hochreiter & Schmidhuber 1997) or GRU (Cho et al. 2014); may know what was done and earned last.

    Whole stretches of time go through the fused kernel; it is interrupted only where some episode begins.

    Args:
        kind: "lstm" or "gru".
        inputs: F.
        num_actions: the last action joins as one-hot, and the last reward, clipped to [-1, 1] (Kapturowski et al.
            2019, sec. 2.3); 0 for neither.
        size: units, F'.
    """

    def __init__(self, kind: str, inputs: int, num_actions: int, size: int):
        super().__init__()
        self.num_actions, self.size, self.parts = num_actions, size, 2 if kind == "lstm" else 1
        width = inputs + (num_actions + 1 if num_actions else 0)
        self.cell = nn.LSTM(width, size) if kind == "lstm" else nn.GRU(width, size)

    def initial_state(self, batch: int) -> State:
        like = next(self.parameters())
        return tuple(like.new_zeros(batch, self.size) for _ in range(self.parts))

    def forward(self, features: Tensor, step: Any, state: State) -> tuple[Tensor, State]:
        x = self._with_history(features, step)
        begins = [0, *(torch.nonzero(step.first[1:].any(1)).flatten() + 1).tolist()] if len(x) > 1 else [0]
        outputs = []
        for begin, end in zip(begins, [*begins[1:], len(x)], strict=True):
            keep = (~step.first[begin]).to(x.dtype)[:, None]
            state = tuple(part * keep for part in state)
            output, state = self._run(x[begin:end], state)
            outputs.append(output)
        return torch.cat(outputs), state

    def _run(self, x: Tensor, state: State) -> tuple[Tensor, State]:
        if self.parts == 1:
            output, h = self.cell(x, state[0][None].contiguous())
            return output, (h[0],)
        output, (h, c) = self.cell(x, tuple(part[None].contiguous() for part in state))
        return output, (h[0], c[0])

    def _with_history(self, features: Tensor, step: Any) -> Tensor:
        if not self.num_actions:
            return features
        known = (~step.first).to(features.dtype)[..., None]
        action = nn.functional.one_hot(step.prev_action, self.num_actions).to(features.dtype) * known
        reward = step.reward.to(features.dtype).clamp(-1, 1)[..., None] * known
        return torch.cat([features, action, reward], -1)
