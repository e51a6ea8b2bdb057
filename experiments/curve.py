"""python -m experiments.curve: a run's learning curve beside a published one, as text and as a picture."""

import csv
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from experiments.published import published_curve
from experiments.run import Run, RunError, read_rows, write_atomically, write_json

MILLION = 1_000_000


@dataclass(frozen=True)
class Curve:
    """Writes curve.csv, curve.png and evidence.json: a run's scores per million frames, beside the published ones."""

    run: Path
    """a run directory"""
    out: Path
    """a folder for the files, such as experiments/evidence/dqn-breakout"""
    reference: str = "DQN CNN"
    """an agent of Dopamine's: DQN, C51, QR-DQN, IQN or Rainbow, then CNN or Impala"""


class Point(NamedTuple):
    """One million emulator frames."""

    million: int  # the frames up to here, in millions
    episodes: int
    score: float  # mean raw training score of the episodes that ended in it
    published: float
    published_sd: float  # over their seeds

    @property
    def deviations(self) -> float:
        """How many of their standard deviations lie between us and them."""
        return (self.score - self.published) / self.published_sd


def published(game: str, agent: str) -> dict[int, tuple[float, float]]:
    """Published (mean, standard deviation) by million frames.

    Raises:
        ValueError: no such curve; says which there are.
    """
    curve = published_curve(f"{agent} (Dopamine)", game)
    assert curve.sd is not None, agent  # Dopamine's have one
    return {round(m): (mean, sd) for m, mean, sd in zip(curve.million_frames, curve.mean, curve.sd, strict=True)}


def points(episodes: list[dict[str, Any]], reference: dict[int, tuple[float, float]], frames: int) -> list[Point]:
    """Mean score of the episodes that ended in each whole million of frames: Dopamine's measure of training."""
    found = []
    for million in range(1, frames // MILLION + 1):
        scores = [e["score"] for e in episodes if (million - 1) * MILLION < e["frames"] <= million * MILLION]
        if scores and million in reference:
            found.append(Point(million, len(scores), float(np.mean(scores)), *reference[million]))
    return found


def draw(path: Path, run: Run, found: list[Point], episodes: list[dict[str, Any]], reference: str) -> None:
    """The curve as a picture."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(figsize=(7, 4), layout="constrained")
    frames, scores = (np.array([e[key] for e in episodes]) for key in ("frames", "score"))
    window = min(100, len(scores))
    smooth = np.convolve(scores, np.ones(window) / window, mode="valid")
    axes.plot(
        frames[window - 1 :] / MILLION, smooth, color="#4c72b0", alpha=0.35, lw=1, label="ours, last 100 episodes"
    )
    x = [p.million - 0.5 for p in found]  # the middle of each million
    theirs, spread = [p.published for p in found], [3 * p.published_sd for p in found]
    label = f"Dopamine {reference}, per million frames, and 3 sd of 5 seeds"
    axes.errorbar(x, theirs, spread, fmt="o-", color="#dd8452", capsize=6, label=label)
    axes.plot(x, [p.score for p in found], "o-", color="#4c72b0", label="ours, per million frames")
    experiment = run.experiment
    axes.set(
        xlabel="million emulator frames", ylabel="raw training score",
        title=f"{experiment.preset} on {experiment.game}, {experiment.protocol}, seed {experiment.seed}",
    )  # fmt: skip
    axes.legend(frameon=False)
    axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(path, dpi=120)
    plt.close(figure)


def main(args: list[str]) -> int:
    """Runs the command; returns its exit status: 0 if every point is within three standard deviations, else 1."""
    from experiments.cli import parse

    options = parse(Curve, args, prog="python -m experiments.curve")
    run = Run.open(options.run)
    reference = published(run.experiment.game, options.reference)
    episodes = list(read_rows(run.path / "episodes.jsonl"))
    frames = max((row["frames"] for row in read_rows(run.path / "metrics.jsonl")), default=0)
    found = points(episodes, reference, frames)
    if not found:
        raise RunError(f"{run.path} has not played a whole million frames yet, but {frames:_}")
    options.out.mkdir(parents=True, exist_ok=True)
    lines = [["million_frames", "episodes", "score", "published", "published_sd", "deviations"]]
    lines += [[*map(str, p[:2]), *(f"{x:.3f}" for x in (*p[2:], p.deviations))] for p in found]
    write_atomically(options.out / "curve.csv", "".join(",".join(line) + "\n" for line in lines).encode())
    draw(options.out / "curve.png", run, found, episodes, options.reference)
    wanted = ("command", "commit", "created", "versions", "machine", "experiment")
    about = {key: run.config[key] for key in wanted} | {"reference": f"Dopamine {options.reference}"}
    write_json(options.out / "evidence.json", about)
    for row in csv.reader((options.out / "curve.csv").read_text().splitlines()):
        print("  ".join(f"{cell:>14}" for cell in row))
    return 0 if all(abs(p.deviations) <= 3 for p in found) else 1


if __name__ == "__main__":
    from experiments.cli import run_command

    sys.exit(run_command("curve", sys.argv[1:]))
