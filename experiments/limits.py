"""What this process may use of the machine: GPU, cores and memory, these within the limits of a container or a job."""

import gc
import os
import shutil
import subprocess
from contextlib import suppress
from functools import cache
from pathlib import Path

import psutil
import torch

MOUNTED, MINE = Path("/sys/fs/cgroup"), Path("/proc/self/cgroup")  # Linux's control groups
TAKEN = 0.9  # of the memory that is free, at most, by what may as well take less


@cache
def gpu_fault() -> str:
    """Why a GPU that is there cannot be used; "" if it can, or if there is none."""
    if torch.cuda.is_available():
        rank = int(os.environ.get("LOCAL_RANK", 0))  # each takes its own, and no memory of the first
        mine = rank if rank < torch.cuda.device_count() else 0
        try:
            compute_on(mine)
        except RuntimeError as error:  # such as: this torch has no kernels for its generation
            return f"{torch.cuda.get_device_name(mine)} cannot be used: {str(error).splitlines()[0]}"
    elif shutil.which("nvidia-smi") and not subprocess.run(["nvidia-smi", "-L"], capture_output=True).returncode:
        if torch.version.cuda is None:
            return "there is a GPU and this torch is built without CUDA: install one with it"
        return (
            f"there is a GPU and torch does not see it: its driver may be too old for CUDA {torch.version.cuda},"
            " or CUDA_VISIBLE_DEVICES hides it"
        )
    return ""


def compute_on(gpu: int) -> None:
    """Lets a GPU add two numbers.

    Raises:
        RuntimeError: it cannot.
    """
    torch.zeros(1, device=f"cuda:{gpu}").add_(1).item()


def gpu_memory() -> dict[str, int]:
    """Free memory in bytes of each GPU in order, by what CUDA_VISIBLE_DEVICES calls it; 0 of what cannot be used."""
    count, found = torch.cuda.device_count(), dict[str, int]()
    names = [name for name in os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",") if name.strip()] or range(count)
    for i, name in enumerate([*names][:count]):
        found[str(name).strip()] = 0
        with suppress(RuntimeError):  # somebody else has all of it, it is broken, or this torch has no kernels for it
            compute_on(i)
            found[str(name).strip()] = available_memory(torch.device("cuda", i))
    return found


def cores() -> int:
    """Cores that this process may keep busy: where they are handed out, fewer than the machine has."""
    bound = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    quotas = [quota for group in control_groups("cpu") if (quota := quota_of(group)) is not None]
    return max(1, int(min([bound, *quotas])))


def available_memory(device: torch.device) -> int:
    """Free memory in bytes: the GPU's, or the machine's within those limits."""
    if device.type == "cuda":
        gc.collect()  # a replay that was given up
        torch.cuda.empty_cache()
        return torch.cuda.mem_get_info(device)[0]
    free = int(psutil.virtual_memory().available)
    return min([free, *(left for group in control_groups("memory") if (left := left_in(group)) is not None)])


def control_groups(controller: str, mounted: Path = MOUNTED, mine: Path = MINE) -> list[Path]:
    """The control groups that this process is in, from its own up; of each the limits hold.

    Args:
        controller: of version 1, which has groups for each; in version 2 there is one kind.
    """
    try:
        lines = mine.read_text().splitlines()
    except OSError:
        return [mounted]
    found = []
    for line in lines:
        _, controllers, inner = line.split(":", 2)
        if controllers and controller not in controllers.split(","):
            continue
        root = mounted / controller if controllers else mounted
        own = root / inner.lstrip("/")
        found += [own, *(above for above in own.parents if above.is_relative_to(root))]
    return found


def quota_of(group: Path) -> float | None:
    """Cores that a control group may keep busy in the mean; None: as many as there are."""
    try:
        if (group / "cpu.max").exists():
            quota, period = (group / "cpu.max").read_text().split()
        else:
            quota, period = ((group / f"cpu.cfs_{name}_us").read_text().strip() for name in ("quota", "period"))
        return None if quota in ("max", "-1") else int(quota) / int(period)
    except (OSError, ValueError):
        return None


def left_in(group: Path) -> int | None:
    """Memory in bytes that a control group's limit leaves; None: it has none.

    What is kept of files counts as used there, and is given up for whoever wants memory.
    """
    names = ("memory.max", "memory.current", "")
    if not (group / names[0]).exists():
        names = ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_")
    try:
        limit, used = (group / names[0]).read_text().strip(), int((group / names[1]).read_text())
        of = dict(line.split() for line in (group / "memory.stat").read_text().splitlines())
        files = sum(int(of.get(f"{names[2]}{kind}_file", 0)) for kind in ("active", "inactive"))
        return None if limit == "max" else int(limit) - used + files
    except (OSError, ValueError):
        return None
