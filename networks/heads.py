"""Features [..., F] to action values [..., A], to a distribution of the return for every action, or to a policy.

A head is one stream of layers or two (dueling). With `atoms` it gives that many numbers per action,
[..., A, atoms]: logits of a categorical distribution, or quantiles.
"""

import math

import torch
from torch import Tensor, nn

from networks.dense import Dense
from networks.noisy import NoisyLinear


def exact(layer: nn.Module, x: Tensor) -> Tensor:
    """What a last layer gives of features [..., F], in its own precision where the rest is in 16 bits: [..., outputs].

    In those, values of 40 are 0.25 apart.
    """
    with torch.autocast(x.device.type, enabled=False):
        return layer(x.to(next(layer.parameters()).dtype))


class Stream(nn.Sequential):
    """Layers of which the last one is exact."""

    def last_layers(self) -> list[nn.Module]:
        return [self[-1]]

    def forward(self, x: Tensor) -> Tensor:
        *first, last = self
        for layer in first:
            x = layer(x)
        return exact(last, x)


def quiet(layer: nn.Module, x: Tensor) -> Tensor:
    """What a layer gives of features [..., F], without noise if it has some."""
    return layer.quiet(x) if isinstance(layer, NoisyLinear) else layer(x)


def stream(inputs: int, outputs: int, hidden: int, layer_norm: bool, noise: float) -> Stream:
    """Two dense layers with a ReLU between them, or with `hidden` 0 a single one.

    Args:
        layer_norm: normalise before the ReLU.
        noise: sigma_0 of noisy layers (Fortunato et al. 2018, sec. 3.2); 0 for ordinary ones.
    """

    def dense(fan_in: int, fan_out: int) -> nn.Module:
        return NoisyLinear(fan_in, fan_out, noise) if noise else Dense(fan_in, fan_out)

    if not hidden:
        return Stream(dense(inputs, outputs))
    norm = [nn.LayerNorm(hidden)] if layer_norm else []
    return Stream(dense(inputs, hidden), *norm, nn.ReLU(), dense(hidden, outputs))


class SingleStream(nn.Module):
    """Values from one hidden layer (Mnih et al. 2015, Methods, "Model architecture")."""

    def __init__(
        self,
        inputs: int,
        num_actions: int,
        hidden: int = 512,
        layer_norm: bool = False,
        noise: float = 0.0,
        atoms: int = 0,
    ):
        super().__init__()
        self.shape = (num_actions, atoms) if atoms else (num_actions,)
        self.layers = stream(inputs, math.prod(self.shape), hidden, layer_norm, noise)

    def project(self, x: Tensor) -> Tensor:
        """What the hidden layer makes of features, before its ReLU: [..., F] to [..., hidden]."""
        return quiet(self.layers[0], x)

    def forward(self, x: Tensor) -> Tensor:
        return self.layers(x).unflatten(-1, self.shape)


def dueling(value: Tensor, advantage: Tensor, dim: int = -1) -> Tensor:
    """Q = V + A - mean_a A (Wang et al. 2016, eq. 9): V of size 1 and A of size |A| along `dim`."""
    return value + advantage - advantage.mean(dim, keepdim=True)


class Dueling(nn.Module):
    """Value and advantage, a hidden layer each (Wang et al. 2016, fig. 1); of distributions per atom, as Hessel et al.
    (2018) have it."""

    def __init__(
        self,
        inputs: int,
        num_actions: int,
        hidden: int = 512,
        layer_norm: bool = False,
        noise: float = 0.0,
        atoms: int = 0,
    ):
        super().__init__()
        self.shape = (num_actions, atoms) if atoms else (num_actions,)
        self.value = stream(inputs, max(atoms, 1), hidden, layer_norm, noise)
        self.advantage = stream(inputs, math.prod(self.shape), hidden, layer_norm, noise)

    def project(self, x: Tensor) -> Tensor:
        """What both hidden layers make of features, before their ReLUs: [..., F] to [..., 2 hidden]."""
        return torch.cat([quiet(self.value[0], x), quiet(self.advantage[0], x)], -1)

    def forward(self, x: Tensor) -> Tensor:
        value = self.value(x).unflatten(-1, (1, *self.shape[1:]))
        return dueling(value, self.advantage(x).unflatten(-1, self.shape), dim=-len(self.shape))


class Implicit(nn.Module):
    """The quantile function at random fractions tau ~ U(0, 1) (Dabney et al. 2018b, sec. 3.1 and eq. 4).

    Args:
        values: a head for features that know their tau.
        samples: fractions drawn anew for every step at every call; N, N' and K of the paper.
        cosines: n of eq. 4, i from 0 to n - 1.
    """

    def __init__(self, inputs: int, values: nn.Module, samples: int, cosines: int = 64):
        super().__init__()
        self.values, self.samples = values, samples
        self.embedding = nn.Linear(cosines, inputs)
        self.frequencies: Tensor
        self.register_buffer("frequencies", math.pi * torch.arange(cosines), persistent=False)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Features [..., F] to (values [..., N, A], tau [..., N])."""
        tau = torch.rand(*x.shape[:-1], self.samples, device=x.device)
        return self.values(x[..., None, :] * self.embed(tau)), tau

    def embed(self, tau: Tensor) -> Tensor:
        """phi(tau) = ReLU(sum_i cos(pi i tau) w_i + b): [...] to [..., F]."""
        return torch.relu(self.embedding(torch.cos(tau[..., None] * self.frequencies)))


class ActorCritic(nn.Module):
    """(logits [..., A], value [...]) from one shared hidden layer (Mnih et al. 2016, sec. 4).

    Args:
        values: with more than one, of as many kinds of return, they are [..., values].
    """

    def __init__(self, inputs: int, num_actions: int, hidden: int = 512, layer_norm: bool = False, values: int = 1):
        super().__init__()
        self.shared = nn.Sequential()
        if hidden:
            norm = [nn.LayerNorm(hidden)] if layer_norm else []
            self.shared = nn.Sequential(Dense(inputs, hidden), *norm, nn.ReLU())
        self.policy, self.value = nn.Linear(hidden or inputs, num_actions), nn.Linear(hidden or inputs, values)

    def last_layers(self) -> list[nn.Module]:
        return [self.policy, self.value]

    def project(self, x: Tensor) -> Tensor:
        """What the shared layer makes of features, before its ReLU: [..., F] to [..., hidden]."""
        return self.shared[0](x)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        x = self.shared(x)
        return exact(self.policy, x), exact(self.value, x).squeeze(-1)
