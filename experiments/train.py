"""highscore train: trains an agent on a game."""

import shutil
import signal
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import torch
import tyro
from rich.console import Console

from agents.agent import Agent, load_network
from envs.atari import FRAME_SKIP
from envs.recording import FRAMES_PER_SECOND
from experiments.build import Setup, build, check_memory, device_of
from experiments.config import Experiment
from experiments.evaluate import evaluation_seed, score_agent
from experiments.log import Log
from experiments.loop import Moment, Scores, train
from experiments.run import Run, RunError, write_json
from experiments.video import video_of
from experiments.wandb_mirror import Mirror, NoMirror

LOG_PERIOD = 10_000  # emulator frames from one row of metrics to the next
SPARE_BYTES = 50_000_000  # for logs and videos
CHECKPOINT_PERIOD = 250_000  # emulator frames: at most a few minutes lost on a slow machine


@dataclass(frozen=True)
class Train:
    """Trains an agent and keeps everything about it in a new run directory."""

    experiment: Annotated[Experiment, tyro.conf.arg(name="")]
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """auto takes a GPU if there is one"""
    wandb: Literal["auto", "online", "offline", "off"] = "auto"
    """Weights & Biases: auto is online with a key and offline without; upload later with `wandb sync`"""
    wandb_project: str = "highscore"
    """where Weights & Biases files the run"""
    runs: Path = Path("runs")
    """where run directories are made"""
    name: str = ""
    """name of the run directory; empty: preset, game, seed and time"""
    weights: Path | None = None
    """a run whose newest weights to begin with; experience, exploration and counters begin anew"""


def check_disk(folder: Path, agent: Agent) -> None:
    """Refuses a disk on which the checkpoints would not fit.

    Raises:
        ValueError: with the numbers and the flag to change.
    """
    while not folder.exists():
        folder = folder.parent
    # Parameters, target and two optimiser statistics each; two checkpoints are kept while a third is written.
    needed = 3 * 4 * sum(p.nbytes for p in agent.online.parameters()) + SPARE_BYTES
    free = shutil.disk_usage(folder).free
    if free < needed:
        raise ValueError(
            f"the disk of --runs {folder} is full: checkpoints and logs need {needed / 1e6:.0f} MB,"
            f" {free / 1e6:.0f} MB are free; free some, or choose another --runs"
        )


def begin_with(agent: Agent, run: Run) -> None:
    """Copies the newest weights of a run into an agent and its target network.

    Raises:
        RunError: the run has none, or they are of another network.
    """
    tensors, _ = run.load_checkpoint()
    weights = {name.removeprefix("online."): x for name, x in tensors.items() if name.startswith("online.")}
    try:
        load_network(agent.online, weights)
    except ValueError as error:
        raise RunError(f"--weights {run.path}: {error}; its config.json says what it is made of") from None
    if agent.target is not None:
        agent.target.load_state_dict(agent.online.state_dict())


class Interruption:
    """Turns Ctrl-C and SIGTERM into a request to stop after this iteration.

    A second one stops at once, and so does the first while something that may be abandoned goes on.
    """

    def __init__(self) -> None:
        self.signal = 0
        self.may_abandon = False
        self._previous: dict[int, Any] = {}

    def __enter__(self) -> "Interruption":
        for number in (signal.SIGINT, signal.SIGTERM):
            self._previous[number] = signal.signal(number, self._ask)
        return self

    def __exit__(self, *_: Any) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)

    def _ask(self, number: int, _: Any) -> None:
        again, self.signal = self.signal, number
        if again or self.may_abandon:
            raise KeyboardInterrupt


class Trainer:
    """Follows one training: logs it, evaluates it, saves it. What is learned is decided in `loop.train`."""

    def __init__(self, run: Run, setup: Setup, log: Log, interruption: Interruption):
        self.run, self.setup, self.log, self.interruption = run, setup, log, interruption
        self.experiment = run.experiment
        self.scores = Scores(setup.games.num_envs)
        self.device = setup.games.device
        self.agent_steps = 0
        self.metrics: dict[str, Any] = {}
        self.evaluation: dict[str, Any] | None = None  # the latest
        self.clock = (time.monotonic(), 0)

    def frames(self) -> int:
        return self.agent_steps * FRAME_SKIP

    def follow(self, moment: Moment) -> None:
        """Takes in one iteration of the loop."""
        before, self.agent_steps = self.frames(), moment.agent_steps
        self.metrics = moment.metrics or self.metrics
        for episode in self.scores.add(moment.step):
            row = {"frames": self.frames(), "agent_steps": self.agent_steps}
            self.log.episode(row | {"game": episode.game, "score": episode.score, "steps": episode.agent_steps})

        def passed(period: int) -> bool:
            return self.frames() // period > before // period

        if passed(LOG_PERIOD):
            self.report()
        if passed(self.experiment.evaluation.period) and self.frames() < self.experiment.frames:
            self.evaluate()
        if passed(CHECKPOINT_PERIOD):
            self.save()

    def report(self) -> None:
        """Logs the figures of now."""
        then, frames = self.clock
        self.clock = (time.monotonic(), self.frames())
        speed = (self.frames() - frames) / max(self.clock[0] - then, 1e-9)
        row = {
            "charts/episodic_return": self.scores.mean, "charts/episodes": self.scores.episodes,
            "charts/epsilon": self.experiment.explore(self.agent_steps), "charts/updates": self.setup.agent.updates,
            "charts/FPS": speed, "charts/SPS": speed / FRAME_SKIP, "charts/time": time.time(),
        }  # fmt: skip
        self.log.log(row | self.metrics, self.agent_steps)

    def evaluate(self) -> None:
        """Scores the agent on separate games, unless it is told to stop."""
        self.interruption.may_abandon = True
        try:
            self._evaluate()
        except KeyboardInterrupt:
            self.log.say("evaluation abandoned")
        finally:
            self.interruption.may_abandon = False
            self.clock = (time.monotonic(), self.frames())

    def _evaluate(self) -> None:
        how = self.experiment.evaluation
        with torch.random.fork_rng([self.device] if self.device.type == "cuda" else []):
            # Training must not depend on whether it is watched.
            result, recording = score_agent(
                self.setup.agent, self.experiment, how.episodes, epsilon=how.epsilon,
                seed=evaluation_seed(self.experiment), device=self.device,
            )  # fmt: skip
        result |= {"frames": self.frames(), "agent_steps": self.agent_steps}
        write_json(self.run.path / "evaluations" / f"{self.agent_steps:012d}.json", result)
        self.evaluation = result
        write_json(self.run.path / "summary.json", self.summary())
        row = {f"eval/{key}": result[key] for key in ("mean", "median", "human_normalised_mean")}
        self.log.log(row, self.agent_steps)
        if how.video_seconds:
            path = self.run.path / "recordings" / f"{self.agent_steps:012d}.mp4"
            video_of(recording, path, how.video_seconds * FRAMES_PER_SECOND)
            self.log.video(path, self.agent_steps)
        low, high = result["mean_interval"]
        self.log.say(
            f"{self.frames():_} frames: mean score {result['mean']:.1f} [{low:.1f}, {high:.1f}] "
            f"over {result['episodes']} episodes, {result['protocol']}"
        )

    def summary(self) -> dict[str, Any]:
        return {
            "frames": self.frames(), "agent_steps": self.agent_steps, "updates": self.setup.agent.updates,
            "episodes": self.scores.episodes, "training_score": self.scores.mean,
            "finished": self.frames() >= self.experiment.frames, "evaluation": self.evaluation,
        }  # fmt: skip

    def save(self) -> Path:
        """Writes a checkpoint, and rewrites the summary."""
        write_json(self.run.path / "summary.json", self.summary())
        return self.run.save_checkpoint(self.setup.agent.tensors(), self.summary())


def run_training(options: Train, console: Console, stop: Callable[[], bool] = lambda: False) -> tuple[Run, int]:
    """Trains to the end, or until asked to stop; returns the run and the signal that stopped it, or 0.

    Args:
        stop: asked after every iteration.

    Raises:
        ValueError: settings that cannot work; nothing is left behind.
    """
    experiment = options.experiment
    setup = build(experiment, device_of(options.device))
    if options.weights is not None:
        begin_with(setup.agent, Run.open(options.weights))
    check_disk(options.runs, setup.agent)
    run = Run.create(options.runs, experiment, options.name, device=str(setup.games.device))
    mirror = NoMirror() if options.wandb == "off" else Mirror(run, options.wandb, options.wandb_project, console.print)
    agent_steps = -(-experiment.frames // FRAME_SKIP)
    with Interruption() as interruption, Log(run, experiment.frames, mirror, console) as log:
        log.say(f"{run.path}: {experiment.preset} on {experiment.game}, {experiment.protocol}, seed {experiment.seed}")
        if experiment.replay is not None:
            log.say(check_memory(experiment, setup.games.device))
        trainer = Trainer(run, setup, log, interruption)
        for moment in train(setup.agent, setup.games, setup.memory, experiment.explore, agent_steps, experiment.seed):
            trainer.follow(moment)
            if interruption.signal or stop():
                break
        if not interruption.signal:
            trainer.evaluate()
        mirror.checkpoint(trainer.save())
    setup.games.close()
    return run, interruption.signal


def main(args: list[str]) -> int:
    """Runs the command; returns its exit status."""
    from experiments.cli import parse_train

    console = Console()
    run, stopped_by = run_training(parse_train(args), console)
    if stopped_by:
        x = run.experiment
        console.print(
            f"Stopped and saved. To look at it: highscore watch {run.path}\n"
            f"To go on from its weights: highscore train {x.preset} --game {x.game} --weights {run.path}",
            highlight=False, soft_wrap=True,
        )  # fmt: skip
        return 128 + stopped_by
    console.print(
        f"Done. Next: highscore evaluate {run.path}   or   highscore watch {run.path}", highlight=False, soft_wrap=True
    )
    return 0


if __name__ == "__main__":
    from experiments.cli import run_command

    sys.exit(run_command("train", sys.argv[1:]))
