"""A replay's rows on disk: append-only files, and a manifest that says which part of them counts.

    <folder>/<number>.rows    rows number * ROWS to (number + 1) * ROWS, counted from the first ever added

A file is a series of blocks of up to CHUNK rows, each compressed without loss (LZ4), game by game: what stands still
takes next to no room. Before each stand three numbers: its first row, its rows, and its bytes. A manifest has the hash
of each file's rows, which are the same however they were cut into blocks. A checkpoint writes only the rows that are
new. A crash can leave rows that no manifest names; they are cut off when the run goes on.
"""

import hashlib
import math
import os
import struct
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, BinaryIO

import lz4.block
import numpy as np
import torch

from agents.replay import Replay
from agents.sequence import tree_leaves
from experiments.files import to_disk

ROWS = 4096  # per file: with 8 games 230 MB before they are compressed
CHUNK = 64  # rows in memory at a time
HEAD = struct.Struct("<QII")  # of a block: its first row, rows and bytes


class DamagedRows(ValueError):
    """A file does not hold what its manifest says."""


@dataclass
class _File:
    """A file as far as it is written."""

    bytes: int = 0
    plain: int = 0  # rows at its beginning as an older version wrote them: not compressed, nothing between them
    running: Any = field(default_factory=hashlib.sha256)  # of its rows

    def entry(self) -> dict[str, Any]:
        """What a manifest says of it."""
        return {"sha256": self.running.hexdigest()} | ({"plain": self.plain} if self.plain else {})


class Segments:
    """Writes and reads the rows of one replay.

    Args:
        folder: made if it does not exist; nobody else writes there.
    """

    def __init__(self, folder: Path):
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        self.written = 0  # rows on disk, counted from the first ever added
        self.files: dict[int, _File] = {}

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
        return {"oldest": oldest, "rows_added": added, "files": {str(n): self.files[n].entry() for n in kept}}

    def _append(self, number: int, replay: Replay, begin: int, end: int) -> None:
        before, path = self.files.get(number, _File()), self.path(number)
        now = replace(before, running=before.running.copy())
        path.touch()
        if path.stat().st_size > before.bytes:  # what another failure left
            os.truncate(path, before.bytes)
        try:
            with path.open("ab") as file:
                for start in range(begin, end, CHUNK):
                    table = pack(replay, start, min(start + CHUNK, end))
                    packed = compress(table, *layout(replay))
                    now.running.update(table)
                    now.bytes += file.write(HEAD.pack(start, len(table), len(packed)) + packed)
                file.flush()
                to_disk(file.fileno())
        except BaseException:  # now that the file is closed, which writes what it still held
            os.truncate(path, min(path.stat().st_size, before.bytes))
            raise
        self.files[number] = now

    def read(self, replay: Replay, manifest: dict[str, Any]) -> None:
        """Fills a replay with the rows of a manifest, and cuts off what was written after it.

        Raises:
            DamagedRows: a file is missing, short, or not what was written; nothing was cut then.
        """
        numbers = range(replay.oldest // ROWS, -(-replay.rows_added // ROWS))
        if (manifest["oldest"], manifest["rows_added"]) != (replay.oldest, replay.rows_added) or (
            len(manifest["files"]) != len(numbers) or any(str(n) not in manifest["files"] for n in numbers)
        ):
            raise DamagedRows("the manifest is not that of such a replay")
        for number in numbers:
            path, first = self.path(number), number * ROWS
            end, wanted = min(first + ROWS, replay.rows_added), manifest["files"][str(number)]
            found = _File(plain=wanted.get("plain", end - first if "bytes" in wanted else 0))
            if not path.exists():
                raise DamagedRows(f"{path} is missing")
            with path.open("rb") as file:
                at = max(first, replay.oldest)
                for start, table in tables(file, found, first, end, replay):
                    if start > at:
                        break
                    found.running.update(table)
                    unpack(replay, start, table)
                    at = max(at, start + len(table))
            if at < end or found.running.hexdigest() != wanted["sha256"]:
                raise DamagedRows(f"{path} is cut short or is not what was written")
            self.files[number] = found
        for number in numbers:
            os.truncate(self.path(number), self.files[number].bytes)
        self.written = manifest["rows_added"]
        for path in self.folder.glob("*.rows"):
            if int(path.stem) >= numbers.stop:
                path.unlink()

    def forget(self, manifests: list[dict[str, Any]]) -> None:
        """Removes the files that none of these manifests, and no later one, needs."""
        before = min(manifest["oldest"] for manifest in manifests)
        for path in self.folder.glob("*.rows"):
            if (int(path.stem) + 1) * ROWS <= before:
                path.unlink()
                self.files.pop(int(path.stem), None)


def tables(
    file: BinaryIO, found: _File, first: int, end: int, replay: Replay
) -> Iterator[tuple[int, np.ndarray]]:  # fmt: skip
    """The rows that a file has, up to `end`, CHUNK or fewer at a time: (first of them, as `pack` has them).

    Args:
        found: how many bytes they take is added to it.
        first: row of the file.
    """
    widths, games = layout(replay)
    row = sum(widths)
    for start in range(0, found.plain, CHUNK):
        content = file.read((min(start + CHUNK, found.plain) - start) * row)
        found.bytes += len(content)
        yield first + start, np.frombuffer(content[: len(content) // row * row], np.uint8).reshape(-1, row)
    at = first + found.plain
    while at < end and len(head := file.read(HEAD.size)) == HEAD.size:
        start, rows, size = HEAD.unpack(head)
        if not (at <= start < start + rows <= end and rows <= CHUNK):
            return
        try:
            content = lz4.block.decompress(file.read(size), uncompressed_size=rows * row)
        except lz4.block.LZ4BlockError:
            return
        if len(content) < rows * row:
            return
        at = start + rows
        found.bytes += HEAD.size + size
        yield start, by_row(content, widths, games, rows)


def layout(replay: Replay) -> tuple[list[int], int]:
    """(bytes of each part of a row of every game, games)."""
    rings = tree_leaves(replay.rows)
    return [math.prod(ring.shape[1:]) * ring.dtype.itemsize for ring in rings], replay.num_envs


def compress(table: np.ndarray, widths: list[int], games: int) -> bytes:
    """Rows, uint8 [rows, bytes], compressed game by game, one part after the other; the rest as `layout` has it."""
    parts = np.split(table, np.cumsum(widths)[:-1], axis=1)
    by_game = (part.reshape(len(table), games, -1).swapaxes(0, 1).tobytes() for part in parts)
    return lz4.block.compress(b"".join(by_game), store_size=False)


def by_row(content: bytes, widths: list[int], games: int, rows: int) -> np.ndarray:
    """The inverse of the layout in `compress`: uint8 [rows, bytes] from what was compressed."""
    parts = np.split(np.frombuffer(content, np.uint8), rows * np.cumsum(widths)[:-1])
    by_game = (part.reshape(games, rows, -1).swapaxes(0, 1) for part in parts)
    return np.concatenate([part.reshape(rows, -1) for part in by_game], axis=1)


def pack(replay: Replay, begin: int, end: int) -> np.ndarray:
    """Rows `begin` to `end` as uint8 [rows, bytes], each row's parts side by side."""
    at = torch.arange(begin, end) % replay.size
    # A ring may keep every k-th row only.
    places = ((ring, (at // (replay.size // len(ring))).to(ring.device)) for ring in tree_leaves(replay.rows))
    parts = (ring[place].cpu().contiguous().numpy() for ring, place in places)
    return np.concatenate([part.reshape(len(part), -1).view(np.uint8) for part in parts], axis=1)


def unpack(replay: Replay, begin: int, table: np.ndarray) -> None:
    """The inverse of `pack`; rows before the replay's oldest are left out, for others lie where they lay."""
    skip = min(max(replay.oldest - begin, 0), len(table))
    if skip == len(table):
        return
    at, column = torch.arange(begin + skip, begin + len(table)) % replay.size, 0
    for ring, width in zip(tree_leaves(replay.rows), layout(replay)[0], strict=True):
        part = torch.from_numpy(table[skip:, column : column + width].copy()).view(ring.dtype)
        place = (at // (replay.size // len(ring))).to(ring.device)
        ring[place] = part.view(-1, *ring.shape[1:]).to(ring.device)
        column += width
