"""Experiment to games, agent and experience; the network is made in build_network.py."""

import math
import os
import random
import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import torch

from agents.agent import Agent
from agents.curious import Bonus, Curious, CuriousPPO
from agents.explore import Ladder
from agents.impala import IMPALA
from agents.ppo import PPO
from agents.replay import Replay
from agents.rollout import Rollout
from envs.games import Games
from envs.library import game_of
from experiments.build_network import build_network, state_bytes
from experiments.config import Experiment, OnPolicy
from experiments.loop import Moment, train
from experiments.segments import Segments
from experiments.tuning import tune
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

    def speeds(self) -> dict[str, float]:
        """What there is to say about the time since the last call."""
        return {}


def build(experiment: Experiment, device: torch.device) -> Setup:
    """Builds everything that an experiment names; seeds torch, NumPy and Python.

    Raises:
        ValueError: settings that cannot work, or more memory than the machine has; says what to change.
    """
    check(experiment, device)
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


def check(experiment: Experiment, device: torch.device) -> None:
    """Refuses, before anything is built, what can only end badly.

    Raises:
        ValueError: naming the flag to change.
    """
    game = game_of(experiment.game)
    game.protocol(experiment.protocol)
    for flag, count, least in least_of(experiment):
        if count < least:
            raise ValueError(f"--{flag} must be at least {least}, got {count}")
    for flag, value in (
        ("evaluation.epsilon", experiment.evaluation.epsilon), ("algorithm.discount", experiment.algorithm.discount),
        ("algorithm.trace", getattr(experiment.algorithm, "trace", 0.0)),
        ("bonus.train-share", experiment.bonus.train_share),
    ):  # fmt: skip
        if not 0 <= value <= 1:
            raise ValueError(f"--{flag} must be from 0 to 1, got {value}")
    positive = {"optimiser.learning-rate": experiment.optimiser.learning_rate}
    if isinstance(experiment.algorithm, PPO):
        positive["algorithm.clip"] = experiment.algorithm.clip
    if experiment.replay is not None:
        positive["replay.learn-period"] = experiment.replay.learn_period
    if experiment.bonus.weight:
        positive["bonus.train-share"] = experiment.bonus.train_share
    for flag, value in positive.items():
        if value <= 0:
            raise ValueError(f"--{flag} must be positive, got {value}")
    if (experiment.replay is None) == (experiment.rollout is None):
        raise ValueError("an experiment needs a replay or a rollout, and not both")
    if experiment.frames <= 0:
        raise ValueError(
            f"--frames must be positive, got {experiment.frames:_}; an agent step is {game.frame_skip} frames"
        )
    if experiment.compile and device.type == "cpu" and not any(map(shutil.which, ("g++", "clang++", "c++"))):
        raise ValueError("--compile needs a C++ compiler, and there is none: install g++, or --compile False")
    length = experiment.algorithm.length
    start, flag = length * experiment.num_envs, "one rollout takes so many"
    if experiment.replay is not None:
        start, flag = experiment.replay.learn_start, "or lower --replay.learn-start"
        if experiment.replay.batch_size > experiment.replay.capacity:
            raise ValueError(
                f"--replay.batch-size {experiment.replay.batch_size:_} is more than the replay's"
                f" {experiment.replay.capacity:_} steps: lower it, or raise --replay.capacity"
            )
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
        if not isinstance(experiment.algorithm, OnPolicy):
            raise ValueError(f"{learns} learns from a replay, not from rollouts")
        in_a_row = "a network with memory" if remembers else learns
        if (remembers or isinstance(experiment.algorithm, IMPALA)) and experiment.rollout.shuffle != "games":
            raise ValueError(f"{in_a_row} learns from whole games: --rollout.shuffle games")
    elif isinstance(experiment.algorithm, OnPolicy):
        raise ValueError(f"{learns} learns from rollouts, not from a replay")
    elif remembers and experiment.algorithm.unroll < 2:
        raise ValueError(
            "a memory learns from steps in a row: set --algorithm.unroll (such as 40) and --algorithm.burn-in"
        )
    if experiment.bonus.weight and experiment.rollout is not None and not isinstance(experiment.algorithm, PPO):
        raise ValueError(f"--bonus.weight: {learns} has no bonus; PPO has, and all that learn from a replay have")
    if experiment.bonus.weight and experiment.replay is not None and experiment.bonus.discount != Bonus.discount:
        raise ValueError("--bonus.discount is for rollouts: from a replay, surprise is part of the reward")
    if experiment.deterministic and device.type == "cuda" and experiment.network.pooling:
        raise ValueError(
            "--deterministic: the gradient of adaptive max-pooling adds in no fixed order on CUDA;"
            " set --network.pooling 0, or do without --deterministic"
        )
    if experiment.replay is not None:
        check_memory(experiment, device)
        if experiment.replay.storage == "disk":
            check_room(experiment.replay.capacity * frame_bytes(experiment))


def least_of(x: Experiment) -> list[tuple[str, int, int]]:
    """(flag, value, the least that makes sense) of an experiment's whole numbers."""
    found: list[tuple[str, int, int]] = [
        ("num-envs", x.num_envs, 1), ("seed", x.seed, 0), ("stack", x.stack, 1),
        ("checkpoint-period", x.checkpoint_period, 1), ("evaluation.period", x.evaluation.period, 1),
        ("evaluation.episodes", x.evaluation.episodes, 1), ("evaluation.video-seconds", x.evaluation.video_seconds, 0),
    ]  # fmt: skip
    for name, least in (("n_steps", 1), ("unroll", 1), ("burn_in", 0)):
        if hasattr(x.algorithm, name):
            found.append((f"algorithm.{name.replace('_', '-')}", getattr(x.algorithm, name), least))
    if x.replay is not None:
        found += [
            ("target-period", x.target_period, 1), ("replay.batch-size", x.replay.batch_size, 1),
            ("replay.stride", x.replay.stride, 1),
        ]  # fmt: skip
    if x.rollout is not None:
        found += [("rollout.epochs", x.rollout.epochs, 1), ("rollout.minibatches", x.rollout.minibatches, 1)]
    return found


def frame_bytes(experiment: Experiment) -> int:
    """What one frame of the game takes in a replay, in bytes."""
    return math.prod(game_of(experiment.game).frame_shape)


def replay_steps(experiment: Experiment, device: torch.device) -> int:
    """Agent steps whose memory the replay takes: on a CPU only those that the training will make."""
    assert experiment.replay is not None
    capacity = experiment.replay.capacity
    return min(capacity, experiment.agent_steps) if device.type == "cpu" else capacity


def replay_bytes(experiment: Experiment, device: torch.device) -> int:
    """Memory that the replay takes in the end."""
    assert experiment.replay is not None
    steps = replay_steps(experiment, device)
    return experiment.replay.bytes_needed(frame_bytes(experiment), state_bytes(experiment.network), steps)


def check_memory(experiment: Experiment, device: torch.device) -> str:
    """Says how much memory the replay will take, on the device where it lives.

    Raises:
        ValueError: there is less; with the numbers and the flag to change.
    """
    assert experiment.replay is not None
    needed, steps = replay_bytes(experiment, device), replay_steps(experiment, device)
    storage = experiment.replay.storage
    if storage == "cuda" and device.type != "cuda":
        raise ValueError("--replay.storage cuda: the agent is not on a GPU; use --device cuda, or another storage")
    where = device if storage in ("auto", "cuda") else torch.device("cpu")
    free = available_memory(where)
    if needed > free:
        fits = int(0.8 * free / needed * steps) // 1000
        raise ValueError(
            f"a replay of {steps:_} steps takes {needed / 1e9:.1f} GB and the {where.type} has"
            f" {free / 1e9:.1f} GB free; try --replay.capacity {fits}k"
            + (", or --replay.storage compressed" if storage in ("auto", "ram", "cuda") else "")
        )
    return f"replay: {steps:_} steps, {needed / 1e9:.1f} GB in the end, of {free / 1e9:.1f} GB free"


def check_room(size: int) -> None:
    """Refuses a replay on a disk that has no room for it.

    Raises:
        ValueError: with the numbers and what to change.
    """
    folder = tempfile.gettempdir()
    if size > (free := shutil.disk_usage(folder).free):
        raise ValueError(
            f"--replay.storage disk: the replay takes {size / 1e9:.1f} GB and {folder} has {free / 1e9:.1f} GB free;"
            " free some, set TMPDIR to a folder with more room, or lower --replay.capacity"
        )


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


def algorithm_of(experiment: Experiment) -> Any:
    """The algorithm of an experiment, with its bonus if it has one."""
    if not experiment.bonus.weight:
        return experiment.algorithm
    if isinstance(experiment.algorithm, PPO):
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
    foresee = uniform and plain and getattr(algorithm, "foresees", False)
    lookahead = LOOKAHEAD if foresee else 1
    if captures(experiment, device):  # where several updates are one launch
        lookahead = experiment.rollout.minibatches if experiment.rollout else LOOKAHEAD if uniform else 1
    return Agent(
        network.to(device), algorithm, experiment.optimiser, experiment.target_period, bf16=bf16, lookahead=lookahead,
        foresee=foresee,
    )  # fmt: skip


def captures(experiment: Experiment, device: torch.device) -> bool:
    """Whether learning and acting are CUDA graphs, one launch each.

    Not with a memory or an intrinsic reward, which Python must look at on the way, nor with players, nor with
    --deterministic: some of the operations that repeat themselves wait for the GPU.
    """
    plain = experiment.network.memory == "none" and not experiment.bonus.weight and not experiment.deterministic
    return device.type == "cuda" and plain and experiment.distributed == "none"


def make_fast(agent: Agent, experiment: Experiment, device: torch.device) -> None:
    """Lets torch compile what is learned and played if it is to, and on a GPU launches it as one where it can be."""
    if experiment.compile:
        if experiment.bonus.weight:
            bonus: Any = agent.online.bonus
            bonus.keep_from_compiling()
        agent.compile()
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
    return Rollout(experiment.rollout, experiment.num_envs, algorithm.length, targets)


def device_of(name: str) -> torch.device:
    """auto, cpu or cuda as a device.

    Raises:
        ValueError: CUDA was asked for and is not there.
    """
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    if name == "cuda" and not torch.cuda.is_available():
        raise ValueError("--device cuda: torch sees no CUDA device here; use --device cpu")
    return torch.device(name)
