"""Learning curves of many runs, kept small and up to date."""

import threading
from typing import Any, NamedTuple

import numpy as np

from experiments.dashboard.tails import SAMPLES, Tail
from experiments.records import finite

LIMIT = 6 * SAMPLES  # points of a curve before half of them are dropped
KNOTS = 1_000  # of a run's clock, as the points of its curves


class Point(NamedTuple):
    """One point, and when the dashboard learned of it."""

    version: int
    frames: int
    steps: int
    value: float


def thinned(points: list[Point]) -> list[Point]:
    """At most half as many points as a curve may have, and both ends: the last in each stretch of so many frames.

    Stretches are powers of two, so that what was thinned before lies in them whole, and the past is not dropped again
    and again.
    """
    width = 1
    while (points[-1].frames - points[0].frames) // width > LIMIT // 2 - 2:
        width *= 2
    kept = {point.frames // width: point for point in points}
    return [points[0], *(point for point in kept.values() if point is not points[0])]


class Curve:
    """One metric of one run."""

    def __init__(self, key: str):
        self.key = key
        self.points: list[Point] = []
        self.begun = 0  # the version at which its points were read anew

    def begin(self, rows: list[dict[str, Any]], version: int) -> None:
        self.points, self.begun = [], version
        self.add(rows, version)

    def add(self, rows: list[dict[str, Any]], version: int) -> None:
        """Takes in rows; those without the metric, or where it is no number, are left out."""
        for row in rows:
            value = finite(row.get(self.key))
            if value is not None:
                steps, frames = finite(row.get("agent_steps")), int(row["frames"])
                while self.points and self.points[-1].frames >= frames:  # a resumed run measures some rows again
                    self.points.pop()
                    self.begun = version
                self.points.append(Point(version, frames, int(steps or 0), value))
        if len(self.points) > LIMIT:
            self.points, self.begun = thinned(self.points), version

    def since(self, version: int) -> tuple[bool, list[Point]]:
        """(whether all that was told before is to be forgotten, points that came after a version)."""
        if self.begun > version:
            return True, self.points
        return False, [point for point in self.points if point.version > version]


class RunCurves:
    """The curves of one run that somebody looks at."""

    def __init__(self, tail: Tail, perf: Tail):
        self.tails = {"metrics": tail, "perf": perf}
        self.curves: dict[str, Curve] = {}
        self.samples = SAMPLES  # of a curve that is read anew
        self.speeds, self.clock = Tail(perf.path), [(0, 0.0)]  # (emulator frames, hours), in order
        self.lock = threading.Lock()  # of the clock, which several pages wind

    @staticmethod
    def file_of(key: str) -> str:
        """Which file has a metric: speeds and times, which never repeat, are apart."""
        return "perf" if key.startswith(("perf/", "system/", "charts/FPS", "charts/SPS", "charts/time")) else "metrics"

    def update(self, version: int) -> None:
        """Takes in what was written since."""
        for name, tail in self.tails.items():
            mine = [curve for curve in self.curves.values() if self.file_of(curve.key) == name]
            if not mine:
                continue
            rows = tail.fresh()
            if rows is None:
                for curve in mine:
                    self._begin(curve, version)
            elif rows:
                for curve in mine:
                    curve.add(rows, version)

    def get(self, key: str, version: int) -> Curve:
        """The curve of a metric, read if nobody looked at it before."""
        if key not in self.curves:
            self.curves[key] = Curve(key)
            self._begin(self.curves[key], version)
        return self.curves[key]

    def _begin(self, curve: Curve, version: int) -> None:
        tail = self.tails[self.file_of(curve.key)]
        others = [c for c in self.curves.values() if c is not curve and self.file_of(c.key) == self.file_of(curve.key)]
        missed = tail.fresh() if others and tail.offset else []
        for other in others:  # what `sample` below passes over
            other.add(missed or [], version)
        rows = tail.sample(self.samples)
        if sum(curve.key in row for row in rows) < len(rows) / 3:
            rows = tail.having(curve.key)
        curve.begin(rows, version)

    def hours_at(self, frames: list[int]) -> list[float]:
        """Hours of training at numbers of frames, without evaluations and pauses."""
        with self.lock:
            self._wind()
            known, hours_at_known = zip(*self.clock, strict=True)
        return np.interp(frames, known, hours_at_known).tolist()

    def _wind(self) -> None:
        """Takes the clock on to now."""
        rows = self.speeds.fresh() if self.speeds.offset else None
        if rows is None:  # nobody looked before, or the file is another one
            self.speeds.sample()  # goes to the end; of so few rows a slow one would stand for many
            self.clock, rows = [(0, 0.0)], self.speeds.having("charts/FPS", most=None)
        for row in rows:
            x, speed = int(row["frames"]), finite(row.get("charts/FPS"))
            if speed and speed > 0 and x > 0:
                while self.clock[-1][0] >= x:  # a resumed run measures some rows again
                    self.clock.pop()
                then, hours = self.clock[-1]
                if finite(hours := hours + (x - then) / speed / 3600) is not None:
                    self.clock.append((x, hours))
            if len(self.clock) > KNOTS:  # they are sums: those in between may go
                self.clock = [*self.clock[:-1:2], self.clock[-1]]
