"""The leaderboard: what is ranked, over which games, and what is said of it."""

from experiments.dashboard.board import leaderboard


def test_the_leaderboard_ranks_over_games_that_most_agents_have_played():
    def runs(agent, **scores):
        return [
            {"agent": agent, "game": game, "normalised": x, "evaluation": x, "fingerprint": "f", "measured": "machado",
             "evaluated": 4_000_000 + 6_000_000 * (game == "Pong"), "whole": 10_000_000}
            for game, x in scores.items()
        ]  # fmt: skip

    mine = runs("a", Pong=1.0, Breakout=9.0) + runs("b", Pong=2.0) + runs("c", Breakout=50.0)
    (board,) = leaderboard(mine, ["DQN CNN (Dopamine)"])
    assert board["shared"] == ["Pong"] and board["games"] == ["Breakout", "Pong"]
    ranked = [(row["agent"], row["IQM"] and row["IQM"]["value"]) for row in board["rows"]]
    assert ranked == [("b", 2), ("a", 1), ("c", None)]
    assert board["rows"][1]["means"] == {"Breakout": 9, "Pong": 1} and len(board["published"][0]["games"]) == 2
    assert [row["unfinished"] for row in board["rows"]] == [0, 1, 1]
    assert board["rows"][1]["frames"] == [4_000_000, 10_000_000]
    theirs = board["published"][0]  # of means alone neither quartiles nor a gap can be told
    assert theirs["mean"]["value"] > 0 and theirs["IQM"] is None and theirs["optimality gap"] is None
