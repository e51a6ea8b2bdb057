"""python -m experiments.curve: a run's learning curve as text and as a picture, beside what it is to be compared with.

For Atari that is a published curve, whose points are millions of frames; for other worlds, where frames flicker, and
for shorter trainings, the mean score of a player who chooses by chance.
"""

import itertools
import math
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from envs.library import game_of
from experiments.chance import random_scores
from experiments.files import RunError, read_rows, write_atomically, write_json
from experiments.loop import RECENT
from experiments.published import published_curve
from experiments.records import summary as summary_of
from experiments.run import Run
from experiments.stats import mean_interval

MILLION = 1_000_000
PARTS = 10  # points of a curve that no published one gives points to
RANDOM_EPISODES = 100
COLOURS = ("#dd8452", "#55a868", "#8172b3")


@dataclass(frozen=True)
class Curve:
    """Writes curve.csv, curve.png and evidence.json: a run's training scores, beside published or random ones."""

    run: Path
    """a run directory"""
    out: Path
    """a folder for the files, such as experiments/evidence/dqn-breakout"""
    reference: tuple[str, ...] = ("DQN CNN (Dopamine)",)
    """for Atari, agents with a published curve, such as QR-DQN CNN (Dopamine) and Quantile (JAX) (Dopamine)"""
    goal: float | None = None
    """a score; evidence.json then says after how many frames and minutes the last 20 training episodes had it on
    average"""


class Point(NamedTuple):
    """One million emulator frames."""

    million: int  # the frames up to here, in millions
    episodes: int
    score: float  # mean raw training score of the episodes that ended in it
    published: float
    published_sd: float  # over their seeds, divided by as many (Dopamine's); NaN if they do not say
    by_middle: float = math.nan  # as the score, of the episodes whose middle was played in it

    @property
    def deviations(self) -> float:
        """How many of their standard deviations lie between us and them; infinitely many if theirs is 0."""
        distance = self.score - self.published
        return distance / self.published_sd if self.published_sd or not distance else math.copysign(math.inf, distance)

    @property
    def well(self) -> bool:
        """Whether we are within three deviations; where there are none, whether we are not below."""
        return self.score >= self.published if math.isnan(self.published_sd) else abs(self.deviations) <= 3


def published(game: str, agent: str) -> dict[int, tuple[float, float]]:
    """Published (mean, standard deviation) by million frames.

    Raises:
        ValueError: no such curve; says which there are.
    """
    curve = published_curve(agent, game)
    spread = curve.sd or [math.nan] * len(curve.mean)
    return {round(m): (mean, sd) for m, mean, sd in zip(curve.million_frames, curve.mean, spread, strict=True)}


def points(
    episodes: list[dict[str, Any]], reference: dict[int, tuple[float, float]], frames: int, frames_per_step: int
) -> list[Point]:
    """Mean score of the episodes that ended in each whole million of frames: Dopamine's measure of training.

    Dopamine plays one game. Where many are played at once an episode lasts for a good part of a million, and who
    played its beginning knew less than who played its end: `by_middle` is the same without that lag.

    Args:
        frames_per_step: emulator frames of all games during one agent step.
    """
    ends = np.array([e["frames"] for e in episodes])
    middles = ends - np.array([e["steps"] for e in episodes]) * frames_per_step / 2
    scores, found = np.array([e["score"] for e in episodes]), []
    for million in range(1, frames // MILLION + 1):
        ended, played = (scores[((million - 1) * MILLION < x) & (x <= million * MILLION)] for x in (ends, middles))
        if len(ended) and million in reference:
            by_middle = float(np.mean(played)) if len(played) else math.nan
            found.append(Point(million, len(ended), float(np.mean(ended)), *reference[million], by_middle))
    return found


class Part(NamedTuple):
    """An equal part of a training."""

    frames: int  # up to here
    episodes: int
    score: float  # mean raw training score of the episodes that ended in it


def parts(episodes: list[dict[str, Any]], frames: int) -> list[Part]:
    """Mean score of the episodes that ended in each tenth of a training; a part in which none ended is left out."""
    found = []
    for part in range(PARTS):
        begin, end = part * frames // PARTS, (part + 1) * frames // PARTS
        scores = [e["score"] for e in episodes if begin < e["frames"] <= end]
        if scores:
            found.append(Part(end, len(scores), float(np.mean(scores))))
    return found


def reached(run: Run, goal: float) -> dict[str, float] | None:
    """When the mean of the last 20 training episodes first came to a score, or None: it did not.

    Minutes count from when the run was made, with all that happened since; rows are written every 10,000 frames.
    """
    began = datetime.fromisoformat(run.config["created"]).timestamp()
    times = {row["frames"]: row["charts/time"] for row in read_rows(run.path / "perf.jsonl")}
    for row in read_rows(run.path / "metrics.jsonl"):
        if row.get("charts/episodes", 0) >= RECENT and row["charts/episodic_return"] >= goal:
            minutes = (times[row["frames"]] - began) / 60
            return {"score": goal, "frames": row["frames"], "agent_steps": row["agent_steps"], "minutes": minutes}
    return None


def draw(
    path: Path,
    run: Run,
    episodes: list[dict[str, Any]],
    compare: Callable[[Any], None],
    means: list[tuple[float, float]],
) -> None:
    """The curve as a picture.

    Args:
        compare: draws what it is compared with, into the axes.
        means: (million frames, score) of each part.
    """
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
    compare(axes)
    axes.plot(*zip(*means, strict=True), "o-", color="#4c72b0", label="ours, means")
    experiment = run.experiment
    axes.set(
        xlabel="million emulator frames", ylabel="raw training score",
        title=f"{experiment.preset} on {experiment.game}, {experiment.protocol}, seed {experiment.seed}",
    )  # fmt: skip
    figure.legend(frameon=False, loc="outside lower center", ncols=2, fontsize=8)
    axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(path, dpi=120)
    plt.close(figure)


def beside_published(options: Curve, run: Run, episodes: list[dict[str, Any]], frames: int) -> tuple[list, dict, bool]:
    """Draws; returns the table, what is to be known of it, and whether every point compares well.

    Raises:
        RunError: there is nothing to compare yet.
    """
    game, frames_per_step = run.experiment.game, run.experiment.num_envs * run.experiment.frame_skip
    found = {name: points(episodes, published(game, name), frames, frames_per_step) for name in options.reference}
    if not all(found.values()):
        raise RunError(f"{run.path} has not played a whole million frames yet, but {frames:_}")

    def compare(axes: Any) -> None:
        for (name, theirs), colour in zip(found.items(), itertools.cycle(COLOURS), strict=False):
            spread = [3 * p.published_sd for p in theirs]
            window = published_curve(name, game).window
            label = (
                name + ", per million frames" * bool(window) + ", and 3 sd of its seeds" * (not np.isnan(spread).all())
            )
            x, y = [p.million - window / 2 for p in theirs], [p.published for p in theirs]
            axes.errorbar(x, y, spread, fmt="o-", color=colour, capsize=6, label=label)

    ours = next(iter(found.values()))
    draw(options.out / "curve.png", run, episodes, compare, [(p.million - 0.5, p.score) for p in ours])
    table = ["million_frames episodes score published published_sd deviations score_by_middle reference".split()]
    table += [
        [*map(str, p[:2]), *(f"{x:.3f}" for x in (*p[2:5], p.deviations, p.by_middle)), name]
        for name, theirs in found.items() for p in theirs
    ]  # fmt: skip
    well = all(p.well for theirs in found.values() for p in theirs)
    theirs = {name: published_curve(name, game).protocol for name in options.reference}
    return table, {"reference": theirs, "evaluation": last_evaluation(run)}, well


def beside_chance(options: Curve, run: Run, episodes: list[dict[str, Any]], frames: int) -> tuple[list, dict, bool]:
    """The same, beside random play; whether the last evaluation is above it, intervals apart."""
    found = parts(episodes, frames)
    if not found:
        raise RunError(f"{run.path} has not finished an episode yet")
    scores = random_scores(run.experiment, RANDOM_EPISODES)
    chance, interval = float(np.mean(scores)), mean_interval(scores)

    def compare(axes: Any) -> None:
        axes.axhline(chance, color="#dd8452", label=f"random play, mean of {RANDOM_EPISODES} episodes")

    half = frames / PARTS / 2
    draw(options.out / "curve.png", run, episodes, compare, [((p.frames - half) / MILLION, p.score) for p in found])
    table = [["frames", "episodes", "score"], *([str(p.frames), str(p.episodes), f"{p.score:.3f}"] for p in found)]
    summary, evaluation = summary_of(run.path), last_evaluation(run)
    about = {"random": {"mean": chance, "mean_interval": interval, "episodes": len(scores)}}
    more = {key: summary[key] for key in ("achievement_score", "success_rates") if key in summary}
    ours = evaluation.get("mean_interval")
    above = ours is not None and interval is not None and ours[0] > interval[1]  # of one episode there is none
    return table, about | {"evaluation": evaluation} | ({"training": more} if more else {}), above


def unlike_protocols(protocol: str, references: Sequence[str], game: str) -> str:
    """What to know of curves that were not measured as a run was; empty if there is nothing."""
    theirs = {name: published_curve(name, game).protocol for name in references}
    unlike = [f"{name}: {how}" for name, how in theirs.items() if protocol != "machado" or "training" not in how]
    return f"NOT MEASURED ALIKE: training scores under {protocol}, beside {'; '.join(unlike)}" if unlike else ""


def last_evaluation(run: Run) -> dict[str, Any]:
    """What its summary says of it, without each game; empty before the first."""
    evaluation = summary_of(run.path).get("evaluation") or {}
    return {key: value for key, value in evaluation.items() if key not in ("recordings", "games")}


def main(args: list[str]) -> int:
    """Runs the command; returns its exit status: 0 if the run compares well, else 1."""
    from experiments.cli import parse

    options = parse(Curve, args, prog="python -m experiments.curve")
    run = Run.open(options.run)
    episodes = list(read_rows(run.path / "episodes.jsonl"))
    frames = max((row["frames"] for row in read_rows(run.path / "metrics.jsonl")), default=0)
    game = game_of(run.experiment.game)
    alike = game.world == "atari" and not game.protocol(run.experiment.protocol).flicker
    known = alike and run.experiment.frames >= MILLION
    if known:
        for name in options.reference:
            published(run.experiment.game, name)
        if unlike := unlike_protocols(run.experiment.protocol, options.reference, run.experiment.game):
            print(unlike, file=sys.stderr)
    options.out.mkdir(parents=True, exist_ok=True)
    table, about, well = (beside_published if known else beside_chance)(options, run, episodes, frames)
    write_atomically(options.out / "curve.csv", "".join(",".join(line) + "\n" for line in table).encode())
    if options.goal is not None:
        about["goal"] = reached(run, options.goal)
    wanted = ("command", "commit", "created", "versions", "machine", "experiment")
    write_json(options.out / "evidence.json", {key: run.config[key] for key in wanted} | about)
    for line in table:
        print("  ".join(f"{cell:>14}" for cell in line))
    return 0 if well else 1


if __name__ == "__main__":
    from experiments.cli import run_command

    sys.exit(run_command("curve", sys.argv[1:]))
