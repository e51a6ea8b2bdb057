"""What is refused before anything is built: settings that can only end badly, and more memory or disk than there is."""

import math
import os
import re
import shutil
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Literal

import psutil
import torch
from rich.filesize import decimal

from agents.agent import Agent
from agents.muzero import MuZero
from agents.replay import STEP_BYTES
from envs.library import game_of
from experiments.build_network import state_bytes
from experiments.config import Experiment
from experiments.files import NO_ROOM
from experiments.learner_checks import check_bonus, check_learner, check_repeatable
from experiments.limits import TAKEN, available_memory
from experiments.ranges import check_ranges
from experiments.run import KEPT_CHECKPOINTS
from experiments.segments import ROWS

SPARE_BYTES = 50_000_000  # of a disk, for logs and videos
BASE_MEMORY = 900_000_000  # bytes of a training besides its replay: torch, emulators, evaluation; on a GPU as many


PLAYER_MEMORY = 200_000_000  # bytes of a process that plays; 100 MB on Linux, where what they import is shared


def base_memory(experiment: Experiment, where: str = "cpu") -> int:
    """What a training takes besides its replay, in bytes: of this machine's memory, or of the GPU's ("cuda")."""
    players = experiment.players if experiment.distributed == "local" and where == "cpu" else 0
    return BASE_MEMORY + players * PLAYER_MEMORY


def check(experiment: Experiment, device: torch.device, here: bool = True) -> None:
    """Refuses, before anything is built, what can only end badly.

    Args:
        here: whether it shall run on this machine, whose memory and compiler then matter.

    Raises:
        ValueError: naming the flag to change.
    """
    game = game_of(experiment.game)
    game.protocol(experiment.protocol)
    if not re.fullmatch(r"([^\W_][\w.+-]*)?", experiment.variant):  # figures leave out what begins with "_"
        raise ValueError(
            f"--variant {experiment.variant!r}: use letters, digits, dots, dashes and underscores, but none of the last"
            " three at its beginning"
        )
    if experiment.seed >= 1_000_000:
        raise ValueError(
            f"--seed {experiment.seed:_}: seeds from 1_000_000 on are kept for evaluations; take a smaller one"
        )
    check_ranges(experiment)
    if (experiment.replay is None) == (experiment.rollout is None):
        raise ValueError("an experiment needs a replay or a rollout, and not both")
    if experiment.frames <= 0:
        raise ValueError(
            f"--frames must be positive, got {experiment.frames:_}; an agent step is {game.frame_skip} frames"
        )
    compilers = (os.environ.get("CXX", "g++"), "g++", "clang++", "c++")
    if here and experiment.compile and device.type == "cpu" and not any(map(shutil.which, compilers)):
        raise ValueError("--compile needs a C++ compiler, and there is none: install g++, or --compile False")
    check_length(experiment)
    check_learner(experiment)
    check_bonus(experiment)
    if experiment.deterministic and device.type == "cuda":
        check_repeatable(experiment.network)
    if experiment.replay is not None and here and experiment.distributed != "ray":
        check_memory(with_room(experiment, device), device)
        if experiment.replay.storage == "disk":
            check_room(experiment.replay.capacity * frame_bytes(experiment))


def check_length(experiment: Experiment) -> None:
    """Refuses a training that ends before anything is learned, and a replay that is too small to learn from.

    Raises:
        ValueError: naming the flag to change.
    """
    length = experiment.algorithm.length
    begin, advice = length * experiment.num_envs, "one rollout takes so many"
    if experiment.replay is not None:
        begin, advice = experiment.replay.learn_start, "or lower --replay.learn-start"
        if experiment.replay.batch_size > experiment.replay.capacity:
            raise ValueError(
                f"--replay.batch-size {experiment.replay.batch_size:_} is more than the replay's"
                f" {experiment.replay.capacity:_} steps: lower it, or raise --replay.capacity"
            )
        least = (length + experiment.replay.stride) * experiment.num_envs
        if begin < least:
            raise ValueError(f"--replay.learn-start must be at least {least:_} agent steps: sequences have {length}")
    if experiment.frames <= (learns_at := begin * experiment.frame_skip):
        raise ValueError(
            f"--frames {experiment.frames:_} would end before learning begins, at {learns_at:_} frames; "
            f"raise --frames ({advice})"
        )


def frame_bytes(experiment: Experiment) -> int:
    """What one frame of the game takes in a replay, in bytes."""
    return math.prod(game_of(experiment.game).frame_shape)


def note_bytes(experiment: Experiment) -> int:
    """What an agent writes down in a replay as it acts, in bytes a step."""
    if not isinstance(experiment.algorithm, MuZero):
        return 0
    return experiment.algorithm.note_bytes(len(game_of(experiment.game).actions()))


def compressed_share(experiment: Experiment) -> float:
    """The most that is left of the game's frames when they are compressed."""
    # Of other worlds' pictures nothing is known: some of Doom's, which are full of noise, hardly shrink.
    return 0.3 if game_of(experiment.game).world in ("atari", "crafter", "minatar") else 1.05


def replay_steps(experiment: Experiment, device: torch.device) -> int:
    """Agent steps whose memory the replay takes: on a CPU only those that the training will make."""
    assert experiment.replay is not None
    capacity = experiment.replay.capacity
    return min(capacity, experiment.agent_steps) if device.type == "cpu" else capacity


def replay_bytes(experiment: Experiment, device: torch.device) -> int:
    """Memory that the replay takes in the end."""
    assert experiment.replay is not None
    steps, share = replay_steps(experiment, device), compressed_share(experiment)
    sizes = frame_bytes(experiment), state_bytes(experiment.network), steps, share
    return experiment.replay.bytes_needed(*sizes, note_bytes(experiment))


def replay_device(experiment: Experiment, device: torch.device) -> torch.device:
    """Whose memory the replay takes.

    Args:
        device: where the agent is.
    """
    assert experiment.replay is not None
    return device if experiment.replay.storage in ("auto", "cuda") else torch.device("cpu")


def with_room(experiment: Experiment, device: torch.device) -> Experiment:
    """An experiment that leaves its replay's storage open, with the first that has room: beside the agent, then in this
    machine's memory, then there compressed; or if none has, with that which takes the least.

    Every storage returns the same frames, so that nothing else changes.

    Args:
        device: where the agent is.
    """
    replay = experiment.replay
    if replay is None or replay.storage != "auto" or experiment.distributed == "ray":  # whose machines are others
        return experiment
    rooms: list[Literal["auto", "ram", "compressed"]] = ["auto", "ram", "compressed"]
    choices = [replace(experiment, replay=replace(replay, storage=storage)) for storage in rooms]
    for x in choices:
        where = replay_device(x, device)
        if replay_bytes(x, device) + base_memory(x, where.type) <= TAKEN * available_memory(where):
            return x
    return min(choices, key=lambda x: replay_bytes(x, device))


def replay_size(experiment: Experiment, device: torch.device) -> str:
    """How many steps a replay has and what they take, in words."""
    assert experiment.replay is not None
    packed = "compressed to at most " if experiment.replay.storage == "compressed" else ""
    size = replay_bytes(experiment, device) / 1e9
    return f"replay: {replay_steps(experiment, device):_} steps, {packed}{size:.1f} GB in the end"


def check_memory(experiment: Experiment, device: torch.device) -> None:
    """Refuses a replay that has no room on the device where it would live.

    Raises:
        NoRoom: there is less; with the numbers and the flag to change.
        ValueError: the agent is not on a GPU, and its replay would be.
    """
    assert experiment.replay is not None
    needed, steps = replay_bytes(experiment, device), replay_steps(experiment, device)
    storage = experiment.replay.storage
    if storage == "cuda" and device.type != "cuda":
        raise ValueError("--replay.storage cuda: the agent is not on a GPU; use --device cuda, or another storage")
    where = replay_device(experiment, device)
    free = available_memory(where)
    spare = base_memory(experiment, where.type)
    if where.type == "cpu":  # of which this process has some already
        spare = max(spare - psutil.Process().memory_info().rss, 0)
    if needed > free - spare:
        fits = int(0.8 * (free - spare) / needed * steps)
        if fits < 2 * (experiment.algorithm.length + 8) * experiment.num_envs:  # a replay would refuse it
            fits = 0
        capacity = f"{fits // 1000}k" if fits >= 1000 else fits
        kept = steps // experiment.replay.stride * state_bytes(experiment.network)
        packed = " compressed" if storage == "compressed" else ""
        of_memory = f", of which {kept / 1e9:.1f} GB are the memory's states," if 2 * kept > needed else ""
        stride = getattr(experiment.algorithm, "unroll", 1) if of_memory else 1
        local = experiment.distributed == "local" and where.type == "cpu"
        players = f" and its {experiment.players} players" if local else ""
        comma = "" if of_memory else ","
        rest = f"{comma} the rest of the training{players} {spare / 1e9:.1f}," if spare > free / 20 else ""
        ways = [f"--replay.stride {stride}, which keeps one state in {stride}"] * (stride > 1)
        ways += [f"--replay.capacity {capacity}"] if fits else ["fewer --players"] if players else []
        if free > spare:  # else the training has no room, wherever its frames are
            ways += ["--replay.storage ram"] * (where.type == "cuda")
            ways += ["--replay.storage compressed"] * (storage in ("auto", "ram", "cuda") and not of_memory)
        raise NoRoom(
            f"a replay of {steps:_} steps takes {needed / 1e9:.1f} GB{packed}{of_memory}{rest} and the {where.type} has"
            f" {free / 1e9:.1f} GB free",
            f"try {', or '.join(ways)}" if ways else "free some",
        )


def check_room(size: int) -> None:
    """Refuses a replay on a disk that has no room for it.

    Raises:
        NoRoom: with the numbers and what to change.
    """
    folder = tempfile.gettempdir()
    if size > (free := shutil.disk_usage(folder).free):
        raise NoRoom(
            f"--replay.storage disk: the replay takes {size / 1e9:.1f} GB and {folder} has {free / 1e9:.1f} GB free",
            "free some, set TMPDIR to a folder with more room, or lower --replay.capacity",
        )


def check_disk(folder: Path, agent: Agent, experiment: Experiment) -> str:
    """Says how much of the disk a training will take.

    Raises:
        NoRoom: there is less; with the numbers and the flags to change.
    """
    while not folder.exists():
        folder = folder.parent
    # Parameters, target and two optimiser statistics each; one checkpoint more is written before the oldest goes.
    weights = sum(p.nbytes for p in agent.online.parameters())
    needed = (KEPT_CHECKPOINTS + 1) * 4 * weights + SPARE_BYTES
    if experiment.evaluation.keep_weights:
        needed += (experiment.frames // experiment.evaluation.period + 1) * weights
    needed += experiment.agent_steps  # recordings: less than a byte per agent step
    if experiment.replay is not None:  # what the older checkpoint holds of it, and what came since
        since = KEPT_CHECKPOINTS * experiment.checkpoint_period // experiment.frame_skip + experiment.num_envs * ROWS
        steps = min(experiment.replay.capacity + since, experiment.agent_steps)
        kept = steps // experiment.replay.stride * state_bytes(experiment.network)
        frame = int(frame_bytes(experiment) * compressed_share(experiment))
        needed += steps * (frame + STEP_BYTES + note_bytes(experiment)) + kept
    free = shutil.disk_usage(folder).free
    if free < needed:
        raise NoRoom(
            f"the disk of --runs {folder} is too full: {decimal(free)} are free, and so that it can be resumed,"
            f" this training will take up to {decimal(needed)}",
            "free some, choose another --runs"
            + (", or a smaller --replay.capacity" if experiment.replay is not None else ""),
        )
    return f"disk: up to {decimal(needed)} until it is finished, of {decimal(free)} free"


class NoRoom(ValueError):
    """There is less memory, or room on the disk, than a training takes: now, and perhaps not later.

    Args:
        what: there is, and is needed.
        advice: what to do.
    """

    status = NO_ROOM  # of the command

    def __init__(self, what: str, advice: str):
        super().__init__(f"{what}; {advice}")
        self.what = what
