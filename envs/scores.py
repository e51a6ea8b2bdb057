"""Human and random scores, and the scale between them.

`data/atari57_baselines.csv`: random and human scores as in DQN Zoo (google-deepmind/dqn_zoo,
atari_data.py); human world records as in DreamerV2 (danijar/dreamerv2, scores/baselines.json).
"""

import csv
from functools import cache
from importlib import resources
from typing import NamedTuple


class Baseline(NamedTuple):
    """Raw scores of a random player and of a professional human tester."""

    random: float
    human: float


@cache
def baselines() -> dict[str, Baseline]:
    """Baselines of the 57 benchmark games by name."""
    text = resources.files("envs").joinpath("data/atari57_baselines.csv").read_text(encoding="utf-8")
    rows = csv.DictReader(text.splitlines())
    return {row["game"]: Baseline(float(row["random"]), float(row["human"])) for row in rows}


def human_normalised(game: str, score: float) -> float | None:
    """(score - random) / (human - random), so 0 is random and 1 human (Mnih et al. 2015); None outside the 57."""
    if game not in baselines():
        return None
    random, human = baselines()[game]
    return (score - random) / (human - random)
