"""Runs many trainings side by side, each a process of its own, within the machine's memory."""

import os
import signal
import subprocess
import time
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple, Protocol

from experiments.children import ours
from experiments.files import NO_ROOM, RunError
from experiments.interruption import ASKS, heard
from experiments.matrix import Cell
from experiments.records import alive, remove_idle, summary, whole

POLL = 0.5  # seconds
LOST = 1000  # instead of a status, that no process has: the machine is gone
LOSSES = 5  # machines that one run may lose
STOPPED = {128 + signal.SIGINT, *(x for n in ASKS if n != signal.SIGINT for x in (128 + n, -n))}  # a run's status
PAUSE, REFUSALS = 60.0, 10  # seconds until a run that found no room tries again, and how often, with nothing beside it


class Work(Protocol):
    """What a scheduler works off."""

    def next(self) -> Cell | None:
        """A run to be started now, or None: there is none at the moment."""

    def ended(self, cell: Cell, state: str) -> None:
        """Hears that a run is finished, stopped, or failed."""

    def hopeless(self) -> set[str]:
        """Names of the runs that should be stopped for good."""

    @property
    def left(self) -> int:
        """How many runs have not been handed out."""


class Launch(NamedTuple):
    """How every run of a suite is started."""

    folder: Path
    options: tuple[str, ...]  # of train and resume alike
    more: Callable[[Cell], list[str]]  # of train alone
    threads: int  # of each process; 0: as many as torch likes
    start: Callable[[list[str], Path, dict[str, str]], Any] | None = None  # a command elsewhere; None: on this machine
    gpus: Mapping[str, int] = {}  # where there are several, that share the runs: how much of each is free, in bytes


def start_here(words: list[str], log: Path, env: dict[str, str]) -> "subprocess.Popen[bytes]":
    """Runs a command of ours in a process of its own; what it says goes to the end of a file."""
    with log.open("ab") as file:
        return subprocess.Popen(
            ours("cli", *words), stdout=file, stderr=file, stdin=subprocess.DEVNULL,
            env=os.environ | env, start_new_session=True,  # Ctrl-C is for us alone
        )  # fmt: skip


class Room(NamedTuple):
    """Memory in bytes: of the machine, and of a GPU."""

    host: int
    gpu: int = 0

    def within(self, other: "Room") -> bool:
        return self.host <= other.host and self.gpu <= other.gpu


class Job(NamedTuple):
    """A run on its way."""

    cell: Cell
    process: Any  # a subprocess.Popen, or what stands for one elsewhere
    began: float
    began_at: int  # emulator frames
    gpu: str = ""  # one of several


class Scheduler:
    """Starts, watches and stops runs.

    Args:
        memory_of: what a run takes.
        memory: what all of them may take together.
        say: prints a line for people.
    """

    def __init__(
        self, launch: Launch, jobs: int, memory_of: Callable[[Cell], Room], memory: Room, say: Callable[[str], None]
    ):
        self.launch, self.jobs, self.memory_of, self.memory, self.say = launch, jobs, memory_of, memory, say
        self.running: dict[str, Job] = {}
        self.waiting: Cell | None = None  # for memory
        self.elsewhere: list[Cell] = []  # runs that another process is at
        self.failed: dict[str, str] = {}
        self.stopped: set[str] = set()
        self.told: set[str] = set()  # hopeless ones, that they are to end
        self.losses: Counter[str] = Counter()
        self.refusals: Counter[str] = Counter()
        self.refused: set[tuple[str, str]] = set()  # (run, GPU) where there was no room, whatever there should be
        self.again_at = 0.0  # by the monotonic clock; before, no run begins, for there was no room for one
        self.done: set[str] = set()  # finished runs, whenever that was
        self.stopping = 0  # the signal that said so

    def run(self, work: Work, show: Callable[["Scheduler", Work], None]) -> None:
        """Works everything off, or stops when told to; then nothing of it runs any more.

        Args:
            show: called again and again, to show how it stands.
        """
        previous = {n: signal.signal(n, self._stop) for n in heard()}
        try:
            while True:
                self._collect(work)
                while self._may_begin():
                    self.waiting = self.waiting or self._next(work)
                    if self.waiting is None or self._place(self.waiting) is None:
                        break
                    self._begin(self.waiting, work)
                    self.waiting = None
                for name in (work.hopeless() & self.running.keys()) - self.told:
                    self.told.add(name)  # once: a second time would stop it at once, in the middle of what it saves
                    self._tell(self.running[name])
                show(self, work)
                idle = not self.running and (
                    self.stopping or (self.waiting is None and not self.elsewhere and not work.left)
                )
                if idle:
                    break
                time.sleep(POLL)
        finally:
            for job in self.running.values():
                self._tell(job)
            for job in self.running.values():
                job.process.wait()
            for number, handler in previous.items():
                signal.signal(number, handler)

    def _stop(self, number: int, _: Any) -> None:
        if not self.stopping:
            self.say("stopping: every run saves itself; it goes on with the same command")
        self.stopping = number
        for job in self.running.values():
            self._tell(job)

    def _tell(self, job: Job) -> None:
        if job.process.poll() is None:
            job.process.send_signal(signal.SIGTERM)

    def _may_begin(self) -> bool:
        return not self.stopping and len(self.running) < self.jobs and time.monotonic() >= self.again_at

    def _place(self, cell: Cell) -> str | None:
        """The GPU for a run: of those with room beside what runs there, one where it was not refused, then that with
        the fewest runs, then the most room. "" if there is no choice; None: there is no room.
        """
        taken, needed = [(self.memory_of(job.cell), job.gpu) for job in self.running.values()], self.memory_of(cell)
        host = self.memory.host - sum(room.host for room, _ in taken)
        fit = []
        for gpu, free in (self.launch.gpus or {"": self.memory.gpu}).items():
            here = [room.gpu for room, there in taken if there == gpu]
            left = free - sum(here)
            if needed.within(Room(host, left)) or not taken:
                fit.append(((cell.name, gpu) in self.refused, len(here), -left, gpu))
        return min(fit)[-1] if fit else None

    def _next(self, work: Work) -> Cell | None:
        """A run that another process was at and left, or a new one, or None."""
        left = next((cell for cell in self.elsewhere if not alive(self.launch.folder / cell.name)), None)
        if left is None:
            return work.next()
        self.elsewhere.remove(left)
        return left

    def _begin(self, cell: Cell, work: Work) -> None:
        path = self.launch.folder / cell.name
        if path.exists() and alive(path):
            return self._wait_for(cell)
        if summary(path).get("finished") is True:
            self._end(cell, work, "finished")
            return
        saved = any((path / "checkpoints").glob("[!.]*")) or any((path / "checkpoints").glob(".replaced-*"))
        words = ["resume", str(path)]
        if not saved:
            if not remove_idle(path):  # it was killed before it had saved anything
                return self._wait_for(cell)
            folder = ["--runs", str(self.launch.folder), "--name", cell.name]
            words = ["train", *cell.arguments, *folder, *self.launch.more(cell)]
        env = {"OMP_NUM_THREADS": str(self.launch.threads)} if self.launch.threads else {}
        if gpu := self._place(cell) or "":
            env["CUDA_VISIBLE_DEVICES"] = gpu
        (self.launch.folder / "logs").mkdir(exist_ok=True)
        frames = whole(summary(path).get("frames")) if saved else 0
        process = (self.launch.start or start_here)([*words, *self.launch.options], self.log(cell), env)
        self.running[cell.name] = Job(cell, process, time.monotonic(), frames or 0, gpu)
        if self.stopping:  # since it was decided to begin this one; who was told then could not be it
            self._tell(self.running[cell.name])
        self.say(f"{cell.name}: {'going on' if saved else 'begun'}" + (f" on GPU {gpu}" if gpu else ""))

    def _wait_for(self, cell: Cell) -> None:
        self.say(f"{cell.name}: another process is at it; waiting")
        self.elsewhere.append(cell)

    def log(self, cell: Cell) -> Path:
        """Where a run's output goes."""
        return self.launch.folder / "logs" / f"{cell.name}.log"

    def _collect(self, work: Work) -> None:
        for name, job in list(self.running.items()):
            status = job.process.poll()
            if status is None:
                continue
            del self.running[name]
            self.told.discard(name)  # if it begins once more, it is told once more
            self.again_at = 0.0
            if status == LOST and self.losses[name] < LOSSES and not self.stopping:
                self.losses[name] += 1
                self.say(f"{name}: its machine is gone; another goes on with it")
                self._begin(job.cell, work)
            elif summary(self.launch.folder / name).get("finished") is True:
                self._end(job.cell, work, "finished")
            elif status in STOPPED:
                self.stopped.add(name)
                self._end(job.cell, work, "stopped")
            elif status == NO_ROOM and self.refusals[name] < REFUSALS:
                self.refusals[name] += not self.running
                self.refused.add((name, job.gpu))
                self.say(f"{name}: {self._reason(job.cell, status)}. It waits until another run ends, or for a minute")
                self.elsewhere.append(job.cell)
                self.again_at = time.monotonic() + PAUSE
            elif alive(self.launch.folder / name):  # which began it a moment before ours could
                self.say(f"{name}: another process is at it; waiting")
                self.elsewhere.append(job.cell)
            else:
                self.failed[name] = self._reason(job.cell, status)
                self._end(job.cell, work, "failed")

    def _end(self, cell: Cell, work: Work, state: str) -> None:
        if state == "finished":
            self.done.add(cell.name)
        self.say(f"{cell.name}: {state}" + (f": {self.failed[cell.name]}" if state == "failed" else ""))
        work.ended(cell, state)

    def _reason(self, cell: Cell, status: int) -> str:
        """The last words that a failed run wrote."""
        try:
            lines = self.log(cell).read_text("utf-8", errors="replace").splitlines()
        except OSError:
            lines = []
        if status == LOST:
            return f"it lost its machine {self.losses[cell.name] + 1} times"
        told = (line.strip(" │") for line in reversed(lines) if any(map(str.isalnum, line)))  # not the rim of a box
        said = next(told, "it said nothing")
        if status > 0:
            return said
        if status == 0:
            return f"it ended well, but its summary.json does not say that it is finished; its last line: {said}"
        if status == -signal.SIGKILL:  # what it had said has nothing to do with it
            return "killed by SIGKILL: from outside, or by the system for want of memory"
        name = next((known.name for known in signal.Signals if known == -status), f"signal {-status}")
        return f"killed by {name}; its last line: {said}"


class Listed:
    """Work that is known beforehand: the runs of a matrix."""

    def __init__(self, cells: list[Cell]):
        self.cells = cells

    def next(self) -> Cell | None:
        return self.cells.pop(0) if self.cells else None

    def ended(self, cell: Cell, state: str) -> None: ...

    def hopeless(self) -> set[str]:
        return set()

    @property
    def left(self) -> int:
        return len(self.cells)


def check_fit(cells: list[Cell], memory_of: Callable[[Cell], Room], memory: Room) -> None:
    """Refuses a suite with a run that is too large for the machine.

    Raises:
        RunError: naming it, and the flag to change.
    """
    for cell in cells:
        for kind, needed, free in zip(("memory", "the GPU's memory"), memory_of(cell), memory, strict=True):
            if needed > free:
                raise RunError(
                    f"{cell.name} takes {needed / 1e9:.1f} GB of {kind} and {free / 1e9:.1f} GB are free; free some,"
                    " or, if it has not begun, set a smaller replay.capacity in its settings"
                )
