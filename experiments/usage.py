"""What a training takes of the machine."""

import psutil
import torch

GIGABYTE = 1e9
_process = psutil.Process()


def multiplies_bf16() -> bool:
    """Whether this processor multiplies bfloat16 numbers itself; without, learning with them is no faster."""
    found = torch.cpu.get_capabilities()
    return any(found.get(name, False) for name in ("amx_bf16", "avx512_bf16", "bf16"))


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
