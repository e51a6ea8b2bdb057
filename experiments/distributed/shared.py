"""Memory that several processes see, and nobody else."""

import mmap
import os
import tempfile
from multiprocessing import reduction
from typing import Any

import torch


class SharedMemory:
    """Bytes without a name, so that nothing of them is left when the last process that has them ends.

    Can be given to a process that is being spawned. Not in /dev/shm, which is small in many containers.

    Attributes:
        bytes: uint8 [size], zero at first.
    """

    def __init__(self, size: int):
        if hasattr(os, "memfd_create"):
            self.file = os.memfd_create("highscore")
        else:
            with tempfile.TemporaryFile(prefix="highscore-") as file:
                self.file = os.dup(file.fileno())
        os.ftruncate(self.file, size)
        self._map(size)

    def _map(self, size: int) -> None:
        self.bytes = torch.frombuffer(mmap.mmap(self.file, size), dtype=torch.uint8)

    def __getstate__(self) -> Any:
        return reduction.DupFd(self.file), len(self.bytes)

    def __setstate__(self, state: Any) -> None:
        file, size = state
        self.file = file.detach()
        self._map(size)

    def __del__(self) -> None:
        os.close(self.file)  # what is mapped stays, as long as somebody has the tensor
