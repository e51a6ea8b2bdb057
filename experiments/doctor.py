"""highscore doctor: this machine and its installation, in one screen."""

import os
import platform
import shutil
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib import metadata
from netrc import NetrcParseError, netrc
from pathlib import Path
from typing import NamedTuple
from urllib.parse import urlparse

import torch
from rich.console import Console
from rich.table import Table

from envs.atari import ROMS, make_atari
from envs.extras import how_to_install
from experiments.build import device_of
from experiments.limits import available_memory, cores, gpu_fault
from experiments.presets import preset
from experiments.speed import speed_of, timed
from experiments.usage import multiplies_bf16


@dataclass(frozen=True)
class Doctor:
    """Checks versions, devices, ROMs, Weights & Biases, memory, disk and speed. Status 0: all is well."""


class Finding(NamedTuple):
    """One line of the screen."""

    what: str
    value: str
    well: bool = True


def versions() -> Iterator[Finding]:
    """Python and the packages that matter."""
    python = platform.python_version()
    yield Finding("python", python, sys.version_info >= (3, 11))
    for package in ("torch", "gymnasium", "ale-py", "numpy", "wandb", "tyro", "av", "safetensors"):
        try:
            yield Finding(package, metadata.version(package))
        except metadata.PackageNotFoundError:
            yield Finding(package, "missing: `make demo` in the clone installs everything", False)
    for package, extra in (("vizdoom", "doom"), ("crafter", "crafter"), ("minatar", "minatar")):
        try:
            yield Finding(package, metadata.version(package))
        except metadata.PackageNotFoundError:
            yield Finding(package, f"not installed; to play its games: {how_to_install(extra)}")


def machine() -> Iterator[Finding]:
    """Cores, GPUs, memory, disk."""
    yield Finding("cores", f"{cores()}, torch uses {torch.get_num_threads()}")
    gpus, fault = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())], gpu_fault()
    yield Finding("GPU", fault or ", ".join(gpus) or "none; training runs on the CPU", not fault)
    fast = multiplies_bf16(device_of("auto"))
    yield Finding("bf16", "yes: --precision bf16 learns faster" if fast else "not in hardware: it learns no faster")
    memory = available_memory(torch.device("cpu"))
    yield Finding(
        "memory", f"{memory / 1e9:.1f} GB free; a replay of 1M steps takes 7.1, compressed 0.4 to 2", memory > 1e9
    )
    disk = shutil.disk_usage(Path.cwd()).free
    yield Finding("disk", f"{disk / 1e9:.1f} GB free here", disk > 1e9)


def atari() -> Iterator[Finding]:
    """The ROMs, and how fast they run."""
    yield Finding("ROMs", f"{len(ROMS)} games", len(ROMS) >= 57)
    games = make_atari("Pong", 8)
    games.reset(0)
    actions = torch.zeros(8, dtype=torch.int64)
    speed = 8 / timed(lambda: games.step(actions), 1.0)
    yield Finding("emulation", f"{speed:,.0f} agent steps/s (Pong, 8 games)")
    games.close()


def learning() -> Iterator[Finding]:
    """How fast DQN learns here, as a training of it would: on a GPU, several updates in one launch."""
    x, device = preset("dqn"), device_of("auto")
    assert x.replay is not None
    speed, _ = speed_of(x, device, emulate=0.0)
    updates = x.num_envs / x.replay.learn_period / speed.learn
    yield Finding("learning", f"{updates:,.0f} updates/s of {x.replay.batch_size} on {device} (dqn)")
    yield Finding(
        "so",
        f"dqn trains at most {speed.frames_per_second / speed.frame_skip:,.0f} agent steps/s: "
        f"1M frames in {1e6 / speed.frames_per_second / 60:,.0f} min at best",
    )


def has_key(path: Path) -> bool:
    """Whether a file of passwords has one for Weights & Biases."""
    host = urlparse(os.environ.get("WANDB_BASE_URL", "https://api.wandb.ai")).hostname
    try:
        return netrc(path).authenticators(str(host)) is not None
    except (OSError, NetrcParseError):
        return False


def wandb_state() -> Iterator[Finding]:
    """Whether wandb works here, and whether it is logged in."""
    key = "WANDB_API_KEY" in os.environ or any(has_key(Path(f"~/{name}").expanduser()) for name in (".netrc", "_netrc"))
    yield Finding(
        "W&B",
        "a key is configured: runs go online" if key else "no key: runs are logged offline; `wandb login` changes that",
    )


def examine() -> list[Finding]:
    """Every finding; a check that breaks is one, too."""
    checks: tuple[Callable[[], Iterator[Finding]], ...] = (versions, machine, wandb_state, atari, learning)
    findings: list[Finding] = []
    for check in checks:
        try:
            findings += check()
        except Exception as error:
            findings.append(Finding(check.__name__, f"{type(error).__name__}: {error}", False))
    return findings


def main(args: list[str]) -> int:
    """Runs the command; returns its exit status: 0 if all is well, else 1."""
    from experiments.cli import parse

    parse(Doctor, args)
    table = Table("", "", "", show_header=False, box=None)
    findings = examine()
    for finding in findings:
        table.add_row("[green]ok[/green]" if finding.well else "[red]BAD[/red]", finding.what, finding.value)
    console = Console()
    console.print(table)
    bad = [finding.what for finding in findings if not finding.well]
    console.print(f"Something is wrong with: {', '.join(bad)}." if bad else "All is well.")
    return 1 if bad else 0
