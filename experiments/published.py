"""Published scores and learning curves, each with its protocol and its source.

data/published_agents.csv   agent, million frames, protocol, source (repository@commit file)
data/published_scores.csv   agent, game, mean raw score, standard deviation where one is known: over seeds, unless the
                            protocol says otherwise; Dopamine's is the mean of those of the last ten iterations
data/published_curves.json  agent, game: mean raw score (and standard deviation) by million emulator frames; of the
                            training in a window of so many million frames that ends there
"""

import csv
import json
import math
from functools import cache
from importlib import resources
from typing import Any, NamedTuple

from envs.scores import human_normalised

# Aitchison et al. (2023), Atari-5: log10(1 + the score's percent of a human) of five games, weighted, predicts the
# median over all 57. The weights are in the authors' repository (maitchison/Atari-5@118cad542c94).
ATARI5 = {
    "BattleZone": 0.3819751238, "DoubleDunk": 0.0679099489, "NameThisGame": 0.3108041486, "Phoenix": 0.124126194,
    "Qbert": 0.0804851829,
}  # fmt: skip


class PublishedAgent(NamedTuple):
    """Scores of one agent, as somebody published them."""

    name: str
    million_frames: float | None
    protocol: str  # in words; never one of ours
    source: str
    scores: dict[str, float]  # game: mean raw score


class PublishedCurve(NamedTuple):
    """A learning curve; lists are equally long."""

    million_frames: list[float]
    mean: list[float]
    sd: list[float] | None
    protocol: str
    source: str
    window: float  # million frames up to there that a mean is of; 0 where that is not known, or of one moment

    @property
    def middle(self) -> list[float]:
        """Million frames where the points belong: in the middle of what they are means of."""
        return [x - self.window / 2 for x in self.million_frames]


def _table(name: str) -> list[dict[str, str]]:
    text = resources.files("experiments").joinpath(f"data/{name}.csv").read_text(encoding="utf-8")
    return list(csv.DictReader(text.splitlines()))


@cache
def published_agents() -> dict[str, PublishedAgent]:
    """Every published agent by name."""
    found = {
        row["agent"]: PublishedAgent(
            row["agent"], float(row["million_frames"]) if row["million_frames"] else None, row["protocol"],
            row["source"], {},
        )
        for row in _table("published_agents")
    }  # fmt: skip
    for row in _table("published_scores"):
        found[row["agent"]].scores[row["game"]] = float(row["score"])
    return found


def published_agent(name: str) -> PublishedAgent:
    """A published agent by name.

    Raises:
        ValueError: there is none; names the closest.
    """
    if name not in published_agents():
        from experiments.presets import closest

        hint = closest(name, published_agents(), "`highscore list published` shows them all")
        raise ValueError(f"no published scores of {name!r}; {hint}")
    return published_agents()[name]


@cache
def _curves() -> dict[str, Any]:
    text = resources.files("experiments").joinpath("data/published_curves.json").read_text(encoding="utf-8")
    return json.loads(text)


def curves_of(game: str) -> list[str]:
    """The agents with a published curve on a game."""
    return [name for name, data in _curves().items() if game in data["games"]]


def published_curve(agent: str, game: str) -> PublishedCurve:
    """A published learning curve.

    Raises:
        ValueError: no such curve; says which there are.
    """
    if agent not in _curves():
        raise ValueError(f"no published curve of {agent!r}; there are {', '.join(_curves())}")
    data = _curves()[agent]
    if game not in data["games"]:
        raise ValueError(f"no published curve of {agent} on {game}; there are {', '.join(data['games'])}")
    curve = data["games"][game]
    return PublishedCurve(
        data["million_frames"], curve["mean"], curve.get("sd"), data["protocol"], data["source"], data.get("window", 0)
    )  # fmt: skip


def atari5_estimate(scores: dict[str, float]) -> float | None:
    """An estimate of the median human-normalised score over 57 games (1 is human) from raw scores of five; None
    where one of the five is missing."""
    if not scores.keys() >= ATARI5.keys():
        return None
    logs = 0.0
    for game, weight in ATARI5.items():
        normalised = human_normalised(game, scores[game])
        assert normalised is not None
        logs += weight * math.log10(1 + max(0.0, 100 * normalised))
    return (10**logs - 1) / 100
