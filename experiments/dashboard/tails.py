"""Append-only JSON-lines files, read a little at a time: a sample of what is there, then only what is new."""

from itertools import islice
from pathlib import Path
from typing import Any

from experiments.lines import Lines, rows_of

SAMPLES = 90  # rows of a file that a curve is drawn from at first
CHECKED = 64  # bytes before the offset that must be as they were: else the file was cut and written anew


class Tail:
    """One file, as far as it was read."""

    def __init__(self, path: Path):
        self.path, self.offset, self.seen_end = path, 0, b""

    def sample(self, count: int = SAMPLES) -> list[dict[str, Any]]:
        """About `count` rows spread over the file, the last one among them; from now on `fresh` tells what is new."""
        try:
            with self.path.open("rb") as file:
                lines = Lines(file)
                end = self.offset = lines.end
                self.seen_end = lines.read(max(0, end - CHECKED), end)
                if end < 400 * count:
                    return rows_of(lines.read(0, end).split(b"\n"))
                starts = {lines.begin(end * i // count) for i in range(count)} | {lines.begin(end - 1)}
                return rows_of(lines.line(start) for start in sorted(starts))
        except OSError:  # it is not there
            self.offset, self.seen_end = 0, b""
            return []

    def having(self, key: str) -> list[dict[str, Any]]:
        """All rows so far that have a key: for those that few rows have."""
        try:
            with self.path.open("rb") as file:
                return rows_of(islice(Lines(file).having(f'"{key}":'.encode(), self.offset), 100 * SAMPLES))
        except OSError:
            return []

    def fresh(self) -> list[dict[str, Any]] | None:
        """Rows that came since the last look; None if the file is another than before: sample it again."""
        try:
            with self.path.open("rb") as file:
                size = file.seek(0, 2)
                if size == self.offset:
                    return []
                file.seek(max(0, self.offset - len(self.seen_end)))
                if size < self.offset or file.read(len(self.seen_end)) != self.seen_end:
                    return None
                content = file.read()
        except OSError:
            return None if self.offset else []
        end = content.rfind(b"\n") + 1
        self.offset += end
        self.seen_end = (self.seen_end + content[:end])[-CHECKED:]
        return rows_of(content[:end].split(b"\n"))
