"""The files of a run directory, read and written: no torch, so that what only reads runs starts at once."""

import errno
import fcntl
import json
import os
import re
import uuid
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

LARGEST_JSON = 64_000_000  # bytes: what is larger is none of ours
DISK_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
NO_ROOM = os.EX_TEMPFAIL  # the status of a command that found too little memory or disk


class RunError(ValueError):
    """A run directory that cannot be used, and what to do about it."""


class Failed(RunError):
    """A training that cannot go on, through no mistake in its command."""

    status = 1  # of the command


class DiskFull(RunError):
    """A run that could not be written any further."""

    status = NO_ROOM  # of the command


def in_a_name(game: str) -> str:
    """A game, or what is named after it, as part of a directory's name: without the / and : of worlds and packages."""
    return re.sub("[/:]", "-", game)


def write_atomically(path: Path, content: bytes) -> None:
    """Replaces a file by new content: a reader sees the old one or the new one, never half of it."""
    aside = path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}")
    try:
        with aside.open("xb") as file:
            file.write(content)
        sync(aside)
        os.replace(aside, path)
        sync(path.parent)
    except BaseException:
        aside.unlink(missing_ok=True)
        raise


def sync(path: Path) -> None:
    """Returns when a file, or the names in a folder, would outlast a loss of power."""
    opened = os.open(path, os.O_RDONLY)
    try:
        to_disk(opened)
    except OSError as error:
        if (
            error.errno not in (errno.EINVAL, errno.ENOTSUP) or not path.is_dir()
        ):  # some shared disks cannot, of folders
            raise
    finally:
        os.close(opened)


def to_disk(opened: int) -> None:
    """Returns when what was written to an open file would outlast a loss of power."""
    os.fsync(opened)
    if hasattr(fcntl, "F_FULLFSYNC"):  # macOS: what went before leaves it in the drive's cache
        with suppress(OSError):
            fcntl.fcntl(opened, fcntl.F_FULLFSYNC)


def write_json(path: Path, data: Any) -> None:
    """Replaces a file by JSON, atomically; NaN is refused, for JSON has none."""
    write_atomically(path, (json.dumps(data, indent=2, allow_nan=False) + "\n").encode())


def read_rows(path: Path) -> Iterator[dict[str, Any]]:
    """Rows of a JSON-lines file; what is none, such as a last line that was torn by a crash, is left out."""
    if not path.exists():
        return
    with path.open(encoding="utf-8", errors="replace") as file:
        for line in file:
            try:
                row = json.loads(line)
            except (ValueError, RecursionError):
                continue
            if isinstance(row, dict):
                yield row


def read_json(path: Path) -> Any:
    """A JSON file's content.

    Raises:
        ValueError: it is no JSON, or too large to be ours.
        OSError: it cannot be read.
        RecursionError: it is nested more deeply than anything of ours.
    """
    if path.stat().st_size > LARGEST_JSON:
        raise ValueError(f"{path.name} is too large to be ours")
    return json.loads(path.read_text(encoding="utf-8"))
