"""What the dashboard knows of the runs: it looks at what changed, and reads only what is new."""

import hashlib
import secrets
import threading
import time
import traceback
from pathlib import Path
from typing import Any

from envs.scores import baselines, human_normalised
from experiments.dashboard.curves import RunCurves
from experiments.dashboard.tails import SAMPLES, Tail
from experiments.files import RunError
from experiments.labels import label
from experiments.measured import fingerprint_of, measured
from experiments.progress import frames_played, heartbeat, status
from experiments.records import (
    Record,
    alive,
    completed,
    find_runs,
    finite,
    last_rows,
    read_record,
    summary,
    whole,
)

SCAN = 3.0  # seconds between looks for new runs and lost ones
REFRESH = 0.8  # seconds between looks at those known
MOST, FEWEST = 25_000, 40  # points of all curves at first; of each
WATCHED = ("metrics.jsonl", "perf.jsonl", "summary.json", ".lock", "checkpoints", "evaluations")


class Entry:
    """One run."""

    def __init__(self, record: Record):
        self.record = record
        self.made = made(record.path)
        name = f"{record.path} {record.config.get('created', '')}"  # another run may come to the same place
        self.id = hashlib.sha256(name.encode(errors="surrogatepass")).hexdigest()[:12]
        self.curves = RunCurves(Tail(record.path / "metrics.jsonl"), Tail(record.path / "perf.jsonl"))
        self.signature: tuple[Any, ...] = ()
        self.facts: dict[str, Any] = {}
        self.evaluated: tuple[Any, list[dict[str, Any]]] = None, []  # when evaluations/ changed, and those that count
        self.scores: list[dict[str, Any]] = []  # what is told of each of them
        self.version = 0

    def look(self, version: int, agent: str, root: Path) -> None:
        """Reads again what is told of this run in the overview, if anything has changed."""
        path = self.record.path
        signature: list[Any] = [agent]
        for name in WATCHED:
            try:
                found = (path / name).stat()
                signature.append((found.st_mtime_ns, found.st_size))
            except OSError:
                signature.append(None)
        now = self.facts.get("status")
        unsure = now in (None, "running", "silent", "damaged") or tuple(signature) != self.signature
        unsure = unsure or (now in ("stopped", "crashed") and alive(path))  # it goes on, and has written nothing yet
        if not unsure:
            return
        try:
            facts = self._facts(agent, root)
        except Exception:  # whatever is in its files, it must not hide the others
            if now != "damaged":
                traceback.print_exc()
            facts, self.scores = self._settings(agent, root) | {"status": "damaged"}, []
        self.signature = tuple(signature)
        if facts != self.facts:
            self.facts, self.version = facts, version

    def _settings(self, agent: str, root: Path) -> dict[str, Any]:
        """What is known of a run before it is looked at."""
        path, settings = self.record.path, self.record.settings
        return {
            "id": self.id, "name": self.record.name, "folder": folder_of(path, root), "agent": agent,
            "preset": settings["preset"], "game": settings["game"], "seed": settings["seed"],
            "protocol": settings["protocol"], "status": "", "frames": 0, "whole": settings["frames"],
            "training": None, "speed": None, "curve_fingerprint": None,
            "created": str(self.record.config.get("created", "")),
        } | score({}, settings["game"])  # fmt: skip

    def _facts(self, agent: str, root: Path) -> dict[str, Any]:
        path, found = self.record.path, summary(self.record.path)
        last = last_row(path / "metrics.jsonl")
        newest = [one for one in [found.get("evaluation")] if isinstance(one, dict)]
        self.scores = [score(one, self.record.game) for one in self._evaluations() or newest]
        return self._settings(agent, root) | (self.scores[0] if self.scores else {}) | {
            "status": status(path), "frames": frames_played(path, found),
            "training": finite(last.get("charts/episodic_return", found.get("training_score"))),
            "speed": finite(last_row(path / "perf.jsonl").get("charts/FPS")),
            "curve_fingerprint": fingerprint_of(newest[0]) if newest else None,
        }  # fmt: skip

    def _evaluations(self) -> list[dict[str, Any]]:
        """Those that count; read only when one has come: a training that goes on is looked at every second."""
        folder = self.record.path / "evaluations"
        changed = folder.stat().st_mtime_ns if folder.is_dir() else None
        if changed != self.evaluated[0]:
            self.evaluated = changed, measured(self.record.path)
        return self.evaluated[1]


def score(evaluation: dict[str, Any], game: str) -> dict[str, Any]:
    """What is told of an evaluation."""
    mean = finite(evaluation.get("mean"))
    return {
        "evaluation": mean, "normalised": None if mean is None else finite(human_normalised(game, mean)),
        "measured": str(evaluation.get("protocol", "")), "evaluated": whole(evaluation.get("frames")) or 0,
        "fingerprint": fingerprint_of(evaluation) if mean is not None else None,
    }  # fmt: skip


def made(path: Path) -> tuple[int, int] | None:
    """What tells a run's config.json from another one in its place."""
    try:
        found = (path / "config.json").stat()
    except OSError:
        return None
    return found.st_ino, found.st_mtime_ns


def folder_of(path: Path, root: Path) -> str:
    """The folders between the dashboard's and the run: a suite's name."""
    parts = path.relative_to(root).parts[:-1] if path.is_relative_to(root) else ()
    return "/".join(parts)


def last_row(path: Path) -> dict[str, Any]:
    """The newest row of a file that is no evaluation's; {} if there is none."""
    rows = last_rows(path)
    return next((row for row in reversed(rows) if "eval/mean" not in row), rows[-1] if rows else {})


class Index:
    """All runs below a folder. One lock: looked at from several threads."""

    def __init__(self, root: Path):
        self.root = root
        self.lock = threading.Lock()
        self.name = secrets.token_hex(4)  # versions are those of one server: pages outlive it
        self.entries: dict[str, Entry] = {}
        self.agents: dict[str, str] = {}  # what each is called beside the others
        self.version = 0
        self.gone: list[tuple[int, str]] = []
        self.scanned = self.refreshed = float("-inf")

    def refresh(self) -> None:
        """Looks for what is new, but not more often than it pays."""
        now = time.monotonic()
        if now - self.refreshed < REFRESH:
            return
        self.version += 1
        if now - self.scanned >= SCAN:
            self._scan()
            self.scanned = time.monotonic()
        for entry in self.entries.values():
            entry.look(self.version, self.agents[entry.id], self.root)
        self.refreshed = time.monotonic()

    def _scan(self) -> None:
        try:
            paths = find_runs([self.root])
        except RunError:
            paths = []
        known, new = {entry.record.path: entry for entry in self.entries.values()}, False
        for path in paths:
            old = known.get(path)
            if old is None or made(path) != old.made:
                try:
                    entry = Entry(read_record(path))
                except RunError:
                    continue  # damaged, or just being made
                if old is not None and entry.id == old.id:
                    old.made = entry.made
                    continue
                if old is not None:
                    self._forget(old)
                self.entries[entry.id], new = entry, True
        if new:
            entries = list(self.entries.values())
            for entry, record in zip(entries, completed([entry.record for entry in entries]), strict=True):
                entry.record = record
        lost = known.keys() - set(paths)
        for path in lost:
            self._forget(known[path])
        if new or lost:
            names = label([entry.record.settings for entry in self.entries.values()])
            self.agents = dict(zip(self.entries, names, strict=True))

    def _forget(self, entry: Entry) -> None:
        del self.entries[entry.id]
        self.gone.append((self.version, entry.id))

    def runs(self, since: int) -> dict[str, Any]:
        """What has changed after a version: {"server", "version", "runs": [...], "gone": [ids],
        "beats": {id: seconds}}."""
        with self.lock:
            self.refresh()
            fresh = [entry.facts for entry in self.entries.values() if entry.version > since]
            gone = [name for version, name in self.gone if version > since and name not in self.entries]
            found = {"server": self.name, "version": self.version, "runs": fresh, "gone": gone}
            return found | {"beats": self._beats()}

    def measured(self) -> list[dict[str, Any]]:
        """The runs as in `runs`, each once for every kind of evaluation that it has."""
        with self.lock:
            self.refresh()
            return [entry.facts | one for entry in self.entries.values() for one in entry.scores]

    def _beats(self) -> dict[str, float]:
        alive = (entry for entry in self.entries.values() if entry.facts.get("status") in ("running", "silent"))
        return {entry.id: round(heartbeat(entry.record.path), 1) for entry in alive}

    def curves(self, key: str, axis: str, since: int, ids: list[str] | None) -> dict[str, Any]:
        """Points of a metric that came after a version.

        Args:
            axis: frames, steps or hours.
            ids: of the runs; None: all.
        """
        with self.lock:
            self.refresh()
            self.version += 1  # what is read now is new to all who asked before
            chosen = (
                [self.entries[i] for i in ids if i in self.entries] if ids is not None else [*self.entries.values()]
            )
            found = []
            for entry in chosen:
                entry.curves.samples = max(FEWEST, min(SAMPLES, MOST // len(self.entries)))
                entry.curves.update(self.version)
                anew, points = entry.curves.get(key, self.version).since(since)
                if not points and not anew:
                    continue
                frames = [point.frames for point in points]
                x: list[Any] = frames if axis == "frames" else [point.steps for point in points]
                if axis == "hours":
                    x = entry.curves.hours_at(frames)
                found.append({
                    "id": entry.id, "anew": anew, "x": [round(value, 5) for value in x],
                    "y": [float(f"{point.value:.6g}") for point in points],
                    "frames": None if axis == "frames" else frames,
                })  # fmt: skip
            return {"server": self.name, "version": self.version, "curves": found}

    def entry(self, name: str) -> Entry | None:
        """A run by its id; None if there is no such, or it is gone."""
        with self.lock:
            self.refresh()
            found = self.entries.get(name)
        return found if found is not None and (found.record.path / "config.json").exists() else None

    def metrics(self) -> list[str]:
        """Names of the figures that runs log, the usual ones first."""
        names = {"charts/episodic_return", "eval/mean"}
        with self.lock:
            self.refresh()
            begun = [entry for entry in self.entries.values() if entry.facts.get("frames")]
            for entry in {entry.record.preset: entry for entry in begun}.values():
                for file in ("metrics.jsonl", "perf.jsonl"):
                    for row in last_rows(entry.record.path / file):
                        names |= {key for key, value in row.items() if finite(value) is not None}
        usual = ["charts/episodic_return", "eval/mean"]
        return usual + sorted(names - {*usual, "frames", "agent_steps", "charts/time"})

    def settings(self) -> dict[str, dict[str, Any]]:
        """{setting: {run id: value}} of the settings in which runs differ."""
        with self.lock:
            self.refresh()
            entries = list(self.entries.values())
        keys = {key for entry in entries for key in entry.record.settings}
        table = {key: {entry.id: entry.record.settings.get(key) for entry in entries} for key in keys}
        return {
            key: row for key, row in sorted(table.items())
            if key != "source" and len({repr(value) for value in row.values()}) > 1
        }  # fmt: skip


def scales(games: set[str]) -> dict[str, list[float]]:
    """Random and human scores of the games that have them."""
    return {game: list(found) for game in sorted(games) if (found := baselines().get(game)) is not None}
