"""What a suite is refused for, before anything starts."""

import dataclasses
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from functools import cache
from pathlib import Path
from typing import Any

from experiments.files import RunError
from experiments.matrix import Cell, Spec
from experiments.records import flat
from experiments.scheduler import Room

SHOWN = 3  # settings that a refusal names


@cache
def _parsed(preset: str, game: str, settings: tuple[tuple[str, Any], ...]) -> Any:
    from experiments.cli import parse_train

    flags = (word for key, value in settings for word in (f"--{key}", str(value)))
    try:
        return parse_train([preset, "--game", game, *flags]).experiment
    except SystemExit:  # after a box of lines about a flag
        if variant := dict(settings).get("variant"):
            print(f"highscore suite: variant {variant} is what sets this flag, or [settings]", file=sys.stderr)
        raise


@cache
def _sizes(game: str, protocol: str, stack: int) -> tuple[tuple[int, ...], int]:
    import torch

    from envs.library import game_of

    known = game_of(game)
    with closing(known.make(1, known.protocol(protocol), device=torch.device("cpu"), stack=stack)) as games:
        return games.observation_shape, games.num_actions


@contextmanager
def of_variant(cell: Cell) -> Iterator[None]:
    """While it lasts, what is refused is told to be a variant's, if the run is of one."""
    try:
        yield
    except ValueError as error:
        said = f"variant {cell.settings.get('variant')}: "
        if "variant" in cell.settings and not str(error).startswith(said):
            error.args = (f"{said}{error}",)
        raise


def experiment_of(cell: Cell) -> Any:
    """The experiment of a run, as `highscore train` has it; what differs only in seed and game is parsed once for
    every world, whose games have the same protocols.

    Raises:
        ValueError: there is no such preset or game.
    """
    from envs.library import GAMES, game_of

    world = game_of(cell.game).world
    like = next((game.name for game in GAMES.values() if game.world == world), cell.game)
    with of_variant(cell):
        parsed = _parsed(cell.preset, like, tuple(cell.settings.items()))
    return dataclasses.replace(parsed, game=cell.game, seed=cell.seed)


def players_of(cell: Cell, kind: str) -> int:
    """How many players a run has of one kind, local or ray."""
    experiment = experiment_of(cell)
    return experiment.players if experiment.distributed == kind else 0


def check_cells(planned: list[Cell], device: Any, here: bool = True) -> dict[str, Room]:
    """Tries every kind of run that is planned, without training; returns the memory that each run takes.

    Args:
        device: a torch.device.
        here: whether they shall run on this machine.

    Raises:
        ValueError: settings that cannot work; nothing was started.
    """
    import torch

    from experiments.build import algorithm_of
    from experiments.build_network import build_network
    from experiments.checks import base_memory, check, replay_bytes, replay_device, with_room
    from experiments.distributed.setup import check as check_players
    from experiments.run import Run

    needed, tried, build, on_gpu = {}, set(), cache(build_network), device.type == "cuda"
    for cell in planned:
        with of_variant(cell):
            experiment = experiment_of(cell)
            check(experiment, device, here)
            if experiment.distributed != "none":
                check_players(experiment)
            if (weights := cell.settings.get("weights")) and weights not in tried:
                tried.add(weights)
                Run.open(Path(weights))
            seen = _sizes(experiment.game, experiment.protocol, experiment.stack)
            with torch.device("meta"):  # without its numbers, which take time
                build(experiment.network, *seen, algorithm_of(experiment))
            host, gpu = base_memory(experiment), base_memory(experiment, "cuda") * on_gpu
            if experiment.replay is not None and experiment.distributed != "ray":  # whose shards are elsewhere
                stored = with_room(experiment, device) if here else experiment
                there = replay_device(stored, device).type == "cuda"
                replay = replay_bytes(stored, device)
                host, gpu = host + replay * (not there), gpu + replay * there
            needed[cell.name] = Room(host, gpu)
    return needed


def check_agents(spec: Spec) -> None:
    """Refuses a misspelt agent.

    Raises:
        ValueError: it is neither a preset nor a variant of the suite; names the closest.
    """
    from experiments.presets import PRESETS, closest

    for agent in spec.agents:
        if agent not in PRESETS and agent not in spec.variants:
            raise ValueError(f"there is no agent called {agent!r}; {closest(agent, [*spec.variants, *PRESETS])}")


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
    """Refuses to mix two suites in one folder, or to put one into a run, where no command would find its runs.

    Raises:
        RunError: the folder is a run, or has one that was begun with other settings; names some of them.
    """
    from experiments.config import to_json
    from experiments.run import Run

    if (folder / "config.json").exists():
        raise RunError(f"{folder} is a run, and a suite is a folder of runs; choose another --name")
    for cell in planned:
        if not (folder / cell.name / "config.json").exists():
            continue
        run = Run.open(folder / cell.name)
        begun, now = flat(to_json(run.experiment)), flat(to_json(experiment_of(cell)))
        if isinstance(weights := run.config.get("weights"), dict):
            begun["weights"] = weights.get("run")
        if "weights" in cell.settings:
            now["weights"] = str(Path(cell.settings["weights"]))
        names = [name for name in dict.fromkeys([*now, *begun]) if now.get(name) != begun.get(name)]
        if unlike := [f"{name} {begun.get(name)}, now {now.get(name)}" for name in names if name != "source"]:
            some = "; ".join(unlike[:SHOWN]) + (f"; and {len(unlike) - SHOWN} more" if unlike[SHOWN:] else "")
            raise RunError(f"{folder / cell.name} was begun with other settings ({some}); choose another --name")
