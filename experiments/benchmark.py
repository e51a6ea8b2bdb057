"""highscore benchmark: how fast this machine trains, what bounds it, and how others do."""

import os
import shlex
from contextlib import suppress
from dataclasses import asdict, dataclass
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path
from statistics import median
from typing import Annotated, Any, Literal

import tyro
from rich.console import Console
from rich.table import Table

from envs.extras import how_to_install
from envs.library import game_of
from experiments.distributed import measure as players
from experiments.files import write_json
from experiments.measure import Task, in_a_process_of_its_own
from experiments.options import OptionalPath
from experiments.peers import PEERS
from experiments.presets import preset
from experiments.provenance import provenance


@dataclass(frozen=True)
class Benchmark:
    """Measures how fast presets train on this machine: its limits, the whole training, and where the time goes.

    Everything is measured in processes of their own, one after the other and in turns; medians of the rounds.
    """

    presets: Annotated[tuple[str, ...], tyro.conf.Positional] = ("dqn",)
    """presets to measure"""
    game: str = ""
    """the game that they learn; Pong if none is given, or the preset's own where that is not of Atari"""
    against: tuple[Literal["sb3", "cleanrl"], ...] = ()
    """compare with Stable-Baselines3 (pip install -e '.[peers]' in the clone) or, on a CPU, with single-file agents in
    CleanRL's style: the same network, batches and updates per agent step; with a replay, they play one game at once;
    rainbow's noise is drawn for every weight there, as in CleanRL, and factorised here, as in the paper"""
    rounds: int = 3
    """measurements of each, in turns"""
    seconds: float = 15.0
    """time of one measurement, after a warm-up"""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """auto takes a GPU if there is one"""
    compile: bool = False
    """measure ours compiled by torch, which takes a minute each time; others stay as they are"""
    precision: Literal["float32", "bf16"] = "float32"
    """of the factors of products and convolutions in our learning; others stay in float32"""
    num_envs: int = 0
    """games that ours plays at once where it learns from a replay, at the same replay ratio; 0: as in the preset"""
    distributed: Literal["none", "local"] = "none"
    """local: measure players in processes of their own instead, part by part, and what a model makes of the parts"""
    players: tuple[int, ...] = (1, 2, 4)
    """with --distributed: how many of them, one number after the other"""
    out: OptionalPath = None
    """a JSON file for the figures"""

    def game_for(self, name: str) -> str:
        """The game that a preset learns."""
        own = game_of(preset(name).game)
        return self.game or ("Pong" if own.world == "atari" else own.name)


NOT_WITH_PLAYERS = {
    "against": "only ours is measured", "rounds": "every number of players is measured once",
    "num_envs": "every player has as many games as in the preset",
}  # fmt: skip
"""Settings that are refused with --distributed, and why."""


def measure(name: str, options: Benchmark, console: Console) -> dict[str, Any]:
    """Every round of one preset and its peers: {peer: [measurement of each round]}."""
    others = [peer for peer in dict.fromkeys(options.against) if name in PEERS[peer]]
    peers = ["limits", "highscore", *others]
    found: dict[str, Any] = {peer: [] for peer in peers}
    task = Task(
        "", name, options.game_for(name), options.seconds, options.device, bool(others), options.compile,
        options.precision, options.num_envs,
    )  # fmt: skip
    for turn in range(options.rounds):
        for peer in peers if turn % 2 == 0 else reversed(peers):  # a machine may be faster at first, or slower
            with console.status(f"{name}: {peer}, round {turn + 1} of {options.rounds}"):
                theirs = task._replace(peer=peer)
                found[peer].append(in_a_process_of_its_own("measure", theirs, f"{name} of {peer}"))
    return found


def rates(rounds: list[dict[str, Any]]) -> list[float]:
    """Agent steps per second of each round."""
    return [x["agent_steps_per_second"] for x in rounds]


def summary(found: dict[str, Any]) -> dict[str, Any]:
    """Medians of the rounds, the fraction of the limit, and for each peer the ratio of medians and its spread.

    Where arithmetic was counted, also the model FLOPs utilisation, and the ratio that would be if it were 1.
    """
    ours = rates(found["highscore"])
    result: dict[str, Any] = {
        "agent_steps_per_second": median(ours), "limit": median(rates(found["limits"])),
        "fraction_of_limit": median(ours) / median(rates(found["limits"])),
    }  # fmt: skip
    counted = [x["arithmetic"] for x in found["limits"] if "arithmetic" in x]
    if counted:
        result["arithmetic_limit"] = median(rates(counted))
        result["model_flops_utilisation"] = median(ours) / result["arithmetic_limit"]
    for peer in found.keys() - {"limits", "highscore"}:
        theirs = rates(found[peer])
        turns = [a / b for a, b in zip(ours, theirs, strict=True)]
        result[peer] = {
            "agent_steps_per_second": median(theirs), "ratio": median(ours) / median(theirs),
            "ratio_of_rounds": [min(turns), max(turns)],
        }  # fmt: skip
        if counted:
            result[peer]["ratio_at_most"] = result["arithmetic_limit"] / median(theirs)
    return result


def show(results: dict[str, Any], console: Console) -> None:
    """Prints what was found."""
    table = Table(title="Agent steps per second (in Atari one is 4 emulator frames)", title_justify="left")
    table.caption = "MFU: model FLOPs utilisation, of this machine's speed in products of large matrices"
    table.caption_justify = "left"
    table.add_column("preset", no_wrap=True)
    for column in ("here", "rounds", "of the limit", "MFU", "updates/s", "peak memory"):
        table.add_column(column)
    phases = list(dict.fromkeys(x for r in results.values() for x in r["rounds"]["highscore"][0]["phases"]))
    shares = Table("preset", *phases, title="Where the time goes", title_justify="left")
    for name, result in results.items():
        ours, sums = result["rounds"]["highscore"], result["summary"]
        spread = f"{min(rates(ours)):,.0f} to {max(rates(ours)):,.0f}"
        table.add_row(
            name, f"{sums['agent_steps_per_second']:,.0f}", spread,
            f"{sums['fraction_of_limit']:.0%} of {sums['limit']:,.0f}",
            f"{sums['model_flops_utilisation']:.0%}" if "model_flops_utilisation" in sums else "",
            f"{median(x['updates_per_second'] for x in ours):,.1f}",
            f"{median(x['peak_memory'] for x in ours) / 1e9:.2f} GB",
        )  # fmt: skip
        shares.add_row(name, *(f"{median(x['phases'].get(phase, 0.0) for x in ours):.0%}" for phase in phases))
    console.print(table)
    console.print(shares)
    peers = [(name, peer) for name, x in results.items() for peer in x["rounds"] if peer in PEERS]
    if peers:
        columns = "preset", "peer", "theirs", "ours is faster by", "rounds", "if MFU were 100 %"
        table = Table(*columns, title_justify="left")
        table.title = (
            "Against others, in turns: the same network, batches and updates per agent step;"
            " with a replay, they play one game at a time, and rainbow's noise is each weight's own"
        )
        for name, peer in peers:
            x = results[name]["summary"][peer]
            low, high = x["ratio_of_rounds"]
            most = f"{x['ratio_at_most']:.2f} x" if "ratio_at_most" in x else ""
            table.add_row(name, peer, f"{x['agent_steps_per_second']:,.0f}", f"{x['ratio']:.2f} x",
                          f"{low:.2f} to {high:.2f}", most)  # fmt: skip
        console.print(table)


def main(args: list[str]) -> int:
    """Runs the command; returns its exit status."""
    from experiments.build import device_of
    from experiments.cli import parse

    options = parse(Benchmark, args)
    console = Console()
    for name in options.presets:
        preset(name)  # refused now, not after the others were measured
    if options.rounds < 1 or options.seconds <= 0:
        raise ValueError(f"--rounds and --seconds must be positive, got {options.rounds} and {options.seconds:g}")
    if "sb3" in options.against and find_spec("stable_baselines3") is None:
        raise ValueError("Stable-Baselines3 is not installed: " + how_to_install("peers"))
    if "cleanrl" in options.against and device_of(options.device).type != "cpu":
        raise ValueError("--against cleanrl: the single files run on a CPU: add --device cpu")
    if options.distributed != "none":
        for setting, why in NOT_WITH_PLAYERS.items():
            if getattr(options, setting) != getattr(Benchmark, setting):
                raise ValueError(f"--{setting.replace('_', '-')}: with --distributed {why}")
    elif options.players != Benchmark.players:
        raise ValueError("--players: how many are measured with --distributed local")
    if options.out:
        if options.out.is_dir():
            raise ValueError(f"--out {options.out} is a folder: name a file in it")
        options.out.parent.mkdir(parents=True, exist_ok=True)  # what cannot be written is not measured
    results: dict[str, Any] = {}
    if options.distributed != "none":
        for name in options.presets:
            how = options.seconds, options.device, options.compile, options.precision
            with console.status(f"{name}: {', '.join(map(str, options.players))} players"):
                results[name] = players.measure(players.Task(name, options.game_for(name), *how), options.players)
            players.show(name, results[name], console)
    else:
        for name in options.presets:
            for peer in (peer for peer in options.against if name not in PEERS[peer]):
                known = ", ".join(sorted(PEERS[peer]))
                console.print(f"{name} has no counterpart of {peer}, which has {known}", highlight=False)
            found = measure(name, options, console)
            results[name] = {"summary": summary(found), "rounds": found}
            write(options, args, results)  # what is measured is not lost if the next one fails
        show(results, console)
    write(options, args, results)
    return 0


def write(options: Benchmark, args: list[str], results: dict[str, Any]) -> None:
    """Writes what was found so far, and on what."""
    if not options.out:
        return
    settings = {k: str(v) if isinstance(v, Path) else v for k, v in asdict(options).items()}
    settings["game"] = {name: options.game_for(name) for name in options.presets}
    about = provenance() | {"command": shlex.join(["highscore", "benchmark", *args])}
    about["machine"] |= here()
    for name in ("stable-baselines3", "sb3-contrib"):
        with suppress(metadata.PackageNotFoundError):
            about["versions"][name] = metadata.version(name)
    write_json(options.out, about | {"settings": settings, "results": results})


def here() -> dict[str, Any]:
    """What else the figures depend on: cores that may be used, threads, and what the processor or GPU can."""
    import torch

    from experiments.limits import cores
    from experiments.tuning import stay_within_quota
    from experiments.usage import multiplies_bf16

    stay_within_quota()  # as what is measured
    found: dict[str, Any] = {
        "usable_cores": cores(), "threads": torch.get_num_threads(), "bf16": multiplies_bf16(torch.device("cpu")),
        "load": os.getloadavg()[0],
    }  # fmt: skip
    if torch.cuda.is_available():
        found["gpu"] = torch.cuda.get_device_name()
    return found
