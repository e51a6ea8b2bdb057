"""Processes that do not outlive the one that started them."""

import ctypes
import sys
from collections.abc import Callable

PR_SET_PDEATHSIG = 1  # linux/prctl.h


def end_with_parent() -> Callable[[int], None]:
    """What lets a process get a signal when its parent ends, however it does; only Linux has that.

    To be called before a fork, after which nothing may be loaded any more.
    """
    if sys.platform != "linux":
        return lambda number: None
    prctl = ctypes.CDLL(None).prctl
    return lambda number: prctl(PR_SET_PDEATHSIG, number)
