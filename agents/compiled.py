"""Learning and acting as machine code of one piece, instead of an operation at a time."""

from collections.abc import Callable
from typing import Any

import torch

from agents.sequence import tree_map


def compiled(function: Callable, device: torch.device) -> Callable:
    """The same function of nested (named) tuples of tensors of any shape, compiled by torch when it is first called.

    On a GPU its operations are launched together, as CUDA graphs. What those return, the next call overwrites, so
    copies are handed out.

    Raises:
        ValueError: when it is called; torch cannot compile it on this machine.
    """
    fast = torch.compile(function, mode="reduce-overhead" if device.type == "cuda" else None)

    def call(*args: Any) -> Any:
        torch.compiler.cudagraph_mark_step_begin()
        try:
            return tree_map(copy, fast(*args))
        except torch._dynamo.exc.TorchDynamoException as error:
            why = next((line for line in str(error).splitlines() if "error:" in line), str(error).splitlines()[0])
            raise ValueError(f"torch cannot compile this agent here ({why:.200}); --compile False") from error

    return call


def copy(x: Any) -> Any:
    """Of a tensor, or of a dictionary of them."""
    return {name: value.clone() for name, value in x.items()} if isinstance(x, dict) else x.clone()
