"""Features over time: [T, B, F] and a state [B, ...] to [T, B, F'] and the next state.

A memory clears itself wherever `step.first`; its state is a required argument, never a default.
"""

from typing import Any

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
