"""Our curves are measured as the published ones are."""

import csv
import math
from dataclasses import replace
from datetime import datetime
from pathlib import Path

import pytest

from experiments.chance import random_scores
from experiments.cli import run_command
from experiments.curve import Part, Point, last_evaluation, parts, points, published, reached
from experiments.files import write_json
from experiments.presets import preset
from experiments.run import Run


def test_points_are_means_over_each_whole_million_of_frames():
    episodes = [
        {"frames": f, "score": s, "steps": 1_000}
        for f, s in ((400_000, 1), (1_000_000, 3), (1_000_004, 10), (1_900_000, 20), (2_010_000, 99))
    ]
    found = points(episodes, {1: (1.0, 0.5), 2: (10.0, 10.0), 3: (0.0, 1.0)}, frames=2_500_000, frames_per_step=32)
    assert [(p.million, p.episodes, p.score, p.deviations) for p in found] == [(1, 2, 2.0, 2.0), (2, 2, 15.0, 0.5)]
    # An episode of 1,000 steps lasts for 32,000 frames of 8 games: its middle was 16,000 before its end.
    assert [p.by_middle for p in found] == [pytest.approx((1 + 3 + 10) / 3), pytest.approx((20 + 99) / 2)]


def test_published_curves_are_those_of_the_table():
    """The early curves that a correct implementation should follow."""
    curve = published("Breakout", "DQN CNN (Dopamine)")
    assert [round(curve[m][0], 1) for m in (1, 2, 3, 4, 5)] == [1.8, 7.1, 14.2, 18.5, 23.4]
    assert round(published("Pong", "QR-DQN CNN (Dopamine)")[4][0], 1) == 7.4
    assert published("Pong", "Quantile (JAX) (Dopamine)")[4] == (1.5975, 4.45)
    for game, agent in (("Tetris", "DQN CNN (Dopamine)"), ("Pong", "DQN CNN")):
        with pytest.raises(ValueError, match="there are"):
            published(game, agent)
    assert published("CrazyClimber", "PPO (Hafner et al.)")[2][0] == 18_870


@pytest.mark.parametrize("score, status", [(-19.8, 0), (-17.0, 1)])
def test_a_training_stands_beside_several_published_curves(tmp_path, score, status):
    run = Run.create(tmp_path, replace(preset("qrdqn"), game="Pong"), "run")
    for frames in (500_000, 1_000_000):
        run.append("episodes.jsonl", {"frames": frames, "score": score, "steps": 900})
    run.append("metrics.jsonl", {"frames": 1_000_000})
    write_json(run.path / "summary.json", {})
    run.close()
    names = ["QR-DQN CNN (Dopamine)", "Quantile (JAX) (Dopamine)"]
    assert run_command("curve", [str(run.path), str(tmp_path / "out"), "--reference", *names]) == status
    rows = [line.split(",") for line in (tmp_path / "out/curve.csv").read_text().splitlines()]
    assert rows[0][2:6] == ["score", "published", "published_sd", "deviations"]
    assert [row[-1] for row in rows[1:]] == names and {row[2] for row in rows[1:]} == {f"{score:.3f}"}
    assert [row[3] for row in rows[1:]] == ["-19.756", "-19.913"]
    assert (tmp_path / "out/curve.png").stat().st_size > 5_000


def test_what_is_said_of_qrdqn_is_what_was_measured():
    """The guide's distances, from the scores that the evidence keeps and what was published."""
    folder = Path(__file__).parent.parent
    rows = list(csv.DictReader((folder / "experiments/evidence/qrdqn-pong/importance-0/curve.csv").open()))
    guide, table = (folder / "experiments/guides/reproduction.md").read_text(), dict[str, list[str]]()
    for row in rows:
        mean, sd = published("Pong", row["reference"])[int(row["million_frames"])]
        distance = (float(row["score"]) - mean) / sd
        assert abs(distance - float(row["deviations"])) < 0.01
        name = row["million_frames"]
        table.setdefault(name, [name, f"{float(row['score']):.1f}"]).append(f"{mean:.1f} ± {sd:.1f} | {distance:+.1f}")
    for name, score, other, first in table.values():
        assert f"| {name} | {score} | {first} | {other} |" in guide


def test_a_point_compares_well_within_three_deviations_or_where_none_are_known_above():
    assert [Point(1, 1, score, 10.0, 2.0).well for score in (3.9, 4.0, 16.0, 16.1)] == [False, True, True, False]
    assert [Point(1, 1, score, 10.0, math.nan).well for score in (9.9, 10.0, 99.0)] == [False, True, True]


def test_a_published_score_that_never_varied_is_infinitely_far():
    assert Point(1, 10, 2.0, 0.0, 0.0).deviations == math.inf and Point(1, 10, -2.0, 0.0, 0.0).deviations == -math.inf
    assert not Point(1, 10, 2.0, 0.0, 0.0).well and math.isnan(Point(1, 10, 0.0, 0.0, math.nan).deviations)


def test_parts_are_means_over_tenths_of_a_training():
    episodes = [{"frames": f, "score": s} for f, s in ((10, 1), (100, 3), (101, 10), (1000, 7), (1001, 99))]
    assert parts(episodes, 1000) == [Part(100, 2, 2.0), Part(200, 1, 10.0), Part(1000, 1, 7.0)]


def test_a_goal_is_reached_when_the_last_twenty_episodes_have_it_on_average(tmp_path):
    run = Run.create(tmp_path, preset("demo"), "run")
    assert reached(run, 18.0) is None
    began = datetime.fromisoformat(run.config["created"]).timestamp()
    for i, (episodes, score) in enumerate(((0, None), (19, 20.0), (20, 17.9), (30, 18.0), (40, 17.0), (50, 21.0))):
        now = {"frames": 10_000 * i, "agent_steps": 2_500 * i}
        run.append("metrics.jsonl", now | {"eval/mean": 99.0})
        run.append("metrics.jsonl", now | {"charts/episodes": episodes, "charts/episodic_return": score})
        run.append("perf.jsonl", now | {"charts/time": began + 90 * i})
    run.close()
    assert reached(run, 18.0) == {"score": 18.0, "frames": 30_000, "agent_steps": 7_500, "minutes": 4.5}
    assert reached(run, 21.5) is None


def test_evidence_keeps_the_last_evaluation_but_not_where_its_games_lie(tmp_path):
    run = Run.create(tmp_path, preset("demo"), "run")
    write_json(run.path / "summary.json", {"evaluation": None})
    assert last_evaluation(run) == {}
    evaluation = {"mean": 3.0, "scores": [2.0, 4.0], "recordings": ["evaluations/1.rec"], "games": [0, 1]}
    write_json(run.path / "summary.json", {"evaluation": evaluation})
    assert last_evaluation(run) == {"mean": 3.0, "scores": [2.0, 4.0]}


def test_chance_plays_as_badly_as_the_game_says():
    """Whoever guesses a cue is right half the time."""
    x = replace(preset("ppo-minatar"), game="probe/recall", protocol="probe")
    scores = random_scores(x, 400)
    assert len(scores) == 400 and set(scores) == {-1, 1} and abs(sum(scores) / 400) < 0.15  # three standard deviations
    assert random_scores(x, 40, seed=1) == random_scores(x, 40, seed=1) != random_scores(x, 40, seed=2)
