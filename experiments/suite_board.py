"""How a suite stands, on a terminal, and what came of it."""

import shlex
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from experiments.files import read_json
from experiments.records import last_frames, last_rows
from experiments.scheduler import Scheduler, Work


class Board:
    """Shows how a suite stands: a live table on a terminal, else only what happens."""

    def __init__(self, console: Console, total: int):
        self.console, self.total = console, total
        self.live = Live(console=console, refresh_per_second=2, transient=True)

    def show(self, scheduler: Scheduler, work: Work) -> None:
        if self.console.is_terminal:
            self.live.update(self.draw(scheduler, work))

    def draw(self, scheduler: Scheduler, work: Work) -> Group:
        """What runs, what is left, and when it ends."""
        table = Table("run", "frames", "score", "frames/s", "left", title_justify="left", box=None, pad_edge=False)
        longest, one = 0.0, 0.0  # seconds until the last of these ends; that a run takes
        for job in scheduler.running.values():
            path = scheduler.launch.folder / job.cell.name
            frames, whole = last_frames(path / "metrics.jsonl"), frames_of(path)
            speed = (frames - job.began_at) / max(time.monotonic() - job.began, 1)
            left = (whole - frames) / speed if speed > 0 else 0.0
            longest, one = max(longest, left), max(one, whole / speed if speed > 0 else 0.0)
            score = next((row["charts/episodic_return"] for row in reversed(last_rows(path / "metrics.jsonl"))
                          if row.get("charts/episodic_return") is not None), None)  # fmt: skip
            shown = "" if score is None else f"{score:.1f}"
            progress = f"{frames / 1e6:.2f} of {whole / 1e6:.2f} M"
            table.add_row(Text(job.cell.name), progress, shown, f"{speed:,.0f}", duration(left) if left else "")
        waiting = work.left + len(scheduler.elsewhere) + (scheduler.waiting is not None)
        ends = duration(longest + one * -(-waiting // max(len(scheduler.running), 1))) if longest else "not known yet"
        lines = Text(
            f"\n{len(scheduler.done)} of {self.total} finished, {len(scheduler.running)} running, {waiting} waiting, "
            f"{len(scheduler.failed)} failed; ends in: {ends}", style="bold",
        )  # fmt: skip
        failures = [Text(f"failed: {name}: {why}", style="red") for name, why in scheduler.failed.items()]
        return Group(table, lines, *failures[-5:])


def say_the_end(
    scheduler: Scheduler, folder: Path, total: int, say: Callable[[str], None], pruned: bool = False,
    others: Sequence[str] = (),
) -> int:  # fmt: skip
    """Says what came of a suite, and what to do next; returns the exit status.

    Args:
        pruned: whether runs are stopped because they are hopeless.
        others: runs of the same folder that this command is not about, and that are not finished.
    """
    say(f"{len(scheduler.done)} of {total} finished, {len(scheduler.failed)} failed")
    stopped = [] if pruned or scheduler.stopping else sorted(scheduler.stopped)
    if stopped:
        say(f"  stopped by others: {', '.join(stopped)}; the same command goes on with them")
    for name, why in scheduler.failed.items():
        say(f"  {name}: {why}   (all of it: {folder / 'logs' / name}.log)")
    if others:
        are, they = ("others are", "them") if others[1:] else ("other is", "it")
        say(f"  {len(others)} {are} not finished in {folder}: the command that began {they} goes on with {they}")
    if scheduler.stopping:
        say(f"Stopped and saved. The same command goes on with it; its runs are in {folder}")
        return 128 + scheduler.stopping
    if scheduler.done:
        where = shlex.quote(str(folder))
        say(f"Next: highscore compare {where}   or   highscore report {where}")
    return 1 if scheduler.failed or stopped else 0


def frames_of(path: Path) -> int:
    """Emulator frames that a run will train for; 0 if it has not said so yet."""
    try:
        return int(read_json(path / "config.json")["experiment"]["frames"])
    except (OSError, ValueError, KeyError, TypeError):
        return 0


def duration(seconds: float) -> str:
    """Hours and minutes for people."""
    minutes = int(seconds / 60)
    return f"{minutes // 60} h {minutes % 60:02d} min" if minutes >= 60 else f"{minutes} min" if minutes else "< 1 min"
