"""A comparison as text: for the terminal, LaTeX and CSV."""

import csv
import io
import re
from collections import Counter
from collections.abc import Sequence
from typing import Any, Literal

from rich import box
from rich.cells import cell_len
from rich.console import Group
from rich.table import Table
from rich.text import Text

MOST = 100  # more pairs of agents than these are not compared in a terminal
LONG = 24  # letters of a name that wraps if it has more
MANY = 4  # more agents than these have no column each in a terminal


def number(value: float | None) -> str:
    """A score with as many digits as mean something."""
    if value is None:
        return ""
    size = abs(value)
    if size >= 10_000:
        return f"{value / 1e6:.2f}M" if size >= 999_950 else f"{value / 1e3:.1f}k"
    return f"{value:,.0f}" if size >= 1000 else f"{value:.1f}" if size >= 10 else f"{value:.2f}"


def short(value: Any) -> str:
    """A setting for people."""
    if isinstance(value, int) and not isinstance(value, bool) and value >= 1_000 and value % 1_000 == 0:
        return f"{value / 1e6:g}M" if value >= 1_000_000 else f"{value // 1_000}k"
    return f"{value:g}" if isinstance(value, float) else str(value)


def brief(frames: float) -> str:
    """Frames in four digits, such as 640, 3k or 1.234M."""
    for size, unit in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if frames >= 0.99995 * size:  # what would be rounded to 1000 of the next unit
            return f"{frames / size:.4g}{unit}"
    return f"{frames:.4g}"


def spread(interval: Any, form: Any = number) -> str:
    """An interval, or nothing where there is none."""
    return "" if interval is None else f"[{form(interval[0])}, {form(interval[1])}]"


def two(value: float) -> str:
    """With two decimals."""
    return f"{round(value, 2) + 0.0:.2f}"  # never -0.00


def extent(values: list[float]) -> str:
    """The smallest and the largest of some numbers, or the only one."""
    return " to ".join(dict.fromkeys((brief(min(values)), brief(max(values)))))


def raw_title(data: dict[str, Any]) -> str:
    """What the raw scores are: an interval is not spoken of where no agent has two seeds on a game."""
    varied = any(one["interval"] for found in data["games"].values() for one in found.values())
    return "Raw scores, mean over seeds and 95 % t interval" if varied else "Raw scores, a single seed each"


def cells(data: dict[str, Any], normalised: bool = False) -> tuple[list[str], list[list[str]]]:
    """Raw scores, a row per game, or human-normalised ones of the games that have them: (header, rows)."""
    agents = list(dict.fromkeys(run["agent"] for run in data["runs"]))
    header = ["game", *agents, *(f"{agent['name']}, {agent['trained']}" for agent in data["published"])]
    form: Any = two if normalised else number
    mean, published = ("human_normalised", "human_normalised") if normalised else ("mean", "scores")
    interval = "human_normalised_interval" if normalised else "interval"
    rows = []
    for game, found in data["games"].items():
        if any(one[mean] is None for one in found.values()):
            continue
        row = [game]
        for agent in agents:
            one = found.get(agent)
            row.append(f"{form(one[mean])} {spread(one[interval], form)}".strip() if one else "")
        theirs = [agent[published].get(game) for agent in data["published"]]
        rows.append([*row, *("" if score is None else form(score) for score in theirs)])
    return header, rows


def aggregate_rows(data: dict[str, Any]) -> tuple[list[str], list[list[str]]]:
    """Human-normalised aggregates, a row per agent: (header, rows)."""
    names = list(next(iter(data["aggregates"].values()), {}))
    header, rows = ["agent", *names, "Atari-5 estimate"], []
    for agent, found in data["aggregates"].items():
        estimate = data["atari5"][agent]
        row = [f"{two(found[name]['value'])} {spread(found[name]['interval'], two)}" for name in names]
        rows.append([agent, *row, "" if estimate is None else two(estimate)])
    for agent in data["published"]:
        if agent["aggregates"]:
            name = f"{agent['name']} (published, {agent['trained']})"
            found = agent["aggregates"]
            rows.append([name, *(two(found[kind]) if kind in found else "" for kind in names), ""])
    if not any(row[-1] for row in rows):
        header, rows = header[:-1], [row[:-1] for row in rows]
    return header, rows


def place(data: dict[str, Any]) -> str:
    """Where one agent is likelier to score more than another."""
    games = data["shared_games"]
    return f"on one of {len(games)} games chosen at random" if len(games) > 1 else f"on {''.join(games)}"


def improvement_rows(pairs: list[dict[str, Any]]) -> tuple[list[str], list[list[str]]]:
    """The probability that an agent scores more than another, a row per pair: (header, rows)."""
    rows = [[x["x"], x["y"], f"{two(x['probability'])} {spread(x['interval'], two)}".strip()] for x in pairs]
    return ["agent", "over", "probability"], rows


def upright(header: list[str], rows: list[list[str]]) -> tuple[list[str], list[list[str]]]:
    """A table of scores, a row per agent instead of per game where agents are many and games fewer."""
    if len(header) - 1 <= max(MANY, len(rows)):
        return header, rows
    first, *others = zip(header, *rows, strict=True)
    return ["agent", *first[1:]], [list(row) for row in others]


def apart(differences: dict[str, dict[str, Any]]) -> dict[str, str]:
    """What sets each agent apart from most others: {agent: settings whose value more than half of them do not share}.

    Args:
        differences: {setting: {agent: value}}, as of a comparison; None where an agent has no such setting.
    """
    said: dict[str, list[str]] = {agent: [] for agent in next(iter(differences.values()))}
    for key, row in differences.items():
        values = {agent: short(value) for agent, value in row.items()}
        common, count = Counter(values.values()).most_common(1)[0]
        for agent, value in values.items():
            if row[agent] is not None and (value != common or 2 * count <= len(values)):
                said[agent].append(f"{key} {value}")
    return {agent: ", ".join(words) or "nothing" for agent, words in said.items()}


def terminal(data: dict[str, Any], width: int) -> Group:
    """Everything for a terminal of so many columns."""
    how = data["conditions"]
    title = "MIXED FINGERPRINTS, not comparable" if data["mixed"] else (
        f"{how['protocol']}, epsilon {how['epsilon']}, {how['episodes']} episodes, "
        f"fingerprint {' and '.join(data['fingerprints'])}"
    )  # fmt: skip
    parts: list[Any] = [table(f"{raw_title(data)} ({title})", *upright(*cells(data)), width)]
    if data["aggregates"]:
        count = len(data["common_games"])
        games = f"{count} games" if count > 1 else data["common_games"][0]
        parts.append(table(f"Human-normalised (1 is a human) over {games}", *aggregate_rows(data), width))
    if len(data["improvement"]) > MOST:
        note = (
            f"the probabilities of improvement of {len(data['improvement']):_} pairs of agents are in --json;"
            " --baseline AGENT asks for those over one"
        )
        parts.append(Text(f"note: {note}", style="dim"))
    elif data["improvement"]:
        rows = [[f"{x}  beats  {y}", words] for x, y, words in improvement_rows(data["improvement"])[1]]
        parts.append(table(f"Probability of improvement {place(data)}", ["", "probability"], rows, width))
    if data["differences"]:
        agents = list(next(iter(data["differences"].values())))
        rows = [[key, *(short(row[agent]) for agent in agents)] for key, row in data["differences"].items()]
        if len(agents) <= MANY:
            parts.append(table("Settings that differ", ["setting", *agents], rows, width))
        else:
            rows = [list(row) for row in apart(data["differences"]).items()]
            parts.append(table("What sets each apart from most", ["agent", "settings"], rows, width, justify="left"))
    parts += [Text(f"note: {note}", style="bold red" if note.isupper() or note[:5].isupper() else "dim")
              for note in data["notes"]]  # fmt: skip
    return Group(*parts)


def table(
    title: str, header: list[str], rows: list[list[str]], width: int, justify: Literal["left", "right"] = "right"
) -> Table:
    """A table for so many columns of a terminal, whose cells are text, never markup."""
    made = Table(title=Text(title), title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False)
    fitting = widths(header, rows, width - 3 * len(header) + 1)  # a rule of three between columns, of one at the rims
    brief = max((cell_len(row[0]) for row in rows), default=0) <= LONG  # longer names wrap rather than push figures out
    for i, name in enumerate(header):
        made.add_column(
            Text(name), justify="left" if i == 0 else justify, overflow="fold", min_width=7,
            no_wrap=i == 0 and brief and not fitting, width=fitting[i] if fitting else None,
        )  # fmt: skip
    for row in rows:
        parts = zip(row, fitting or [0] * len(row), strict=True)
        made.add_row(*(Text(word.replace(" [", "\n[") if 0 < size < cell_len(word) else word) for word, size in parts))
    return made


def widths(header: list[str], rows: list[list[str]], whole: int) -> list[int]:
    """How wide columns are that fold only at spaces, together at most `whole`; [] where even words are too long.

    What is spare keeps as many columns as possible from folding: first their intervals, then cells, then heads.
    """
    columns = list(zip(header, *rows, strict=True))
    found = [longest(column, r"\S+") for column in columns]
    if (name := longest(columns[0], ".+")) <= LONG:  # such names stay in one line
        found[0] = name
    if sum(found) > whole:
        return []
    for begin, piece in ((0, r"\[[^]]*\]"), (1, ".+"), (0, ".+")):
        wanted = [max(0, longest(column[begin:], piece) - size) for column, size in zip(columns, found, strict=True)]
        for i in sorted(range(len(found)), key=wanted.__getitem__):
            found[i] += min(wanted[i], whole - sum(found))
    return found


def longest(texts: Sequence[str], piece: str) -> int:
    """The length of the longest piece of some texts that a regular expression matches."""
    return max((cell_len(found) for text in texts for found in re.findall(piece, text)), default=0)


def unlike(conditions: dict[str, list[Any]]) -> str:
    """In what scores differ that were not measured alike; empty if in nothing."""
    return "; ".join(f"{key.replace('_', ' ')} {' or '.join(map(str, found))}" for key, found in conditions.items())


def to_csv(data: dict[str, Any]) -> str:
    """A row per run: everything its score depends on, and in what the scores differ if they were not measured alike."""
    rows = []
    for run in data["runs"]:
        low, high = run["interval_over_episodes"] or (None, None)
        rows.append(run | {"interval_low": low, "interval_high": high, "frames_limit": data["frames"]})
        rows[-1]["mixed"] = unlike(data["mixed"])
        del rows[-1]["interval_over_episodes"]
    text = io.StringIO()
    writer = csv.DictWriter(text, list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()
