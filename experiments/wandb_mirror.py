"""A mirror of a run in Weights & Biases."""

from typing import Any


class NoMirror:
    """Mirrors nothing."""

    def log(self, row: dict[str, Any]) -> None: ...

    def close(self) -> None: ...


Mirror = NoMirror
