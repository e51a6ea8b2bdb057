"""Append-only JSON-lines files, read a little at a time: a sample of what is there, then only what is new."""

import json
import math
import mmap
from collections.abc import Iterable
from pathlib import Path
from typing import Any

SAMPLES = 90  # rows of a file that a curve is drawn from at first
CHECKED = 64  # bytes before the offset that must be as they were: else the file was cut and written anew
LONGEST_LINE = 100_000  # bytes: what is longer is none of ours


def rows_of(lines: Iterable[bytes]) -> list[dict[str, Any]]:
    """Lines that are rows with a number of emulator frames; others are left out."""
    found = []
    for line in lines:
        try:
            row = json.loads(line.decode())
        except (ValueError, RecursionError):
            continue
        if isinstance(row, dict) and finite(row.get("frames")) is not None:
            found.append(row)
    return found


def finite(value: Any) -> float | None:
    """A number that JSON can hold, else None."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        return None
    return value


class Tail:
    """One file, as far as it was read."""

    def __init__(self, path: Path):
        self.path, self.offset, self.before = path, 0, b""

    def sample(self, count: int = SAMPLES) -> list[dict[str, Any]]:
        """About `count` rows spread over the file, the last one among them; from now on `fresh` tells what is new."""
        try:
            with self.path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
                end = content.rfind(b"\n") + 1
                self._stand(content, end)
                if end < 400 * count:
                    return rows_of(content[:end].split(b"\n"))
                starts = {content.rfind(b"\n", 0, end * i // count) + 1 for i in range(count)}
                starts.add(content.rfind(b"\n", 0, end - 1) + 1)
                return rows_of(content[start : content.find(b"\n", start)] for start in sorted(starts))
        except (OSError, ValueError):  # it is not there, or empty
            self.offset, self.before = 0, b""
            return []

    def having(self, key: str) -> list[dict[str, Any]]:
        """All rows so far that have a key: for those that few rows have."""
        wanted = f'"{key}":'.encode()
        lines: list[bytes] = []
        try:
            with self.path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
                at = content.find(wanted, 0, self.offset)
                while at >= 0 and len(lines) < 100 * SAMPLES:
                    start, stop = content.rfind(b"\n", 0, at) + 1, content.find(b"\n", at)
                    lines.append(content[start:stop])
                    at = content.find(wanted, stop, self.offset)
        except (OSError, ValueError):
            return []
        return rows_of(lines)

    def fresh(self) -> list[dict[str, Any]] | None:
        """Rows that came since the last look; None if the file is another than before: sample it again."""
        try:
            with self.path.open("rb") as file:
                size = file.seek(0, 2)
                if size == self.offset:
                    return []
                file.seek(max(0, self.offset - len(self.before)))
                if size < self.offset or file.read(len(self.before)) != self.before:
                    return None
                content = file.read()
        except OSError:
            return None if self.offset else []
        end = content.rfind(b"\n") + 1
        self.offset += end
        self.before = (self.before + content[:end])[-CHECKED:]
        return rows_of(content[:end].split(b"\n"))

    def _stand(self, content: mmap.mmap, end: int) -> None:
        self.offset, self.before = end, content[max(0, end - CHECKED) : end]


def nearest(path: Path, frames: int, wanted: str = "recording") -> dict[str, Any] | None:
    """The row of a file, ordered by frames, that is nearest to a number of them; reads only what it must."""
    try:
        with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
            low, high = 0, content.rfind(b"\n") + 1
            while high - low > 20_000:
                middle = content.rfind(b"\n", 0, (low + high) // 2) + 1
                row = rows_of([content[middle : content.find(b"\n", middle)]])
                if middle <= low or not row:
                    break
                low, high = (middle, high) if row[0]["frames"] < frames else (low, middle)
            margin = LONGEST_LINE // 10
            around = rows_of(content[max(0, low - margin) : high + margin].split(b"\n"))
    except (OSError, ValueError):
        return None
    return min((row for row in around if wanted in row), key=lambda row: abs(row["frames"] - frames), default=None)
