"""What a training takes of the machine."""

import math

import psutil
import torch

GIGABYTE = 1e9
_process = psutil.Process()
psutil.cpu_percent(), _process.cpu_percent()  # each counts from its last call


def multiplies_bf16(device: torch.device) -> bool:
    """Whether a processor or GPU multiplies bfloat16 numbers itself; without, learning with them is no faster."""
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    found: dict[str, bool] = getattr(torch.cpu, "get_capabilities", dict)()  # which older ones do not have
    return any(found.get(name, False) for name in ("amx_bf16", "avx512_bf16", "bf16"))


def others() -> float:
    """Cores that other programs kept busy since this module was imported, or over the last minute if that is less.

    The minute alone may still tell of an installation that has just ended.
    """
    now = psutil.cpu_percent() / 100 * (psutil.cpu_count() or 1) - _process.cpu_percent() / 100
    return max(min(now, psutil.getloadavg()[0]), 0.0)


def crowded(load: float, cores: int, threads: int) -> str:
    """What to say to people whose other programs want the cores that learning's threads wait for each other on.

    Two trainings of `laptop` on two cores: with two threads each, a ninth of the steps that they made with one each.

    Args:
        load: programs that run or want to, before this one does.

    Returns:
        "" where there is room for all.
    """
    if threads < 2 or load < 0.7 or load + threads < cores + 0.7:
        return ""
    better = max(1, cores - math.ceil(load - 0.3))
    return (
        f"other programs keep {load:.1f} of {cores} cores busy, and learning has {threads} threads that wait for each"
        f" other: with OMP_NUM_THREADS={better} before the command all may be many times as fast"
    )


def usage(device: torch.device) -> dict[str, float]:
    """Memory in GB and processor time since the last call in percent of one core, with the emulators' threads."""
    found = {
        "system/memory_gb": _process.memory_info().rss / GIGABYTE,
        "system/cpu_percent": _process.cpu_percent(),
        "system/free_memory_gb": psutil.virtual_memory().available / GIGABYTE,
    }
    if device.type == "cuda":
        found["system/gpu_memory_gb"] = torch.cuda.memory_reserved(device) / GIGABYTE
    return found
