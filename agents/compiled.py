"""Learning and acting as machine code of one piece, instead of an operation at a time."""

from collections.abc import Callable
from typing import Any

import torch


def compiled(function: Callable) -> Callable:
    """The same function of nested (named) tuples of tensors of any shape, compiled by torch when it is first called.

    Raises:
        ValueError: when it is called; torch cannot compile it on this machine.
    """
    fast = torch.compile(function)

    def call(*args: Any) -> Any:
        try:
            return fast(*args)
        except torch._dynamo.exc.TorchDynamoException as error:
            why = next((line for line in str(error).splitlines() if "error:" in line), str(error).splitlines()[0])
            raise ValueError(f"torch cannot compile this agent here ({why:.200}); --compile False") from error

    return call


class CompiledMethods:
    """An object's methods, each compiled when it is first called."""

    def __init__(self, of: Any):
        self.of = of

    def __getattr__(self, name: str) -> Any:
        setattr(self, name, method := compiled(getattr(self.of, name)))
        return method
