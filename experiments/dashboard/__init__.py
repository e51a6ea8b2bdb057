"""highscore dashboard: all runs in your browser, live."""

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro


@dataclass(frozen=True)
class Dashboard:
    """Serves a page on this machine with every run below a folder: curves, leaderboard, comparisons, episodes."""

    folder: Annotated[Path | None, tyro.conf.Positional] = None
    """where the runs are, as --runs"""
    runs: Path = Path("runs")
    """the folder with the runs; suites in it, too"""
    port: int = 8020
    """of the page, on this machine only; if it is in use, one of the next"""
    no_open: bool = False
    """do not open the page in your browser"""


def main(args: list[str]) -> int:
    """Runs the command; returns its exit status."""
    from experiments.cli import parse

    options = parse(Dashboard, args)
    if options.folder is not None and options.runs != Dashboard.runs:
        raise ValueError(f"the runs in {options.folder}, or in --runs {options.runs}? name one folder")
    root = options.folder or options.runs
    if not root.is_dir():
        raise ValueError(f"there is no folder {root}; train something first, or: highscore dashboard FOLDER")
    from rich.console import Console

    from experiments.dashboard.server import application
    from experiments.web import address, listen, open_page, run

    console = Console(highlight=False, soft_wrap=True)
    with listen(options.port, console.print) as listener:
        console.print(f"The dashboard is at {address(listener)}   (Ctrl-C ends it)")
        if not options.no_open:
            open_page(listener, console.print)
        run(application(root.resolve()), listener)
    return 0


if __name__ == "__main__":
    from experiments.cli import run_command

    sys.exit(run_command("dashboard", sys.argv[1:]))
