"""Experiment to games, agent and experience: the only place that knows every class."""

import math
import os
import random
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import torch
from torch import nn

from agents.agent import Agent
from agents.c51 import C51
from agents.explore import Ladder
from agents.iqn import IQN
from agents.munchausen import MunchausenIQN
from agents.ppo import PPO
from agents.pqn import PQN
from agents.qrdqn import QRDQN
from agents.replay import Replay
from agents.rollout import Rollout
from envs.games import Games
from envs.library import game_of
from envs.protocols import PROTOCOLS, Protocol
from experiments.config import Experiment, NetworkConfig
from networks.dense import Dense
from networks.heads import ActorCritic, Dueling, Implicit, Linear
from networks.memory import Memoryless, Recurrent
from networks.network import Network, initialise
from networks.torsos import MLP, ImpalaCNN, MinAtarCNN, NatureCNN

TORSOS = {"nature": NatureCNN, "minatar": MinAtarCNN, "mlp": MLP}
HEADS = {"linear": Linear, "dueling": Dueling}


@dataclass
class Setup:
    """What a training needs, ready to start."""

    games: Games
    agent: Agent
    memory: Replay | Rollout


def build(experiment: Experiment, device: torch.device) -> Setup:
    """Builds everything that an experiment names; seeds torch, NumPy and Python.

    Raises:
        ValueError: settings that cannot work, or more memory than the machine has; says what to change.
    """
    check(experiment, device)
    torch.manual_seed(experiment.seed)
    np.random.seed(experiment.seed % 2**32)  # nothing of ours draws from these two; a game or a library may
    random.seed(experiment.seed)
    torch.use_deterministic_algorithms(experiment.deterministic)
    if experiment.deterministic:
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # cuBLAS repeats itself only with this
    games = make_games(experiment, experiment.num_envs, device)
    memory = build_memory(experiment, experiment.algorithm.length)
    planned = memory.planned_updates(experiment.frames // experiment.frame_skip)
    agent = build_agent(experiment, games.observation_shape, games.num_actions, device, planned)
    return Setup(games, agent, memory)


def make_games(experiment: Experiment, num_envs: int, device: torch.device, protocol: str = "") -> Games:
    """Copies of an experiment's game, under its own protocol or another.

    Raises:
        ValueError: the protocol is for other games, or the game needs a package that is not installed.
    """
    game = game_of(experiment.game)
    return game.make(num_envs, game.protocol(protocol or experiment.protocol), device=device, stack=experiment.stack)


def check(experiment: Experiment, device: torch.device) -> None:
    """Refuses, before anything is built, what can only end badly.

    Raises:
        ValueError: naming the flag to change.
    """
    game = game_of(experiment.game)
    game.protocol(experiment.protocol)
    if experiment.num_envs < 1:
        raise ValueError(f"--num-envs must be at least 1, got {experiment.num_envs}")
    if (experiment.replay is None) == (experiment.rollout is None):
        raise ValueError("an experiment needs a replay or a rollout, and not both")
    if experiment.frames <= 0:
        raise ValueError(
            f"--frames must be positive, got {experiment.frames:_}; an agent step is {game.frame_skip} frames"
        )
    length = experiment.algorithm.length
    start, flag = length * experiment.num_envs, "one rollout takes so many"
    if experiment.replay is not None:
        start, flag = experiment.replay.learn_start, "or lower --replay.learn-start"
        least = (length + experiment.replay.stride) * experiment.num_envs
        if start < least:
            raise ValueError(f"--replay.learn-start must be at least {least:_} agent steps: sequences have {length}")
    if experiment.frames <= start * game.frame_skip:
        raise ValueError(
            f"--frames {experiment.frames:_} would end before learning begins, at {start * game.frame_skip:_} frames; "
            f"raise --frames ({flag})"
        )
    if isinstance(experiment.explore, Ladder) and experiment.explore.num_envs != experiment.num_envs:
        raise ValueError(
            f"--explore.num-envs is {experiment.explore.num_envs} and --num-envs {experiment.num_envs}:"
            " the ladder has a rung for every game"
        )
    remembers, learns = experiment.network.memory != "none", type(experiment.algorithm).__name__
    if experiment.rollout is not None:
        if not isinstance(experiment.algorithm, PQN | PPO):
            raise ValueError(f"{learns} learns from a replay, not from rollouts")
        if remembers and experiment.rollout.shuffle != "games":
            raise ValueError("a network with memory learns from whole games: --rollout.shuffle games")
    elif isinstance(experiment.algorithm, PQN | PPO):
        raise ValueError(f"{learns} learns from rollouts, not from a replay")
    elif remembers and experiment.algorithm.unroll < 2:
        raise ValueError(
            "a memory learns from steps in a row: set --algorithm.unroll (such as 40) and --algorithm.burn-in"
        )
    if experiment.deterministic and device.type == "cuda" and experiment.network.pooling:
        raise ValueError(
            "--deterministic: the gradient of adaptive max-pooling adds in no fixed order on CUDA;"
            " set --network.pooling 0, or do without --deterministic"
        )
    if experiment.replay is not None:
        check_memory(experiment, device)


def frame_bytes(experiment: Experiment) -> int:
    """What one frame of the game takes in a replay, in bytes."""
    return math.prod(game_of(experiment.game).frame_shape)


def check_memory(experiment: Experiment, device: torch.device) -> str:
    """Says how much memory the replay will take, on the device where it lives.

    Raises:
        ValueError: there is less; with the numbers and the flag to change.
    """
    assert experiment.replay is not None
    needed, free = experiment.replay.bytes_needed(frame_bytes(experiment)), available_memory(device)
    capacity = experiment.replay.capacity
    if needed > free:
        fits = int(0.8 * free / needed * capacity) // 1000
        raise ValueError(
            f"a replay of {capacity:_} steps takes {needed / 1e9:.1f} GB and the {device.type} has"
            f" {free / 1e9:.1f} GB free; try --replay.capacity {fits}k"
        )
    return f"replay: {capacity:_} steps, {needed / 1e9:.1f} GB when full, of {free / 1e9:.1f} GB free"


def available_memory(device: torch.device) -> int:
    """Free memory in bytes: the GPU's, or the machine's within the container's limit if there is one."""
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    free = int(psutil.virtual_memory().available)
    group = Path("/sys/fs/cgroup")
    try:
        limit, used = (group / "memory.max").read_text().strip(), int((group / "memory.current").read_text())
        return free if limit == "max" else min(free, int(limit) - used)
    except (OSError, ValueError):
        return free


def protocol_of(name: str) -> Protocol:
    """A protocol by name.

    Raises:
        ValueError: no such protocol.
    """
    if name not in PROTOCOLS:
        raise ValueError(f"there is no protocol called {name!r}; there are {', '.join(PROTOCOLS)}")
    return PROTOCOLS[name]


def build_network(config: NetworkConfig, shape: tuple[int, ...], num_actions: int, algorithm: Any = None) -> Network:
    """A network for observations of `shape` (C, H, W) or (stack, C, H, W), freshly initialised.

    Args:
        algorithm: decides what is learned per action: a value (also for None), atoms, or quantiles.

    Raises:
        ValueError: settings that the torso does not have.
    """
    torso = build_torso(config, shape)
    features = config.dense or torso.size
    memory: Any = Memoryless(features)
    if config.memory != "none":
        memory = Recurrent(config.memory, features, num_actions if config.history else 0, config.memory_size)
    head: Any
    if isinstance(algorithm, PPO):
        head = ActorCritic(memory.size, num_actions, config.hidden, config.layer_norm)
    else:
        atoms = 0
        if isinstance(algorithm, C51):
            atoms = algorithm.atoms
        elif isinstance(algorithm, QRDQN):
            atoms = algorithm.quantiles
        head = HEADS[config.head](memory.size, num_actions, config.hidden, config.layer_norm, config.noise, atoms)
    if isinstance(algorithm, IQN | MunchausenIQN):
        head = Implicit(memory.size, head, algorithm.samples)
    dense = None
    if config.dense:
        norm = [nn.LayerNorm(config.dense)] if config.layer_norm else []
        dense = nn.Sequential(Dense(torso.size, config.dense), *norm, nn.ReLU())
    network = Network(torso, memory, head, dense)
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
    if config.torso == "impala":
        return ImpalaCNN(shape, config.width, config.blocks, config.layer_norm, config.pooling)
    for name in ("width", "blocks", "spectral_norm", "pooling"):
        if getattr(config, name) != getattr(NetworkConfig, name):
            flag = name.replace("_", "-")
            raise ValueError(f"--network.{flag} is for --network.torso impala; {config.torso} has no such part")
    return TORSOS[config.torso](shape, layer_norm=config.layer_norm)


def build_agent(
    experiment: Experiment, shape: tuple[int, ...], num_actions: int, device: torch.device, planned_updates: int = 0
) -> Agent:
    """An agent with untrained parameters on `device`."""
    network = build_network(experiment.network, shape, num_actions, experiment.algorithm).to(device)
    return Agent(network, experiment.algorithm, experiment.optimiser, experiment.target_period, planned_updates)


def build_memory(experiment: Experiment, length: int) -> Replay | Rollout:
    """Experience of either kind, for sequences of `length` agent steps."""
    if experiment.replay is not None:
        return Replay(experiment.replay, experiment.num_envs, length, experiment.seed)
    assert experiment.rollout is not None and isinstance(experiment.algorithm, PQN | PPO)
    return Rollout(experiment.rollout, experiment.num_envs, length, experiment.algorithm.targets)


def device_of(name: str) -> torch.device:
    """auto, cpu or cuda as a device.

    Raises:
        ValueError: CUDA was asked for and is not there.
    """
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    if name == "cuda" and not torch.cuda.is_available():
        raise ValueError("--device cuda: torch sees no CUDA device here; use --device cpu or auto")
    return torch.device(name)
