"""highscore sync: uploads runs to Weights & Biases from their directories, each as one whole run.

wandb writes a fragment each time that an offline run is resumed, and joins them badly. The run directory has every
row once, in order, however often the run was stopped, so that is what is sent: rows are numbered as the
mirror numbers them while training, and what the server has already it does not take twice.
"""

import os
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import tyro
from rich.console import Console

from experiments.files import RunError, read_rows
from experiments.options import OptionalPath
from experiments.records import checkpoints, find_runs, summary


@dataclass(frozen=True)
class Sync:
    """Uploads runs to Weights & Biases, each as one whole run, however often it was stopped and resumed."""

    runs: Annotated[tuple[Path, ...], tyro.conf.Positional]
    """run directories, or folders that hold some"""
    wandb_project: str = ""
    """where Weights & Biases files them; empty: where their trainings were to be"""
    into: OptionalPath = None
    """instead of uploading: a folder for one offline run each, which `wandb sync` can upload from elsewhere"""


def messages(path: Path, with_videos: bool) -> Iterator[dict[str, Any]]:
    """What the mirror sends while a run trains, in the same order and with the same numbers.

    Args:
        with_videos: whether every evaluation in training kept a video.
    """
    speeds = {row["frames"]: row for row in read_rows(path / "perf.jsonl") if "frames" in row}
    number = 0
    for row in read_rows(path / "metrics.jsonl"):
        number += 1
        scored = "eval/mean" in row
        yield {"log": row if scored else row | speeds.get(row["frames"], {}), "number": number}
        if scored and with_videos:
            number += 1
            video = path / "recordings" / f"{row['agent_steps']:012d}.mp4"
            if video.exists():
                yield {"video": str(video), "frames": row["frames"], "number": number}
    found = summary(path)
    if found.get("evaluation"):
        yield {"summary": headline(found["evaluation"])}
    if (path / "best").is_dir():
        yield {"checkpoint": str(path / "best"), "alias": "best"}
    saved = checkpoints(path)
    if saved:
        yield {"checkpoint": str(saved[-1]), "alias": "latest"}


def headline(evaluation: dict[str, Any]) -> dict[str, Any]:
    """What W&B's table of runs shows of an evaluation."""
    keys = {"score": "mean", "human_normalised": "human_normalised_mean", "frames": "frames", "protocol": "protocol"}
    return {name: evaluation.get(key) for name, key in keys.items()}


def sync(path: Path, project: str, into: Path | None) -> tuple[int, str]:
    """Sends one run; returns how many rows and videos were new there, and the project.

    Raises:
        RunError: Weights & Biases cannot be reached, or there is no key.
    """
    from experiments.run import Run
    from experiments.wandb_mirror import begin, describe, prepare, send

    run = Run.open(path)
    project = project or run.wandb["project"]
    folder = (into or path).resolve()
    (folder / "wandb").mkdir(parents=True, exist_ok=True)
    os.environ |= {"WANDB_DIR": str(folder), "WANDB_DATA_DIR": str(folder / "wandb"), "WANDB_SILENT": "true",
                   "WANDB_CACHE_DIR": str(folder / "wandb")}  # fmt: skip
    import wandb

    told = describe(run, "offline" if into else "online", project)
    told["init"]["dir"] = str(folder)  # wandb looks only once for the variable
    try:
        sent = begin(**told, fall_back=False)
    except (wandb.Error, wandb.errors.UsageError) as error:
        why = str(error).splitlines()[0]
        raise RunError(f"Weights & Biases cannot be reached ({why}); `wandb login` sets a key") from None
    prepare(sent)
    count = 0
    for message in messages(path, run.experiment.evaluation.video_seconds > 0):
        send(sent, message)
        count += message.get("number", -1) >= sent.starting_step
    sent.finish()
    return count, project


def main(args: list[str]) -> int:
    """Runs the command; returns its exit status."""
    from experiments.cli import parse

    options, console = parse(Sync, args), Console()
    if not options.runs:
        raise ValueError("name runs, or a folder of them: highscore sync runs/NAME")
    status = 0
    for path in find_runs(options.runs):
        try:
            count, project = sync(path, options.wandb_project, options.into)
        except RunError as error:  # the others may be well
            print(f"highscore sync: {error}", file=sys.stderr)
            status = 2
            continue
        where = f"as an offline run in {options.into}" if options.into else f"in project {project}"
        console.print(f"{path}: {count} new rows and videos {where}", highlight=False, markup=False, soft_wrap=True)
    return status
