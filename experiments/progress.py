"""How far runs came, and what became of them: read from their directories, without torch."""

import os
import time
from pathlib import Path
from typing import Any

from experiments.records import alive, checkpoints, last_frames, summary, whole

SILENT = 900.0  # seconds without a written row after which a run that lives says nothing any more


def heartbeat(path: Path) -> float:
    """Seconds since the run last wrote something."""
    times = [0.0]
    for name in ("metrics.jsonl", "episodes.jsonl", "perf.jsonl", "summary.json", "config.json"):
        try:
            times.append(os.stat(path / name).st_mtime)
        except OSError:
            continue
    return max(0.0, time.time() - max(times))


def frames_played(path: Path, found: dict[str, Any]) -> int:
    """Emulator frames that a run has come to: rows of figures are written more often than `found`, its summary, but
    the first of them comes late."""
    return max(whole(found.get("frames")) or 0, last_frames(path / "metrics.jsonl"))


def status(path: Path) -> str:
    """running, silent (alive, but nothing written for long), finished, stopped (saved on being told to) or crashed."""
    if alive(path):
        return "running" if heartbeat(path) < SILENT else "silent"
    found = summary(path)
    if found.get("finished") is True:
        return "finished"
    return "stopped" if was_told_to_stop(path, found) else "crashed"


def was_told_to_stop(path: Path, found: dict[str, Any]) -> bool:
    """Whether a run that has ended unfinished saved all that it had played, as those do that are told to stop.

    What was killed right after a checkpoint has saved as much: newer summaries tell whether it was the last on purpose.
    """
    saved = checkpoints(path)[-1:]
    kept = whole(found.get("frames")) or 0
    if not saved or int(saved[0].name) != found.get("agent_steps") or found.get("stopped", True) is not True:
        return False
    return all(kept >= last_frames(path / name) for name in ("metrics.jsonl", "episodes.jsonl"))
