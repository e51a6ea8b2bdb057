"""highscore suite: many trainings, side by side, that can be stopped and continued at any time."""

import dataclasses
import json
import os
import sys
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Annotated, Any, Literal

import tyro
from rich.console import Console
from rich.table import Table
from rich.text import Text

from experiments.files import RunError, read_json, write_json
from experiments.matrix import Cell, Spec, cells, make_spec, read_spec, recipes, words
from experiments.scheduler import Launch, Listed, Scheduler, check_fit
from experiments.suite_board import Board

BASE_MEMORY = 900_000_000  # bytes of a training besides its replay: torch, emulators, evaluation


@dataclass(frozen=True)
class Suite:
    """Runs a matrix of agents, games, seeds and settings; the same command goes on with what was interrupted."""

    what: Annotated[str, tyro.conf.Positional]
    """a recipe by name (`highscore suite list` shows them), or a TOML, YAML or Python file"""
    agents: str = ""
    """instead of the file's: presets, such as dqn,rainbow"""
    games: str = ""
    """instead of the file's: games such as Pong,Breakout, or atari57, atari100k, atari5, dev"""
    seeds: str = ""
    """instead of the file's: such as 0-4 or 0,1,2"""
    set: tuple[str, ...] = ()
    """flags of `highscore train` for all runs: frames=2M evaluation.episodes=10"""
    grid: tuple[str, ...] = ()
    """every combination of these: algorithm.n-steps=1,3,5 network.head=linear,dueling"""
    jobs: int = 1
    """trainings at once, as far as memory allows"""
    search: int = 0
    """draw so many settings from the file's [search] instead of trying a grid"""
    objective: Literal["mean", "median"] = "mean"
    """what a search maximises: an evaluation's mean or median, human-normalised if there are several games"""
    sampler: Literal["tpe", "random"] = "tpe"
    """how a search draws: Optuna's tree-structured Parzen estimator, or at random"""
    runs: Path = Path("runs")
    """where the suite's folder is made"""
    name: str = ""
    """of the suite's folder; empty: the recipe's or file's name"""
    mixed: bool = False
    """let agents be evaluated in different ways, whose scores cannot be compared"""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """auto takes a GPU if there is one"""
    ray: str = ""
    """address of a Ray cluster to run them on, such as auto or host:6379; its machines must share the folder --runs"""
    wandb: Literal["auto", "online", "offline", "off"] = "off"
    """Weights & Biases: one group per cell, its seeds inside"""
    wandb_project: str = "highscore"
    """where Weights & Biases files the runs"""


def spec_of(options: Suite) -> Spec:
    """The file's suite, with what the command line says instead.

    Raises:
        ValueError: something makes no sense; names it.
    """
    data = read_spec(options.what)
    for name in ("agents", "games", "seeds"):
        if getattr(options, name):
            data[name] = getattr(options, name)
    for name, given in (("settings", options.set), ("grid", options.grid)):
        pairs = [text.partition("=") for text in given]
        if bad := [text for text, (_, sign, value) in zip(given, pairs, strict=True) if not sign or not value]:
            raise ValueError(f"{bad[0]!r}: a flag of `highscore train` and its value, such as algorithm.n-steps=3")
        own = {key.lstrip("-"): words(value) if name == "grid" else value for key, _, value in pairs}
        data[name] = {**data.get(name, {}), **own}
    return make_spec(data)


@cache
def _parsed(preset: str, settings: tuple[tuple[str, Any], ...]) -> Any:
    from experiments.cli import parse_train

    return parse_train([preset, *(word for key, value in settings for word in (f"--{key}", str(value)))]).experiment


def experiment_of(cell: Cell) -> Any:
    """The experiment of a run; what differs only in game and seed is parsed once."""
    return dataclasses.replace(_parsed(cell.preset, tuple(cell.settings.items())), game=cell.game, seed=cell.seed)


def check_cells(planned: list[Cell], device_name: str) -> dict[str, int]:
    """Tries every kind of run that is planned, without training; returns the bytes that each run takes.

    Raises:
        ValueError: settings that cannot work; nothing was started.
    """
    from experiments.build import check, device_of, make_games, replay_bytes

    device, needed, tried = device_of(device_name), {}, set()
    for cell in planned:
        experiment = experiment_of(cell)
        check(experiment, device)
        if (experiment.game, experiment.protocol) not in tried:
            tried.add((experiment.game, experiment.protocol))
            make_games(experiment, 1, device).close()
        needed[cell.name] = BASE_MEMORY + (replay_bytes(experiment, device) if experiment.replay else 0)
    return needed


def check_alike(planned: list[Cell]) -> None:
    """Refuses, before days are spent, scores that `highscore compare` would refuse to put side by side.

    Raises:
        ValueError: on some game two agents would be evaluated differently; names the flags that make them alike.
    """
    first: dict[str, tuple[Cell, dict[str, Any]]] = {}
    for cell in planned:
        x = experiment_of(cell)
        how = {
            "protocol": x.protocol, "evaluation.episodes": x.evaluation.episodes,
            "evaluation.epsilon": x.evaluation.epsilon,
        }  # fmt: skip
        other, wanted = first.setdefault(cell.game, (cell, how))
        if unlike := {key: value for key, value in wanted.items() if value != how[key]}:
            raise ValueError(
                f"{other.group} and {cell.group} would not be evaluated alike, and their scores could not be compared:"
                f" add --set {' '.join(f'{key}={value}' for key, value in unlike.items())}, or --mixed True"
            )


def check_folder(folder: Path, planned: list[Cell]) -> None:
    """Refuses to mix two suites in one folder.

    Raises:
        RunError: a run that was begun with other settings.
    """
    from experiments.run import Run

    for cell in planned:
        if (folder / cell.name / "config.json").exists():
            if Run.open(folder / cell.name).experiment != experiment_of(cell):
                raise RunError(f"{folder / cell.name} was begun with other settings; choose another --name")


def check_search(folder: Path, spec: Spec, objective: str) -> None:
    """Refuses to rank trials of two searches together.

    Raises:
        RunError: the search in this folder was begun otherwise.
    """
    if not (folder / "suite.json").exists():
        return
    begun = read_json(folder / "suite.json")
    now = json.loads(json.dumps(dataclasses.asdict(spec) | {"objective": objective}))
    if unlike := [name for name, value in now.items() if name in begun and begun[name] != value]:
        raise RunError(f"the search in {folder} was begun with other {' and '.join(unlike)}; choose another --name")


def threads_of(folder: Path, jobs: int) -> int:
    """Threads of each training, decided once: another number would change the last digits of a continued run."""
    path = folder / "suite.json"
    if path.exists():
        return int(read_json(path)["threads"])
    return share_of_threads(jobs)


def of_threads(count: int) -> str:
    """How many threads, for people."""
    return "all threads" if not count else f"{count} thread{'s' * (count > 1)}"


def share_of_threads(jobs: int) -> int:
    """Threads of each of so many trainings at once; 0 for as many as torch likes."""
    return 0 if jobs == 1 else max(1, (os.cpu_count() or 1) // jobs)


def run_suite(options: Suite, console: Console) -> int:
    """Runs a suite to its end, or until stopped; returns the exit status: 1 if a run failed, or others stopped it.

    Raises:
        ValueError: a suite that cannot work; nothing was started.
    """
    from experiments.build import available_memory, device_of
    from experiments.search import Trials, best_trials, import_optuna

    spec = spec_of(options)
    if options.jobs < 1:
        raise ValueError(f"--jobs must be at least 1, got {options.jobs}")
    if options.search < 0 or (options.search and not spec.search):
        raise ValueError("--search N needs a [search] table in the suite's file, and N of at least 1")
    if spec.search and not options.search:
        raise ValueError(f"{options.what} is a search: say how many trials it may make, such as --search 30")
    if options.search:
        import_optuna()
        spec = dataclasses.replace(spec, grid={})
    planned = cells(spec)
    if not options.mixed:
        check_alike(planned)
    needed = check_cells(planned, options.device)
    largest, start = max(needed.values()), None
    memory = int(0.9 * available_memory(device_of("cpu")))
    if options.ray:
        from experiments.distributed.runner import starter

        gpus = 1.0 if options.device == "cuda" else 0.0
        start, memory = starter(options.ray, lambda name: needed.get(name, largest), gpus)
    check_fit(planned, lambda cell: needed.get(cell.name, largest), memory)
    folder = options.runs / (options.name or Path(options.what).stem)
    check_folder(folder, planned)
    if options.search:
        check_search(folder, spec, options.objective)
    folder.mkdir(parents=True, exist_ok=True)
    threads = threads_of(folder, options.jobs)
    facts = {"what": options.what, "threads": threads, **dataclasses.asdict(spec)}
    write_json(folder / "suite.json", facts | ({"objective": options.objective} if options.search else {}))

    def wandb_group(cell: Cell) -> list[str]:
        if options.wandb == "off":
            return []
        return ["--wandb-group", f"{folder.name}/{cell.group}", "--wandb-tags", folder.name]

    common = ("--wandb", options.wandb, "--wandb-project", options.wandb_project)
    launch = Launch(folder, common, lambda cell: ["--device", options.device, *wandb_group(cell)], threads, start)
    work: Any = Listed(planned)
    total = len(planned)
    if options.search:
        work = Trials(spec, folder, options.search, options.objective, options.sampler)
        total = options.search * len(planned)
    board = Board(console, total)

    def say(text: str) -> None:
        console.print(Text(text), highlight=False, soft_wrap=True)

    if options.ray:
        memory *= options.jobs  # Ray itself looks for a machine that has room
    scheduler = Scheduler(launch, options.jobs, lambda cell: needed.get(cell.name, largest), memory, say)
    if threads != (now := share_of_threads(options.jobs)):
        say(
            f"{folder} was begun with {of_threads(threads)} for each training and keeps to that, or its runs would not"
            f" go on bit for bit; --jobs {options.jobs} would give each {of_threads(now)}. The --jobs that it was begun"
            " with, or another --name, is faster"
        )
    say(
        f"{folder}: {total} runs, at most {options.jobs} at once; watch them: highscore dashboard --runs {options.runs}"
    )
    with board.live:
        scheduler.run(work, board.show)
    if options.search:
        best_trials(work, say)
    return say_the_end(scheduler, folder, total, say, pruned=bool(options.search))


def say_the_end(scheduler: Scheduler, folder: Path, total: int, say: Any, pruned: bool = False) -> int:
    """Says what came of a suite, and what to do next; returns the exit status.

    Args:
        pruned: whether runs are stopped because they are hopeless.
    """
    say(f"{scheduler.done} of {total} finished, {len(scheduler.failed)} failed")
    stopped = [] if pruned or scheduler.stopping else sorted(scheduler.stopped)
    if stopped:
        say(f"  stopped by others: {', '.join(stopped)}; the same command goes on with them")
    for name, why in scheduler.failed.items():
        say(f"  {name}: {why}   (all of it: {folder / 'logs' / name}.log)")
    if scheduler.stopping:
        say(f"Stopped and saved. The same command goes on with it; its runs are in {folder}")
        return 128 + scheduler.stopping
    if scheduler.done:
        say(f"Next: highscore compare {folder}   or   highscore report {folder}")
    return 1 if scheduler.failed or stopped else 0


def show_recipes(console: Console) -> int:
    """Lists the suites that come with this one."""
    import tomllib

    table = Table("suite", "what it is", title="highscore suite NAME", title_justify="left")
    for name, content in recipes().items():
        first = next((line for line in content.splitlines() if line.startswith("#")), "").lstrip("# ")
        data = make_spec(tomllib.loads(content))
        size = len(data.agents) * len(data.games) * len(data.seeds)
        table.add_row(name, Text(f"{first} ({size} runs)"))
    console.print(table)
    return 0


def main(args: list[str]) -> int:
    """Runs the command; returns its exit status."""
    from experiments.cli import parse

    options, console = parse(Suite, args), Console()
    return show_recipes(console) if options.what == "list" else run_suite(options, console)


if __name__ == "__main__":
    from experiments.cli import run_command

    sys.exit(run_command("suite", sys.argv[1:]))
