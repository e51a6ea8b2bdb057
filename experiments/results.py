"""A comparison as JSON can hold it."""

from typing import Any

import numpy as np

from envs.scores import baselines, human_normalised
from experiments import stats
from experiments.comparison import Comparison, Scored, trained_for
from experiments.fingerprint import conditions, differing, identity, of_result
from experiments.published import PublishedAgent, atari5_estimate
from experiments.records import finite


def as_json(comparison: Comparison) -> dict[str, Any]:
    """A comparison as JSON can hold it: every figure that tables and pages show."""
    games = {
        game: {agent: cell(runs) for agent in comparison.agents if (runs := comparison.of(agent, game))}
        for game in comparison.games
    }
    scored = {agent: comparison.scores(agent) for agent in comparison.agents} if comparison.common_games else {}
    raw = {agent: comparison.raw(agent) for agent in comparison.agents} if comparison.shared_games else {}
    prints = [of_result(run.result) for run in comparison.runs]
    several = {key: " or ".join(said(key, value) for value in values) for key, values in differing(prints).items()}
    return {
        "conditions": conditions(prints[0]) | several, "mixed": comparison.mixed, "frames": comparison.frames or None,
        "fingerprints": sorted({identity(one) for one in prints}),
        "games": games, "common_games": comparison.common_games,
        "aggregates": {agent: stats.aggregates(scores) for agent, scores in scored.items()},
        "atari5": {agent: atari5_estimate(means(comparison, agent)) for agent in comparison.agents},
        "shared_games": comparison.shared_games, "baseline": comparison.baseline or None,
        "improvement": [one for x, y in comparison.pairs if raw for one in stats.improvements({x: raw[x], y: raw[y]})],
        "differences": comparison.differences, "notes": comparison.notes,
        "published": [published_json(agent, comparison) for agent in comparison.published],
        "runs": [run_json(run) for run in comparison.runs], "curves": [curve_json(run) for run in comparison.runs],
    }  # fmt: skip


def said(key: str, value: Any) -> str:
    """One of several values of a condition, in words."""
    return "the game's own" if (key, value) == ("frame_cap", 0) else str(value)


def cell(runs: list[Scored]) -> dict[str, Any]:
    """An agent on a game: raw scores by seed, their mean, and its interval over seeds (None for a single one)."""
    scores, game = [run.result["mean"] for run in runs], runs[0].record.game
    mean, interval, known = float(np.mean(scores)), stats.mean_interval(scores), game in baselines()
    return {
        "scores": scores, "seeds": [run.record.seed for run in runs], "mean": mean, "interval": interval,
        "human_normalised": human_normalised(game, mean),
        "human_normalised_interval": [human_normalised(game, x) for x in interval] if interval and known else None,
        "frames": min(run.result["frames"] for run in runs),
    }  # fmt: skip


def means(comparison: Comparison, agent: str) -> dict[str, float]:
    """Mean raw scores of an agent by game."""
    found = {game: comparison.of(agent, game) for game in comparison.games}
    return {game: float(np.mean([run.result["mean"] for run in runs])) for game, runs in found.items() if runs}


def published_json(agent: PublishedAgent, comparison: Comparison) -> dict[str, Any]:
    """A published agent on the games compared; aggregates of means only if it has all the common ones."""
    scores = {game: agent.scores[game] for game in comparison.games if game in agent.scores}
    whole = comparison.common_games and all(game in scores for game in comparison.common_games)
    normalised = [np.array([human_normalised(game, scores[game])]) for game in comparison.common_games if whole]
    return {
        "name": agent.name, "protocol": agent.protocol, "source": agent.source,
        "million_frames": agent.million_frames, "trained": trained_for(agent), "scores": scores,
        "human_normalised": {game: human_normalised(game, score) for game, score in scores.items()},
        "aggregates": {name: float(stats.AGGREGATES[name](normalised)) for name in stats.OF_MEANS} if whole else {},
    }  # fmt: skip


def of_two(interval: Any) -> list[float] | None:
    """An interval of two numbers, as a file has it, or None."""
    found = [finite(x) for x in interval] if isinstance(interval, list) and len(interval) == 2 else []
    return [x for x in found if x is not None] if found and None not in found else None


def run_json(run: Scored) -> dict[str, Any]:
    """A row for one run, with the part of its fingerprint in which comparable runs differ."""
    found = of_result(run.result)
    frames, hours = map(list, zip(*run.hours, strict=True))
    scale = baselines().get(run.record.game)
    measured = {key: found.get(key) for key in ("protocol", "epsilon", "episodes", "sticky_probability", "noop_max")}
    return {
        "run": str(run.record.path), "name": run.record.name, "agent": run.agent, "preset": run.record.preset,
        "game": run.record.game, "seed": run.record.seed, "frames": run.result["frames"], "score": run.result["mean"],
        "median": finite(run.result.get("median")), "interval_over_episodes": of_two(run.result.get("mean_interval")),
        "human_normalised": run.normalised, "random": scale and scale.random, "human": scale and scale.human,
        **measured, "evaluation": run.result["name"],
        "checkpoint": run.result.get("checkpoint", "last"), "fingerprint": identity(found),
        "weights": found["checkpoint"], "commit": found["commit"], "evaluation_seeds": found["seeds"],
        "command": run.record.config.get("command"),
        "hours": float(np.interp(run.result["frames"], frames, hours)),
    }  # fmt: skip


def curve_json(run: Scored) -> dict[str, Any]:
    """A run's learning curve: mean raw scores of evaluations in training, by emulator frames."""
    frames, scores = [x for x, _ in run.curve], [score for _, score in run.curve]
    return {
        "agent": run.agent, "game": run.record.game, "seed": run.record.seed, "run": run.record.name,
        "frames": frames, "scores": scores,
    }  # fmt: skip
