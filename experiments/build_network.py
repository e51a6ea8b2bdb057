"""NetworkConfig to network: torso, memory and head by name."""

import math
from typing import Any

import torch
from torch import nn

from agents.c51 import C51
from agents.curious import Curious, CuriousPPO
from agents.iqn import IQN
from agents.munchausen import MunchausenIQN
from agents.muzero import MuZero
from agents.qrdqn import QRDQN
from agents.sequence import tree_leaves
from agents.spr import SPR
from experiments.config import NetworkConfig, Policies
from networks.dense import Dense
from networks.dnc import DNC
from networks.gtrxl import GTrXL
from networks.heads import ActorCritic, Dueling, Implicit, SingleStream
from networks.memory import Memoryless, Recurrent
from networks.network import Network, initialise
from networks.prediction import Dynamics, SelfPrediction
from networks.torsos import (
    MLP,
    BoardCNN,
    DataEfficientCNN,
    ImpalaCNN,
    MinAtarCNN,
    NatureCNN,
    NipsCNN,
    PaddedNatureCNN,
    SmallImpalaCNN,
    standardise,
)

TORSOS = {
    "nature": NatureCNN, "nature-padded": PaddedNatureCNN, "nips": NipsCNN, "data-efficient": DataEfficientCNN,
    "minatar": MinAtarCNN, "mlp": MLP,
}  # fmt: skip
RESIDUAL = {"impala": ImpalaCNN, "impala-small": SmallImpalaCNN, "board": BoardCNN}
HEADS = {"linear": SingleStream, "dueling": Dueling}


def build_network(config: NetworkConfig, shape: tuple[int, ...], num_actions: int, algorithm: Any = None) -> Network:
    """A network for observations of `shape` (C, H, W) or (stack, C, H, W), freshly initialised.

    Args:
        algorithm: decides what the head gives: a value per action (also for None), atoms, quantiles, or a policy.

    Raises:
        ValueError: settings that the torso, the memory or the head does not have.
    """
    torso = build_torso(config, shape)
    memory = build_memory(config, config.dense or torso.size, num_actions)
    head = build_head(config, memory.size, num_actions, algorithm)
    dense = None
    if config.dense:
        norm = [nn.LayerNorm(config.dense)] if config.layer_norm else []
        dense = nn.Sequential(Dense(torso.size, config.dense), *norm, nn.ReLU())
    prediction = build_prediction(config, torso, num_actions, algorithm) if predicts(algorithm) else None
    network = Network(torso, memory, head, dense, config.renormalise, prediction)
    initialise(network, config.initialisation)
    if config.spectral_norm:
        torso.normalise_spectrum()
    return network


def build_torso(config: NetworkConfig, shape: tuple[int, ...]) -> Any:
    """The torso of a network; it sees the channels of all frames of a stack.

    Raises:
        ValueError: settings that it does not have, or observations too small for it.
    """
    shape = (math.prod(shape[:-2]), *shape[-2:])
    if config.torso in RESIDUAL:
        torso: Any = RESIDUAL[config.torso](shape, config.width, config.blocks, config.layer_norm, config.pooling)
    else:
        others = ("width", "blocks", "spectral_norm", "pooling")
        refuse_others(config, others, f"--network.torso {' or '.join(RESIDUAL)}; {config.torso}")
        torso = TORSOS[config.torso](shape, layer_norm=config.layer_norm)
    if config.standardise:
        if not hasattr(torso, "see"):
            raise ValueError(f"--network.standardise: {config.torso} sees observations in a way of its own")
        torso.see = standardise
    return torso


def build_memory(config: NetworkConfig, inputs: int, num_actions: int) -> Any:
    """The memory of a network: [T, B, inputs] to [T, B, its size].

    Raises:
        ValueError: settings that it does not have.
    """
    if config.memory != "gtrxl":
        refuse_others(config, ("memory_window", "memory_layers"), f"--network.memory gtrxl; {config.memory}")
    if config.memory != "dnc":
        refuse_others(config, ("memory_places",), f"--network.memory dnc; {config.memory}")
    known = num_actions if config.history else 0
    if config.memory == "none":
        return Memoryless(inputs)
    if config.memory == "gtrxl":
        return GTrXL(inputs, known, config.memory_size, config.memory_window, config.memory_layers)
    if config.memory == "dnc":
        return DNC(inputs, known, config.memory_size, config.memory_places, config.memory_bias)
    return Recurrent(config.memory, inputs, known, config.memory_size, config.memory_bias)


def build_head(config: NetworkConfig, inputs: int, num_actions: int, algorithm: Any) -> nn.Module:
    """What an algorithm learns, from `inputs` features.

    Raises:
        ValueError: settings that the head of a policy does not have.
    """
    if isinstance(algorithm, Curious):
        return build_head(config, inputs, num_actions, algorithm.algorithm)
    if isinstance(algorithm, Policies):
        refuse_others(config, ("head", "noise"), f"algorithms of values; {type(algorithm).__name__}")
        values = 2 if isinstance(algorithm, CuriousPPO) else 1  # the game's return and the intrinsic one
        values = atoms_of(algorithm) if isinstance(algorithm, MuZero) else values
        return ActorCritic(inputs, num_actions, config.hidden, config.layer_norm, values)
    atoms = 0
    if isinstance(algorithm, C51):
        atoms = algorithm.atoms
    elif isinstance(algorithm, QRDQN):
        atoms = algorithm.quantiles
    head = HEADS[config.head](inputs, num_actions, config.hidden, config.layer_norm, config.noise, atoms)
    if isinstance(algorithm, IQN | MunchausenIQN):
        return Implicit(inputs, head, algorithm.samples)
    return head


def atoms_of(algorithm: MuZero) -> int:
    """The numbers of a distribution over its support."""
    return 2 * algorithm.support + 1


def predicts(algorithm: Any) -> bool:
    """Whether an algorithm learns from how its network's own features go on."""
    return isinstance(getattr(algorithm, "algorithm", algorithm), SPR | MuZero)


def build_prediction(config: NetworkConfig, torso: Any, num_actions: int, algorithm: Any) -> SelfPrediction:
    """What foretells the features of a torso, and for a search rewards.

    Raises:
        ValueError: there is nothing that projects them, or there is a memory, which they would have to go through.
    """
    plans = isinstance(algorithm, MuZero)
    name = "MuZero" if plans else "SPR"
    if config.memory != "none":
        raise ValueError(f"--network.memory {config.memory}: {name} foretells what a network without memory sees")
    if not (size := config.dense or config.hidden * (2 if config.head == "dueling" else 1)):
        raise ValueError(
            f"--network.hidden 0: {name} compares what a hidden layer is given; set it, or --network.dense"
        )
    if not hasattr(torso, "shape"):
        raise ValueError(
            f"--network.torso {config.torso} has no `shape`, (C, H, W) of the features that {name} foretells"
        )
    parts = torso.shape, num_actions, size, config.renormalise
    return Dynamics(*parts, atoms_of(algorithm), config.hidden) if plans else SelfPrediction(*parts)


def refuse_others(config: NetworkConfig, names: tuple[str, ...], place: str) -> None:
    """Refuses settings of a part that is not there.

    Raises:
        ValueError: one of them was changed.
    """
    for name in names:
        if getattr(config, name) != getattr(NetworkConfig, name):
            raise ValueError(f"--network.{name.replace('_', '-')} is for {place} has no such part")


def state_bytes(config: NetworkConfig) -> int:
    """Bytes of one place's memory between two steps."""
    with torch.device("meta"):  # nothing is allocated
        return sum(x.nbytes for x in tree_leaves(build_memory(config, 1, 0).initial_state(1)))
