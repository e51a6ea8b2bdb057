"""Honest statistics of scores.

Scores of a benchmark are a list with one array per game, [..., runs of that game]: games may have unequally many
runs, and leading dimensions are bootstrap draws. Aggregates as in Agarwal et al. (2021), "Deep Reinforcement Learning
at the Edge of the Statistical Precipice", sections 4 and A.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

Scores = Sequence[np.ndarray]
Statistic = Callable[[Scores], np.ndarray]
CONFIDENCE = 0.95
TAILS = [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2]
DRAWS = 2_000  # resamples; the intervals' ends then move by less than a twentieth of their width


def typical(scores: list[float]) -> int:
    """Which episode to show of several: the first with the median score, of two in the middle the lower. Those that
    end first, or are the best, tell something else."""
    return scores.index(sorted(scores)[(len(scores) - 1) // 2])


def mean_interval(scores: Sequence[float] | np.ndarray) -> tuple[float, float] | None:
    """Student's t interval of a mean, over seeds or over episodes; None of a single score.

    With few scores it holds the mean more often than a bootstrap, of skewed ones, too: of five normal ones in 95 of
    100 cases instead of 84, of five exponential ones in 89 instead of 80.
    """
    if len(scores) < 2:
        return None
    low, high = mean_band(np.asarray(scores, np.float64))
    return float(low), float(high)


def mean_band(values: np.ndarray) -> np.ndarray:
    """Pointwise t intervals of means over the first dimension, of two or more, [runs, ...]: (low, high) [2, ...]."""
    from scipy.special import stdtrit

    n, middle = len(values), values.mean(0)
    half = stdtrit(n - 1, TAILS[1]) * values.std(0, ddof=1) / np.sqrt(n)
    return np.stack([middle - half, middle + half])


def _percentiles(values: np.ndarray) -> tuple[float, float]:
    low, high = np.quantile(values, TAILS)
    return float(low), float(high)


def resample(scores: Scores, draws: int = DRAWS, seed: int = 0) -> list[np.ndarray]:
    """Stratified bootstrap: every game's runs, [runs, ...], drawn anew from themselves: [draws, runs, ...] per game."""
    generator = np.random.default_rng(seed)
    return [game[generator.integers(len(game), size=(draws, len(game)))] for game in scores]


def interval(statistic: Statistic, scores: Scores, draws: int = DRAWS, seed: int = 0) -> tuple[float, float]:
    """Percentile interval of a statistic over stratified bootstrap draws.

    A game with one run seems not to vary, and makes it too narrow: see `several`. What is the mean of a single game's
    runs has Student's t interval, for a bootstrap's is too narrow of few: mean, median, and the IQM of up to three.
    """
    plain = statistic in (mean, median) or (statistic is iqm and len(scores[0]) < 4)
    if len(scores) == 1 and plain and (found := mean_interval(scores[0])) is not None:
        return found
    return _percentiles(statistic(resample(scores, draws, seed)))


def mean(scores: Scores) -> np.ndarray:
    """Mean over games of each game's mean over runs."""
    return np.stack([game.mean(-1) for game in scores], -1).mean(-1)


def median(scores: Scores) -> np.ndarray:
    """Median over games of each game's mean over runs."""
    return np.median(np.stack([game.mean(-1) for game in scores], -1), -1)


def iqm(scores: Scores) -> np.ndarray:
    """Interquartile mean: of the middle half of all runs on all games; a quarter, rounded down, is cut at each end."""
    pooled = np.sort(np.concatenate(scores, -1), -1)
    cut = pooled.shape[-1] // 4
    return pooled[..., cut : pooled.shape[-1] - cut].mean(-1)


def optimality_gap(scores: Scores) -> np.ndarray:
    """How far runs fall short of 1, a human, on average; what is above it does not make up for it."""
    return 1 - np.minimum(np.concatenate(scores, -1), 1).mean(-1)


AGGREGATES: dict[str, Statistic] = {"IQM": iqm, "median": median, "mean": mean, "optimality gap": optimality_gap}
# Those that need a mean for each game; of means alone, the others would come out too well.
OF_MEANS = ("median", "mean")


def probability_of_improvement(x: Scores, y: Scores) -> np.ndarray:
    """Mean over games of P(a run of x beats a run of y), ties by half (Mann & Whitney 1947): [...]."""
    assert len(x) == len(y), (len(x), len(y))
    wins = []
    for mine, theirs in zip(x, y, strict=True):
        difference = mine[..., :, None] - theirs[..., None, :]
        wins.append((np.sign(difference) + 1).mean((-1, -2)) / 2)
    return np.stack(wins, -1).mean(-1)


def several(*agents: Scores) -> bool:
    """Whether every agent has more than one run on every game: a game with one would pass for one without chance."""
    return all(len(game) > 1 for scores in agents for game in scores)


def improvement_interval(x: Scores, y: Scores) -> tuple[float, float]:
    """95 % interval of the probability of improvement; both sides are drawn anew.

    Where all draws are alike, as of an agent all of whose runs beat all of the other's, a bootstrap says nothing, and
    the interval is Hoeffding's: the runs of a game make as many independent pairs as the agent with fewer has runs.
    """
    low, high = _percentiles(probability_of_improvement(resample(x), resample(y, seed=1)))
    if low < high:
        return low, high
    pairs = min(len(game) for game in (*x, *y))
    return hoeffding_interval(float(probability_of_improvement(x, y)), pairs * len(x))


def hoeffding_interval(mean: float, n: int) -> tuple[float, float]:
    """95 % interval of the expectation of a mean of n independent values between 0 and 1, whatever their laws.

    Hoeffding (1963), "Probability Inequalities for Sums of Bounded Random Variables": theorem 1 for each tail, and
    section 5 for means over all pairs of two samples. Of n out of n it is Clopper & Pearson's (1934).
    """
    from scipy.special import rel_entr

    ends = []
    for end in (0.0, 1.0):
        near, far = mean, end
        for _ in range(60):
            middle = (near + far) / 2
            likely = n * (rel_entr(mean, middle) + rel_entr(1 - mean, 1 - middle)) <= -np.log(TAILS[0])
            near, far = (middle, far) if likely else (near, middle)
        ends.append(near)
    return ends[0], ends[1]


def performance_profile(scores: Scores, thresholds: np.ndarray) -> np.ndarray:
    """The fraction of runs that score more than each threshold: [..., thresholds]."""
    pooled = np.concatenate(scores, -1)
    return np.stack([(pooled > threshold).mean(-1) for threshold in thresholds], -1)


def profile_band(scores: Scores, thresholds: np.ndarray) -> np.ndarray:
    """Pointwise 95 % band of the performance profile: (low, high) [2, thresholds]."""
    return np.quantile(performance_profile(resample(scores, 500), thresholds), TAILS, axis=0)


def aggregates(scores: Scores, draws: int = DRAWS) -> dict[str, dict[str, Any]]:
    """Every aggregate of human-normalised scores with its 95 % interval (None if some game has one run), by name."""
    varied = several(scores)
    return {
        name: {"value": float(statistic(scores)), "interval": interval(statistic, scores, draws) if varied else None}
        for name, statistic in AGGREGATES.items()
    }


def improvements(scored: Mapping[str, Scores]) -> list[dict[str, Any]]:
    """The probability, for every pair of agents, that the first beats the second on a game chosen at random."""
    names = list(scored)
    return [
        {
            "x": x, "y": y, "probability": float(probability_of_improvement(scored[x], scored[y])),
            "interval": improvement_interval(scored[x], scored[y]) if several(scored[x], scored[y]) else None,
        }
        for i, x in enumerate(names) for y in names[i + 1 :]
    ]  # fmt: skip
