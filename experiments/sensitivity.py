"""How a score hangs on a setting: agents that differ in nothing else, side by side on its axis."""

from collections import defaultdict
from typing import Any

import numpy as np

from experiments import stats
from experiments.comparison import Comparison
from experiments.figures import COLOURS, games_of, legend_below, new, over_seeds, within_reach

PANELS = 4  # settings that are shown at most
WIDE = 20  # times the least value that the largest is, from which on an axis is logarithmic


def sweeps(differences: dict[str, dict[str, Any]]) -> dict[str, dict[str, list[tuple[float, str]]]]:
    """Settings that were varied alone: {setting: {what else the agents of a line have: [(value, agent), by value]}}.

    Args:
        differences: {setting: {agent: value}}, of all settings in which some agents differ.
    """
    found = {}
    for setting, values in differences.items():
        lines: dict[tuple, list[tuple[float, str]]] = defaultdict(list)
        for agent, value in values.items():
            if type(value) in (int, float):
                others = tuple((name, plain(row[agent])) for name, row in differences.items() if name != setting)
                lines[others].append((value, agent))
        swept = {others: sorted(line) for others, line in lines.items() if len(line) > 1}
        if swept:
            named: dict[str, list[tuple[float, str]]] = {}
            for others, line in in_order(swept):
                name = name_of(others, list(swept), line)
                named[line[0][1] if name in named else name] = line
            found[setting] = named
    return found


def plain(value: Any) -> Any:
    """A setting as it can be told apart from others: numbers and words as they are, all else as text."""
    return value if value is None or isinstance(value, int | float | str) else repr(value)


def in_order(lines: dict[tuple, Any]) -> list[tuple[tuple, Any]]:
    """Lines by what else their agents have: numbers by size, and before words."""
    number = lambda x: (0, x, "") if type(x) in (int, float) else (1, 0, str(x))
    return sorted(lines.items(), key=lambda item: [number(value) for _, value in item[0]])


def name_of(others: tuple, every: list[tuple], line: list[tuple[float, str]]) -> str:
    """What tells a line from others: a setting or two, or if there are more, its first agent without its settings."""
    apart = [pair for pair, *rest in zip(others, *every, strict=True) if len({repr(x) for x in rest}) > 1]
    if len(apart) <= 2:
        return ", ".join(f"{name.split('.')[-1]} {value}" for name, value in apart)
    return line[0][1].partition(" (")[0]


def of_agent(comparison: Comparison, agent: str) -> tuple[float, tuple[float, float] | None]:
    """A mean raw score and its t interval if there is one game, else the IQM over all and its bootstrap interval."""
    if len(comparison.shared_games) == 1:
        scores = comparison.raw(agent)[0]
        return float(scores.mean()), stats.mean_interval(scores)
    every = comparison.scores(agent)
    return float(stats.iqm(every)), stats.interval(stats.iqm, every) if stats.several(every) else None


def sensitivity(comparison: Comparison) -> Any:
    """A panel for each setting that was varied alone, or for the first of them; None if there is none to show."""
    swept = sweeps(comparison.differences)
    one = len(comparison.shared_games) == 1
    if not swept or not (one or comparison.common_games):
        return None
    shown = list(swept.items())[:PANELS]
    figure, axes = new(1, len(shown), max(4.4, 2.9 * len(shown)), 3.5)
    names = list(dict.fromkeys(name for _, lines in shown for name in lines))
    for place, (setting, lines) in zip(axes.flat, shown, strict=True):
        for name, line in lines.items():
            x = np.array([value for value, _ in line], float)
            y, intervals = zip(*(of_agent(comparison, agent) for _, agent in line), strict=True)
            colour = COLOURS[names.index(name) % len(COLOURS)]
            place.plot(x, y, "o-", color=colour, label=name or "_")
            for at, interval in zip(x, intervals, strict=True):
                if interval is not None:
                    place.vlines(at, *interval, color=colour, alpha=0.5)
        ticks = sorted({value for line in lines.values() for value, _ in line})
        if ticks[0] > 0 and ticks[-1] >= WIDE * ticks[0]:
            place.set_xscale("log")
        place.set_xticks(ticks, [f"{value:g}" for value in ticks], fontsize=8)
        place.minorticks_off()
        place.set_xlabel(setting)
        within_reach(place)
    score = "raw score" if one else "human-normalised IQM"
    axes[0, 0].set_ylabel(f"{score}, {comparison.shared_games[0] if one else games_of(comparison)}")
    games = comparison.shared_games if one else comparison.common_games
    more = f"; not shown: {', '.join(list(swept)[PANELS:])}" * (len(swept) > PANELS)
    words = over_seeds(comparison, games, "t intervals" if one else "intervals") + more
    if names == [""]:
        figure.supxlabel(words, fontsize=8)
    else:
        legend_below(figure, axes, words)
    return figure
