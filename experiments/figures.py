"""Figures of a comparison, for papers and pages: PNG, SVG and PDF of each."""

import io
from collections.abc import Callable
from pathlib import Path
from textwrap import fill
from typing import Any

import numpy as np

from envs.scores import human_normalised
from experiments import stats
from experiments.comparison import Comparison, Scored
from experiments.files import write_atomically
from experiments.published import curves_of, published_curve
from experiments.seeds import Joined, iqm_of, mean_of
from experiments.tables import MOST, brief

# Okabe & Ito (2008): told apart by the colour-blind, too.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#7A5195", "#8C6D31")
LINES: Any = (
    "-",
    (0, (5, 1.5)),
    (0, (1.2, 1.2)),
    (0, (6, 1.5, 1.2, 1.5)),
)  # from the ninth agent on
GREY = "#8a8a8a"
BEYOND: Any = {"linestyle": (0, (1, 2)), "linewidth": 1.3}  # how lines are drawn that are not of all seeds
PUBLISHED: Any = ("--", ":", "-.", (0, (6, 1, 1, 1, 1, 1)), (0, (9, 4)))  # how published lines are drawn
DOTTED = "dotted: of the seeds that went on, while they are half of them or more"
LONG = 28  # letters of a pair's names that stand in one line
TIMELESS = {"svg": {"Date": None}, "pdf": {"CreationDate": None}}  # what has a time by default
STYLE: Any = {
    "font.size": 9, "axes.titlesize": 9, "axes.spines.top": False, "axes.spines.right": False, "axes.grid": True,
    "grid.color": "#e6e6e6", "grid.linewidth": 0.6, "axes.axisbelow": True, "axes.edgecolor": "#555555",
    "legend.frameon": False, "lines.linewidth": 1.6, "svg.hashsalt": "highscore", "svg.fonttype": "path",
    "axes.titlelocation": "left",
}  # fmt: skip


def draw_all(comparison: Comparison) -> dict[str, Any]:
    """Every figure that a comparison has matter for, by name: matplotlib figures, to be saved or thrown away."""
    import matplotlib

    from experiments.sensitivity import sensitivity

    matplotlib.use("Agg")
    with matplotlib.rc_context(STYLE):
        figures = {"curves": curves(comparison)}
        if comparison.common_games:
            figures["aggregates"] = aggregates(comparison)
            figures["profiles"] = profiles(comparison)
            figures["efficiency"] = efficiency(comparison)
        if comparison.shared_games and len(comparison.agents) > 1:
            figures["improvement"] = improvement(comparison)
        if swept := sensitivity(comparison):
            figures["sensitivity"] = swept
        for name, figure in figures.items():
            if comparison.mixed or (comparison.mixed_curves and name in ("curves", "efficiency")):
                text = f"MIXED {'FINGERPRINTS' if comparison.mixed else 'CURVES'}: not measured alike"
                figure.suptitle(text, x=0.99, ha="right", color="#b00020", fontsize=7)
            elif comparison.frames:
                text = f"after {brief(comparison.frames)} frames of training"
                figure.suptitle(text, x=0.99, ha="right", color=GREY, fontsize=7)
    return figures


def save_all(comparison: Comparison, folder: Path) -> list[Path]:
    """Writes every figure as PNG, SVG and PDF; returns the files."""
    from matplotlib import pyplot as plt

    folder.mkdir(parents=True, exist_ok=True)
    written = []
    for name, figure in draw_all(comparison).items():
        for kind in ("png", "svg", "pdf"):
            path = folder / f"{name}.{kind}"
            write_atomically(path, content_of(figure, kind))
            written.append(path)
        plt.close(figure)
    return written


def content_of(figure: Any, kind: str) -> bytes:
    """A figure as the bytes of a file; it holds no time and nothing random, so that it repeats itself."""
    from matplotlib import rc_context

    content = io.BytesIO()
    with rc_context(STYLE):  # else an SVG's names are drawn at random
        figure.savefig(content, format=kind, dpi=180, metadata=TIMELESS.get(kind))
    return content.getvalue()


def colour_of(comparison: Comparison, agent: str) -> str:
    """An agent's colour, in all figures of a comparison."""
    return COLOURS[comparison.agents.index(agent) % len(COLOURS)]


def line_of(comparison: Comparison, agent: str) -> dict[str, Any]:
    """How an agent's lines are drawn: no two of 32 alike."""
    lap = comparison.agents.index(agent) // len(COLOURS)
    return {"color": colour_of(comparison, agent), "linestyle": LINES[lap % len(LINES)]}


def new(rows: int, columns: int, width: float, height: float) -> tuple[Any, Any]:
    """An empty figure of so many inches, and its axes [rows, columns]."""
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(rows, columns, figsize=(width, height), layout="constrained", squeeze=False)
    return figure, axes


def in_hours(run: Scored) -> list[tuple[float, float]]:
    """A run's curve by hours of training instead of frames."""
    frames, hours = zip(*run.hours, strict=True)
    return [(float(np.interp(x, frames, hours)), score) for x, score in run.curve]


def over_seeds(comparison: Comparison, games: list[str], kind: str = "intervals") -> str:
    """What a label says of intervals over seeds: of how many, and whether these are too few for a bootstrap's."""
    counts = [len(found) for agent in comparison.agents for game in games if (found := comparison.of(agent, game))]
    if max(counts) == 1:
        return "a single seed each, without intervals"
    many = " to ".join(dict.fromkeys((str(min(counts)), str(max(counts)))))
    narrow = " (a bootstrap's are too narrow of fewer than ten)" if kind == "intervals" and min(counts) < 10 else ""
    return f"95 % {kind} over {many} seeds{narrow}"


def frames_unit(comparison: Comparison) -> tuple[float, str]:
    """In what the axes of emulator frames count, and its name: thousands where all is less than half a million."""
    longest = max((run.curve[-1][0] for run in comparison.runs if run.curve), default=0)
    few = longest < 500_000 and not comparison.published
    return (1e3, "thousand emulator frames") if few else (1e6, "million emulator frames")


def draw(axes: Any, joined: Joined, unit: float, line: dict[str, Any], label: str) -> None:
    """A curve of several seeds with its band, and dotted what goes on beyond the shortest of them."""
    x, alone = joined.x / unit, len(joined.x) == 1
    axes.plot(x, joined.middle, label=label, marker="o" if alone else "", **line)
    if joined.band is not None:
        if alone:
            axes.vlines(x, *joined.band, color=line["color"])
        axes.fill_between(x, *joined.band, color=line["color"], alpha=0.18, linewidth=0)
    if joined.beyond.size:
        axes.plot(joined.beyond[0] / unit, joined.beyond[1], label=f"_{DOTTED}", color=line["color"], **BEYOND)


def from_zero(axes: Any) -> None:
    """An x axis that begins at 0, and whose numbers do not touch each other."""
    end = axes.dataLim.xmax  # infinite, or no number, where nothing is drawn
    axes.set_xlim(0, max(1.03 * end, 1e-6) if np.isfinite(end) else 1)
    axes.locator_params(axis="x", nbins=5)


def curves(comparison: Comparison) -> Any:
    """Learning curves, a panel per game, with the published ones of the agents that are compared with."""
    games = comparison.games
    columns = min(len(games), 1 if len(games) == 1 else 2 if len(games) <= 4 else 4)
    rows = -(-len(games) // columns)
    width = 5.6 if columns == 1 else 8.2
    figure, axes = new(rows, columns, width, max(2.0, 1.9 + 0.4 * (columns < 4)) * rows + 1.3 + (columns == 1))
    unit, words = frames_unit(comparison)
    for number, (place, game) in enumerate(zip(axes.flat, games, strict=False)):
        end, apart = 0.0, []
        for agent in comparison.agents:
            found = [run.curve for run in comparison.of(agent, game) if run.curve]
            if found and len((joined := mean_of(found)).x):
                end = max(end, *joined.x, *joined.beyond[0])
                draw(place, joined, unit, line_of(comparison, agent), agent)
            elif found:
                apart.append(agent)
        tell(place, apart)
        for i, published in enumerate(comparison.published):
            if published.name in curves_of(game):
                curve = published_curve(published.name, game)
                shown = [(m, y) for m, y in zip(curve.middle, curve.mean, strict=True) if m <= max(end / 1e6, 1)]
                if shown:
                    style, kind = PUBLISHED[i % len(PUBLISHED)], " (in training)" * ("training" in curve.protocol)
                    name = f"{published.name}, published{kind}"
                    place.plot(*zip(*shown, strict=True), linestyle=style, color=GREY, label=name)
        within_reach(place)
        place.set_title(game)
        from_zero(place)
        if number >= len(games) - columns:
            place.set_xlabel(words, fontsize=9 if columns < 4 else 8)
        if number % columns == 0:
            place.set_ylabel("raw score of evaluations")
    for place in list(axes.flat)[len(games) :]:
        place.set_visible(False)
    legend_below(figure, axes, f"mean and {over_seeds(comparison, games, 't interval')}")
    return figure


def tell(axes: Any, apart: list[str]) -> None:
    """Names the agents that have no line, if there are any."""
    if apart:
        told = f"not shown, as its runs were never evaluated at the same time: {', '.join(apart)}"
        axes.text(0.02, 0.98, fill(told, 48), transform=axes.transAxes, va="top", fontsize=7, color=GREY)


def within_reach(axes: Any) -> None:
    """Cuts bands that reach further beyond the lines than these reach themselves: two seeds have a huge interval."""
    drawn = np.concatenate([line.get_ydata() for line in axes.lines] or [np.empty(0)])
    if len(drawn) and (reach := np.ptp(drawn)) > 0:
        low, high = axes.get_ylim()
        axes.set_ylim(max(low, drawn.min() - reach), min(high, drawn.max() + reach))


def legend_below(figure: Any, axes: Any, title: str) -> None:
    """One legend for all panels, which says what intervals they have and what is dotted."""
    from matplotlib.lines import Line2D

    found: dict[str, Any] = {}
    for place in axes.flat:
        for handle, name in zip(*place.get_legend_handles_labels(), strict=True):
            found.setdefault(name, handle)
    if any(line.get_label() == f"_{DOTTED}" for place in axes.flat for line in place.get_lines()):
        found[DOTTED] = Line2D([], [], color=GREY, **BEYOND)
    if found:
        columns = 2 if max(map(len, found)) > 28 else min(len(found), 4)
        where = {"loc": "outside lower center", "ncols": columns, "fontsize": 8}
        figure.legend(found.values(), found.keys(), title=title, title_fontsize=8, **where)


def aggregates(comparison: Comparison) -> Any:
    """Each aggregate with its stratified bootstrap interval, an agent per row; published figures as diamonds."""
    agents = comparison.agents
    published = [agent for agent in comparison.published if all(g in agent.scores for g in comparison.common_games)]
    rows = [*agents, *(f"{agent.name}, published" for agent in published)]
    figure, axes = new(1, len(stats.AGGREGATES), 8.2, 0.9 + 0.34 * len(rows))
    for place, (name, statistic) in zip(axes.flat, stats.AGGREGATES.items(), strict=True):
        for y, agent in enumerate(agents):
            scores, colour = comparison.scores(agent), colour_of(comparison, agent)
            if stats.several(scores):
                low, high = stats.interval(statistic, scores)
                place.barh(y, high - low, left=low, height=0.55, color=colour, alpha=0.35)
            place.plot([float(statistic(scores))] * 2, [y - 0.28, y + 0.28], color=colour, lw=2)
        for y, other in enumerate(published if name in stats.OF_MEANS else [], len(agents)):
            normalised = [np.array([human_normalised(g, other.scores[g])]) for g in comparison.common_games]
            place.plot(float(statistic(normalised)), y, "D", color=GREY, markersize=5)
        place.set_title(name + (" ↓" if name == "optimality gap" else ""))
        place.use_sticky_edges = False  # else bars at the rim are cut
        place.margins(x=0.12)
        place.set_ylim(len(rows) - 0.4, -0.6)
        place.set_yticks(range(len(rows)), rows if place is axes[0, 0] else [])
        place.grid(axis="y", visible=False)
        place.locator_params(axis="x", nbins=4)
    figure.supxlabel(
        f"human-normalised score over {games_of(comparison)}; bars: {over_seeds(comparison, comparison.common_games)}",
        fontsize=8,
    )
    return figure


def games_of(comparison: Comparison) -> str:
    """What a figure's title calls the games that all agents have played."""
    games = comparison.common_games
    return games[0] if len(games) == 1 else f"{len(games)} games"


def profiles(comparison: Comparison) -> Any:
    """Performance profiles: the fraction of runs above each human-normalised score, with pointwise bands.

    A profile falls at the scores of its runs and nowhere else, and has fallen at the score itself.
    """
    figure, axes = new(1, 1, 5.6, 3.8)
    place = axes[0, 0]
    pooled = np.concatenate([x for agent in comparison.agents for x in comparison.scores(agent)])
    highest = max(0.1, min(pooled.max() * 1.05, max(2.0, 4 * float(np.median(pooled)))))  # a few games go far beyond
    lowest = min(0.0, pooled.min()) - 0.02 * (highest - min(0.0, pooled.min()))  # below all
    for agent in comparison.agents:
        scores, line = comparison.scores(agent), line_of(comparison, agent)
        own = np.unique(np.concatenate(scores))
        thresholds = np.array([lowest, *own[own < highest], highest])
        place.step(thresholds, stats.performance_profile(scores, thresholds), where="post", label=agent, **line)
        if stats.several(scores):
            low, high = stats.profile_band(scores, thresholds)
            place.fill_between(thresholds, low, high, step="post", color=line["color"], alpha=0.15, linewidth=0)
    place.set(xlabel="human-normalised score", ylabel="fraction of runs above it", ylim=(-0.02, 1.02))
    place.set_xlim(lowest, highest)
    legend_below(figure, axes, f"{games_of(comparison)}; {over_seeds(comparison, comparison.common_games)}")
    return figure


def efficiency(comparison: Comparison) -> Any:
    """IQM over the common games by frames, and by hours of training, of agents with a curve on every one of them.

    By hours it ends with the first run to end: as each does at its own time, what is left is other games, or slower.
    """
    figure, axes = new(1, 2, 8.2, 3.5)
    views: tuple[tuple[Any, str, Callable[[Scored], Any], float], ...] = (
        (axes[0, 0], frames_unit(comparison)[1], lambda run: run.curve, frames_unit(comparison)[0]),
        (axes[0, 1], "hours of training", in_hours, 1),
    )
    for place, words, points_of, unit in views:
        apart: list[str] = []
        for agent in comparison.agents:
            found = [
                [normalised(game, points_of(run)) for run in comparison.of(agent, game) if run.curve]
                for game in comparison.common_games
            ]
            if all(found) and len((joined := iqm_of(found)).x):
                shown = joined._replace(beyond=np.empty((2, 0))) if points_of is in_hours else joined
                draw(place, shown, unit, line_of(comparison, agent), agent)
            elif all(found):
                apart.append(agent)
        tell(place, apart)
        within_reach(place)
        place.set_xlabel(words)
        from_zero(place)
    axes[0, 0].set_title("sample efficiency")
    axes[0, 1].set_title("wall-clock, without evaluations and pauses")
    axes[0, 0].set_ylabel(f"human-normalised IQM, {games_of(comparison)}")
    legend_below(figure, axes, over_seeds(comparison, comparison.common_games))
    return figure


def normalised(game: str, curve: list[tuple[float, float]]) -> list[tuple[float, Any]]:
    """A curve of raw scores on a game that has human ones, as human-normalised scores."""
    return [(x, human_normalised(game, score)) for x, score in curve]


def improvement(comparison: Comparison) -> Any:
    """The probability that one agent beats another, for every pair, or as many as a terminal shows."""
    every = comparison.pairs
    pairs = every[:MOST]
    long = max(len(f"{x} over {y}") for x, y in pairs) > LONG
    names = [f"{x}\nover {y}" if long else f"{x} over {y}" for x, y in pairs]
    widest = max(len(line) for name in names for line in name.split("\n"))
    figure, axes = new(1, 1, 4.6 + 0.07 * widest, 1.1 + (0.44 if long else 0.34) * len(pairs))
    place = axes[0, 0]
    for row, (x, y) in enumerate(pairs):
        mine, theirs, colour = comparison.raw(x), comparison.raw(y), colour_of(comparison, x)
        if stats.several(mine, theirs):
            low, high = stats.improvement_interval(mine, theirs)
            place.barh(row, high - low, left=low, height=0.55, color=colour, alpha=0.35)
        place.plot([float(stats.probability_of_improvement(mine, theirs))] * 2, [row - 0.28, row + 0.28], color=colour)
    place.axvline(0.5, color=GREY, lw=1)
    place.set(xlim=(-0.01, 1.01), xlabel="probability that the first beats the second")
    place.set_ylim(len(pairs) - 0.4, -0.6)
    place.set_yticks(range(len(pairs)), names, fontsize=8 if long else None)
    place.grid(axis="y", visible=False)
    more = f"\nnot shown: {len(every) - len(pairs):,} more pairs" * (len(every) > len(pairs))
    figure.supxlabel(f"bars: {over_seeds(comparison, comparison.shared_games)}{more}", fontsize=8)
    return figure
