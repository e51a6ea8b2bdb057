"""highscore evaluate: scores a trained agent under a named protocol."""

import itertools
import sys
import tempfile
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import torch
import tyro
from rich.console import Console
from rich.progress import track

from envs.library import game_of
from experiments.build import device_of
from experiments.files import RunError, write_json
from experiments.fingerprint import identity
from experiments.records import find_runs, is_count, is_weights, kept_weights
from experiments.run import Run
from experiments.scoring import command_seed, keep_recordings, load_agent, load_best, load_weights, mean_of, score_agent


@dataclass(frozen=True)
class Evaluate:
    """Plays whole episodes with runs' last checkpoints; prints and keeps the raw scores, and what they depend on."""

    runs: Annotated[tuple[Path, ...], tyro.conf.Positional]
    """run directories, or folders that hold some"""
    episodes: int = 100
    """episodes to play of each, shared equally by up to 8 emulators"""
    protocol: str = ""
    """another than it was trained under, such as machado or nature"""
    epsilon: float = 0.001
    """exploration rate: 0.001 is usual now, 0.05 in Mnih et al. (2015); policies draw their actions and only note it,
    for scores are compared with those of the same rate"""
    seed: int = 0
    """decides the emulators' chances and the exploration; 2,000,000 is added to it, so that no training has the same"""
    checkpoint: str = "last"
    """last; best: the weights that scored best while training, which flatters; or the agent steps of an evaluation
    whose weights were kept (--evaluation.keep-weights). The result says so"""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """auto takes a GPU if there is one"""


def check_writable(run: Run) -> None:
    """Refuses, before anything is played, a run directory that cannot keep it.

    Raises:
        RunError: it cannot be written to.
    """
    for folder in (run.path / "evaluations", run.path / "recordings"):
        try:
            folder.mkdir(exist_ok=True)
            with tempfile.TemporaryFile(dir=folder):
                pass
        except OSError as error:
            raise RunError(f"{folder} cannot keep an evaluation: {error.strerror}") from None


def main(args: list[str]) -> int:
    """Runs the command; returns its exit status."""
    from experiments.cli import parse

    options = parse(Evaluate, args)
    if options.episodes < 1:
        raise ValueError(f"--episodes must be at least 1, got {options.episodes}")
    if options.seed < 0:
        raise ValueError(f"--seed must be at least 0, got {options.seed}")
    if not 0 <= options.epsilon <= 1:
        raise ValueError(f"--epsilon is a probability, got {options.epsilon}")
    if not options.runs:
        raise ValueError("name runs, or a folder of them: highscore evaluate runs/NAME")
    device, console, status = device_of(options.device), Console(), 0
    found = find_runs(options.runs)
    for path in found:
        try:
            evaluate(Run.open(path), options, device, console)
        except ValueError as error:
            if len(found) == 1:
                raise
            print(f"highscore evaluate: {error}", file=sys.stderr)  # the others may be well
            status = 2
    return status


def evaluate(run: Run, options: Evaluate, device: torch.device, console: Console) -> None:
    """Scores one run, and keeps the result in it.

    Raises:
        ValueError: it cannot be scored so; nothing was played.
    """
    check_writable(run)
    if options.protocol:
        game_of(run.experiment.game).protocol(options.protocol)
    kept = run.path / "weights" / f"{int(options.checkpoint):012d}" if is_count(options.checkpoint) else run.path
    if options.checkpoint not in ("last", "best") and not is_weights(kept):
        there = ["last", *["best"] * is_weights(run.path / "best")]
        there += [str(int(folder.name)) for folder in kept_weights(run.path)]
        raise RunError(f"--checkpoint {options.checkpoint}: {run.path} keeps no such weights; try {', '.join(there)}")
    agent, state = load_agent(run, device)
    if options.checkpoint == "best":
        state |= load_best(run, agent)
    elif options.checkpoint != "last":
        state |= load_weights(kept, agent)
    result, recordings = score_agent(
        agent, run.experiment, options.episodes, epsilon=options.epsilon, seed=command_seed(options.seed),
        device=device, protocol=options.protocol,
        watch=lambda played: track(played, "episodes", total=options.episodes, console=console, transient=True),
    )  # fmt: skip
    result |= {key: state[key] for key in ("frames", "agent_steps", "tensors_sha256")}
    result |= {"commit": run.config.get("commit"), "checkpoint": options.checkpoint}
    console.print(describe(result), highlight=False)
    how = f"{result['protocol']}-{options.checkpoint}-s{options.seed}-e{options.epsilon:g}"
    name = take_name(run, f"{state['agent_steps']:012d}-{how}-{time.strftime('%Y%m%d-%H%M%S')}")
    result["recordings"] = keep_recordings(run, name, recordings)
    path = run.path / "evaluations" / f"{name}.json"
    write_json(path, result)
    console.print(f"kept in {path}", highlight=False, markup=False, soft_wrap=True)


def take_name(run: Run, name: str) -> str:
    """A name that no other evaluation of a run has or gets, though it end in the same second."""
    for number in itertools.count(1):
        tried = f"{name}-{number}" if number > 1 else name
        with suppress(FileExistsError):
            (run.path / "recordings" / f"{tried}.rec").open("xb").close()
            break
    return tried


def describe(result: dict[str, Any]) -> str:
    """An evaluation in a line or two for people."""
    normalised = result["human_normalised_mean"]
    of = f" of {result['frames']:_} frames" if "frames" in result else ""
    return (
        f"{result['game']}, {result['protocol']}, epsilon {result['epsilon']}, {result['episodes']} episodes, "
        f"{result['checkpoint']} checkpoint{of}, fingerprint {identity(result['fingerprint'])}: "
        f"mean {mean_of(result)}{' (95 %, t over episodes)' * (result['episodes'] > 1)}, median {result['median']:.1f}"
        + (f", human-normalised {100 * normalised:.0f} %" if normalised is not None else "")
        + (f", achievements {result['achievement_score']:.1f} %" if "achievement_score" in result else "")
    )
