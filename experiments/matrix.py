"""A suite as a file: agents x games x seeds x settings, and the runs that it stands for.

    agents = ["dqn", "rainbow", "no-double"] # presets, and variants of them
    games = ["Pong", "Breakout"]             # or "atari57", "atari100k", "atari5", "dev"
    seeds = "0-4"
    [settings]                               # of all runs: any flag of `highscore train PRESET`
    frames = "10M"
    [variants.no-double]                     # a preset with settings of its own
    preset = "rainbow"
    "algorithm.double" = false
    [grid]                                   # every combination
    "algorithm.n-steps" = [1, 3, 5]
    [search]                                 # with --search: what is drawn
    "optimiser.learning-rate" = { low = 1e-5, high = 1e-3, log = true }

TOML, YAML, or a Python file that sets these names.
"""

import itertools
import re
import runpy
import tomllib
from collections import Counter
from dataclasses import dataclass, field, fields
from importlib import resources
from pathlib import Path
from typing import Any, NamedTuple

from envs.scores import baselines
from experiments.files import in_a_name
from experiments.published import ATARI5

ATARI100K = (
    "Alien Amidar Assault Asterix BankHeist BattleZone Boxing Breakout ChopperCommand CrazyClimber DemonAttack Freeway"
    " Frostbite Gopher Hero Jamesbond Kangaroo Krull KungFuMaster MsPacman Pong PrivateEye Qbert RoadRunner Seaquest"
    " UpNDown"
)  # Kaiser et al. 2020
GAMES = {
    "atari57": lambda: sorted(baselines()), "atari100k": ATARI100K.split, "atari5": lambda: sorted(ATARI5),
    "dev": lambda: ["Breakout", "Pong", "Seaquest", "SpaceInvaders"],
}  # fmt: skip
MOST = 10_000  # runs of one suite
GIVEN = {
    "game": 'games = ["Pong"] above all tables, or --games Pong',
    "seed": 'seeds = "0-4" above all tables, or --seeds 0-4',
    "variant": "[variants.NAME], with a preset and settings of its own", "runs": "--runs FOLDER", "name": "--name NAME",
    "device": "--device cpu", "wandb": "--wandb auto", "wandb-project": "--wandb-project NAME",
}  # fmt: skip
"""What a suite gives every run itself, of the flags of `highscore train`, and where to say it instead."""


@dataclass(frozen=True)
class Spec:
    """What a suite's file says."""

    agents: list[str]
    games: list[str]
    seeds: list[int]
    settings: dict[str, Any] = field(default_factory=dict)
    variants: dict[str, dict[str, Any]] = field(default_factory=dict)
    grid: dict[str, list[Any]] = field(default_factory=dict)
    search: dict[str, dict[str, Any]] = field(default_factory=dict)


class Cell(NamedTuple):
    """One run of a suite."""

    name: str  # of its run directory
    group: str  # what it shares with its other seeds
    preset: str
    game: str
    seed: int
    settings: dict[str, Any]  # flag without dashes: value

    @property
    def arguments(self) -> list[str]:
        """What follows `highscore train`."""
        flags = [word for key, value in self.settings.items() for word in (f"--{key}", str(value))]
        return [self.preset, "--game", self.game, "--seed", str(self.seed), *flags]


def recipes() -> dict[str, str]:
    """The suites that come with this one: name and content."""
    folder = resources.files("experiments").joinpath("recipes")
    return {
        p.name.removesuffix(".toml"): p.read_text("utf-8") for p in sorted(folder.iterdir(), key=lambda p: p.name)
        if p.name.endswith(".toml")
    }  # fmt: skip


def read_spec(what: str) -> dict[str, Any]:
    """A suite by the name of a recipe or by its file, as the file says it.

    Raises:
        ValueError: there is none, or it cannot be read.
    """
    if what in recipes():
        return tomllib.loads(recipes()[what])
    path = Path(what)
    if not path.is_file():
        raise ValueError(f"there is no suite called {what!r}, nor such a file; there are {', '.join(recipes())}")
    try:
        if path.suffix == ".py":
            return {key: value for key, value in runpy.run_path(what).items() if key in {f.name for f in fields(Spec)}}
        if path.suffix in (".yaml", ".yml"):
            import yaml

            found = yaml.safe_load(path.read_text("utf-8"))
            if not isinstance(found, dict):
                raise ValueError("it has no names")
            return found
        return tomllib.loads(path.read_text("utf-8"))
    except Exception as error:  # a user's file, and if it is Python, anything may happen in it
        raise ValueError(f"{what} cannot be read as a suite: {error}") from None


def make_spec(data: dict[str, Any]) -> Spec:
    """What a file said, with names resolved.

    Raises:
        ValueError: something is missing or makes no sense; names it.
    """
    known = {f.name for f in fields(Spec)}
    if unknown := data.keys() - known:
        raise ValueError(f"a suite has no {', '.join(sorted(unknown))}; it has {', '.join(sorted(known))}")
    for name in ("agents", "games"):
        if not data.get(name):
            raise ValueError(f"this suite names no {name}: give --{name} or put them in its file")
    games = data["games"]
    if isinstance(games, str):
        games = GAMES[games]() if games in GAMES else words(games)
    agents = words(data["agents"]) if isinstance(data["agents"], str) else data["agents"]
    settings, grid = tables(data, "settings"), tables(data, "grid")
    search = tables(data, "search", leaves=("low", "choices"))
    variants = variants_of(data.get("variants", {}))
    named = {f"variants.{name}": table for name, table in variants.items()}
    for name, table in {"settings": settings, "grid": grid, "search": search, **named}.items():
        if given := [key for key in table if key in GIVEN]:
            raise ValueError(f"[{name}] {given[0]}: a suite gives it to every run itself; write {GIVEN[given[0]]}")
    return Spec(
        list(agents), list(games), parse_seeds(data.get("seeds", "0-2")), settings, variants,
        {key: value if isinstance(value, list) else words(str(value)) for key, value in grid.items()},
        {key: space_of(key, value) for key, value in search.items()},
    )  # fmt: skip


def variants_of(given: Any) -> dict[str, dict[str, Any]]:
    """Flags and values of each variant, its preset among them.

    Raises:
        ValueError: one without a preset.
    """
    if not isinstance(given, dict):
        raise ValueError("variants is a table of tables: [variants.NAME], a preset, and flags with their values")
    found = {str(name): tables(given, name) for name in given}
    for name, table in found.items():
        if not isinstance(table.get("preset"), str):
            raise ValueError(f'[variants.{name}] does not say of which preset it is one, such as preset = "rainbow"')
    return found


def words(text: str) -> list[str]:
    """Names between commas."""
    return [word.strip() for word in text.split(",") if word.strip()]


def tables(data: dict[str, Any], name: str, leaves: tuple[str, ...] = ()) -> dict[str, Any]:
    """A table of the file with dotted keys, however they were nested."""

    def walk(value: Any, prefix: str) -> dict[str, Any]:
        if not isinstance(value, dict) or any(leaf in value for leaf in leaves):
            return {prefix: value}
        found: dict[str, Any] = {}
        for key, inner in value.items():
            found |= walk(inner, f"{prefix}.{key}" if prefix else str(key).replace("_", "-"))
        return found

    given = data.get(name, {})
    if not isinstance(given, dict):
        raise ValueError(f"{name} is a table of flags and values")
    return walk(given, "") if given else {}


def space_of(key: str, value: Any) -> dict[str, Any]:
    """What a search draws a setting from: a list of choices, or low and high.

    Raises:
        ValueError: it is neither.
    """
    if isinstance(value, list) and value:
        return {"choices": value}
    if isinstance(value, dict) and value.get("choices"):
        return value
    if isinstance(value, dict) and {"low", "high"} <= value.keys() <= {"low", "high", "log"}:
        value = value | {end: number(value[end]) for end in ("low", "high")}
        if isinstance(value["low"], int | float) and isinstance(value["high"], int | float):
            if value["low"] < value["high"] and (value["low"] > 0 or not value.get("log")):
                return value
    raise ValueError(f"search {key}: a list of choices, or low < high, and log = true if both are positive")


def number(given: Any) -> Any:
    """A number that YAML takes for text, such as 1e-5, as a number; anything else as it is."""
    try:
        return float(given) if isinstance(given, str) else given
    except ValueError:
        return given


def parse_seeds(given: Any) -> list[int]:
    """Seeds from 0-4, 0,1,2 or a list.

    Raises:
        ValueError: anything else.
    """
    if isinstance(given, int) and not isinstance(given, bool):
        return [given]
    if isinstance(given, str) and re.fullmatch(r"\d{1,9}-\d{1,9}", given):
        first, last = map(int, given.split("-"))
        if first <= last < first + MOST:
            return list(range(first, last + 1))
    parts = words(given) if isinstance(given, str) else given
    if isinstance(parts, list) and parts and all(re.fullmatch(r"\d{1,9}", str(part)) for part in parts):
        return [int(part) for part in parts]
    raise ValueError(f"--seeds {given}: such as 0-4 or 0,1,2")


def cells(spec: Spec) -> list[Cell]:
    """The runs of a suite: seeds last, so that every agent has been on every game early.

    Raises:
        ValueError: too many of them, or two are the same.
    """
    combinations = [dict(zip(spec.grid, values, strict=True)) for values in itertools.product(*spec.grid.values())]
    count = len(spec.seeds) * len(spec.games) * len(spec.agents) * len(combinations)
    if not 0 < count <= MOST:
        raise ValueError(f"this suite has {count:_} runs; from 1 to {MOST:_} are possible")
    found = [
        cell(spec, agent, game, seed, combination)
        for seed in spec.seeds for game in spec.games for agent in spec.agents for combination in combinations
    ]  # fmt: skip
    if twice := [name for name, count in Counter(one.name for one in found).items() if count > 1]:
        raise ValueError(f"{twice[0]} would be run twice: name every agent, game, seed and value once")
    return found


def cell(spec: Spec, agent: str, game: str, seed: int, varied: dict[str, Any], prefix: str = "") -> Cell:
    """One run, named after what makes it another than the rest."""
    label = "".join(f"-{key.split('.')[-1]}{value}" for key, value in varied.items()) if not prefix else ""
    label = re.sub(r"[^\w.+-]", "_", label)
    group = f"{prefix}{agent}{label}/{game}"
    own = {"variant": agent, **spec.variants[agent]} if agent in spec.variants else {"preset": agent}
    settings = {**spec.settings, **own, **varied}
    return Cell(f"{in_a_name(group)}-s{seed}", group, settings.pop("preset"), game, seed, settings)
