"""One checkpoint: a directory with tensors.safetensors and checkpoint.json, whole or not there; and weights alone."""

import errno
import hashlib
import json
import os
import shutil
import uuid
from contextlib import suppress
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

from experiments.files import RunError, read_json, sync, write_atomically, write_json
from experiments.records import facts_of

SCHEMA = 1  # of checkpoints and run directories


def packed(tensors: dict[str, Tensor]) -> bytes:
    """Tensors of any device as safetensors: copies, for it refuses those that share their memory."""
    return save({name: x.detach().cpu().contiguous().clone() for name, x in tensors.items()})


def write_checkpoint(folder: Path, tensors: dict[str, Tensor], state: dict[str, Any]) -> Path:
    """Writes a checkpoint aside and renames it into place; one of the same name is there until the new one is.

    Args:
        state: JSON-able; "agent_steps" names the checkpoint.

    Raises:
        OSError: the disk is full; what was there before still is.
    """
    target = folder / f"{state['agent_steps']:012d}"
    aside, replaced = folder / f".writing-{uuid.uuid4().hex[:8]}", folder / f".replaced-{target.name}"
    aside.mkdir()  # as readable for others as the rest of the run
    try:
        content = packed(tensors)
        write_atomically(aside / "tensors.safetensors", content)
        sha256 = hashlib.sha256(content).hexdigest()
        whole = {"schema": SCHEMA, "tensors_sha256": sha256, **state}
        write_json(aside / "checkpoint.json", whole | {"sha256": json_hash(whole)})
        if target.exists():
            os.replace(target, replaced)
        os.replace(aside, target)
        sync(folder)
    except BaseException:
        shutil.rmtree(aside, ignore_errors=True)
        put_back(replaced)
        raise
    shutil.rmtree(replaced, ignore_errors=True)
    return target


def put_back(replaced: Path) -> None:
    """Undoes half a replacement of a checkpoint: one that was moved aside comes back, unless the new one is there."""
    target = replaced.with_name(replaced.name.removeprefix(".replaced-"))
    if replaced.exists() and not target.exists():
        os.replace(replaced, target)
    shutil.rmtree(replaced, ignore_errors=True)


class Unreadable(RunError):
    """A checkpoint that may be whole: where it lies, something is wrong."""


def read_checkpoint(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """(tensors, state) of one checkpoint directory. Checks the hash before anything is parsed.

    Raises:
        Unreadable: the disk does not give it now.
        RunError: a file is missing, damaged, foreign or of another version.
    """
    try:
        state = read_json(path / "checkpoint.json")
        if not isinstance(state, dict) or state.get("schema") != SCHEMA:
            raise RunError(f"checkpoint {path} is of another version")
        if json_hash({key: value for key, value in state.items() if key != "sha256"}) != state.get("sha256"):
            raise RunError(f"checkpoint {path} is damaged: checkpoint.json is not what was written")
        content = (path / "tensors.safetensors").read_bytes()
        if hashlib.sha256(content).hexdigest() != state.get("tensors_sha256"):
            raise RunError(f"checkpoint {path} is damaged: its tensors are not what was written")
        return load(content), state
    except RunError:
        raise
    except OSError as error:
        if error.errno in (errno.ENOENT, errno.ENOTDIR, errno.EISDIR, errno.ELOOP):
            raise RunError(f"checkpoint {path} is damaged: {error}") from None
        raise Unreadable(
            f"checkpoint {path} cannot be read ({error.strerror}): put that right and try again; without {path} the one"
            " before is taken"
        ) from None
    except (ValueError, RecursionError, SafetensorError) as error:
        raise RunError(f"checkpoint {path} is damaged: {error}") from None


def json_hash(data: dict[str, Any]) -> str:
    """SHA-256 of JSON, whatever the order of its keys."""
    return hashlib.sha256(json.dumps(data, sort_keys=True).encode()).hexdigest()


def write_weights(folder: Path, tensors: dict[str, Tensor], facts: dict[str, Any]) -> None:
    """Writes weights alone, and what is known of them, in place of those that were there.

    What was known of those is kept beside it, as `before`: they are what is there until the new file is.

    Raises:
        OSError: the disk is full; what was there before still is.
    """
    content = packed(tensors)
    folder.mkdir(parents=True, exist_ok=True)
    whole = facts | {"tensors_sha256": hashlib.sha256(content).hexdigest()}
    with suppress(RunError):
        whole["before"] = {key: value for key, value in read_weights(folder)[1].items() if key != "before"}
    write_json(folder / f"{folder.name}.json", whole)
    write_atomically(folder / "weights.safetensors", content)


def read_weights(folder: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """(tensors, facts) of weights alone, in whatever folder they were copied to.

    Raises:
        RunError: they are damaged.
    """
    try:
        facts, content = facts_of(folder)
        return load(content), facts
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError, SafetensorError) as error:
        raise RunError(f"the weights in {folder} are damaged: {error}") from None
