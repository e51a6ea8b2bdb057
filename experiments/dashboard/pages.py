"""Everything about one run that its page shows."""

import os
from pathlib import Path
from typing import Any

from experiments.choice import shown_of
from experiments.dashboard.index import Entry
from experiments.dashboard.tails import Tail
from experiments.fingerprint import of_result
from experiments.lines import nearest
from experiments.records import checkpoints, evaluations, finite, in_training, is_count

DETAIL = 700  # rows of a run's own charts
LOG_BYTES = 12_000


def clean(data: Any, depth: int = 0) -> Any:
    """The same without what JSON cannot hold: NaN and infinity become None."""
    if isinstance(data, dict):
        return {str(key): clean(value, depth + 1) for key, value in data.items()} if depth < 50 else None
    if isinstance(data, list | tuple):
        return [clean(value, depth + 1) for value in data] if depth < 50 else None
    if isinstance(data, float):
        return finite(data)
    return data


def run_page(entry: Entry) -> dict[str, Any]:
    """A run's configuration, checkpoints, evaluations, videos and log."""
    path, config = entry.record.path, entry.record.config
    about = ("command", "commit", "created", "device", "versions", "machine")
    return clean({
        "run": entry.facts, "path": str(path), "about": {key: config[key] for key in about if key in config},
        "settings": entry.record.settings, "checkpoints": sizes(path), "videos": videos(path),
        "evaluations": [evaluation_row(result) for result in evaluations(path)][-200:], "log": log(path),
        "recorded": (path / "recordings" / "training.rec").exists(),
    })  # fmt: skip


def evaluation_row(result: dict[str, Any]) -> dict[str, Any]:
    """An evaluation without its single episodes."""
    try:
        fingerprint = of_result(result)
    except (KeyError, TypeError):
        fingerprint = {}
    keys = ("name", "frames", "mean", "median", "mean_interval", "human_normalised_mean", "checkpoint")
    return {key: result.get(key) for key in keys} | {"fingerprint": fingerprint}


def sizes(path: Path) -> list[dict[str, Any]]:
    """Agent steps and bytes of each checkpoint, oldest first."""
    found = []
    for folder in checkpoints(path):
        try:
            size = sum(p.stat().st_size for p in folder.iterdir())
        except OSError:  # forgotten in this moment
            continue
        found.append({"agent_steps": int(folder.name), "bytes": size})
    return found


def videos(path: Path) -> list[str]:
    """Names of the films in a run's recordings: those named by agent steps, newest first, then all others."""
    names = (p.name for p in (path / "recordings").glob("*.mp4") if not p.name.startswith("."))
    return sorted(names, key=lambda n: (0, -int(n[:-4])) if is_count(n[:-4]) else (1, n))


def log(path: Path) -> str:
    """The end of what a run said: its events, and its suite's log if it has one."""
    parts = []
    for file in (path / "events.jsonl", path.parent / "logs" / f"{path.name}.log"):
        try:
            with file.open("rb") as opened:
                opened.seek(max(0, opened.seek(0, os.SEEK_END) - LOG_BYTES))
                parts.append(opened.read(LOG_BYTES).decode("utf-8", "replace"))
        except OSError:
            continue
    return "\n".join(parts)


def charts(entry: Entry, axis: str) -> dict[str, Any]:
    """All figures of one run: {"metric": {"x": [...], "y": [...], "frames": [...]}}."""
    path, found = entry.record.path, {}
    for name in ("metrics.jsonl", "perf.jsonl"):
        tail = Tail(path / name)
        rows = tail.sample(DETAIL)
        if name == "metrics.jsonl":
            rows = sorted(rows + tail.having("eval/mean"), key=lambda row: row["frames"])
        for key in sorted({key for row in rows for key in row} - {"frames", "agent_steps", "charts/time"}):
            points = {int(row["frames"]): (row, value) for row in rows if (value := finite(row.get(key))) is not None}
            if len(points) > 0:
                frames = sorted(points)
                steps = [int(finite(points[x][0].get("agent_steps")) or 0) for x in frames]
                x = {"frames": frames, "steps": steps}[axis] if axis != "hours" else entry.curves.hours_at(frames)
                found[key] = {"x": x, "y": [float(f"{points[f][1]:.6g}") for f in frames], "frames": frames}
    return found


def episode_near(path: Path, frames: int, metric: str) -> dict[str, Any] | None:
    """The recorded episode that stands for a point of a metric's curve.

    Of evaluations, that with the median score of the one nearest to a number of frames; else the training episode that
    ended nearest to it.
    """
    if metric.startswith("eval/"):
        found = [one for one in in_training(evaluations(path)) if isinstance(one.get("recordings"), list)]
        if not (found := [one for one in found if one["recordings"]]):
            return None
        result = min(found, key=lambda one: abs(one["frames"] - frames))
        number, scores = shown_of(result), result.get("scores")
        score = scores[number - 1] if isinstance(scores, list) and number <= len(scores) else None
        return {
            "episode": f"{result['name']}/{number}", "frames": result["frames"], "score": clean(score),
            "mean": result["mean"], "of": len(result["recordings"]),
        }  # fmt: skip
    row = nearest(path / "episodes.jsonl", frames)
    if row is None or not isinstance(row.get("episode"), int):
        return None
    return {"episode": str(row["episode"])} | {key: clean(row.get(key)) for key in ("frames", "score", "steps")}
