"""The leaderboard: what is ranked, over which games, and what is said of it."""

from experiments.dashboard.board import leaderboard, shared_games


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
