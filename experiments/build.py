"""Experiment to games, agent and experience; the network is made in build_network.py."""

import os
import random
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from agents.agent import Agent
from agents.alphazero import AlphaZero, Planning
from agents.curious import Curious, CuriousPPO
from agents.muzero import MuZero
from agents.ppo import PPO
from agents.replay import Replay
from agents.rollout import Rollout
from envs.games import Games
from envs.library import game_of
from experiments.build_network import build_network
from experiments.checks import NoRoom, check, with_room
from experiments.config import Experiment
from experiments.limits import gpu_fault
from experiments.loop import Moment, train
from experiments.segments import Segments
from experiments.tuning import tune
from networks.network import Network
from networks.rnd import RND

LOOKAHEAD = 8  # batches that the target network is asked about at once


@dataclass
class Setup:
    """What a training needs, ready to start."""

    games: Games
    agent: Agent
    experience: Replay | Rollout

    def moments(self, x: Experiment, begin: Moment | None) -> Iterator[Moment]:
        """The training from a moment on, or from the start."""
        return train(self.agent, self.games, self.experience, x.explore, x.agent_steps, x.seed, begin)

    def segments(self, folder: Path) -> Any:
        """The experience's rows on disk, if it is worth keeping."""
        return Segments(folder) if isinstance(self.experience, Replay) else None

    def speeds(self, seconds: float) -> dict[str, float]:
        """What there is to say about so many seconds, those of training since the last call."""
        return {}


def build(experiment: Experiment, device: torch.device) -> Setup:
    """Builds everything that an experiment names; seeds torch, NumPy and Python.

    Raises:
        ValueError: settings that cannot work, or more memory than the machine has; says what to change.
    """
    check(experiment, device)
    experiment = with_room(experiment, device)
    seed_everything(experiment)
    games = make_games(experiment, experiment.num_envs, device)
    agent = build_agent(experiment, games.observation_shape, games.num_actions, device)
    make_fast(agent, experiment, device)
    experience = build_experience(experiment, agent.online)
    agent.plan(*experience.annealing(experiment.agent_steps))
    return Setup(games, agent, experience)


def seed_everything(experiment: Experiment) -> None:
    """Seeds torch, NumPy and Python, and lets torch repeat itself if it is asked to."""
    torch.manual_seed(experiment.seed)
    np.random.seed(experiment.seed % 2**32)  # nothing of ours draws from these two; a game or a library may
    random.seed(experiment.seed)
    if experiment.deterministic != torch.are_deterministic_algorithms_enabled():
        torch.use_deterministic_algorithms(experiment.deterministic)  # which imports torch's compiler, for a second
    if experiment.deterministic:
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # cuBLAS repeats itself only with this


def make_games(experiment: Experiment, num_envs: int, device: torch.device, protocol: str = "") -> Games:
    """Copies of an experiment's game, under its own protocol or another.

    Raises:
        ValueError: the protocol is for other games, or the game needs a package that is not installed.
    """
    game = game_of(experiment.game)
    return game.make(num_envs, game.protocol(protocol or experiment.protocol), device=device, stack=experiment.stack)


def algorithm_of(experiment: Experiment) -> Any:
    """The algorithm of an experiment, with its bonus if it has one, or with the rules if it plans."""
    if isinstance(experiment.algorithm, AlphaZero):
        return Planning(**asdict(experiment.algorithm), rules=game_of(experiment.game).rules)
    if not experiment.bonus.weight:
        return experiment.algorithm
    if type(experiment.algorithm) is PPO:
        return CuriousPPO(**asdict(experiment.algorithm), bonus=experiment.bonus)
    return Curious(experiment.algorithm, experiment.bonus)


def build_agent(experiment: Experiment, shape: tuple[int, ...], num_actions: int, device: torch.device) -> Agent:
    """An agent with untrained parameters on `device`."""
    tune()
    if device.type == "cuda":
        torch.set_num_threads(1)  # more would have next to nothing to do, and wait for it on the emulators' cores
    algorithm = algorithm_of(experiment)
    network = build_network(experiment.network, shape, num_actions, algorithm)
    if experiment.bonus.weight:
        network.bonus = RND(shape, experiment.num_envs)
    bf16 = experiment.precision == "bf16"
    uniform = experiment.replay is not None and experiment.replay.priority_exponent == 0
    plain = experiment.network.memory == "none" and not experiment.network.noise
    foresee = uniform and plain and getattr(algorithm, "foresees", False) and not algorithm.augments
    lookahead = LOOKAHEAD if foresee else 1
    if captures(experiment, device):  # where several updates are one launch
        lookahead = experiment.rollout.minibatches if experiment.rollout else LOOKAHEAD if uniform else 1

    def fresh(number: int) -> Network:
        with torch.random.fork_rng([]):  # the same for all ranks, and however often it was resumed
            torch.default_generator.manual_seed(experiment.seed + number * 1_000_003)  # and that of no GPU
            return build_network(experiment.network, shape, num_actions, algorithm).to(device)

    phase = int(experiment.replay.learn_start // experiment.replay.learn_period) if experiment.replay else 0
    return Agent(
        network.to(device), algorithm, experiment.optimiser, experiment.target_period, target_phase=phase, bf16=bf16,
        lookahead=lookahead, foresee=foresee, target_tau=experiment.target_tau, target_acts=experiment.target_acts,
        reset=experiment.reset, fresh=fresh,
    )  # fmt: skip


def captures(experiment: Experiment, device: torch.device) -> bool:
    """Whether learning and acting are CUDA graphs, one launch each.

    Not with a memory, an intrinsic reward or a search, which Python must look at on the way, nor with players, nor with
    --deterministic: some of the operations that repeat themselves wait for the GPU. Ranks of torchrun do not capture.
    """
    plain = experiment.network.memory == "none" and not experiment.bonus.weight and not experiment.deterministic
    plain = plain and not isinstance(experiment.algorithm, AlphaZero | MuZero)
    return device.type == "cuda" and plain and experiment.distributed == "none"


def compile_agent(agent: Agent) -> None:
    """Lets torch compile what is learned and played, but for what is better left as it is."""
    for network in filter(None, (agent.online, agent.target)):
        for part in network.modules():
            if keep := getattr(part, "keep_from_compiling", None):
                keep()
    agent.compile()


def make_fast(agent: Agent, experiment: Experiment, device: torch.device) -> None:
    """Lets torch compile what is learned and played if it is to, and on a GPU launches it as one where it can be."""
    if experiment.compile:
        compile_agent(agent)
    if captures(experiment, device):
        agent.capture()


def build_experience(experiment: Experiment, network: Any) -> Replay | Rollout:
    """Experience of either kind, for the sequences that an experiment's agent learns from.

    Args:
        network: the agent's; its intrinsic rewards for a rollout are noted when that is full.
    """
    algorithm = algorithm_of(experiment)
    if experiment.replay is not None:
        return Replay(experiment.replay, experiment.num_envs, algorithm.length, experiment.seed)
    assert experiment.rollout is not None
    targets = algorithm.targets
    if isinstance(algorithm, CuriousPPO):
        targets = lambda seq: algorithm.targets(algorithm.note_intrinsic(network, seq))
    return Rollout(experiment.rollout, experiment.num_envs, algorithm.length, targets, algorithm.games_wait)


def device_of(name: str) -> torch.device:
    """auto, cpu or cuda as a device: auto is a GPU that works, or the CPU.

    Raises:
        NoRoom: CUDA was asked for, and somebody else has all of it, or it does not work.
        ValueError: it is not there.
    """
    if name == "cpu":
        return torch.device("cpu")
    fault = gpu_fault()
    if torch.cuda.is_available() and not fault:
        return torch.device("cuda")
    if name == "cuda" and fault and torch.cuda.is_available():
        raise NoRoom(f"--device cuda: {fault}", "try again, or use --device cpu")
    if name == "cuda":
        raise ValueError(f"--device cuda: {fault or 'torch sees no CUDA device here'}; use --device cpu")
    return torch.device("cpu")
