"""Where a replay keeps its frames: rings [size, N, ...] in RAM, in a file, compressed or on a GPU; and their stacks."""

import math
import os
import sys
import tempfile
from collections.abc import Iterator
from functools import cache
from typing import Any

import lz4.block
import numpy as np
import torch
from torch import Tensor

from agents.sequence import onto

GROUP = 8  # frames; 4 leave up to a third more, and 16 take longer to read a few of


def room_on_disk(shape: tuple[int, ...]) -> np.ndarray:
    """Zeros in a nameless file in the folder for temporary files, all of whose room is taken now.

    A disk that is full when a hole is filled later ends the process without a word.

    Raises:
        OSError: there is too little.
    """
    with tempfile.TemporaryFile(prefix="highscore-replay-") as file:
        if hasattr(os, "posix_fallocate"):  # macOS has none
            os.posix_fallocate(file.fileno(), 0, math.prod(shape))
        return np.memmap(file, np.uint8, "w+", shape=shape)


class HostRing:
    """A ring in this machine's memory, or in a file, of which an agent on another device learns.

    Args:
        size: rows.
        like: one row, uint8 [N, ...]; what is taken goes to its device.
        on_disk: in a nameless file in the folder for temporary files ($TMPDIR), which ends with the process.

    Raises:
        OSError: the disk has no room for it.
    """

    dtype = torch.uint8

    def __init__(self, size: int, like: Tensor, on_disk: bool = False):
        self.shape, self.device = torch.Size((size, *like.shape)), like.device
        memory = room_on_disk(tuple(self.shape)) if on_disk else np.zeros(self.shape, np.uint8)
        self.rows = torch.from_numpy(memory)

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, rows: Any) -> Tensor:
        return self.rows[rows_on_host(rows)]

    def __setitem__(self, rows: Any, new: Tensor) -> None:
        self.rows[rows_on_host(rows)] = new.cpu()

    def take(self, leaf: Tensor) -> Tensor:
        """Frames by number row * N + column, of any shape S: [*S, ...]."""
        leaf = leaf.cpu()
        found = self.rows.new_empty(leaf.numel(), *self.shape[2:], pin_memory=self.device.type == "cuda")
        torch.index_select(self.rows.flatten(0, 1), 0, leaf.flatten(), out=found)
        return onto(self.device, found).unflatten(0, leaf.shape)


class CompressedRing:
    """A ring whose frames are compressed without loss (LZ4), a few in a row of one game together: what stands still in
    them takes room once. Of an Atari frame of 7 kB 0.1 to 1.8 are left in random play, 0.3 in the middle of 57 games;
    of one of Doom more than half.

    Arguments as those of HostRing.
    """

    dtype = torch.uint8

    def __init__(self, size: int, like: Tensor):
        self.shape, self.device = torch.Size((size, *like.shape)), like.device
        self.frame_shape, self.frame_bytes = like.shape[1:], like[0].nbytes
        blank = lz4.block.compress(bytes(GROUP * self.frame_bytes), store_size=False)
        self.packed = [blank] * (-(-size // GROUP) * len(like))  # rows GROUP * i to GROUP * (i + 1) of every game
        self.loose: dict[int, bytes] = {}  # by place, until the last of their group is there

    def __len__(self) -> int:
        return self.shape[0]

    @property
    def nbytes(self) -> int:
        """The memory that it takes now, in bytes."""
        return sum(map(sys.getsizeof, (self.packed, *self.packed, *self.loose.values())))

    def _places(self, rows: Any) -> Tensor:
        """Numbers of the frames in some rows: [..., N]."""
        return torch.as_tensor(rows).cpu()[..., None] * self.shape[1] + torch.arange(self.shape[1])

    def __getitem__(self, rows: Any) -> Tensor:
        return self._unpack(self._places(rows))

    def __setitem__(self, rows: Any, new: Tensor) -> None:
        places = self._places(rows).flatten().tolist()
        frames = new.cpu().numpy().reshape(len(places), self.frame_bytes)
        for place, frame in zip(places, frames, strict=True):
            self.loose[place] = frame.tobytes()
            row, column = divmod(place, self.shape[1])
            if row % GROUP == GROUP - 1 or row == len(self) - 1:
                self._pack(row // GROUP, column)

    def _pack(self, group: int, column: int) -> None:
        """Compresses what is there of a group of one game; frames that were not written anew stay."""
        rows = range(group * GROUP, min((group + 1) * GROUP, len(self)))
        places = [row * self.shape[1] + column for row in rows]
        frames = b"".join(self._frames(places))
        self.packed[group * self.shape[1] + column] = lz4.block.compress(frames, store_size=False)
        for place in places:
            self.loose.pop(place, None)

    def _frames(self, places: list[int]) -> Iterator[bytes | memoryview]:
        @cache  # of a stack, two groups have all
        def group(number: int) -> memoryview:
            room = GROUP * self.frame_bytes
            return memoryview(lz4.block.decompress(self.packed[number], uncompressed_size=room))

        games = self.shape[1]
        for place in places:
            if (frame := self.loose.get(place)) is not None:  # once asked: rows are read beside a training, too
                yield frame
            else:
                row, column = divmod(place, games)
                begin = row % GROUP * self.frame_bytes
                yield group(row // GROUP * games + column)[begin : begin + self.frame_bytes]

    def _unpack(self, leaf: Tensor) -> Tensor:
        found = bytearray().join(self._frames(leaf.flatten().tolist()))
        return torch.frombuffer(found, dtype=torch.uint8).view(*leaf.shape, *self.frame_shape)

    def take(self, leaf: Tensor) -> Tensor:
        """Frames by number row * N + column, of any shape S: [*S, ...]."""
        found = self._unpack(leaf)
        return onto(self.device, found.pin_memory() if self.device.type == "cuda" else found)


def rows_on_host(rows: Any) -> Any:
    """Numbers of rows, where the frames are if they are in a tensor."""
    return rows.cpu() if isinstance(rows, Tensor) else rows


def frame_ring(storage: str, size: int, like: Tensor) -> Any:
    """The ring of frames that `ReplayConfig.storage` names: `size` rows like one, uint8 [N, ...].

    Raises:
        ValueError: frames are to be kept on a GPU, and the agent is not there.
        OSError: the disk has no room for it.
    """
    device = like.device.type
    if storage == "compressed":
        return CompressedRing(size, like)
    if storage == "disk" or (storage == "ram" and device != "cpu"):
        return HostRing(size, like, on_disk=storage == "disk")
    if storage == "cuda" and device != "cuda":
        raise ValueError("--replay.storage cuda: the agent is not on a GPU; use --device cuda, or another storage")
    return zeros(size, like)


def zeros(size: int, like: Tensor) -> Tensor:
    """[size, N, ...] beside one row [N, ...] and of its dtype."""
    if like.device.type == "cpu":  # zero pages cost nothing until they are written
        return torch.from_numpy(np.zeros((size, *like.shape), like.numpy().dtype))
    return like.new_zeros(size, *like.shape)


def take(ring: Any, leaf: Tensor) -> Tensor:
    """Rows and columns [size, N, ...] by leaf number row * N + column, of any shape S: [*S, ...]."""
    if not isinstance(ring, Tensor):
        return ring.take(leaf)
    return ring.flatten(0, 1).index_select(0, leaf.flatten()).unflatten(0, leaf.shape)


def stack_frames(frames: Any, leaf: Tensor, first: Tensor, k: int) -> Tensor:
    """Gathers stacks of the last k frames, blank before an episode's first frame.

    Args:
        frames: the ring, [size, N, ...].
        leaf: which frames, in order of time, int64 [T + k - 1, B].
        first: whether an episode starts there, bool [T + k - 1, B].

    Returns:
        [T, B, k, ...], newest frame last.
    """
    if isinstance(frames, Tensor) or frames.device.type == "cpu":
        stacks = take(frames, leaf.unfold(0, k, 1))
    else:  # a frame is sent once, not with every stack that it is in
        stacks = take(frames, leaf).unfold(0, k, 1).movedim(-1, 2).contiguous()
    firsts = first.unfold(0, k, 1).to(torch.int8)  # [T, B, k]
    later = firsts.flip(-1).cumsum(-1).flip(-1) - firsts  # firsts strictly after each frame
    blank = later > 0
    if stacks.device.type != "cpu":  # to list what is blank is to wait for a GPU
        return stacks.masked_fill_(blank.view(*blank.shape, *[1] * (stacks.dim() - 3)), 0)
    stacks.flatten(0, 2).index_fill_(0, blank.flatten().nonzero().squeeze(1), 0)  # far cheaper than a mask
    return stacks
