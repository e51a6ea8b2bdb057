"""highscore compare: runs side by side, with honest statistics, tables and figures."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import tyro
from rich.console import Console

from envs.extras import how_to_install
from experiments import latex, tables
from experiments.comparison import load
from experiments.files import write_atomically
from experiments.options import OptionalPath
from experiments.published import published_agent
from experiments.results import as_json


@dataclass(frozen=True)
class Compare:
    """Compares runs: raw and human-normalised scores with intervals over seeds, under one fingerprint.

    Runs are named by their directories, or by folders of them such as a suite's.
    """

    runs: Annotated[tuple[Path, ...], tyro.conf.Positional]
    """run directories, or folders that hold some"""
    published: tuple[str, ...] = ()
    """published agents to show beside them, such as "DQN CNN (Dopamine)"; notes and tables name their protocols"""
    figures: OptionalPath = None
    """a folder for figures: learning curves, aggregates, profiles, efficiency, improvement,
    sensitivity to settings that were varied; PNG, SVG and PDF"""
    latex: OptionalPath = None
    """a file for the tables as LaTeX; - is the terminal"""
    csv: OptionalPath = None
    """a file for a row per run; - is the terminal"""
    json: OptionalPath = None
    """a file for every figure that is shown; - is the terminal"""
    protocol: str = ""
    """only evaluations under this protocol; empty: any"""
    frames: int = 0
    """score runs by their last evaluation in training up to so many frames (and a hundredth more); 0: at their end"""
    baseline: str = ""
    """the probability of improvement only of the others over this agent; empty: of every pair"""
    checkpoint: Literal["last", "best"] = "last"
    """best: score the weights that did best in training, which flatters; the output says so"""
    mixed: bool = False
    """compare scores that were not measured alike; the output says so"""


def main(args: list[str]) -> int:
    """Runs the command; returns its exit status."""
    from experiments.cli import parse

    options = parse(Compare, args)
    if not options.runs:
        raise ValueError("name runs, or a folder of them: highscore compare runs/NAME runs/OTHER")
    for flag, file in (("latex", options.latex), ("csv", options.csv), ("json", options.json)):
        if file != Path("-"):
            refuse_folder(flag, file)
    if options.figures is not None:
        if options.figures.is_file():
            raise ValueError(f"--figures {options.figures} is a file: name a folder")
        import_matplotlib()
    comparison = load(
        list(options.runs), checkpoint=options.checkpoint, protocol=options.protocol, frames=options.frames,
        mixed=options.mixed, published=tuple(published_agent(name) for name in options.published),
    ).over(options.baseline)  # fmt: skip
    data = as_json(comparison)
    texts = (
        (options.latex, lambda: latex.to_latex(data)), (options.csv, lambda: tables.to_csv(data)),
        (options.json, lambda: json.dumps(data, indent=2, allow_nan=False) + "\n"),
    )  # fmt: skip
    on_terminal = [make for path, make in texts if path == Path("-")]
    for make in on_terminal:
        print(make(), end="")
    console = Console(stderr=bool(on_terminal))  # so that what is piped is only what was asked for
    if not on_terminal:
        console.print(tables.terminal(data, console.width))
    for path, make in texts:
        if path not in (None, Path("-")):
            path.parent.mkdir(parents=True, exist_ok=True)
            write_atomically(path, make().encode())
            console.print(f"wrote {path}", highlight=False, soft_wrap=True)
    if options.figures is not None:
        from experiments.figures import save_all

        for path in save_all(comparison, options.figures):
            console.print(f"wrote {path}", highlight=False, soft_wrap=True)
    return 0


def refuse_folder(flag: str, file: Path | None) -> None:
    """Refuses a folder where a file is to be written, before what is to be in it is made.

    Raises:
        ValueError: it is one.
    """
    if file is not None and file.is_dir():
        raise ValueError(f"--{flag} {file} is a folder: name a file in it")


def import_matplotlib() -> None:
    """Fails at once where figures cannot be drawn.

    Raises:
        ValueError: with the command that installs what is missing.
    """
    try:
        import matplotlib  # noqa: F401
    except ImportError:
        raise ValueError("figures need matplotlib: " + how_to_install("figures")) from None
