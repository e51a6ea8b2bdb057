"""Commands of ours that run in processes of their own."""

import sys


def ours(module: str, *words: str) -> list[str]:
    """A command that runs a module of this suite with this Python.

    -P: folders where it is started may be called envs or experiments, too, and are not meant.
    """
    return [sys.executable, "-P", "-m", f"experiments.{module}", *words]
