"""Learning with 16 bits where they suffice."""

from collections.abc import Callable
from functools import partial
from inspect import ismethod
from typing import Any

import torch
from torch import Tensor, nn

from agents.sequence import tree_map


class Bf16:
    """A network whose matrix products and convolutions have bfloat16 factors, but for its last layers'; outputs are
    float32.

    Kalamkar et al. (2019): its exponent is float32's, so that no loss needs scaling.
    """

    def __init__(self, network: nn.Module):
        self.network = network

    def __call__(self, step: Any, state: Any) -> tuple[Any, Any]:
        return self._ask(self.network, step, state)

    def __getattr__(self, name: str) -> Any:
        """Its parts as they are; its methods compute as it does."""
        found = getattr(self.network, name)
        return partial(self._ask, found) if ismethod(found) else found

    def _ask(self, what: Callable[..., Any], *args: Any) -> Any:
        with torch.autocast(next(self.network.parameters()).device.type, torch.bfloat16):
            return tree_map(single, what(*args))


def round_weights(network: nn.Module) -> None:
    """Keeps weights of dense layers [O, I] and convolutions [O, I, H, W] in bfloat16, if only `Bf16` uses the network.

    It would round them at every use; a target network's change only when they are copied to it. The head's last layers
    it does not round.
    """
    last = {layer for part in network.modules() for layer in getattr(part, "last_layers", list)()}
    for layer in set(network.modules()) - last:
        if isinstance(layer, nn.Linear | nn.Conv2d) and "weight" in layer._parameters:  # not where it is computed
            layer.weight.data = layer.weight.data.bfloat16()


def single(x: Tensor) -> Tensor:
    """bfloat16 as float32; any other type as it is."""
    return x.float() if x.dtype == torch.bfloat16 else x
