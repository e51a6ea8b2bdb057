"""A replay's rows on disk: append-only files, and a manifest that says which part of them counts.

    <folder>/<number>.rows    rows number * ROWS to (number + 1) * ROWS, counted from the first ever added

A checkpoint writes only the rows that are new. A crash can leave rows that no manifest names; they are
cut off when the run goes on.
"""

import hashlib
import os
from pathlib import Path
from typing import Any

import numpy as np
import torch

from agents.replay import Replay
from agents.sequence import tree_leaves
from experiments.files import to_disk

ROWS = 4096  # per file: with 8 games about 230 MB
CHUNK = 64  # rows in memory at a time


class DamagedRows(ValueError):
    """A file does not hold what its manifest says."""


class Segments:
    """Writes and reads the rows of one replay.

    Args:
        folder: made if it does not exist; nobody else writes there.
    """

    def __init__(self, folder: Path):
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        self.written = 0  # rows on disk, counted from the first ever added
        self.hashes: dict[int, Any] = {}  # of each file, as far as it is written

    def path(self, number: int) -> Path:
        """The file of one segment."""
        return self.folder / f"{number:08d}.rows"

    def write(self, replay: Replay) -> dict[str, Any]:
        """Appends the rows added since the last call; returns a manifest of all that the replay holds.

        Raises:
            OSError: the disk is full; the manifests returned before still hold.
        """
        oldest, added = replay.oldest, replay.rows_added  # as of now: a training may go on beside
        self.written = max(self.written, oldest)  # rows that came and went need no place
        while self.written < added:
            number = self.written // ROWS
            end = min((number + 1) * ROWS, added)
            self._append(number, replay, self.written, end)
            self.written = end
        kept = range(oldest // ROWS, -(-added // ROWS))
        files = {str(n): {"bytes": self.path(n).stat().st_size, "sha256": self.hashes[n].hexdigest()} for n in kept}
        return {"oldest": oldest, "rows_added": added, "files": files}

    def _append(self, number: int, replay: Replay, begin: int, end: int) -> None:
        running = self.hashes.setdefault(number, hashlib.sha256()).copy()
        path, due = self.path(number), (begin - number * ROWS) * row_bytes(replay)
        path.touch()
        if (size := path.stat().st_size) > due:  # what another failure left
            os.truncate(path, due)
        # A segment may begin later than its file's first row, if the rows before it came and went.
        hole = due - size
        try:
            with path.open("ab") as file:
                for start in range(0, hole, 1 << 20):
                    nothing = bytes(min(1 << 20, hole - start))
                    running.update(nothing)
                    file.write(nothing)
                for start in range(begin, end, CHUNK):
                    content = pack(replay, start, min(start + CHUNK, end))
                    running.update(content)
                    file.write(content)
                file.flush()
                to_disk(file.fileno())
        except BaseException:  # now that the file is closed, which writes what it still held
            os.truncate(path, min(size, due))
            raise
        self.hashes[number] = running

    def read(self, replay: Replay, manifest: dict[str, Any]) -> None:
        """Fills a replay with the rows of a manifest, and cuts off what was written after it.

        Raises:
            DamagedRows: a file is missing, short, or not what was written; nothing was cut then.
        """
        size = row_bytes(replay)
        numbers = range(replay.oldest // ROWS, -(-replay.rows_added // ROWS))
        if (manifest["oldest"], manifest["rows_added"]) != (replay.oldest, replay.rows_added) or (
            len(manifest["files"]) != len(numbers) or any(str(n) not in manifest["files"] for n in numbers)
        ):
            raise DamagedRows("the manifest is not that of such a replay")
        for name, wanted in manifest["files"].items():
            number, path = int(name), self.path(int(name))
            first = number * ROWS
            end = min(first + ROWS, manifest["rows_added"])
            running = hashlib.sha256()
            if not path.exists() or path.stat().st_size < wanted["bytes"] or wanted["bytes"] != (end - first) * size:
                raise DamagedRows(f"{path} is missing or cut short")
            with path.open("rb") as file:
                for start in range(first, end, CHUNK):
                    content = file.read((min(start + CHUNK, end) - start) * size)
                    running.update(content)
                    unpack(replay, start, content, manifest["oldest"])
            if running.hexdigest() != wanted["sha256"]:
                raise DamagedRows(f"{path} is not what was written")
            self.hashes[number] = running
        for name, wanted in manifest["files"].items():
            os.truncate(self.path(int(name)), wanted["bytes"])
        self.written = manifest["rows_added"]
        last = max((int(name) for name in manifest["files"]), default=-1)
        for path in self.folder.glob("*.rows"):
            if int(path.stem) > last:
                path.unlink()

    def forget(self, manifests: list[dict[str, Any]]) -> None:
        """Removes the files that none of these manifests, and no later one, needs."""
        before = min(manifest["oldest"] for manifest in manifests)
        for path in self.folder.glob("*.rows"):
            if (int(path.stem) + 1) * ROWS <= before:
                path.unlink()
                self.hashes.pop(int(path.stem), None)


def row_bytes(replay: Replay) -> int:
    """Bytes of one row of every game."""
    return sum(ring[0].nbytes for ring in tree_leaves(replay.rows))


def pack(replay: Replay, begin: int, end: int) -> bytes:
    """Rows `begin` to `end` as bytes, each row's parts side by side."""
    at = torch.arange(begin, end) % replay.size
    # A ring may keep every k-th row only.
    places = ((ring, (at // (replay.size // len(ring))).to(ring.device)) for ring in tree_leaves(replay.rows))
    parts = (ring[place].cpu().contiguous().numpy() for ring, place in places)
    return np.concatenate([part.reshape(len(part), -1).view(np.uint8) for part in parts], axis=1).tobytes()


def unpack(replay: Replay, begin: int, content: bytes, oldest: int) -> None:
    """The inverse of `pack`; rows before `oldest` are left out, for others lie where they lay."""
    table = np.frombuffer(content, np.uint8).reshape(-1, row_bytes(replay))
    skip = min(max(oldest - begin, 0), len(table))
    if skip == len(table):
        return
    at, column = torch.arange(begin + skip, begin + len(table)) % replay.size, 0
    for ring in tree_leaves(replay.rows):
        width = ring[0].nbytes
        part = torch.from_numpy(table[skip:, column : column + width].copy()).view(ring.dtype)
        place = (at // (replay.size // len(ring))).to(ring.device)
        ring[place] = part.view(-1, *ring.shape[1:]).to(ring.device)
        column += width
