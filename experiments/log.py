"""Where figures go: the terminal, the run directory, and a mirror of it."""

import math
import os
import shlex
import sys
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from rich.console import Console, RenderableType
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.text import Text
from torch import Tensor

from experiments.records import summary
from experiments.run import Run


def plain(value: Any) -> Any:
    """A tensor's number; NaN and infinity become None, for JSON has neither."""
    number = value.item() if isinstance(value, Tensor) else value
    return None if isinstance(number, float) and not math.isfinite(number) else number


class Lasting:
    """A stream that says no more, without a word, once there is nobody to read it: no reason to end a training."""

    def __init__(self, stream: Any):
        self.stream = stream

    def write(self, text: str) -> int:
        self._try(lambda: self.stream.write(text))
        return len(text)

    def flush(self) -> None:
        self._try(self.stream.flush)

    def _try(self, call: Callable[[], Any]) -> None:
        try:
            call()
        except OSError:  # a pipe whose reader has gone, a terminal that was closed
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, self.stream.fileno())
            os.close(nowhere)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.stream, name)


def terminal() -> Console:
    """A console that outlasts whoever reads it."""
    stream: Any = Lasting(sys.stdout)
    return Console(file=stream)


class TwoLines(Progress):
    """A progress bar with a line of figures below it: one line would not fit into 80 columns."""

    figures = ""

    def get_renderables(self) -> Iterable[RenderableType]:
        yield self.make_tasks_table(self.tasks)
        yield Text(self.figures, style="dim", no_wrap=True, overflow="ellipsis")


class Log:
    """Rows of figures go to the run directory first, then to the terminal and the mirror; words to the terminal."""

    def __init__(self, run: Run, frames: int, mirror: Any, console: Console):
        self.run, self.mirror, self.console = run, mirror, console
        game, days = run.experiment.game, frames >= 10_000_000  # which are told in words
        # Where there is no room for all, that is left out which matters least.
        wide = console.width >= len(game) + 2 * len(f"{frames:,}") + (56 if days else 47)
        self.progress = TwoLines(
            TextColumn("[bold]{task.description}"), *[BarColumn(bar_width=12)] * wide,
            TextColumn("{task.completed:,.0f} of {task.total:,.0f} frames"),
            *[TimeElapsedColumn()] * wide, TextColumn("eta"), TimeRemainingColumn(),
            console=console, disable=not console.is_terminal, refresh_per_second=4, speed_estimate_period=120,
        )  # fmt: skip
        self.task = self.progress.add_task(game, total=frames)
        self.frame_skip = run.experiment.frame_skip
        self.frames, self.started, self.said = frames, time.monotonic(), 0.0
        self.begun_at = 0
        replay = run.experiment.replay
        self.learns_at = replay.learn_start * self.frame_skip if replay is not None else 0  # much slower from there on

    def __enter__(self) -> "Log":
        self.progress.start()
        return self

    def __exit__(self, *_: Any) -> None:
        self.progress.stop()
        self.mirror.close()
        self.run.close()

    def begin_at(self, frames: int) -> None:
        """Tells the progress bar where a resumed training stands."""
        self.begun_at = frames
        self.progress.reset(self.task, completed=frames)

    def log(self, row: dict[str, Any], agent_steps: int, perf: dict[str, float] | None = None) -> None:
        """Logs figures at a point of training.

        Args:
            perf: speeds and times, kept apart because they never repeat.
        """
        frames = agent_steps * self.frame_skip
        now = {"frames": frames, "agent_steps": agent_steps}
        row = now | {key: plain(value) for key, value in row.items()}
        self.run.append("metrics.jsonl", row)
        if perf:
            self.run.append("perf.jsonl", now | perf)
            row |= perf
        self.mirror.log(row)
        text = figures(row)
        if frames < self.learns_at:
            text = f"learning begins at {self.learns_at:_} frames, {text}"
        elif self.begun_at < self.learns_at:
            self.begun_at, self.started = frames, time.monotonic()
        self.progress.figures = text
        self.progress.update(self.task, completed=frames)
        if not self.console.is_terminal and time.monotonic() - self.said > 30:
            self.said = time.monotonic()
            left = (self.said - self.started) / max(frames - self.begun_at, 1) * max(self.frames - frames, 0)
            known = self.begun_at < frames and frames >= self.learns_at
            how = f"{left / 60:.0f} min left" if known else ""
            parts = (f"{frames:_} of {self.frames:_} frames", how, text)
            self.console.print(", ".join(part for part in parts if part), highlight=False)

    def video(self, path: Path, agent_steps: int) -> None:
        """Tells the mirror of a video."""
        self.mirror.video(path, agent_steps * self.frame_skip)

    def episode(self, row: dict[str, Any]) -> None:
        """Logs one finished episode."""
        self.run.append("episodes.jsonl", row)

    def event(self, text: str) -> None:
        """Prints a line, and keeps it with the run."""
        self.say(text)
        self.run.append("events.jsonl", {"time": time.strftime("%Y-%m-%dT%H:%M:%S%z"), "event": text})

    def say(self, text: str) -> None:
        """Prints a line for people."""
        self.progress.console.print(text, highlight=False, markup=False, soft_wrap=True)


def figures(row: dict[str, Any]) -> str:
    """The figures that a person wants to see at once."""
    shown = (
        ("frames/s", "charts/FPS", ".0f"), ("score", "charts/episodic_return", ".1f"),
        ("epsilon", "charts/epsilon", ".2f"), ("loss", "losses/loss", ".4f"), ("Q", "losses/q_values", ".2f"),
        ("value", "losses/value", ".2f"),
    )  # fmt: skip
    return "  ".join(f"{name} {row[key]:{form}}" for name, key, form in shown if row.get(key) is not None)


def say_what_next(console: Console, run: Run, stopped_by: int) -> int:
    """Says what can be done with a run now; returns the exit status."""
    stopped = stopped_by and not summary(run.path).get("finished")  # which a signal may have come too late for
    path = shlex.quote(str(run.path))
    text = f"Done. Next: highscore evaluate {path}   or   highscore watch {path}"
    if stopped:
        text = f"Stopped and saved. To go on: {run.resume_command}"
    console.print(text, highlight=False, markup=False, soft_wrap=True)
    return 128 + stopped_by if stopped else 0
