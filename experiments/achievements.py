"""What agents achieve besides points, in games that count achievements."""

import math
from collections.abc import Iterable
from typing import Any

from envs.game import Game


def names_of(game: Game, achieved: int) -> list[str]:
    """The achievements whose bits are set."""
    return [name for bit, name in enumerate(game.achievements) if achieved >> bit & 1]


def success_rates(game: Game, episodes: Iterable[Iterable[str]]) -> dict[str, float]:
    """In how many per cent of the episodes each achievement was reached; empty without episodes or achievements."""
    found = [set(names) for names in episodes]
    return {name: 100 * sum(name in names for names in found) / len(found) for name in game.achievements if found}


def achievement_score(rates: Iterable[float]) -> float:
    """exp(mean_i ln(1 + s_i)) - 1, s_i in per cent (Hafner 2022, sec. 3.4): the rare ones count as much as the easy."""
    logs = [math.log1p(rate) for rate in rates]
    return math.expm1(sum(logs) / len(logs))


def achievements(game: Game, episodes: Iterable[Iterable[str]]) -> dict[str, Any]:
    """Entries for a summary of episodes: nothing where the game has no achievements or nothing was played."""
    rates = success_rates(game, episodes)
    return {"achievement_score": achievement_score(rates.values()), "success_rates": rates} if rates else {}
