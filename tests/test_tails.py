"""Logs that grow while the dashboard reads them."""

import json
import os
import time
from itertools import pairwise

from experiments.dashboard.curves import LIMIT, Curve, RunCurves
from experiments.dashboard.tails import Tail
from tests.test_dashboard import row


def test_a_sample_has_both_ends_and_what_follows_is_complete(tmp_path):
    path = tmp_path / "m.jsonl"
    path.write_text("".join(row(i, pad="x" * 400) for i in range(1, 2_001)) + '{"torn')
    tail = Tail(path)
    found = [r["frames"] for r in tail.sample(100)]
    assert found[0] == 10_000 and found[-1] == 20_000_000 and found == sorted(set(found)) and 95 <= len(found) <= 101
    assert tail.fresh() == []
    path.write_text("")
    assert tail.fresh() is None and Tail(tmp_path / "none").sample() == []


def test_a_curve_that_is_watched_for_days_keeps_its_past():
    """Two hundred million frames, a row at a time."""
    curve = Curve("y")
    for i in range(1, 20_001):
        curve.add([{"frames": 10_000 * i, "y": float(i)}], i)
    found = [point.frames for point in curve.points]
    assert found[0] == 10_000 and found[-1] == 200_000_000 and len(found) <= LIMIT and found == sorted(found)
    assert max(b - a for a, b in pairwise(found)) < 4.1 * 200_000_000 / (LIMIT // 2)
    assert all(point.value == point.frames / 10_000 for point in curve.points)


def test_what_a_resumed_run_measured_again_counts_once():
    curve, speeds = Curve("y"), [1.0, 1.0, 1.0, 3.0, 3.0]
    rows = [{"frames": frames, "y": y} for frames, y in zip([10, 20, 30, 20, 30], speeds, strict=True)]
    curve.begin(rows[:3], 1)
    assert curve.since(1) == (False, [])
    curve.add(rows[3:], 2)
    anew, points = curve.since(1)
    assert anew and [(point.frames, point.value) for point in points] == [(10, 1.0), (20, 3.0), (30, 3.0)]


def test_hours_of_a_training_of_weeks_count_every_row(tmp_path):
    path, count = tmp_path / "perf.jsonl", 20_000
    rows = [{"frames": 10_000 * i, "charts/FPS": 500.0 + i % 1_000} for i in range(1, count + 1)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    run = RunCurves(Tail(tmp_path / "metrics.jsonl"), Tail(path))
    hours = sum(10_000 / row["charts/FPS"] for row in rows) / 3600
    half = sum(10_000 / row["charts/FPS"] for row in rows[: count // 2]) / 3600
    assert abs(run.hours_at([10_000 * count])[0] - hours) < 1e-9 and len(run.clock) < 1_001
    assert abs(run.hours_at([5_000 * count])[0] - half) < 0.01 * hours
    with path.open("a") as file:
        file.write(json.dumps({"frames": 10_000 * (count + 1), "charts/FPS": 250.0}) + "\n")
    assert abs(run.hours_at([10_000 * (count + 1)])[0] - hours - 40 / 3600) < 1e-6


def test_what_is_no_log_holds_nobody_up(tmp_path):
    """A terabyte without a line, as a disk that was full may leave, and a pipe that nobody writes to."""
    path = tmp_path / "m.jsonl"
    path.write_text(row(1))
    os.truncate(path, 1 << 40)
    began, tail = time.monotonic(), Tail(path)
    assert tail.sample() == [] or tail.sample()[0]["frames"] == 10_000
    assert tail.fresh() == []
    assert time.monotonic() - began < 20
    growing = Tail(tmp_path / "g.jsonl")
    growing.path.write_text(row(1))
    growing.sample()
    os.truncate(growing.path, 1 << 30)
    for _ in range(3):
        assert growing.fresh() == []
    os.mkfifo(tmp_path / "pipe")
    assert Tail(tmp_path / "pipe").sample() == [] and Tail(tmp_path / "pipe").fresh() == []
