"""Append-only JSON-lines files, read a little at a time: a sample of what is there, then only what is new."""

from itertools import islice
from pathlib import Path
from typing import Any, BinaryIO

from experiments.lines import LONGEST_LINE, Lines, rows_of

SAMPLES = 90  # rows of a file that a curve is drawn from at first
MOST = 16 << 20  # bytes of new rows that are read at a look
CHECKED = 64  # bytes before the offset that must be as they were: else the file was cut and written anew


class Tail:
    """One file, as far as it was read."""

    def __init__(self, path: Path):
        self.path, self.offset, self.seen_end = path, 0, b""

    def _open(self) -> BinaryIO:
        """The file, if it is one: who opened a pipe would wait for ever.

        Raises:
            OSError: it is none, or not there.
        """
        if not self.path.is_file():
            raise FileNotFoundError(self.path)
        return self.path.open("rb")

    def sample(self, count: int = SAMPLES) -> list[dict[str, Any]]:
        """About `count` rows spread over the file, the last one among them; from now on `fresh` tells what is new."""
        try:
            with self._open() as file:
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

    def having(self, key: str, most: int | None = 100 * SAMPLES) -> list[dict[str, Any]]:
        """All rows so far that have a key: for those that few rows have; or the first of them, if there are more."""
        try:
            with self._open() as file:
                return rows_of(islice(Lines(file).having(f'"{key}":'.encode(), self.offset), most))
        except OSError:
            return []

    def fresh(self) -> list[dict[str, Any]] | None:
        """Rows that came since the last look; None if the file is another than before: sample it again."""
        try:
            with self._open() as file:
                size = file.seek(0, 2)
                if size == self.offset:
                    return []
                file.seek(max(0, self.offset - len(self.seen_end)))
                if size < self.offset or file.read(len(self.seen_end)) != self.seen_end:
                    return None
                content = file.read(MOST)
        except OSError:
            return None if self.offset else []
        end = content.rfind(b"\n") + 1
        if not end and len(content) > LONGEST_LINE:
            end = len(content)  # no row of ours: it is passed over
        self.offset += end
        self.seen_end = (self.seen_end + content[:end])[-CHECKED:]
        return rows_of(content[:end].split(b"\n"))
