"""The leaderboard: agents by their human-normalised scores where there are such, apart for every fingerprint."""

from collections import Counter
from typing import Any

import numpy as np

from envs.scores import human_normalised
from experiments import stats
from experiments.choice import NEAR
from experiments.published import published_agents
from experiments.remarks import few_seeds

# All that a board goes by, of what is told of runs.
RANKED_BY = (
    "agent", "game", "seed", "evaluation", "normalised", "measured", "evaluated", "whole", "fingerprint", "created",
    "folder",
)  # fmt: skip


def leaderboard(runs: list[dict[str, Any]], published: list[str]) -> list[dict[str, Any]]:
    """A board for every fingerprint under which runs were evaluated, the largest first.

    Each board compares over the games that most of its agents share; others are below them, with no aggregate. Where
    no game has a human score, the probability of improvement takes the aggregates' place. A training that repeats
    another's seed is no seed more: of such, the longest counts, and of those the newest.

    Args:
        runs: as the overview tells of them.
        published: names of published agents to show beside them.
    """
    scored = [run for run in runs if run["evaluation"] is not None and run["fingerprint"]]
    boards = []
    for key in sorted({run["fingerprint"] for run in scored}):
        own = [run for run in scored if run["fingerprint"] == key]
        own.sort(key=lambda run: (run["evaluated"], run.get("created", "")))
        longest = {(run["agent"], run["game"], run["seed"]): run for run in own}
        mine = [longest[which] for which in sorted(longest)]
        games = sorted({run["game"] for run in mine})
        known = [run for run in mine if run["normalised"] is not None]
        by_agent = {
            agent: [run for run in mine if run["agent"] == agent] for agent in {run["agent"]: 0 for run in mine}
        }
        played = [
            {run["game"] for run in its if run["normalised"] is not None or not known} for its in by_agent.values()
        ]
        shared = shared_games([own for own in played if own])
        rows = [agent_row(agent, its, shared if known else []) for agent, its in by_agent.items()]
        pairs = [] if known else improvements(by_agent, shared)
        rank(rows, pairs)
        mark_best(rows, games)
        seeds = set(Counter((run["agent"], run["game"]) for run in mine).values())
        boards.append({
            "fingerprint": key, "protocol": mine[0]["measured"], "games": games, "rows": rows, "runs": len(mine),
            "repeats": len(own) - len(mine), "unequal": any(unequal(mine, game) for game in games), "shared": shared,
            "normalised": bool(known), "improvement": pairs, "notes": few_seeds(seeds),
            "folders": sorted({run.get("folder", "") for run in own}),
            "published": [row for name in published if (row := published_row(name, games, shared))],
        })  # fmt: skip
    return sorted(boards, key=lambda board: -board["runs"])


def improvements(by_agent: dict[str, list[dict[str, Any]]], shared: list[str]) -> list[dict[str, Any]]:
    """The probability that one agent scores more than another, for each pair that has played the shared games."""
    scores = {
        agent: [np.array([run["evaluation"] for run in its if run["game"] == game]) for game in shared]
        for agent, its in by_agent.items()
    }
    return stats.improvements({agent: its for agent, its in scores.items() if all(map(len, its))})


def rank(rows: list[dict[str, Any]], pairs: list[dict[str, Any]]) -> None:
    """Puts an agent first that scores more than others: by IQM, else by how probably it beats another."""
    wins = {row["agent"]: 0.0 for row in rows}
    for pair in pairs:
        wins[pair["x"]] += pair["probability"]
        wins[pair["y"]] += 1 - pair["probability"]
    rows.sort(key=lambda row: (-row["IQM"]["value"] if row["IQM"] else float("inf"), -wins[row["agent"]]))


def mark_best(rows: list[dict[str, Any]], games: list[str]) -> None:
    """Names each agent's games on which nobody is known to be better: its interval holds the best mean."""
    for game in games:
        best = max(row["means"][game] for row in rows if game in row["means"])
        for row in rows:
            if game in row["means"]:
                low, high = row["intervals"][game] or [row["means"][game]] * 2
                row["best"] += [game] * (low <= best <= high)


def unequal(runs: list[dict[str, Any]], game: str) -> bool:
    """Whether runs of a game were scored after unlike numbers of frames."""
    frames = [run["evaluated"] for run in runs if run["game"] == game]
    return max(frames) > NEAR * min(frames)


def shared_games(played: list[set[str]]) -> list[str]:
    """The largest set of games that more than half of the agents have played, of the sets that they did; if there is
    none, that which most have."""

    def played_by(own: set[str]) -> int:
        return sum(own <= other for other in played)

    common = [own for own in played if 2 * played_by(own) > len(played)]
    if common:
        return max(sorted(own) for own in common if len(own) == max(map(len, common)))

    def rank(own: set[str]) -> tuple[int, int, list[str]]:
        return played_by(own), len(own), sorted(own)

    most: set[str] = max(played, key=rank)
    return sorted(most)


def agent_row(agent: str, runs: list[dict[str, Any]], shared: list[str]) -> dict[str, Any]:
    """An agent's means by game, and its aggregates over the shared games; None if it has not played them all."""
    raw = {
        game: [run["evaluation"] for run in runs if run["game"] == game] for game in {run["game"]: 0 for run in runs}
    }
    scores = [np.array([run["normalised"] for run in runs if run["game"] == game]) for game in shared]
    frames = [run["evaluated"] for run in runs]
    found: dict[str, Any] = {
        "agent": agent, "games": list(raw), "runs": len(runs), "frames": [min(frames), max(frames)], "best": [],
        "means": {game: float(np.mean(its)) for game, its in raw.items()},
        "intervals": {game: stats.mean_interval(its) for game, its in raw.items()},
        "unfinished": sum(run["evaluated"] < run["whole"] for run in runs),
        "folders": sorted({run.get("folder", "") for run in runs}),
    }  # fmt: skip
    return found | aggregates(scores)


def aggregates(scores: list[np.ndarray]) -> dict[str, Any]:
    """Every aggregate of human-normalised scores, per game [runs], by name; None if some game has no run."""
    return stats.aggregates(scores) if scores and all(map(len, scores)) else dict.fromkeys(stats.AGGREGATES)


def published_row(name: str, games: list[str], shared: list[str]) -> dict[str, Any] | None:
    """As `agent_row`, of a published agent; None if it has scores of none of the board's games."""
    agent = published_agents().get(name)
    known = [game for game in games if agent and game in agent.scores and human_normalised(game, 0.0) is not None]
    if agent is None or not known:
        return None
    found: dict[str, Any] = {
        "agent": name, "games": known, "protocol": agent.protocol, "source": agent.source,
        "million_frames": agent.million_frames, "means": {game: agent.scores[game] for game in known},
    }  # fmt: skip
    scores = [np.array([human_normalised(game, agent.scores[game])] if game in known else []) for game in shared]
    means = {name: one for name, one in aggregates(scores).items() if name in stats.OF_MEANS}
    return dict.fromkeys(stats.AGGREGATES) | found | means
