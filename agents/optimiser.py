"""How gradients change parameters: settings, and the one optimiser that torch lacks."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import torch
from torch.nn import Parameter


@dataclass(frozen=True)
class Adam:
    """Kingma & Ba (2015)."""

    learning_rate: float = 6.25e-5
    epsilon: float = 1.5e-4
    """added outside the root"""
    clip_norm: float = 0.0
    """bound of the gradient's global norm; 0 for none"""
    anneal: bool = False
    """let the learning rate fall to 0 in a straight line over the whole training"""

    def build(self, parameters: Iterable[Parameter]) -> torch.optim.Optimizer:
        return torch.optim.Adam(parameters, self.learning_rate, eps=self.epsilon, fused=True)


@dataclass(frozen=True)
class RAdam:
    """Liu et al. (2020)."""

    learning_rate: float = 2.5e-4
    epsilon: float = 1e-8
    """added outside the root"""
    clip_norm: float = 10.0
    """bound of the gradient's global norm; 0 for none"""
    anneal: bool = False
    """let the learning rate fall to 0 in a straight line over the whole training"""

    def build(self, parameters: Iterable[Parameter]) -> torch.optim.Optimizer:
        return torch.optim.RAdam(parameters, self.learning_rate, eps=self.epsilon, foreach=True)


@dataclass(frozen=True)
class Adadelta:
    """Zeiler (2012)."""

    learning_rate: float = 0.1
    decay: float = 0.95
    """rho, of both running means, per update"""
    epsilon: float = 1e-6
    """added inside the roots"""
    clip_norm: float = 10.0
    """bound of the gradient's global norm; 0 for none"""
    anneal: bool = False
    """let the learning rate fall to 0 in a straight line over the whole training"""

    def build(self, parameters: Iterable[Parameter]) -> torch.optim.Optimizer:
        return torch.optim.Adadelta(parameters, self.learning_rate, self.decay, self.epsilon, foreach=True)


@dataclass(frozen=True)
class RMSProp:
    """RMSProp with epsilon inside the root; centred as Mnih et al. (2015) use it (Graves 2013, eq. 40)."""

    learning_rate: float = 2.5e-4
    decay: float = 0.95
    """of the running means, per update"""
    centred: bool = True
    """divide by the root of the variance, not of the mean square"""
    epsilon: float = 0.01 / 32**2  # 0.01 for the summed loss of 32 samples, here averaged
    """added inside the root"""
    clip_norm: float = 0.0
    """bound of the gradient's global norm; 0 for none"""
    anneal: bool = False
    """let the learning rate fall to 0 in a straight line over the whole training"""

    def build(self, parameters: Iterable[Parameter]) -> torch.optim.Optimizer:
        return RootRMSProp(parameters, self.learning_rate, self.decay, self.epsilon, self.centred)


class RootRMSProp(torch.optim.Optimizer):
    """g / sqrt(E[g^2] - E[g]^2 + epsilon) (Graves 2013, eq. 40, without momentum); not centred, without E[g]^2.

    torch.optim.RMSprop adds epsilon outside the root, which is another step size.
    """

    def __init__(
        self, parameters: Iterable[Parameter], learning_rate: float, decay: float, epsilon: float, centred: bool = True
    ):
        super().__init__(parameters, {"lr": learning_rate, "decay": decay, "epsilon": epsilon, "centred": centred})

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        """One step along every parameter's gradient."""
        for group in self.param_groups:
            parameters = [p for p in group["params"] if p.grad is not None]
            grads = [p.grad for p in parameters]
            for p in parameters:
                if not self.state[p]:
                    self.state[p] = {"mean": torch.zeros_like(p), "square": torch.zeros_like(p)}
            means = [self.state[p]["mean"] for p in parameters]
            squares = [self.state[p]["square"] for p in parameters]
            torch._foreach_lerp_(means, grads, (1 - group["decay"]) * group["centred"])
            torch._foreach_mul_(squares, group["decay"])
            torch._foreach_addcmul_(squares, grads, grads, 1 - group["decay"])
            scale = torch._foreach_addcmul(squares, means, means, -1)
            torch._foreach_add_(scale, group["epsilon"])
            torch._foreach_sqrt_(scale)
            torch._foreach_addcdiv_(parameters, grads, scale, -group["lr"])
