"""One measurement of the benchmark, in a process of its own: python -m experiments.measure TASK, in JSON."""

import json
import math
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, Literal, NamedTuple

import torch
from rich.console import Console

from agents.agent import Agent
from agents.captured import WARM_UP
from agents.explore import Ladder
from agents.replay import Replay
from experiments.children import ours
from experiments.config import Experiment
from experiments.peers import at_the_same_settings, play
from experiments.presets import preset

LEARN_START = 1_000  # agent steps before the first update, here as there
WARM_UP_STEPS = 200  # agent steps from there on before time is taken, at least
NEVER = 1 << 40  # frames or agent steps: more than anything that is measured makes
LARGEST_REPLAY = 20_000  # agent steps; its size changes the memory, not the speed


class Task(NamedTuple):
    """What to measure."""

    peer: str  # "limits", "highscore", or who else
    preset: str
    game: str
    seconds: float  # after the warm-up
    device: str
    matched: bool  # at the settings that its peers have
    compile: bool = False  # ours
    precision: Literal["float32", "bf16"] = "float32"  # ours
    num_envs: int = 0  # ours, where there is a replay; 0 for the preset's
    storage: Literal["", "ram", "compressed"] = ""  # of our replay's frames; the preset's if none is given


class Stopwatch:
    """Agent steps per second between two moments in the middle of the training's cycle.

    There nothing is learned. At a cycle's end, learning falls before or after a moment as episodes end, for restarts
    are not agent steps.

    Args:
        begin: agent steps of the warm-up.
        cycle: agent steps from one such moment to the next.
        seconds: how long it measures after the warm-up.
        then: called when the warm-up is over.
    """

    def __init__(self, begin: int, cycle: int, seconds: float, then: Callable[[], None] = lambda: None):
        self.begin, self.cycle, self.seconds, self.then = begin, cycle, seconds, then
        self.first: tuple[float, int] | None = None
        self.rate = 0.0
        self.passed = 0

    def __call__(self, agent_steps: int) -> bool:
        """Takes in how far the training is; whether it shall go on."""
        cycles = (agent_steps + self.cycle // 2) // self.cycle
        same, self.passed, now = cycles == self.passed, cycles, time.perf_counter()
        if agent_steps < self.begin or same:
            return True
        if self.first is None:
            self.first = now, agent_steps
            self.then()
            return True
        self.rate = (agent_steps - self.first[1]) / (now - self.first[0])
        return now - self.first[0] < self.seconds


def measured(x: Experiment, game: str) -> Experiment:
    """An experiment as it is measured: learning begins at once, and nothing interrupts it."""
    never = replace(x.evaluation, period=NEVER, video_seconds=0)
    x = replace(x, game=game, frames=NEVER, evaluation=never, checkpoint_period=NEVER)
    if x.replay is not None:
        least = (x.algorithm.length + x.replay.stride) * x.num_envs
        capacity = max(LARGEST_REPLAY, 4 * (x.algorithm.length + 8) * x.num_envs)
        x = replace(x, replay=replace(x.replay, capacity=capacity, learn_start=max(LEARN_START, least)))
    return x


def carry_out(task: Task) -> dict[str, Any]:
    """One measurement in this process."""
    from experiments.build import device_of
    from experiments.tuning import stay_within_quota

    stay_within_quota()  # peers, too
    x = replace(preset(task.preset), game=task.game)
    if task.matched:
        x = at_the_same_settings(x)
    x = replace(x, compile=task.compile, precision=task.precision)
    if task.num_envs and x.replay is not None:
        rungs = replace(x.explore, num_envs=task.num_envs) if isinstance(x.explore, Ladder) else x.explore
        x = replace(x, num_envs=task.num_envs, explore=rungs)
    if task.storage and x.replay is not None:
        x = replace(x, replay=replace(x.replay, storage=task.storage))
    if task.peer == "limits":
        return limits(x, task)
    x = measured(x, task.game)
    if task.peer == "highscore":
        return end_to_end(x, task)
    watch = Stopwatch(LEARN_START + WARM_UP_STEPS, cycle_of(x), task.seconds)
    play(task.peer, task.preset, task.game, LEARN_START, device_of(task.device).type, watch)
    return {"agent_steps_per_second": watch.rate, "peak_memory": peak_memory()}


def cycle_of(x: Experiment) -> int:
    """Agent steps after which a training is at the same place again: a rollout, or one step of every game."""
    return x.num_envs * (x.algorithm.length - 1 if x.rollout else 1)


def limits(x: Experiment, task: Task) -> dict[str, Any]:
    """What bounds a training: acting, emulating and learning alone; from a replay, emulation is hidden at best.

    And `arithmetic`, what bounds acting and learning; not of a memory, which is not counted.
    """
    from experiments.arithmetic import arithmetic_of
    from experiments.build import device_of
    from experiments.speed import emulation, speed_of

    seconds = emulation(x, x.num_envs)
    speed, parameters = speed_of(x, device_of(task.device), seconds, task.seconds / 4)
    limit = speed.frames_per_second / speed.frame_skip
    found = {**speed._asdict(), "parameters": parameters, "agent_steps_per_second": limit}
    if x.network.memory == "none":
        needed = arithmetic_of(x, device_of(task.device))
        found["arithmetic"] = {**needed._asdict(), "agent_steps_per_second": needed.agent_steps_per_second}
    return found


def meet(agent: Agent, experience: Replay, times: int) -> None:
    """Learns so often by every number of updates that an iteration may make: each is compiled and recorded by itself.

    Before a change of the target network there is room for fewer, which would else come while time is taken.
    """
    for count in range(1, agent.lookahead + 1):
        for _ in range(times):
            agent.learn(experience.sample(count * experience.config.batch_size), count)


def end_to_end(x: Experiment, task: Task) -> dict[str, Any]:
    """The real training, with its run directory and logs, and where its time goes."""
    from experiments.build import build, device_of
    from experiments.build_network import state_bytes
    from experiments.checks import compressed_share, frame_bytes, note_bytes
    from experiments.interruption import Interruption
    from experiments.log import Log
    from experiments.loop import train
    from experiments.phases import Phases
    from experiments.run import Run
    from experiments.trainer import Trainer
    from experiments.wandb_mirror import NoMirror

    setup = build(x, device_of(task.device))
    phases = Phases.of(setup)
    on_gpu, phases.waits = phases.waits, False
    begin = (5 if on_gpu else 1) * cycle_of(x) + 1  # it has learned, on a GPU often enough to be recorded
    if x.replay:
        begin = x.replay.learn_start + max(
            WARM_UP_STEPS, math.ceil((200 if on_gpu else 8) * max(x.replay.learn_period, x.num_envs))
        )
    with tempfile.TemporaryDirectory() as folder:
        run = Run.create(Path(folder), x, "benchmark")
        with Log(run, x.frames, NoMirror(), Console(quiet=True)) as log:
            trainer = Trainer(run, setup, log, Interruption())
            moments = train(setup.agent, setup.games, setup.experience, x.explore, NEVER, x.seed)

            def train_until(watch: Stopwatch) -> int:
                """Trains until the watch has had its seconds; returns the agent steps then."""
                for moment in moments:
                    phases.time("log", partial(trainer.follow, moment))
                    if not watch(moment.agent_steps):
                        break
                return moment.agent_steps

            if isinstance(setup.experience, Replay) and (on_gpu or x.compile):
                train_until(Stopwatch(begin, cycle_of(x), 0))
                meet(setup.agent, setup.experience, WARM_UP + 1 if on_gpu else 1)
            watch = Stopwatch(begin, cycle_of(x), task.seconds, phases.begin)
            reached = train_until(watch)
            updates = phases.updates_per_second
            if on_gpu:  # how fast is known by now; where the time goes takes waiting for it
                phases.waits = True
                train_until(Stopwatch(reached, cycle_of(x), task.seconds / 4, phases.begin))
            shares = phases.shares()
            trainer.finish_writing()
        run.close()
    setup.games.close()
    found = {"agent_steps_per_second": watch.rate, "peak_memory": peak_memory(), "phases": shares}
    found["updates_per_second"] = updates
    if on_gpu:
        found["peak_gpu_memory"] = torch.cuda.max_memory_allocated()
    if x.replay is not None:
        sizes = frame_bytes(x), state_bytes(x.network), None, compressed_share(x), note_bytes(x)
        taken = x.replay.bytes_needed(*sizes)
        found["bytes_per_transition"] = taken / x.replay.capacity
    return found


def peak_memory() -> int:
    """Bytes that this process has held at most."""
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def in_a_process_of_its_own(module: str, task: Any, what: str) -> dict[str, Any]:
    """One measurement, untouched by those before it.

    Args:
        module: of experiments, which measures what its argument, `task` in JSON, says, and prints it in JSON.
        what: is measured, in words.

    Raises:
        ValueError: it failed; with its last words.
    """
    command = ours(module, json.dumps(task._asdict()))
    ended = subprocess.run(command, capture_output=True, text=True)
    if ended.returncode:
        raise ValueError(f"measuring {what} failed: {(ended.stderr.strip() or '?').splitlines()[-1]}")
    return json.loads(ended.stdout.splitlines()[-1])


if __name__ == "__main__":
    try:
        print(json.dumps(carry_out(Task(**json.loads(sys.argv[1])))))
    except ValueError as error:
        sys.exit(str(error))
