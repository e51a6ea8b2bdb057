"""What costs a processor time and changes nothing that matters."""

import ctypes
import os
import platform

import torch

from experiments.limits import cores

MMAP_THRESHOLD, TRIM_THRESHOLD = -3, -1  # malloc.h


def tune() -> None:
    """Does all of it, for this process; torch's threads take it over if they have not begun to work."""
    keep_freed_memory()
    flush_subnormals()
    stay_within_quota()


def keep_freed_memory() -> None:
    """Lets glibc keep blocks of up to 32 MiB when they are freed; elsewhere does nothing.

    An update frees and allocates the same tensors of some MB again and again. By default each comes from the system as
    new pages, over a thousand faults an update: without them `dqn` trains 5 % faster on two cores, in no more memory.
    """
    if platform.libc_ver()[0] == "glibc":
        libc = ctypes.CDLL(None)
        libc.mallopt(MMAP_THRESHOLD, 32 << 20)
        libc.mallopt(TRIM_THRESHOLD, 512 << 20)


def flush_subnormals() -> None:
    """Takes numbers below 1e-38 for 0, on processors that can.

    A weight whose gradient is 0 for long (a pixel that never changes, a ReLU that is dead) has an Adam mean that fades
    away through the subnormal numbers, each of which costs the processor about a hundred times as long: after 100,000
    agent steps of `qrdqn` it is an eighth of the means, and updates take a tenth longer.
    """
    torch.set_flush_denormal(True)


def stay_within_quota() -> None:
    """Where a container may use fewer cores than it sees, no more threads than that: they wait for each other."""
    if "OMP_NUM_THREADS" not in os.environ and torch.get_num_threads() > cores():
        torch.set_num_threads(cores())
