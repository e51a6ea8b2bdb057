"""Torso, memory and head, over sequences.

Every network maps (TimeStep [T, B, ...], state) to (output [T, B, ...], state) and offers
`initial_state(batch)`. Acting is the case T = 1. A memoryless network has state (), so the loop
and the replay never ask whether a network remembers.
"""

import math
from typing import Any

import torch
from torch import Tensor, nn

from networks.heads import ActorCritic
from networks.memory import State
from networks.prediction import renormalised


class Network(nn.Module):
    """torso: observations to features; memory: features over time; head: features to output.

    Args:
        dense: a layer between torso and memory, if there is one.
        renormalise: bring each observation's features from 0 to 1.
        prediction: foretells features, if they are to be (`SelfPrediction`).
    """

    def __init__(
        self, torso: nn.Module, memory: nn.Module, head: nn.Module, dense: nn.Module | None = None,
        renormalise: bool = False, prediction: nn.Module | None = None,
    ):  # fmt: skip
        super().__init__()
        self.torso, self.memory, self.head = torso, memory, head
        self.dense = dense or nn.Identity()
        self.renormalise, self.prediction = renormalise, prediction
        self.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    def initial_state(self, batch: int) -> State:
        return self.memory.initial_state(batch)  # type: ignore[operator]

    def forward(self, step: Any, state: State) -> tuple[Any, State]:
        """TimeStep [T, B, ...] and state [B, ...] to outputs [T, B, ...], one or some, and the state after T - 1."""
        time, batch = step.obs.shape[:2]
        features = self.dense(self.encode(step.obs.flatten(0, 1))).unflatten(0, (time, batch))
        features, state = self.memory(features, step, state)
        return self.head(features), state

    def encode(self, obs: Tensor) -> Tensor:
        """Observations uint8 [B, ...] to the torso's features, float32 [B, F]."""
        features = self.torso(obs)
        return renormalised(features) if self.renormalise else features

    def judge(self, features: Tensor) -> Any:
        """Features [B, F] to outputs [B, ...], of a network without memory."""
        return self.head(self.dense(features))

    def project(self, features: Tensor) -> Tensor:
        """What the first layers above the torso make of features, before a ReLU and without noise: [..., P]."""
        if isinstance(self.dense, nn.Sequential):
            return self.dense[0](features)
        return self.head.project(features)  # type: ignore[operator]

    def foretell(self, features: Tensor, actions: Tensor) -> Tensor:
        """Predicts the projections [J, B, P] of the features after each of some actions, int64 [J, B], from [B, F]."""
        assert self.prediction is not None
        return self.predicted(self.prediction(features, actions))

    def predicted(self, features: Tensor) -> Tensor:
        """Predicts projections [..., P] from foretold features [..., F]."""
        assert self.prediction is not None
        return self.prediction.predictor(self.project(features))  # type: ignore[operator]

    def imagine(self, features: Tensor, action: Tensor) -> tuple[Tensor, Tensor]:
        """Features [B, F] to those after an action, int64 [B], and what is earned on the way, [B, ...]."""
        assert self.prediction is not None
        return self.prediction.imagine(features, action)  # type: ignore[operator]


def initialise(network: nn.Module, scheme: str) -> None:
    """Draws the initial weights of every linear and convolutional layer outside the memory, which has its own.

    "torch": U(-1/sqrt(fan_in), 1/sqrt(fan_in)) for weights and biases, as Mnih et al. (2015) had from
    Lua Torch. "xavier": Glorot & Bengio (2010), eq. 16, and zero biases, as Dopamine (2018) has. "variance":
    variance 1/sqrt(3)/fan_in, uniform, and zero biases, as Dopamine's distributional agents have. "orthogonal":
    orthogonal matrices times sqrt(2), for a policy's last layer times 0.01 and for a value's times 1, and zero
    biases, as is usual for policy gradients (Engstrom et al. 2020, sec. 3).

    Raises:
        ValueError: any other scheme.
    """
    if scheme not in ("torch", "xavier", "variance", "orthogonal"):
        raise ValueError(f"unknown initialisation {scheme!r}: torch, xavier, variance or orthogonal")
    gains: dict[nn.Module, float] = {}
    for layer in network.modules():
        if isinstance(layer, ActorCritic):
            gains |= {layer.policy: 0.01, layer.value: 1.0}
    own = {layer for part in network.modules() if isinstance(part, Network) for layer in part.memory.modules()}
    for layer in network.modules():
        if not isinstance(layer, nn.Linear | nn.Conv2d) or layer in own:
            continue
        assert layer.bias is not None
        fan_in = layer.weight[0].numel()
        if scheme == "xavier":
            nn.init.xavier_uniform_(layer.weight)
            nn.init.zeros_(layer.bias)
        elif scheme == "orthogonal":
            matrix = nn.init.orthogonal_(torch.empty(layer.weight.shape), gains.get(layer, math.sqrt(2)))
            layer.weight.data.copy_(matrix)  # which may lie in memory in another order
            nn.init.zeros_(layer.bias)
        elif scheme == "variance":
            bound = math.sqrt(math.sqrt(3) / fan_in)
            nn.init.uniform_(layer.weight, -bound, bound)
            nn.init.zeros_(layer.bias)
        else:
            bound = 1 / math.sqrt(fan_in)
            nn.init.uniform_(layer.weight, -bound, bound)
            nn.init.uniform_(layer.bias, -bound, bound)
