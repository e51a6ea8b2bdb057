"""Long JSON-lines files, of which only what is asked for is read."""

import json
import os
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, BinaryIO

from experiments.records import LARGEST, finite, whole

LONGEST_LINE = 100_000  # bytes: what is longer is none of ours
STRIDE = 4_096  # bytes that are read in search of a line's end
BLOCK = 1 << 20  # bytes that are read of a file that is searched as a whole


def rows_of(lines: Iterable[bytes]) -> list[dict[str, Any]]:
    """Lines that are rows with a number of emulator frames; others are left out."""
    found = []
    for line in lines:
        try:
            row = json.loads(line.decode())
        except (ValueError, RecursionError):
            continue
        if isinstance(row, dict) and (frames := finite(row.get("frames"))) is not None and abs(frames) <= LARGEST:
            found.append(row)
    return found


class Lines:
    """The whole lines of an open file, found by their place in it.

    They are read and not mapped into memory: a resume that cuts off a mapped file ends whoever looks at it (SIGBUS).
    """

    def __init__(self, file: BinaryIO):
        self.file = file.fileno()
        self.end = self.begin(os.fstat(self.file).st_size)  # what follows is torn

    def read(self, start: int, stop: int) -> bytes:
        """Bytes of the file; fewer where it has ended since."""
        return os.pread(self.file, max(0, stop - start), start)

    def begin(self, at: int) -> int:
        """Where the line of a byte begins, or where a line could at the earliest."""
        earliest = at - LONGEST_LINE
        while at > max(0, earliest):
            start = max(0, at - STRIDE)
            if (found := self.read(start, at).rfind(b"\n")) >= 0:
                return start + found + 1
            at = start
        return at

    def line(self, start: int) -> bytes:
        """The line that begins at a byte."""
        size = STRIDE
        while b"\n" not in (content := self.read(start, start + size)) and size == len(content) < LONGEST_LINE:
            size *= 2
        return content.partition(b"\n")[0]

    def having(self, text: bytes, end: int) -> Iterator[bytes]:
        """Lines with a text, of those before a byte."""
        start = 0
        while start < end:
            stop = min(start + BLOCK, end)
            content = self.read(start, stop)
            if stop < end:
                content = content[: content.rfind(b"\n") + 1] or content
            if not content:
                return  # it was cut
            start += len(content)
            if text in content:
                yield from (line for line in content.split(b"\n") if text in line)

    def before(self, end: int) -> Iterator[bytes]:
        """Lines before a byte where one begins, the last one first."""
        while end > 0:
            start = self.begin(max(0, end - BLOCK))
            yield from reversed(self.read(start, end).split(b"\n")[:-1])
            end = start

    def around(self, key: str, value: int) -> tuple[int, int]:
        """Bytes between which rows, ordered by a key, reach a value; a row that begins at the second may be the one."""
        low, high = 0, self.end
        while high - low > 20_000:
            middle = self.begin((low + high) // 2)
            row = rows_of([self.line(middle)])
            reached = finite(row[0].get(key)) if row else None
            if middle <= low or reached is None:
                break
            low, high = (middle, high) if reached < value else (low, middle)
        return low, high


def nearest(path: Path, frames: int) -> dict[str, Any] | None:
    """The row with a recording that is nearest to a number of frames, by which they are ordered; reads what it must."""
    margin = LONGEST_LINE // 10
    try:
        with path.open("rb") as file:
            lines = Lines(file)
            low, high = lines.around("frames", frames)
            around = rows_of(lines.read(max(0, low - margin), high + margin).split(b"\n"))
    except OSError:
        return None
    return min((row for row in around if "recording" in row), key=lambda row: abs(row["frames"] - frames), default=None)


def episodes_back(path: Path, number: int) -> Iterator[dict[str, Any]]:
    """Rows of a run's recorded training episodes: one by its number, then earlier ones of the same game, newest first.

    Nothing if there is none of that number. Reads only what it must.
    """
    with (path / "episodes.jsonl").open("rb") as file:
        lines = Lines(file)
        _, high = lines.around("episode", number)
        game, same = None, re.compile(b"")
        for line in lines.before(min(lines.end, high + len(lines.line(high)) + 1)):
            for row in rows_of([line] if same.search(line) else []):
                if game is None and row.get("episode") == number:
                    game = whole(row.get("game"))
                    same = re.compile(rb'"game":\s*%d\b' % (game or 0))
                if game is None and (whole(row.get("episode")) or 0) <= number:
                    return
                if game is not None and row.get("game") == game and "recording" in row:
                    yield row
