"""Runs as comparisons see them: read from their directories, without torch.

A run's *settings* are its experiment as one flat dictionary, such as {"algorithm": "DQN", "algorithm.n_steps": 3}.
"""

import fcntl
import hashlib
import json
import math
import os
import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

from experiments.files import RunError, read_json, read_rows

DEPTH = 3  # folders of folders of runs
LARGEST = 1 << 53  # frames and steps: what is more is none of ours, and browsers cannot count so far


class Record(NamedTuple):
    """One run directory."""

    path: Path
    config: dict[str, Any]
    settings: dict[str, Any]

    @property
    def name(self) -> str:
        return self.path.resolve().name

    @property
    def game(self) -> str:
        return self.settings["game"]

    @property
    def seed(self) -> int:
        return self.settings["seed"]

    @property
    def preset(self) -> str:
        return self.settings["preset"]


def agent_of(settings: dict[str, Any]) -> str:
    """What a run's settings call their agent: its variant, or its preset."""
    return settings.get("variant") or settings["preset"]


def finite(value: Any) -> float | None:
    """A number that JSON and arrays can hold, else None."""
    try:
        found = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    except OverflowError:  # hundreds of digits
        return None
    return value if found else None


def whole(value: Any) -> int | None:
    """A whole number that may be one of frames, steps or a seed, else None."""
    return value if type(value) is int and abs(value) <= LARGEST else None


def is_count(name: str) -> bool:
    """Whether a file's name is a number, as those are that say their agent steps."""
    return name.isascii() and name.isdecimal()  # "²" is a digit, too, and no number


def checkpoints(path: Path) -> list[Path]:
    """A run's checkpoints, whole or not, oldest first."""
    found = (folder for folder in (path / "checkpoints").glob("*") if is_count(folder.name))
    return sorted(found, key=lambda folder: int(folder.name))


def is_weights(folder: Path) -> bool:
    """Whether a folder holds weights that an evaluation scored, and no checkpoint."""
    return (folder / "weights.safetensors").exists()


def kept_weights(path: Path) -> list[Path]:
    """Weights that a run kept at its evaluations because it was told to, oldest first."""
    found = (folder for folder in (path / "weights").glob("*") if is_count(folder.name) and is_weights(folder))
    return sorted(found, key=lambda folder: int(folder.name))


def read_config(path: Path) -> Any:
    """What config.json of a run directory holds.

    Raises:
        RunError: there is none, or it is damaged.
    """
    try:
        return read_json(path / "config.json")
    except FileNotFoundError:
        raise RunError(
            f"{path} is not a run directory: it has no config.json; `highscore list runs FOLDER` finds runs"
        ) from None
    except (OSError, ValueError, RecursionError) as error:
        raise RunError(f"{path / 'config.json'} is damaged ({error}); restore it or train anew") from None


def read_record(path: Path) -> Record:
    """A run directory's configuration.

    Raises:
        RunError: this is none, or it is damaged.
    """
    config = read_config(path)
    try:
        settings = flat(config["experiment"]) | begun_with(config)
        if not isinstance(config["name"], str) or not {"preset", "game", "seed", "protocol", "frames"} <= set(settings):
            raise ValueError("it is no experiment")
        if any(not isinstance(settings.get(key, ""), str) for key in ("preset", "variant", "game", "protocol")):
            raise ValueError("preset, variant, game and protocol are names")
        if any(whole(settings[key]) is None for key in ("seed", "frames")):
            raise ValueError("seed and frames are whole numbers")
        if any(type(value) is int and finite(value) is None for value in settings.values()):
            raise ValueError("it has a number that is too large")
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise RunError(f"{path / 'config.json'} is damaged ({error})") from None
    return Record(path, config, settings)


def begun_with(config: dict[str, Any]) -> dict[str, Any]:
    """Whose weights a training began with (`--weights`), as one more setting; seeds may begin with several runs'."""
    weights = config.get("weights")
    if weights is None:
        return {}
    of = str(weights.get("of") or str(weights["tensors_sha256"])[:8])
    return {"weights": of.replace(f" on {config['experiment']['game']},", " on the same game,")}


def completed(records: list[Record]) -> list[Record]:
    """Records of which some were begun by a version that had fewer settings: those take their defaults, as on resume.

    Only where that is so, for it imports torch.
    """
    fields: dict[str, set[frozenset[str]]] = {}

    def gather(data: Any) -> None:
        if isinstance(data, dict):
            fields.setdefault(str(data.get("kind")), set()).add(frozenset(data))
            for part in data.values():
                gather(part)

    for record in records:
        gather(record.config["experiment"])
    if all(len(versions) == 1 for versions in fields.values()):
        return records
    from experiments.config import from_json, to_json

    found = []
    for record in records:
        try:
            settings = flat(to_json(from_json(record.config["experiment"]))) | begun_with(record.config)
        except (ArithmeticError, ValueError, TypeError, KeyError, AttributeError, RecursionError):
            settings = record.settings  # of another version altogether
        found.append(record._replace(settings=settings))
    return found


def flat(data: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested settings as one dictionary; a part's kind stands under the part's own name."""
    found: dict[str, Any] = {}
    for key, value in data.items():
        if key == "kind":
            if prefix:
                found[prefix.rstrip(".")] = value
        elif isinstance(value, dict):
            found |= flat(value, f"{prefix}{key}.")
        else:
            found[prefix + key] = value
    return found


def find_runs(paths: Iterable[Path]) -> list[Path]:
    """The run directories named, and those below the folders named; each once, in order of their names.

    Raises:
        RunError: a path does not exist, or no run is in any of them.
    """
    found: dict[Path, Path] = {}  # as it was named, by where it is
    for path in paths:
        if not path.is_dir():
            raise RunError(f"there is no folder {path}; `highscore list runs` shows the runs there are")
        for run in _below(path, DEPTH):
            found.setdefault(run.resolve(), run)
    if not found:
        raise RunError(f"no run in {', '.join(map(str, paths))}: a run directory has a config.json")
    return list(found.values())


def _below(path: Path, depth: int) -> list[Path]:
    try:
        if (path / "config.json").exists():
            return [path]
        if not depth:
            return []
        folders = sorted(p for p in path.iterdir() if p.is_dir() and not p.name.startswith("."))
    except OSError:  # another user's
        return []
    return [run for folder in folders for run in _below(folder, depth - 1)]


def evaluations(path: Path) -> list[dict[str, Any]]:
    """A run's evaluations, oldest first, with their names under "name"; damaged ones are left out."""
    found = map(read_evaluation, sorted((path / "evaluations").glob("*.json")))
    return sorted((result for result in found if result), key=lambda result: result["agent_steps"])


def read_evaluation(file: Path) -> dict[str, Any] | None:
    """One evaluation, with its name under "name"; None if it is damaged."""
    try:
        result = read_json(file)
        ok = finite(result["mean"]) is not None and whole(result["agent_steps"]) is not None
        ok = ok and whole(result["frames"]) is not None and isinstance(result.get("fingerprint", {}), dict)
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return None
    return {**result, "name": file.stem} if ok else None


def in_training(found: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Of evaluations, those that training made at its fixed frames: the points of a learning curve."""
    return [result for result in found if is_count(result["name"])]


def training_hours(path: Path) -> list[tuple[int, float]]:
    """(emulator frames, hours) as a run went: time spent in training, without evaluations and pauses.

    A resumed run has measured some rows twice; the later counts.
    """
    rows = [row for row in read_rows(path / "perf.jsonl") if whole(row.get("frames")) is not None]
    speeds = {row["frames"]: finite(row.get("charts/FPS")) for row in rows}
    hours, before, points = 0.0, 0, [(0, 0.0)]
    for frames, speed in sorted(speeds.items()):
        if speed and finite(spent := (frames - before) / speed / 3600) is not None:
            hours += spent
            points.append((frames, hours))
        before = frames
    return points


def summary(path: Path) -> dict[str, Any]:
    """A run's summary.json, or {} where there is none that can be read."""
    try:
        found = read_json(path / "summary.json")
    except (OSError, ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def best_of(path: Path) -> int | None:
    """At how many agent steps a run scored best in training, if it kept those weights."""
    try:
        return whole(facts_of(path / "best")[0]["agent_steps"])
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return None


def facts_of(folder: Path) -> tuple[dict[str, Any], bytes]:
    """What is known of the weights alone in a folder, wherever it was copied to; and their file's content.

    Raises:
        OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError: they are damaged.
    """
    content = (folder / "weights.safetensors").read_bytes()
    (file,) = (file for file in folder.glob("[!.]*.json") if file.name != "config.json")
    newest, sha256 = read_json(file), hashlib.sha256(content).hexdigest()
    facts = newest if newest["tensors_sha256"] == sha256 else newest.get("before", newest)
    if facts["tensors_sha256"] != sha256:
        raise ValueError("its tensors are not what was written")
    return facts, content


def alive(path: Path) -> bool:
    """Whether a process holds a run directory."""
    try:
        with (path / ".lock").open() as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        return False
    return False


def remove_idle(path: Path) -> bool:
    """Removes a run directory, if there is one, unless a process holds it; returns whether it is gone."""
    try:
        with (path / ".lock").open("a") as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(path, ignore_errors=True)
    except BlockingIOError:
        return False
    except OSError:
        pass  # there is none, or whoever trains there will say what is wrong with the disk
    return True


def last_rows(path: Path) -> list[dict[str, Any]]:
    """The newest whole rows of a JSON-lines file, eight at most, oldest first; reads only its end."""
    try:
        with path.open("rb") as file:
            file.seek(max(0, file.seek(0, os.SEEK_END) - 20_000))
            lines = file.read().split(b"\n")[:-1]
    except OSError:
        return []
    found = []
    for line in lines[-8:]:
        try:
            row = json.loads(line)
        except (ValueError, RecursionError):
            continue
        if isinstance(row, dict) and whole(row.get("frames")) is not None:
            found.append(row)
    return found


def last_frames(path: Path) -> int:
    """Emulator frames of the newest row of a JSON-lines file; 0 if it has none."""
    rows = last_rows(path)
    return rows[-1]["frames"] if rows else 0
