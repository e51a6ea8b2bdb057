"""highscore demo: trains for a few minutes, and shows the difference."""

import sys
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import torch
from rich.console import Console
from rich.table import Table

from agents.agent import Agent
from envs.recording import FRAMES_PER_SECOND, Recording
from experiments.build import build, device_of
from experiments.config import Experiment
from experiments.evaluate import load_agent, score_agent
from experiments.presets import preset
from experiments.run import Run, write_json
from experiments.train import Train, run_training
from experiments.video import video_of

EPISODES = 16
EPSILON = 0.01  # as in training: enough to get an untrained network out of a loop
SEED = 1_000  # of the emulators that score, before and after alike
VIDEO_SECONDS = 60


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


def score(agent: Agent, experiment: Experiment, device: torch.device) -> tuple[dict[str, Any], Recording]:
    """Scores an agent, the same way before and after."""
    torch.manual_seed(SEED)
    return score_agent(agent, experiment, EPISODES, epsilon=EPSILON, seed=SEED, device=device)


def main(args: list[str]) -> int:
    """Runs the command; returns its exit status: 0 if the agent learned, else 1."""
    from experiments.cli import parse

    options, console, device = parse(Demo, args), Console(), device_of("auto")
    experiment = replace(preset("demo"), seed=options.seed)
    console.print(
        f"1 of 3: scoring an untrained agent on {experiment.game} ({EPISODES} episodes, {experiment.protocol})",
        highlight=False,
    )
    setup = build(experiment, device)
    before, film_before = score(setup.agent, experiment, device)
    setup.games.close()

    console.print(f"2 of 3: training it, for at most {options.minutes:g} minutes", highlight=False)
    began = time.monotonic()
    run, stopped_by = run_training(
        Train(experiment, wandb=options.wandb, runs=options.runs), console,
        stop=lambda: time.monotonic() - began > 60 * options.minutes,
    )  # fmt: skip
    minutes = (time.monotonic() - began) / 60
    if stopped_by:
        return 128 + stopped_by

    console.print("3 of 3: scoring it again, and filming both", highlight=False)
    agent, state = load_agent(run, device)
    after, film_after = score(agent, experiment, device)
    films = {}
    for when, film in (("before", film_before), ("after", film_after)):
        films[when] = run.path / "recordings" / f"{when}.mp4"
        video_of(film, films[when], VIDEO_SECONDS * FRAMES_PER_SECOND)
    learned = after["mean_interval"][0] > before["mean_interval"][1]
    write_json(
        run.path / "demo.json", {"minutes": minutes, "before": before, "after": after, "frames": state["frames"]}
    )
    show(console, run, before, after, films, minutes, state["frames"])
    return 0 if learned else 1


def show(
    console: Console,
    run: Run,
    before: dict[str, Any],
    after: dict[str, Any],
    films: dict[str, Path],
    minutes: float,
    frames: int,
) -> None:
    """Prints what came of it, and what to type next."""
    table = Table("", "mean score", "95 % interval", "human = 100 %", "film", title_justify="left")
    table.title = f"{run.experiment.game}, {before['protocol']}, {before['episodes']} episodes each"
    for when, result in (("before", before), ("after", after)):
        low, high = result["mean_interval"]
        human = f"{100 * result['human_normalised_mean']:.0f} %"
        table.add_row(when, f"{result['mean']:,.0f}", f"{low:,.0f} to {high:,.0f}", human, films[when].name)
    console.print(table)
    apart = after["mean_interval"][0] > before["mean_interval"][1]
    console.print(
        f"{frames:_} frames in {minutes:.1f} minutes; the intervals "
        + ("do not overlap: it learned." if apart else "overlap: it has not learned yet. Give it more --minutes."),
        highlight=False,
    )
    console.print(
        f"\nThe films are in {films['after'].parent}. Next:\n"
        f"  highscore watch {run.path} --seed 7      another episode\n"
        f"  highscore evaluate {run.path}            100 episodes\n"
        "  highscore train dqn --game Pong          the real thing; --help says more\n",
        highlight=False, soft_wrap=True,
    )  # fmt: skip


if __name__ == "__main__":
    from experiments.cli import run_command

    sys.exit(run_command("demo", sys.argv[1:]))
