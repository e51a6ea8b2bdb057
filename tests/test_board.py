"""The leaderboard: what is ranked, over which games, and what is said of it."""

import pytest

from experiments.comparison import load
from experiments.dashboard.board import leaderboard, shared_games
from experiments.dashboard.index import Index
from experiments.results import as_json
from tests.test_compare import make


def scored(agent, game, *scores, **more):
    """A run for each score, with the seeds 0, 1, ...: on a game without human scores, unless `more` says otherwise."""
    return [
        {"agent": agent, "game": game, "seed": seed, "normalised": None, "evaluation": x, "fingerprint": "f",
         "measured": "minatar", "evaluated": 10, "whole": 10, "created": "", "folder": ""} | more
        for seed, x in enumerate(scores)
    ]  # fmt: skip


def test_intervals_and_warnings_are_those_of_compare(tmp_path):
    for seed, (one, other) in enumerate(((1.0, 3.0), (2.0, 2.0), (9.0, 4.0))):
        make(tmp_path, "dqn", "Pong", seed, [one])
        make(tmp_path, "dqn", "Breakout", seed, [30.0 * other])
        make(tmp_path, "c51", "Pong", seed, [other])
        make(tmp_path, "c51", "Breakout", seed, [25.0 * one])
    (board,), compared = leaderboard(Index(tmp_path).measured(), []), as_json(load([tmp_path]))
    assert {row["agent"] for row in board["rows"]} == {"c51", "dqn"}
    for row in board["rows"]:
        theirs = compared["aggregates"][row["agent"]]
        for name, one in theirs.items():
            assert (row[name]["value"], row[name]["interval"]) == (one["value"], one["interval"])
        raw = {game: its[row["agent"]]["interval"] for game, its in compared["games"].items()}
        assert row["intervals"] == raw
    (note,) = board["notes"]
    assert note in compared["notes"] and note.startswith("as few as 3 seeds")


def test_all_whose_interval_holds_the_best_mean_are_marked():
    runs = scored("a", "x", 9.0, 11.0, 10.0) + scored("b", "x", 7.0, 9.0, 11.0) + scored("c", "x", 1.0, 2.0, 3.0)
    (board,) = leaderboard(runs + scored("a", "y", 1.0), [])
    assert {row["agent"]: row["best"] for row in board["rows"]} == {"a": ["x", "y"], "b": ["x"], "c": []}
    assert "some cells have a single seed" in board["notes"][0]
    assert board["rows"][0]["intervals"]["y"] is None and board["rows"][0]["intervals"]["x"] == pytest.approx(
        (10 - 2.4841, 10 + 2.4841), abs=1e-3
    )


def test_a_world_without_human_scores_is_ranked_by_the_probability_of_improvement():
    runs = scored("a", "minatar/x", 1.0, 2.0) + scored("b", "minatar/x", 3.0, 4.0) + scored("c", "minatar/x", 3.0, 2.5)
    atari = scored("a", "Pong", 1.0, normalised=0.5, fingerprint="g", measured="machado")
    board, other = leaderboard([*runs, *atari, *scored("d", "minatar/y", 9.0)], [])
    assert [row["agent"] for row in board["rows"]] == ["b", "c", "a", "d"] and board["shared"] == ["minatar/x"]
    assert not board["normalised"] and board["rows"][0]["means"] == {"minatar/x": 3.5}
    found = {(pair["x"], pair["y"]): pair["probability"] for pair in board["improvement"]}
    assert found == {("a", "b"): 0.0, ("a", "c"): 0.0, ("b", "c"): (0.5 + 1 + 1 + 1) / 4}
    assert other["normalised"] and other["improvement"] == [] and other["rows"][0]["IQM"]["value"] == 0.5


def test_games_without_human_scores_stand_below_those_that_have_them():
    human, other = scored("a", "Pong", 1.0, 2.0, normalised=0.5), scored("a", "NoHuman", 7.0, 9.0)
    (board,) = leaderboard([*human, *other, *scored("b", "NoHuman", 1.0)], [])
    assert board["shared"] == ["Pong"] and board["rows"][0]["means"] == {"NoHuman": 8, "Pong": 1.5}
    assert board["rows"][1]["IQM"] is None and board["rows"][1]["means"] == {"NoHuman": 1}


def test_rows_name_the_folders_of_their_runs():
    old = scored("a", "x", 1.0, 2.0, folder="old", created="2025")
    new = scored("a", "x", 3.0, folder="new", created="2026")
    (board,) = leaderboard([*old, *new], [])
    assert board["folders"] == ["new", "old"] == board["rows"][0]["folders"] and board["repeats"] == 1
    (board,) = leaderboard([*old, *scored("a", "x", 3.0, 4.0, folder="new", created="2026")], [])
    assert board["folders"] == ["new", "old"] and board["rows"][0]["folders"] == ["new"]


def test_the_leaderboard_ranks_over_games_that_most_agents_have_played():
    def runs(agent, **scores):
        return [
            {"agent": agent, "game": game, "seed": 0, "normalised": x, "evaluation": x, "fingerprint": "f",
             "measured": "machado", "evaluated": 4_000_000 + 6_000_000 * (game == "Pong"), "whole": 10_000_000}
            for game, x in scores.items()
        ]  # fmt: skip

    mine = runs("a", Pong=1.0, Breakout=9.0) + runs("b", Pong=2.0) + runs("c", Breakout=50.0)
    (board,) = leaderboard(mine, ["DQN CNN (Dopamine)"])
    assert board["shared"] == ["Pong"] and board["games"] == ["Breakout", "Pong"] and not board["unequal"]
    ranked = [(row["agent"], row["IQM"] and row["IQM"]["value"]) for row in board["rows"]]
    assert ranked == [("b", 2), ("a", 1), ("c", None)]
    assert board["rows"][1]["means"] == {"Breakout": 9, "Pong": 1} and len(board["published"][0]["games"]) == 2
    assert [row["unfinished"] for row in board["rows"]] == [0, 1, 1]
    assert board["rows"][1]["frames"] == [4_000_000, 10_000_000]
    theirs = board["published"][0]  # of means alone neither quartiles nor a gap can be told
    assert theirs["mean"]["value"] > 0 and theirs["IQM"] is None and theirs["optimality gap"] is None


def test_a_run_of_one_game_does_not_take_the_others_from_all():
    """More have played that one, and still most have played all five."""
    whole, more = {"A", "B", "C", "D", "E"}, {"A", "B", "C", "D", "E", "F"}
    assert shared_games([whole, whole, whole, {"A"}]) == sorted(whole)
    assert shared_games([whole, whole, more, {"A"}]) == sorted(whole)
    assert shared_games([whole, {"A"}]) == shared_games([whole, {"A"}, {"A"}]) == ["A"]
    assert shared_games([{"A"}, {"B"}, {"B"}, {"C", "D"}]) == ["B"]  # none has more than half


def test_a_training_that_repeats_a_seed_is_no_seed_more():
    """Else the same three runs, counted four times, would have an interval of half the width."""

    def run(seed, score, evaluated, created):
        return {
            "agent": "a", "game": "Pong", "seed": seed, "normalised": score, "evaluation": score, "fingerprint": "f",
            "measured": "machado", "evaluated": evaluated, "whole": 10, "created": created,
        }  # fmt: skip

    runs = [run(0, 1.0, 10, "b"), run(1, 2.0, 10, "a"), run(2, 6.0, 10, "a")]
    (once,) = leaderboard(runs, [])
    (again,) = leaderboard([run(0, 5.0, 9, "c"), *runs, *runs, run(0, 4.0, 10, "a")], [])
    assert (once["repeats"], again["repeats"], again["runs"]) == (0, 5, 3)
    assert (once["unequal"], leaderboard([*runs, run(3, 1.0, 12, "a")], [])[0]["unequal"]) == (False, True)
    assert once["rows"] == again["rows"] and once["rows"][0]["means"] == {"Pong": 3.0}
