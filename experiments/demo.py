"""highscore demo: trains for a few minutes, and shows the difference."""

import json
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from rich.console import Console
from rich.table import Table

from experiments.build import build, device_of
from experiments.files import write_json
from experiments.log import say_what_next
from experiments.presets import preset
from experiments.run import Run
from experiments.scoring import evaluation_seed, score_agent
from experiments.stats import typical
from experiments.train import Train, run_training
from experiments.video import video_of


@dataclass(frozen=True)
class Demo:
    """Trains an agent on a real Atari game for a few minutes on any computer; scores and films it before and after."""

    seed: int = 1
    """decides everything"""
    minutes: float = 10.0
    """the most time that training may take; two CPU cores need less"""
    wandb: Literal["auto", "online", "offline", "off"] = "auto"
    """Weights & Biases: auto is online with a key and offline without"""
    runs: Path = Path("runs")
    """where run directories are made"""


def main(args: list[str]) -> int:
    """Runs the command; returns its exit status: 0 if the agent learned, else 1."""
    from experiments.cli import parse

    options, console, device = parse(Demo, args), Console(), device_of("auto")
    if not options.minutes > 0:
        raise ValueError(f"--minutes must be positive, got {options.minutes:g}")
    experiment = replace(preset("demo"), seed=options.seed)
    how = experiment.evaluation
    what = f"{experiment.game} ({how.episodes} episodes, {experiment.protocol})"
    console.print(f"1 of 2: scoring an untrained agent on {what}", highlight=False)
    setup = build(experiment, device)
    before, films = score_agent(
        setup.agent, experiment, how.episodes, epsilon=how.epsilon, seed=evaluation_seed(experiment), device=device
    )  # fmt: skip
    setup.games.close()

    console.print(
        f"2 of 2: training it, for at most {options.minutes:g} minutes, and scoring it again", highlight=False
    )
    began = time.monotonic()
    run, stopped_by = run_training(
        Train(experiment, wandb=options.wandb, runs=options.runs), console,
        stop=lambda: time.monotonic() - began > 60 * options.minutes,
    )  # fmt: skip
    if stopped_by:
        return say_what_next(console, run, stopped_by)
    minutes = (time.monotonic() - began) / 60
    video_of(films[typical(before["scores"])], run.path / "recordings/untrained.mp4", how.video_seconds)
    after = json.loads((run.path / "summary.json").read_text())["evaluation"]
    write_json(run.path / "demo.json", {"minutes": minutes, "before": before, "after": after})
    show(console, run, before, after, minutes)
    return 0 if after["mean_interval"][0] > before["mean_interval"][1] else 1


def show(console: Console, run: Run, before: dict[str, Any], after: dict[str, Any], minutes: float) -> None:
    """Prints what came of it, and what to type next."""
    table = Table("", "mean score", "95 % interval", "human = 100 %", "film", title_justify="left")
    table.title = f"{run.experiment.game}, {before['protocol']}, {before['episodes']} episodes each"
    films = {"before": "untrained.mp4", "after": f"{after['agent_steps']:012d}.mp4"}
    for when, result in (("before", before), ("after", after)):
        low, high = result["mean_interval"]
        human = f"{100 * result['human_normalised_mean']:.0f} %"
        table.add_row(when, f"{result['mean']:,.0f}", f"{low:,.0f} to {high:,.0f}", human, films[when])
    console.print(table)
    apart = after["mean_interval"][0] > before["mean_interval"][1]
    early = after["frames"] < run.experiment.frames  # the minutes were over
    more = "Give it more --minutes." if early else "Try another --seed, or: highscore train demo --frames 2M"
    console.print(
        f"{after['frames']:_} frames and scoring what they made in {minutes:.1f} minutes; the intervals "
        + ("do not overlap: it learned." if apart else f"overlap: it has not learned yet. {more}"),
        highlight=False,
    )
    console.print(
        f"\nThe films are in {run.path / 'recordings'}. Next:\n"
        f"  highscore watch {run.path} --seed 7      another episode\n"
        f"  highscore evaluate {run.path}            100 episodes\n"
        "  highscore train dqn --game Pong --frames 2M   an hour on a laptop; --help says more\n",
        highlight=False, soft_wrap=True,
    )  # fmt: skip
