"""How gradients change parameters: settings, a step of each, and the `Optimiser` that keeps the statistics for it.

A `step` is given lists of equal length: parameters, gradients, and each of its statistics in the order of `statistics`,
all float32 of a parameter's shape but "step", which is []: the steps that were made.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor
from torch.nn import Parameter
from torch.optim.adadelta import adadelta
from torch.optim.adam import adam
from torch.optim.radam import radam
from torch.profiler import record_function

from agents.compiled import compiled


@dataclass(frozen=True)
class Adam:
    """Kingma & Ba (2015)."""

    learning_rate: float = 6.25e-5
    """step size per update; with `anneal`, the first"""
    epsilon: float = 1.5e-4
    """added outside the root"""
    clip_norm: float = 0.0
    """bound of the gradient's global norm; 0 for none"""
    anneal: bool = False
    """let the learning rate fall to 0 in a straight line over the whole training"""
    weight_decay: float = 0.0
    """of matrices and filters, per unit of learning rate (Loshchilov & Hutter 2019, AdamW)"""

    capturable: ClassVar = True  # a step may be a part of a CUDA graph: the rate is a tensor [] on the GPU then
    statistics: ClassVar = ("exp_avg", "exp_avg_sq", "step")

    def step(
        self, parameters: list[Tensor], gradients: list[Tensor], rate: float | Tensor, *statistics: list[Tensor]
    ) -> None:
        """Moves parameters and statistics in place: algorithm 1, epsilon outside the root, in one kernel for all."""
        mean, square, steps = statistics
        if self.weight_decay and (decayed := [p for p in parameters if p.dim() > 1]):
            torch._foreach_mul_(decayed, 1 - rate * self.weight_decay)
        compiling = torch.compiler.is_compiling()  # on a GPU torch's own kernel has 26 blocks for `dqn`
        adam(
            parameters, gradients, mean, square, [], steps, fused=not compiling, foreach=compiling,
            capturable=compiling, amsgrad=False, beta1=0.9, beta2=0.999, lr=rate, weight_decay=0.0, eps=self.epsilon,
            maximize=False,
        )  # fmt: skip


@dataclass(frozen=True)
class RAdam:
    """Liu et al. (2020)."""

    learning_rate: float = 2.5e-4
    """step size per update; with `anneal`, the first"""
    epsilon: float = 1e-8
    """added outside the root"""
    clip_norm: float = 10.0
    """bound of the gradient's global norm; 0 for none"""
    anneal: bool = False
    """let the learning rate fall to 0 in a straight line over the whole training"""

    capturable: ClassVar = True
    statistics: ClassVar = ("exp_avg", "exp_avg_sq", "step")

    def step(
        self, parameters: list[Tensor], gradients: list[Tensor], rate: float | Tensor, *statistics: list[Tensor]
    ) -> None:
        """Moves parameters and statistics in place (ibid., algorithm 2)."""
        mean, square, steps = statistics
        how: dict[str, Any] = {"lr": rate}
        moved = parameters
        if isinstance(rate, Tensor) or steps[0].device.type != "cpu":
            # torch's can be captured only with a rate that stays, so zeros are moved at a rate of 1.
            how, moved = {"lr": 1.0, "capturable": True}, [torch.zeros_like(p) for p in parameters]
        radam(
            moved, gradients, mean, square, steps, foreach=True, beta1=0.9, beta2=0.999, weight_decay=0.0,
            eps=self.epsilon, **how,
        )  # fmt: skip
        if moved is not parameters:
            torch._foreach_mul_(moved, rate)
            torch._foreach_add_(parameters, moved)


@dataclass(frozen=True)
class Adadelta:
    """Zeiler (2012)."""

    learning_rate: float = 0.1
    """step size per update; with `anneal`, the first"""
    decay: float = 0.95
    """rho, of both running means, per update"""
    epsilon: float = 1e-6
    """added inside the roots"""
    clip_norm: float = 10.0
    """bound of the gradient's global norm; 0 for none"""
    anneal: bool = False
    """let the learning rate fall to 0 in a straight line over the whole training"""

    capturable: ClassVar = False
    statistics: ClassVar = ("square_avg", "acc_delta", "step")

    def step(self, parameters: list[Tensor], gradients: list[Tensor], rate: float, *statistics: list[Tensor]) -> None:
        """Moves parameters and statistics in place (ibid., algorithm 1)."""
        square, moved, steps = statistics
        adadelta(
            parameters, gradients, square, moved, steps, foreach=True, lr=rate, rho=self.decay, eps=self.epsilon,
            weight_decay=0.0, maximize=False,
        )  # fmt: skip


@dataclass(frozen=True)
class RMSProp:
    """RMSProp with epsilon inside the root; centred as Mnih et al. (2015) use it (Graves 2013, eq. 40)."""

    learning_rate: float = 2.5e-4
    """step size per update; with `anneal`, the first"""
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

    capturable: ClassVar = False
    statistics: ClassVar = ("mean", "square")

    def step(self, parameters: list[Tensor], gradients: list[Tensor], rate: float, *statistics: list[Tensor]) -> None:
        """g / sqrt(E[g^2] - E[g]^2 + epsilon) (Graves 2013, eq. 40, without momentum); not centred, without E[g]^2.

        torch.optim.RMSprop adds epsilon outside the root, which is another step size.
        """
        mean, square = statistics
        torch._foreach_lerp_(mean, gradients, (1 - self.decay) * self.centred)
        torch._foreach_mul_(square, self.decay)
        torch._foreach_addcmul_(square, gradients, gradients, 1 - self.decay)
        scale = torch._foreach_addcmul(square, mean, mean, -1)
        torch._foreach_clamp_min_(scale, 0.0)  # a variance that was rounded below 0 has no root
        torch._foreach_add_(scale, self.epsilon)
        torch._foreach_sqrt_(scale)
        torch._foreach_addcdiv_(parameters, gradients, scale, -rate)


Optimisers = Adam | RAdam | RMSProp | Adadelta


class Optimiser:
    """Parameters that gradients change, and the statistics of those gradients.

    The classes of torch.optim would do, but the first thing that any of them does is to import torch's compiler: 1.2 s
    in every process, before anything is compiled. Their equations are called here without them.

    Attributes:
        statistics: for each parameter tensors by name, of its shape or []; none before its first gradient.
    """

    def __init__(self, settings: Optimisers, parameters: Iterable[Parameter]):
        self.settings, self.parameters = settings, list(parameters)
        self.statistics: list[dict[str, Tensor]] = [{} for _ in self.parameters]
        self._step: Any = settings.step

    def compile(self) -> None:
        """Lets torch compile a step at the first, if it may be a part of a CUDA graph."""
        if self.settings.capturable:
            self._step = compiled(self.settings.step)

    def forget(self) -> None:
        """Begins anew: all statistics are 0."""
        for found in self.statistics:
            for x in found.values():
                x.zero_()

    def zero_grad(self) -> None:
        """Forgets all gradients."""
        for p in self.parameters:
            p.grad = None

    @torch.no_grad()
    def step(self, rate: float | Tensor) -> None:
        """One step of a learning rate along the gradient of every parameter that has one."""
        with record_function(f"Optimiser.step#{type(self.settings).__name__}"):
            moving = [i for i, p in enumerate(self.parameters) if p.grad is not None]
            for i in moving:
                if not self.statistics[i]:
                    self.statistics[i] = self.begin(i)
            columns = [[self.statistics[i][name] for i in moving] for name in self.settings.statistics]
            parameters: list[Tensor] = [self.parameters[i] for i in moving]
            self._step(parameters, [p.grad for p in parameters if p.grad is not None], rate, *columns)

    def state_dict(self) -> dict[str, Tensor]:
        """Every statistic by the number of its parameter and its name, such as 0.exp_avg."""
        return {f"{i}.{name}": x for i, found in enumerate(self.statistics) for name, x in found.items()}

    def load_state_dict(self, tensors: dict[str, Tensor]) -> None:
        """The inverse of `state_dict`, for an optimiser of the same making.

        Raises:
            ValueError: a name or shape is not what this optimiser has.
        """
        numbers = {key.partition(".")[0] for key in tensors}
        self.statistics = [self.begin(i) if str(i) in numbers else {} for i in range(len(self.parameters))]
        own = self.state_dict()
        unequal = own.keys() ^ tensors.keys() or {key for key, x in own.items() if x.shape != tensors[key].shape}
        if unequal:
            raise ValueError(
                f"statistics do not fit this {type(self.settings).__name__}: {', '.join(sorted(unequal)[:3])}"
            )
        for key, x in own.items():
            x.copy_(tensors[key])  # it lies in memory as its parameter does, whatever the file says

    def begin(self, i: int) -> dict[str, Tensor]:
        """The statistics of the i-th parameter before its first gradient: all 0."""
        p = self.parameters[i]
        # Steps are counted where the parameters are, if nobody is to look at them here.
        count = torch.zeros((), device=p.device if self.settings.capturable else None)
        return {name: count if name == "step" else torch.zeros_like(p) for name in self.settings.statistics}
