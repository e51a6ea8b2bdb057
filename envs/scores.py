"""Human and random scores, and the scale between them.

`data/atari57_baselines.csv`: random and human scores as in DQN Zoo (google-deepmind/dqn_zoo,
atari_data.py); human world records as in DreamerV2 (danijar/dreamerv2, scores/baselines.json).
Crafter's are the rewards of its paper (Hafner 2022, table 1), where human experts were scored.
"""

import csv
from functools import cache
from importlib import resources
from typing import NamedTuple


class Baseline(NamedTuple):
    """Raw scores of a random player and of a professional human tester."""

    random: float
    human: float


CRAFTER = Baseline(2.1, 14.3)


@cache
def baselines() -> dict[str, Baseline]:
    """Baselines of the 57 Atari games of the benchmark by name."""
    text = resources.files("envs").joinpath("data/atari57_baselines.csv").read_text(encoding="utf-8")
    rows = csv.DictReader(text.splitlines())
    return {row["game"]: Baseline(float(row["random"]), float(row["human"])) for row in rows}


def baseline_of(game: str) -> Baseline | None:
    """What a game's scores are measured by; None where no human was scored."""
    return CRAFTER if game == "crafter" else baselines().get(game)


def human_normalised(game: str, score: float) -> float | None:
    """(score - random) / (human - random), so 0 is random and 1 human (Mnih et al. 2015).

    None where no human was scored: outside the 57 of Atari, and Crafter.
    """
    found = baseline_of(game)
    return None if found is None else (score - found.random) / (found.human - found.random)
