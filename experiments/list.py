"""highscore list: the games, presets, runs, recorded episodes and published agents there are."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Annotated, Literal

import torch
import tyro
from rich.console import Console
from rich.filesize import decimal
from rich.table import Table
from rich.text import Text

from envs.library import GAMES, game_of
from envs.protocols import GYMNASIUM
from envs.scores import baselines
from experiments.build import build_agent, device_of
from experiments.build_network import state_bytes
from experiments.checks import frame_bytes, note_bytes
from experiments.comparison import trained_for
from experiments.config import Experiment
from experiments.episodes import PEOPLE, people_episodes, training_episodes
from experiments.files import RunError
from experiments.measured import measured
from experiments.presets import PRESETS
from experiments.progress import frames_played, status
from experiments.published import published_agents
from experiments.records import evaluations, find_runs, finite, read_record
from experiments.records import summary as summary_of
from experiments.run import Run
from experiments.speed import emulation, speed_of
from experiments.tables import brief

COLUMNS = ("run", "status", "frames", "training", "evaluation", "episodes", "protocol")  # of runs
FIRST_OUT = ("protocol", "training", "episodes")  # columns that a narrow terminal does without, in this order


@dataclass(frozen=True)
class Listing:
    """Lists the games, presets, runs or published agents there are, or the recorded episodes of a run."""

    what: Annotated[Literal["games", "presets", "runs", "episodes", "published"], tyro.conf.Positional]
    """what to list"""
    folder: Annotated[Path | None, tyro.conf.Positional] = None
    """a run directory, for its episodes; or where the runs are, as --runs"""
    runs: Path = Path("runs")
    """where the runs are"""
    last: int = 0
    """how many of the latest to show; 0: all runs, or 20 training episodes"""
    measure: bool = True
    """presets: time each on this machine, which takes some minutes in all and all of its cores; --measure False"""


def games() -> Iterator[Table]:
    """Every game, world by world; with the scores that normalise it, if it has such."""
    for world in dict.fromkeys(game.world for game in GAMES.values()):
        here = sorted((game for game in GAMES.values() if game.world == world), key=lambda game: game.name)
        title = f"{world}: --protocol {', '.join(here[0].protocols)}"
        scored = any(game.name in baselines() for game in here)
        table = Table("game", *(["random", "human"] if scored else []), title=title, title_justify="left")
        for game in here:
            table.add_row(game.name, *(f"{score:,.1f}" for score in baselines().get(game.name) or ()))
        yield table
    table = Table("game", title=f"{GYMNASIUM.world}: --protocol {GYMNASIUM.name}", title_justify="left")
    table.add_row("gym/CartPole-v1, gym/own_package:Own-v0: what is registered with Gymnasium and shows pictures")
    yield table


def presets(measure: bool, console: Console) -> Iterator[Table]:
    """Every preset: what it is made of, where it was published, its size, and its speed here if that is measured."""
    device = device_of("auto")
    seconds: dict[str, float] = {}  # of one agent step, by world
    for number, (name, x) in enumerate(PRESETS.items(), 1):
        speed = size = memory = missing = ""
        try:
            size = f"{parameters(x) / 1e6:.1f} M"
            if x.replay is not None:
                sizes = frame_bytes(x), state_bytes(x.network)
                memory = decimal(x.replay.bytes_needed(*sizes, note_bytes=note_bytes(x)))
            if measure:
                with console.status(f"timing {name}, {number} of {len(PRESETS)}"):
                    world = game_of(x.game).world
                    seconds[world] = seconds.get(world) or emulation(x)
                    speed = f"{speed_of(x, device, seconds[world])[0].frames_per_second:,.0f}"
        except ValueError as error:  # a package is missing
            missing = f"\nnot {'timed' if size else 'counted'}: {error}"
        table = Table(box=None, show_header=number == 1, expand=True, pad_edge=False)
        table.add_column("preset", width=max(map(len, PRESETS)))
        table.add_column("made of, published in, played by", ratio=1)
        for column in ("parameters", "memory", *["frames/s"] * measure):
            table.add_column(column, width=max(len(column), 7), justify="right", overflow="fold")
        about = f"{', '.join(parts(x))}\n[dim]{x.source}; {x.num_envs} games, {x.protocol}[/]"
        table.add_row(name, Text.from_markup(about).append(missing), size, memory, *[speed] * measure)
        yield table


@cache
def actions_of(game: str) -> int:
    """How many actions a game has; an Atari game is begun to see them, which takes longer than to make a network."""
    return len(game_of(game).actions())


def parameters(x: Experiment) -> int:
    """How many parameters a preset learns.

    Raises:
        ValueError: its game needs a package that is not installed.
    """
    shape = (x.stack, *game_of(x.game).frame_shape)
    agent = build_agent(x, shape, actions_of(x.game), torch.device("cpu"))
    return sum(p.numel() for p in agent.online.parameters())


def parts(x: Experiment) -> list[str]:
    """What an experiment is made of, in the field's words."""
    a, n = x.algorithm, x.network
    found = {
        type(a).__name__: True, "double": getattr(a, "double", False), "dueling": n.head == "dueling",
        f"{getattr(a, 'n_steps', 1)} steps": getattr(a, "n_steps", 1) > 1, "noisy": n.noise,
        "augmented": getattr(a, "augments", False), "data-efficient": n.torso == "data-efficient",
        f"IMPALA x{n.width}": n.torso == "impala", f"small IMPALA x{n.width}": n.torso == "impala-small",
        "spectral norm": n.spectral_norm, "layer norm": n.layer_norm,
        "standardised pixels": n.standardise,
        f"{n.memory.upper()} {n.memory_size}": n.memory != "none",
        f"target mean of {x.target_tau:g}": x.target_tau < 1, "target acts": x.target_acts,
        f"resets to {x.reset.keep:g}": x.reset.period, "RND": x.bonus.weight,
        "priorities": x.replay and x.replay.priority_exponent, "rollout": x.rollout,
        f"{type(x.optimiser).__name__} {x.optimiser.learning_rate:g}": True,
    }  # fmt: skip
    return [name for name, there in found.items() if there]


def begun(path: Path) -> str:
    """When a run was begun, as text that sorts; empty where its config.json cannot be read."""
    try:
        return str(read_record(path).config.get("created", ""))
    except RunError:
        return ""


def runs(root: Path, last: int, room: int | None = None) -> Table:
    """Every run below a folder, or the `last` that were begun, a suite's too, and how far it came; a damaged one says
    so.

    Args:
        room: characters of a line that a narrow terminal has; None: as many as it takes.

    Raises:
        RunError: there is no such folder, or no run in it.
    """
    if not root.is_dir():
        raise RunError(
            f"there is no folder {root}; highscore list runs FOLDER names another; highscore demo makes a first run"
        )
    found = find_runs([root])
    rows = []
    for path in sorted(found, key=begun)[-last:] if last else found:
        name = str(path.relative_to(root)) if path != root else path.name
        try:
            rows.append({"run": name} | about(path))
        except RunError:
            rows.append({"run": name, "status": "damaged"})
    widths = {key: max(len(key), *(len(row.get(key, "")) for row in rows)) for key in COLUMNS}
    shown, left_out = list(COLUMNS), []
    for key in FIRST_OUT:
        if room is not None and sum(widths[one] for one in shown) + 2 * len(shown) - 1 > room:
            shown.remove(key)
            left_out.append(key)
    table = Table(title=f"Runs in {root}", title_justify="left", box=None, pad_edge=False)
    for key in shown:
        table.add_column(key, no_wrap=True)
    for row in rows:
        table.add_row(*(row.get(key, "") for key in shown))
    if left_out:
        table.caption = f"a wider terminal shows {', '.join(left_out)}, too"
    return table


def about(path: Path) -> dict[str, str]:
    """A run's line in the list of runs: its evaluation is that which `highscore compare` takes of it.

    Raises:
        RunError: it is damaged.
    """
    read_record(path)  # which refuses numbers that are none of ours
    x, summary = Run.open(path).experiment, summary_of(path)
    newest = [one for one in [summary.get("evaluation")] if isinstance(one, dict)]
    evaluation = next(iter(measured(path) or newest), {})
    mean, training = finite(evaluation.get("mean")), finite(summary.get("training_score"))
    return {
        "status": status(path), "frames": f"{brief(frames_played(path, summary))} of {brief(x.frames)}",
        "training": "" if training is None else f"{training:.1f}",
        "evaluation": "" if mean is None else f"{mean:.1f}",
        "episodes": "" if mean is None else str(evaluation.get("episodes", "")),
        "protocol": x.protocol if mean is None else str(evaluation.get("protocol", x.protocol)),
    }  # fmt: skip


def episodes(path: Path, last: int) -> Table:
    """The latest training episodes of a run, its best one, how many each evaluation recorded, and those of people."""
    run = Run.open(path)
    rows = training_episodes(run.path)
    best = max(rows, key=lambda row: row["score"], default=None)
    table = Table(title=f"{len(rows):_} recorded training episodes of {path}", title_justify="left")
    for column in ("episode", "frames", "agent steps", "score"):
        table.add_column(column, no_wrap=True)
    table.caption = f"watch one: highscore watch {path} --episode 1"
    for row in rows[-(last or 20) :]:
        table.add_row(str(row["episode"]), f"{row['frames']:_}", f"{row['steps']:_}", f"{row['score']:.10g}")
    for row in [best] if best else []:
        table.add_section()
        table.add_row(f"{row['episode']} (best)", f"{row['frames']:_}", f"{row['steps']:_}", f"{row['score']:.10g}")
    for result in sorted(evaluations(run.path), key=lambda result: result["name"]):
        kept = result.get("recordings")
        count = len(kept) if isinstance(kept, list) else 0
        table.add_row(f"{result['name']}/1 to /{count}", f"{result['frames']:_}", "", f"mean {result['mean']:.1f}")
    for number, row in enumerate(people_episodes(run.path), 1):
        table.add_row(f"{PEOPLE}/{number}", "", f"{row['steps']:_}", f"{row['score']:.10g}")
    return table


def published() -> Table:
    """Agents whose published scores `compare --published` shows, and how they were measured."""
    table = Table(title='highscore compare RUNS --published "AGENT" "AGENT"', title_justify="left", show_lines=True)
    table.add_column("agents", ratio=3)
    table.add_column("measured", ratio=2)
    alike: dict[str, list[str]] = {}
    for name, agent in published_agents().items():
        alike.setdefault(f"{trained_for(agent)}: {agent.protocol}", []).append(name)
    for how, names in alike.items():
        table.add_row("\n".join(names), how)
    return table


def main(args: list[str]) -> int:
    """Runs the command; returns its exit status."""
    from experiments.cli import parse

    options = parse(Listing, args)
    if options.last < 0:
        raise ValueError(f"--last must be at least 0, got {options.last}")
    if options.what in ("games", "presets", "published") and (more := options.folder or options.last):
        raise ValueError(f"{options.what} are listed whole: leave out {more if options.folder else f'--last {more}'}")
    if options.folder is not None and options.what == "runs" and options.runs != Listing.runs:
        raise ValueError(f"the runs in {options.folder}, or in --runs {options.runs}? name one folder")
    console = Console()
    tables: dict[str, Callable[[], Iterable[Table]]] = {
        "games": games, "presets": lambda: presets(options.measure, console),
        "runs": lambda: [
            runs(options.folder or options.runs, options.last, console.width if console.is_terminal else None)
        ],
        "published": lambda: [published()], "episodes": lambda: [episodes(options.folder or Path(), options.last)],
    }  # fmt: skip
    if options.what == "episodes" and options.folder is None:
        raise ValueError("of which run? highscore list episodes RUN; `highscore list runs` shows them")
    for table in tables[options.what]():
        # Other commands want names whole, and so does whoever reads this from a pipe: the terminal breaks the lines.
        named, room = options.what in ("runs", "episodes"), console.options.update(max_width=10_000)
        wide = Console(width=max(console.width, console.measure(table, options=room).maximum)) if named else console
        wide.print(table)
    return 0
