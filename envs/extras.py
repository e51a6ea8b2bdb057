"""Packages that only some people need, and how to install them; no torch, for what starts at once needs none."""

import importlib
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType


@contextmanager
def delayed_interrupt() -> Iterator[None]:
    """Lets Ctrl-C wait: a package that is imported meanwhile may swallow it, as MinAtar does."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    asked: list[int] = []
    before = signal.signal(signal.SIGINT, lambda number, _: asked.append(number))
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before or signal.SIG_DFL)
        if asked:
            signal.raise_signal(signal.SIGINT)


def how_to_install(extra: str) -> str:
    """What to type for an extra of this suite, whose name is another package's on PyPI."""
    return f"pip install -e '.[{extra}]' in the clone of this suite"


def need(package: str, extra: str) -> ModuleType:
    """Imports a package that only some games need.

    Raises:
        ValueError: it is not installed; says how to install it.
    """
    try:
        with delayed_interrupt():
            return importlib.import_module(package)
    except ModuleNotFoundError as error:
        if error.name != package:
            raise
        raise ValueError(f"{package} is not installed; to play its games: {how_to_install(extra)}") from None
