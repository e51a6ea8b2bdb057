"""Honest statistics of scores."""

import numpy as np


def bootstrap_interval(
    scores: list[float], confidence: float = 0.95, draws: int = 10_000, seed: int = 0
) -> tuple[float, float]:
    """Percentile bootstrap interval of the mean (Efron & Tibshirani 1993, sec. 13.3).

    Args:
        scores: at least one.
        draws: resamples; the interval of few scores is too narrow, however many.
    """
    values = np.asarray(scores, np.float64)
    chosen = np.random.default_rng(seed).integers(len(values), size=(draws, len(values)))
    tail = (1 - confidence) / 2
    low, high = np.quantile(values[chosen].mean(axis=1), [tail, 1 - tail])
    return float(low), float(high)
