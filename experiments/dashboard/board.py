"""The leaderboard: agents by their human-normalised scores, apart for every fingerprint."""

from typing import Any

import numpy as np

from envs.scores import human_normalised
from experiments import stats
from experiments.published import published_agents

DRAWS = 500


def leaderboard(runs: list[dict[str, Any]], published: list[str]) -> list[dict[str, Any]]:
    """A board for every fingerprint under which runs were evaluated, the largest first.

    Each board compares over the games that most of its agents share; agents that lack some say so.

    Args:
        runs: as the overview tells of them.
        published: names of published agents to show beside them.
    """
    scored = [run for run in runs if run["normalised"] is not None and run["fingerprint"]]
    boards = []
    for key in sorted({run["fingerprint"] for run in scored}):
        mine = [run for run in scored if run["fingerprint"] == key]
        games = sorted({run["game"] for run in mine})
        agents = sorted({run["agent"] for run in mine})
        rows = [agent_row(agent, [run for run in mine if run["agent"] == agent]) for agent in agents]
        most = max(len(row["games"]) for row in rows)
        rows.sort(key=lambda row: (len(row["games"]) < most, -row["IQM"]["value"]))
        boards.append({
            "fingerprint": key, "protocol": mine[0]["measured"], "games": games, "rows": rows, "runs": len(mine),
            "published": [row for name in published if (row := published_row(name, games))],
        })  # fmt: skip
    return sorted(boards, key=lambda board: -board["runs"])


def agent_row(agent: str, runs: list[dict[str, Any]]) -> dict[str, Any]:
    """An agent's aggregates over all games that it has played."""
    games = sorted({run["game"] for run in runs})
    scores = [np.array([run["normalised"] for run in runs if run["game"] == game]) for game in games]
    means = {game: float(np.mean([run["evaluation"] for run in runs if run["game"] == game])) for game in games}
    found: dict[str, Any] = {"agent": agent, "games": games, "runs": len(runs), "means": means}
    for name, statistic in stats.AGGREGATES.items():
        interval = stats.interval(statistic, scores, draws=DRAWS) if len(runs) > len(games) else None
        found[name] = {"value": float(statistic(scores)), "interval": interval}
    return found


def published_row(name: str, games: list[str]) -> dict[str, Any] | None:
    """A published agent over the games of a board that it has scores of; None if it has none."""
    agent = published_agents().get(name)
    shared = [game for game in games if agent and game in agent.scores and human_normalised(game, 0.0) is not None]
    if agent is None or not shared:
        return None
    scores = [np.array([human_normalised(game, agent.scores[game])]) for game in shared]
    found: dict[str, Any] = {
        "agent": name, "games": shared, "protocol": agent.protocol, "source": agent.source,
        "million_frames": agent.million_frames, "means": {game: agent.scores[game] for game in shared},
    }  # fmt: skip
    for key, statistic in stats.AGGREGATES.items():
        found[key] = {"value": float(statistic(scores)), "interval": None}
    return found
