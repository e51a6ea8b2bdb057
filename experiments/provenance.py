"""When, where and by what code something was made."""

import os
import platform
import shlex
import subprocess
import sys
import time
from contextlib import suppress
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import Any


def provenance() -> dict[str, Any]:
    """When, where and by what code: commit, package versions, machine, command."""
    versions = {"python": platform.python_version()}
    for name in ("gymnasium", "ale-py", "torch", "numpy", "wandb", "vizdoom", "crafter", "minatar"):
        with suppress(metadata.PackageNotFoundError):  # some games' packages are extras
            versions[name] = metadata.version(name)
    module = Path(sys.argv[0]).stem  # highscore, or the command itself if it was run by python -m
    words = sys.argv[1:] if module in ("highscore", "cli") else [module, *sys.argv[1:]]
    return {
        "created": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
        "commit": git_commit(),
        "command": shlex.join(["highscore", *words]),
        "versions": versions,
        "machine": {
            "system": platform.system(), "processor": platform.machine(), "cores": os.cpu_count(),
            "model": processor_model(),
        },
    }  # fmt: skip


def emulator(world: str) -> str:
    """What plays the games of a world, and its version: "ale-py 0.12.1", say; "" if it is this suite."""
    packages = {"atari": "ale-py", "doom": "vizdoom"} | {name: name for name in ("crafter", "minatar", "gymnasium")}
    with suppress(KeyError, metadata.PackageNotFoundError):
        return f"{packages[world]} {metadata.version(packages[world])}"
    return ""


def processor_model() -> str:
    """What this machine's processor is called, as far as it says."""
    with suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text(errors="replace").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    with suppress(OSError, subprocess.SubprocessError):  # macOS
        words = ["sysctl", "-n", "machdep.cpu.brand_string"]
        return subprocess.run(words, capture_output=True, text=True, check=True).stdout.strip()
    return platform.processor()


@cache
def git_commit() -> str | None:
    """The commit of this source tree, with "+" if it was changed since; None outside a repository."""
    here = Path(__file__).parent

    def git(*args: str) -> str:
        return subprocess.run(
            ["git", "-C", str(here), *args], capture_output=True, text=True, check=True
        ).stdout.strip()

    try:
        git("ls-files", "--error-unmatch", __file__)  # fails where this file is no part of the repository
        changed = git("status", "--porcelain", "--untracked-files=no")
        return git("rev-parse", "HEAD") + ("+" if changed else "")
    except (OSError, subprocess.CalledProcessError):
        return None
