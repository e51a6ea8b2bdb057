"""The run directory: the truth about a run.

    config.json         the resolved experiment, protocol, versions, commit; written once
    metrics.jsonl       a row per 10,000 frames, at the end, and per evaluation; append-only, the same whenever repeated
    perf.jsonl          the same for speeds and times, which never repeat
    episodes.jsonl      a row per finished training episode, with its place in recordings/training.rec; append-only
    events.jsonl        what happened to the run besides: resumed, not saved, an emulator replaced; append-only
    summary.json        the latest figures; rewritten at each evaluation and checkpoint
    evaluations/        a file per evaluation: every score, and what it was measured under
    checkpoints/<agent steps>/    tensors.safetensors and checkpoint.json; the newest two
    best/               the weights that scored best in an evaluation, and that evaluation; for those who ask for them
    weights/<agent steps>/        the weights that an evaluation scored, of each if it was told to
    replay/             the replay's rows, until the run is finished (segments.py); of rank 1, or of a player, in 1/
    recordings/         *.rec: every episode of training and of each evaluation, to be played again; videos
    demo.json           what `highscore demo` found before and after
    wandb/              what Weights & Biases was told, or is to be told by `highscore sync`
    trace.json          where the time of some iterations went, if --profile asked for it
    diverged/           the batch that ended a training whose loss was no number any more
    .lock               held while a process writes

Each file is written aside and renamed, or appended to by whole lines or recordings. No file is ever unpickled.
"""

import contextlib
import fcntl
import json
import os
import re
import shlex
import shutil
import sys
import time
import uuid
from pathlib import Path
from typing import Any

from torch import Tensor

from experiments.checkpoint import SCHEMA, put_back, read_checkpoint, read_weights, write_checkpoint
from experiments.config import Experiment, from_json, to_json
from experiments.files import DISK_FULL, RunError, in_a_name, sync, write_json
from experiments.provenance import provenance
from experiments.records import alive, checkpoints, is_count, kept_weights, read_config

KEPT_CHECKPOINTS = 2
REPEATED = ("metrics.jsonl", "episodes.jsonl", "recordings/training.rec")  # append-only, and all in them repeats itself
APPENDED = (*REPEATED, "perf.jsonl", "events.jsonl")


class Run:
    """One run directory, open for writing (`create`) or reading (`open`)."""

    def __init__(self, path: Path, config: dict[str, Any]):
        self.path, self.config = path, config
        self.experiment: Experiment = from_json(config["experiment"])
        if not isinstance(self.experiment, Experiment):
            raise ValueError("it has no experiment")
        for key, kind in (("ranks", int), ("device", str), ("wandb", dict)):
            if type(config.get(key, kind())) is not kind:
                raise ValueError(f"its {key!r} is no {kind.__name__}")
        self._files: dict[str, Any] = {}
        self._lock: Any = None

    @property
    def name(self) -> str:
        return self.path.name

    @property
    def ranks(self) -> int:
        """The processes that train it together."""
        return int(self.config.get("ranks", 1))

    @property
    def begun_on(self) -> str:
        """The kind of device that it was begun on."""
        return self.config.get("device", "cpu")

    @property
    def begun_with(self) -> Path | None:
        """The run whose weights it began with, if it did so."""
        weights = self.config.get("weights")
        return Path(str(weights["run"])) if isinstance(weights, dict) and "run" in weights else None

    @property
    def wandb(self) -> dict[str, Any]:
        """How Weights & Biases mirrors it: "mode", "project", "group" and "tags"."""
        return {"mode": "auto", "project": "highscore"} | self.config.get("wandb", {})

    @property
    def resume_command(self) -> str:
        """What goes on with it."""
        path = shlex.quote(str(self.path))
        if self.ranks == 1:
            return f"highscore resume {path}"
        return f"torchrun --nproc-per-node={self.ranks} -m experiments.resume {path}"

    @classmethod
    def create(cls, root: Path, experiment: Experiment, name: str = "", **more: Any) -> "Run":
        """Makes a new directory, which no other run has or gets.

        Args:
            name: of the directory; empty: agent, game, seed and time.
            more: further entries for config.json.

        Raises:
            RunError: the name is taken, or is no plain file name.
        """
        check_name(root, name)
        root.mkdir(parents=True, exist_ok=True)
        stamp = time.strftime("%Y%m%d-%H%M%S")
        base = name or f"{in_a_name(experiment.agent)}-{in_a_name(experiment.game)}-s{experiment.seed}-{stamp}"
        path = root / base
        for attempt in range(2, 1000):
            try:
                path.mkdir()
                break
            except FileExistsError:
                check_name(root, name)  # somebody was faster
                path = root / f"{base}-{attempt}"
        else:
            raise RunError(f"{root} has a thousand runs called {base}; choose a --name")
        known = {"schema": SCHEMA, "name": path.name, "experiment": to_json(experiment), "wandb_id": wandb_id()}
        run = cls(path, known | provenance() | more)
        try:
            run._acquire()
            for folder in ("checkpoints", "evaluations", "recordings"):
                (path / folder).mkdir()
            write_json(path / "config.json", run.config)
        except BaseException:
            shutil.rmtree(path, ignore_errors=True)  # half a run directory is none
            raise
        return run

    @classmethod
    def open(cls, path: Path) -> "Run":
        """Opens a run directory for reading.

        Raises:
            RunError: there is none, or it is damaged or of another version.
        """
        if not path.is_dir():
            raise RunError(f"there is no run at {path}; `highscore list runs` shows those there are")
        config = read_config(path)
        if not isinstance(config, dict) or config.get("schema") != SCHEMA:
            raise RunError(f"{path} was not written by this version of the suite (schema {SCHEMA})")
        try:
            return cls(path, config)
        except (KeyError, ValueError, TypeError) as error:
            commit = config.get("commit") or "unknown"
            raise RunError(
                f"{path / 'config.json'} is damaged, or of other code (commit {commit}: check that out): {error}"
            ) from None

    @classmethod
    def reopen(cls, path: Path) -> "Run":
        """Opens a run directory to go on with the run.

        Raises:
            RunError: as `open`; or another process is at it.
        """
        run = cls.open(path)
        if links := [name for name in APPENDED if (path / name).is_symlink()]:  # it would be cut, wherever it is
            raise RunError(f"{path / links[0]} is a link: put the file itself there, or go on elsewhere")
        run._acquire()
        for left in (path / "checkpoints").glob(".writing-*"):  # by a process that was killed
            shutil.rmtree(left, ignore_errors=True)
        for replaced in (path / "checkpoints").glob(".replaced-*"):
            put_back(replaced)
        for folder in (path / "best", *(path / "weights").glob("*")):
            for left in filter(Path.is_file, folder.glob(".*")):
                left.unlink(missing_ok=True)
        return run

    def _acquire(self) -> None:
        path = self.path / ".lock"
        try:
            self._lock = os.fdopen(os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o666), "w")
        except OSError as error:
            if error.errno in DISK_FULL:
                raise
            raise RunError(
                f"{path} cannot be written ({error.strerror}): go on with the run as one who may, or with a copy"
            ) from None
        try:
            for patience in (0.05, 0.1, 0.0):  # who only asks whether the run lives holds it for some microseconds
                try:
                    fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    return
                except BlockingIOError:
                    time.sleep(patience)
        except OSError as error:
            raise RunError(
                f"{path} cannot be locked ({error.strerror}); put --runs on a disk that locks files"
            ) from None
        raise RunError(f"another process is writing to {self.path}; wait for it, or stop it")

    def append(self, file: str, row: dict[str, Any]) -> None:
        """Adds a row to a JSON-lines file, as one write, so that a kill tears at most the last line."""
        self.append_bytes(file, (json.dumps(row, allow_nan=False) + "\n").encode())

    def append_bytes(self, file: str, content: bytes) -> tuple[int, int]:
        """Adds bytes to a file, all or none of them; returns where they are: (offset, length).

        Raises:
            OSError: the disk is full; the file is as it was.
        """
        if file not in self._files:
            self._files[file] = (self.path / file).open("ab", buffering=0)
        opened = self._files[file]
        offset = opened.seek(0, os.SEEK_END)
        try:
            written = opened.write(content)
            if written < len(content):
                opened.write(content[written:])  # says why it was cut short
        except OSError:
            os.truncate(opened.fileno(), offset)
            raise
        return offset, len(content)

    def positions(self) -> dict[str, int]:
        """Bytes of every append-only file that a resumed run writes again; they are on the disk when it returns."""
        found = {}
        for name in REPEATED:
            if (self.path / name).exists():
                sync(self.path / name)
                found[name] = (self.path / name).stat().st_size
        return found

    def check_positions(self, positions: dict[str, int]) -> None:
        """Refuses `positions` that the append-only files do not reach.

        Raises:
            ValueError: a file is missing or cut short.
        """
        for name, size in positions.items():
            if name not in REPEATED or not (self.path / name).exists() or (self.path / name).stat().st_size < size:
                raise ValueError(f"{name} is missing or cut short")

    def cut(self, positions: dict[str, int]) -> None:
        """Takes the append-only files back to where they were at `positions`."""
        for name in REPEATED:
            if (self.path / name).exists():
                os.truncate(self.path / name, positions.get(name, 0))

    def close(self) -> None:
        for file in self._files.values():
            file.close()
        self._files.clear()
        if self._lock is not None:
            self._lock.close()

    def save_checkpoint(self, tensors: dict[str, Tensor], state: dict[str, Any]) -> Path:
        """Writes a checkpoint, then forgets all but the newest few.

        Args:
            state: JSON-able; "agent_steps" names the checkpoint.
        """
        target = write_checkpoint(self.path / "checkpoints", tensors, state)
        for old in self.checkpoints()[:-KEPT_CHECKPOINTS]:
            shutil.rmtree(old, ignore_errors=True)
        return target

    def checkpoints(self) -> list[Path]:
        """Checkpoint directories, oldest first."""
        return checkpoints(self.path)

    def forget_after(self, path: Path) -> None:
        """Removes the checkpoints newer than one, and the evaluations in a training that did not last."""
        for newer in (p for p in self.checkpoints() if p.name > path.name):
            shutil.rmtree(newer)
        for result in (self.path / "evaluations").glob("*.json"):
            if is_count(result.stem) and result.stem > path.name:
                for name in (f"{result.stem}.rec", f"{result.stem}.mp4"):
                    (self.path / "recordings" / name).unlink(missing_ok=True)
                result.unlink()
        for newer in (p for p in kept_weights(self.path) if p.name > path.name):
            shutil.rmtree(newer)
        with contextlib.suppress(RunError, KeyError, TypeError):
            if read_weights(self.path / "best")[1]["agent_steps"] > int(path.name):
                shutil.rmtree(self.path / "best")

    def load_checkpoint(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """The newest checkpoint that is whole: (tensors, state). Says aloud which damaged one it passed over.

        Raises:
            RunError: there is none.
        """
        found = self.checkpoints()
        for path in reversed(found):
            try:
                return read_checkpoint(path)
            except RunError as error:
                print(f"{error}; trying the one before", file=sys.stderr)
        if found:
            raise RunError(f"{self.path} has no checkpoint that can be read; train it anew")
        if alive(self.path):
            raise RunError(f"{self.path} has no checkpoint yet; it needs a little more training")
        anew = f"highscore train {shlex.quote(str(self.path))}"
        raise RunError(f"{self.path} ended before its first checkpoint; train it anew: {anew}")


def check_name(root: Path, name: str) -> None:
    """Refuses the name of a run directory that cannot be made, or that no command would find; "" can.

    Raises:
        RunError: the name is taken, or is no plain file name; or the root is a run.
    """
    if (root / "config.json").exists():
        raise RunError(f"--runs {root} is a run, and no command looks for runs inside of one; choose another folder")
    if name and not re.fullmatch(r"[\w][\w.+-]*", name):
        raise RunError(f"--name {name!r}: use letters, digits, dots, dashes and underscores")
    if name and os.path.lexists(path := root / name):
        hint = f"go on with it (highscore resume {path}) or " if unfinished(path) else ""
        raise RunError(f"{path} exists already; {hint}choose another --name")


def unfinished(path: Path) -> bool:
    """Whether there is a run that `highscore resume` can go on with."""
    try:
        found = Run.open(path).checkpoints()
        return bool(found) and not read_checkpoint(found[-1])[1]["finished"]
    except (RunError, KeyError):
        return False


def wandb_id() -> str:
    """A new run's name in Weights & Biases: the one that a sweep's agent gave, or one of its own."""
    given = os.environ.get("WANDB_RUN_ID", "") if "WANDB_SWEEP_ID" in os.environ else ""
    return given if re.fullmatch(r"[\w-]{1,64}", given) else uuid.uuid4().hex[:8]
