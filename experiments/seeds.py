"""Learning curves of several seeds as one: where they were evaluated, and what all of them say there.

A curve is a list of (frames or hours, score), one of each evaluation.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from experiments import stats

Curve = Sequence[tuple[float, float]]
ALIKE = 0.01  # of the period between evaluations: games end at their own time, and evaluations wait for that
MOST = 400  # points whose interquartile mean is bootstrapped, 300 draws each
AT_ONCE = 50  # of these points, for draws fill memory


class Joined(NamedTuple):
    """A curve of several seeds: as far as all of them have come, and beyond."""

    x: np.ndarray  # [points]
    middle: np.ndarray  # [points]
    band: np.ndarray | None  # (low, high) [2, points]; None where there is a single seed
    beyond: np.ndarray  # (x, middle) [2, points], of those that go on, from the last point of all; [2, 0]: none does


def on_a_grid(curves: Sequence[Curve]) -> tuple[np.ndarray, np.ndarray]:
    """Curves at the same points: x [points], values [curves, points], NaN where a curve has not begun or has ended.

    Evaluations of all curves that nearly came at the same time are one point, in their middle. Where they did not,
    each is a point, and the others are interpolated there.
    """
    x = in_common(curves)
    if x is None:
        x = np.unique([at for curve in curves for at, _ in curve])
        apart = [np.array(curve, np.float64).T for curve in curves]
        values = [np.interp(x, own, scores, left=np.nan, right=np.nan) for own, scores in apart]
    else:
        values = [np.array([y for _, y in curve] + [np.nan] * (len(x) - len(curve))) for curve in curves]
    return x, np.stack(values)


def in_common(curves: Sequence[Curve]) -> np.ndarray | None:
    """Where all curves were evaluated, but for a hundredth of the period and for those that ended early: [points].

    None if each has points of its own. Curves of a single point, such as of runs that were evaluated at their end
    only, have it in common wherever it is.
    """
    columns = [[curve[i][0] for curve in curves if len(curve) > i] for i in range(max(map(len, curves)))]
    first, last = np.array([(min(column), max(column)) for column in columns]).T
    if len(columns) > 1:
        near = (last - first <= ALIKE * np.median(np.diff(first))).all()
        if not near or (last[:-1] >= first[1:]).any():
            return None
    return np.array([np.mean(column) for column in columns])


def parts(games: Sequence[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """Which points all runs have, and which of those behind them half of each game's runs have: [points] each.

    Args:
        games: [runs of the game, points] each, NaN where a run has no value.
    """
    there = [~np.isnan(game) for game in games]
    whole = np.all([runs.all(0) for runs in there], 0)
    half = np.all([2 * runs.sum(0) >= len(runs) for runs in there], 0)
    return whole, half & ~np.logical_or.accumulate(whole[::-1])[::-1] & whole.any()


def mean_of(curves: Sequence[Curve]) -> Joined:
    """The mean over seeds, and its 95 % t interval at each point."""
    x, values = on_a_grid(curves)
    whole, rest = parts([values])
    middle = values[:, whole].mean(0)
    band = stats.mean_band(values[:, whole]) if len(values) > 1 else None
    return Joined(x[whole], middle, band, continued(x, whole, rest, middle, np.nanmean(values[:, rest], 0)))


def continued(x: np.ndarray, whole: np.ndarray, rest: np.ndarray, middle: np.ndarray, others: np.ndarray) -> np.ndarray:
    """What comes behind the last of the whole points, and that point, so that both lines meet: (x, middle)."""
    if not rest.any():
        return np.empty((2, 0))
    return np.array([np.append(x[whole][-1], x[rest]), np.append(middle[-1], others)])


def iqm_of(games: Sequence[Sequence[Curve]]) -> Joined:
    """The interquartile mean over all runs on all games, and its 95 % interval by a stratified bootstrap.

    Of more than `MOST` points as many are chosen evenly. There is no interval where a game has a single run.
    """
    x, values = on_a_grid([curve for game in games for curve in game])
    chosen = np.linspace(0, len(x) - 1, min(len(x), MOST)).astype(int)
    x, values = x[chosen], values[:, chosen]
    by_game = np.split(values, np.cumsum([len(game) for game in games])[:-1])  # [runs of the game, points]
    whole, rest = parts(by_game)
    common = [game[:, whole] for game in by_game]
    middle = stats.iqm([game.T for game in common])  # [points]
    band = iqm_band(common) if stats.several(common) else None
    others = [float(stats.iqm([y[~np.isnan(y)] for y in (game[:, i] for game in by_game)])) for i in np.where(rest)[0]]
    return Joined(x[whole], middle, band, continued(x, whole, rest, middle, np.array(others)))


def iqm_band(games: Sequence[np.ndarray]) -> np.ndarray:
    """Pointwise 95 % intervals of interquartile means, games [runs, points]: (low, high) [2, points].

    Of a single game's runs up to three, whose IQM is their mean, these are t intervals, as those of its aggregates.
    """
    if len(games) == 1 and len(games[0]) < 4:
        return stats.mean_band(games[0])
    found = []
    for begin in range(0, games[0].shape[1], AT_ONCE):  # each with the same draws of runs
        draws = stats.resample([game[:, begin : begin + AT_ONCE] for game in games], 300)  # [draws, runs, points]
        found.append(np.quantile(stats.iqm([game.swapaxes(-1, -2) for game in draws]), stats.TAILS, axis=0))
    return np.concatenate(found, 1) if found else np.empty((2, 0))
