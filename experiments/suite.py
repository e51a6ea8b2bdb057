"""highscore suite: many trainings, side by side, that can be stopped and continued at any time."""

import dataclasses
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple

import tyro
from rich.console import Console
from rich.table import Table
from rich.text import Text

from experiments.matrix import Cell, Spec, cells, make_spec, read_spec, recipes, words
from experiments.records import summary
from experiments.scheduler import Launch, Listed, Room, Scheduler, check_fit
from experiments.suite_board import Board, say_the_end
from experiments.suite_checks import check_agents, check_alike, check_cells, check_folder, players_of
from experiments.suite_record import remember, threads_of, unfinished


@dataclass(frozen=True)
class Suite:
    """Runs a matrix of agents, games, seeds and settings; the same command goes on with what was interrupted."""

    what: Annotated[str, tyro.conf.Positional]
    """a recipe by name (`highscore suite list` shows them), or a TOML, YAML or Python file"""
    agents: tuple[str, ...] = ()
    """instead of the file's: presets, such as dqn,rainbow, or the file's variants of them"""
    games: tuple[str, ...] = ()
    """instead of the file's: games such as Pong,Breakout, or atari57, atari100k, atari5, dev"""
    seeds: tuple[str, ...] = ()
    """instead of the file's: such as 0-4 or 0,1,2"""
    set: tuple[str, ...] = ()
    """flags of `highscore train` for all runs: frames=2M evaluation.episodes=10"""
    grid: tuple[str, ...] = ()
    """every combination of these: algorithm.n-steps=1,3,5 network.head=linear,dueling"""
    jobs: int = 1
    """trainings at once, as far as memory allows; several GPUs share them"""
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
            data[name] = ",".join(getattr(options, name))
    for name, given in (("settings", options.set), ("grid", options.grid)):
        pairs = [text.partition("=") for text in given]
        if bad := [text for text, (_, sign, value) in zip(given, pairs, strict=True) if not sign or not value]:
            raise ValueError(f"{bad[0]!r}: a flag of `highscore train` and its value, such as algorithm.n-steps=3")
        own = {key.lstrip("-"): words(value) if name == "grid" else value for key, _, value in pairs}
        data[name] = {**data.get(name, {}), **own}
    return make_spec(data)


def of_threads(count: int) -> str:
    """How many threads, for people."""
    return "all threads" if not count else f"{count} thread{'s' * (count > 1)}"


def share_of_threads(jobs: int, beside: int = 0) -> int:
    """Threads of each of so many trainings at once, with so many players beside each; 0 for as many as torch likes."""
    from experiments.limits import cores

    return 0 if jobs == 1 else max(1, cores() // jobs - beside)


class Plan(NamedTuple):
    """A suite that nothing speaks against."""

    spec: Spec
    cells: list[Cell]  # its runs; of a search, as many as every trial has
    folder: Path
    memory_of: Callable[[Cell], Room]  # what a run takes
    memory: Room  # what all of them may take together, and those on one GPU
    gpus: dict[str, int]  # as a Launch has it
    start: Callable[..., Any] | None  # as a Launch has it
    device: str  # --device of each run
    threads: int  # of each, if the suite begins now
    where: str  # for people; empty: here


def plan(options: Suite) -> Plan:
    """What a suite is to do; nothing is written, and no training started.

    Raises:
        ValueError: it cannot work, or its folder is another's.
    """
    import torch

    from experiments.build import device_of
    from experiments.limits import TAKEN, available_memory, gpu_memory
    from experiments.search import check_games, check_search, extremes, import_optuna
    from experiments.wandb_mirror import check_project

    spec = spec_of(options)
    if options.jobs < 1:
        raise ValueError(f"--jobs must be at least 1, got {options.jobs}")
    if options.wandb != "off":
        check_project(options.wandb_project)
    if options.search < 0 or (options.search and not spec.search):
        raise ValueError("--search N needs a [search] table in the suite's file, and N of at least 1")
    if spec.search and not options.search:
        raise ValueError(f"{options.what} is a search: say how many trials it may make, such as --search 30")
    if not options.search and (options.objective, options.sampler) != ("mean", "tpe"):
        raise ValueError(
            "--objective and --sampler are a search's: say how many trials it may make, such as --search 30"
        )
    if options.search:
        import_optuna()
        check_games(spec.games)
        spec = dataclasses.replace(spec, grid={})
    check_agents(spec)
    planned = cells(spec)
    if not options.mixed:
        check_alike(planned)
    # A cluster's machines have GPUs for those who ask for one, which this machine may not have.
    found = gpu_memory() if options.device != "cpu" and not options.ray else {}
    if len(found) > 1 and any(found.values()):  # of several, planned for that with the most room
        device = torch.device("cuda", [*found.values()].index(max(found.values())))
    else:
        device = device_of(options.device) if not options.ray else torch.device(options.device.replace("auto", "cpu"))
    drawn = extremes(spec) if options.search else []
    folder = options.runs / (options.name or Path(options.what).stem)
    left = [cell for cell in planned if summary(folder / cell.name).get("finished") is not True]
    needed = check_cells([*left, *drawn], device, here=not options.ray)
    largest = Room(*map(max, zip(Room(0), *needed.values(), strict=True)))
    start, shared = None, dict[str, int]()
    beside, away = (max(players_of(cell, kind) for cell in planned) for kind in ("local", "ray"))
    at_once = min(options.jobs, len(planned) * max(options.search, 1))
    threads, where = share_of_threads(at_once, beside), ""
    if options.ray:
        from experiments.distributed.runner import cluster_at, threads_on

        gpus = float(device.type == "cuda")
        cluster = cluster_at(options.ray, lambda name: needed.get(name, largest).host, gpus, beside)
        start, room = cluster.start, Room(cluster.memory, largest.gpu)  # whether its GPU has room, a run sees itself
        threads = threads_on(cluster.cpus, at_once, beside, away)
        where = f"on the Ray cluster at {cluster.address}, whose machines have {', '.join(map(str, cluster.cpus))} CPUs"
    else:
        free = {name: int(TAKEN * size) for name, size in found.items() if size} if device.type == "cuda" else {}
        shared = free if len(found) > 1 else {}
        room = Room(int(TAKEN * available_memory(torch.device("cpu"))), max(free.values(), default=0))
    memory_of = lambda cell: needed.get(cell.name, largest)
    check_fit([*left, *drawn], memory_of, room)
    check_folder(folder, planned)
    if options.search:
        check_search(folder, spec, options.objective)
    if options.ray:
        room = Room(*(options.jobs * x for x in room))  # Ray itself looks for a machine that has room
    # Ray shows an actor that asks for no GPU those of its machine all the same.
    kind = device.type if options.ray else options.device
    return Plan(spec, planned, folder, memory_of, room, shared, start, kind, threads, where)


def launch_of(options: Suite, planned: Plan, threads: int) -> Launch:
    """How the runs of a suite are started."""

    def filed(cell: Cell) -> list[str]:
        """Where Weights & Biases files a run, and where it is played, both of which it remembers itself."""
        project, folder = ["--wandb-project", options.wandb_project], planned.folder.name
        if planned.memory.gpu and planned.device == "auto":  # a run that finds its GPU taken waits, and is on no CPU
            project += ["--device", "cuda"]
        if options.wandb == "off":
            return project
        return [*project, "--wandb-group", f"{folder}/{cell.group}", "--wandb-tags", folder]

    common = ["--wandb", options.wandb]
    if planned.device != "auto":  # which is train's own default; resume goes on where the run was begun
        common += ["--device", planned.device]
    return Launch(planned.folder, tuple(common), filed, threads, planned.start, planned.gpus)


def run_suite(options: Suite, console: Console) -> int:
    """Runs a suite to its end, or until stopped; returns the exit status: 1 if a run failed, or others stopped it.

    Raises:
        ValueError: a suite that cannot work, or a search that another process is at; nothing was started.
    """
    from experiments.search import alone

    planned = plan(options)
    planned.folder.mkdir(parents=True, exist_ok=True)
    with alone(planned.folder) if options.search else nullcontext():
        return work_off(options, planned, console)


def work_off(options: Suite, planned: Plan, console: Console) -> int:
    """Runs what was planned, and says what came of it; as `run_suite`."""
    from experiments.search import Trials, best_trials

    spec, folder, search = planned.spec, planned.folder, options.search
    threads = threads_of(folder, planned.threads)
    facts = {"what": options.what, "threads": threads, **dataclasses.asdict(spec)}
    remember(folder, facts | ({"objective": options.objective} if search else {}))
    trials = Trials(spec, folder, search, options.objective, options.sampler) if search else None
    total = len(planned.cells) * (max(search, len(trials.study.trials)) if trials else 1)
    work: Any = trials or Listed([*planned.cells])
    board = Board(console, total)

    def say(text: str) -> None:
        console.print(Text(text), highlight=False, soft_wrap=True)

    launch = launch_of(options, planned, threads)
    scheduler = Scheduler(launch, options.jobs, planned.memory_of, planned.memory, say)
    if trials:  # whose trials of earlier are not handed out again, as the runs of a matrix are
        scheduler.done |= {path.name for path in folder.iterdir() if summary(path).get("finished") is True}
    if threads != (now := planned.threads):
        say(
            f"{folder} was begun with {of_threads(threads)} for each training and keeps to that, or its runs would not"
            f" go on bit for bit; --jobs {options.jobs} would give each {of_threads(now)}. The --jobs that it was begun"
            " with, or another --name, is faster"
        )
    if planned.where:
        say(planned.where)
    say(
        f"{folder}: {total} runs, at most {options.jobs} at once, each with {of_threads(threads)}, on which its results"
        f" depend: a later --jobs cannot change that; watch them: highscore dashboard --runs {options.runs}"
    )
    with board.live:
        scheduler.run(work, board.show)
    if trials:
        best_trials(trials, say)
    others = [] if trials else unfinished(folder, planned.cells)
    return say_the_end(scheduler, folder, total, say, bool(trials), others)


def show_recipes(console: Console) -> int:
    """Lists the suites that come with this one."""
    import tomllib

    table = Table("suite", "what it is", title="highscore suite NAME", title_justify="left")
    for name, content in recipes().items():
        first = next((line for line in content.splitlines() if line.startswith("#")), "").lstrip("# ")
        data = make_spec(tomllib.loads(content))
        runs = f"{len(cells(data))} runs" + " a trial" * bool(data.search)
        table.add_row(name, Text(f"{first} ({runs})"))
    console.print(table)
    return 0


def main(args: list[str]) -> int:
    """Runs the command; returns its exit status."""
    from experiments.cli import parse
    from experiments.log import terminal

    options, console = parse(Suite, args), terminal()
    return show_recipes(console) if options.what == "list" else run_suite(options, console)
