"""A comparison as text: for the terminal, LaTeX and CSV."""

import csv
import io
from typing import Any

from rich import box
from rich.console import Group
from rich.table import Table
from rich.text import Text

from experiments.comparison import short


def number(value: float | None) -> str:
    """A score with as many digits as mean something."""
    if value is None:
        return ""
    size = abs(value)
    if size >= 10_000:
        return f"{value / 1e6:.2f}M" if size >= 999_950 else f"{value / 1e3:.1f}k"
    return f"{value:,.0f}" if size >= 1000 else f"{value:.1f}" if size >= 10 else f"{value:.2f}"


def spread(interval: Any, form: Any = number) -> str:
    """An interval, or nothing where there is none."""
    return "" if interval is None else f"[{form(interval[0])}, {form(interval[1])}]"


def two(value: float) -> str:
    return f"{round(value, 2) + 0.0:.2f}"  # never -0.00


def cells(data: dict[str, Any]) -> tuple[list[str], list[list[str]]]:
    """Raw scores, a row per game: (header, rows)."""
    agents = list(dict.fromkeys(run["agent"] for run in data["runs"]))
    header = ["game", *agents, *(f"{agent['name']}, {agent['trained']}" for agent in data["published"])]
    rows = []
    for game, found in data["games"].items():
        row = [game]
        for agent in agents:
            one = found.get(agent)
            row.append(f"{number(one['mean'])} {spread(one['interval'])}".strip() if one else "")
        row += [number(agent["scores"].get(game)) for agent in data["published"]]
        rows.append(row)
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
            rows.append([name, *(two(agent["aggregates"][kind]) for kind in names), ""])
    if not any(row[-1] for row in rows):
        header, rows = header[:-1], [row[:-1] for row in rows]
    return header, rows


def terminal(data: dict[str, Any]) -> Group:
    """Everything for the terminal."""
    how = data["conditions"]
    title = "MIXED FINGERPRINTS, not comparable" if data["mixed"] else (
        f"{how['protocol']}, epsilon {how['epsilon']}, {how['episodes']} episodes, "
        f"fingerprint {data['fingerprints'][0]}"
    )  # fmt: skip
    parts: list[Any] = [table(f"Raw scores, mean over seeds and 95 % interval ({title})", *cells(data))]
    if data["aggregates"]:
        count = len(data["common_games"])
        games = f"{count} games" if count > 1 else data["common_games"][0]
        parts.append(table(f"Human-normalised (1 is a human) over {games}", *aggregate_rows(data)))
    if data["improvement"]:
        rows = [
            [f"{x['x']}  beats  {x['y']}", f"{two(x['probability'])} {spread(x['interval'], two)}"]
            for x in data["improvement"]
        ]
        parts.append(table("Probability of improvement, on a game chosen at random", ["", "probability"], rows))
    if data["differences"]:
        agents = list(next(iter(data["differences"].values())))
        rows = [[key, *(short(row[agent]) for agent in agents)] for key, row in data["differences"].items()]
        parts.append(table("Settings that differ", ["setting", *agents], rows))
    parts += [Text(f"note: {note}", style="bold red" if note.isupper() or note[:5].isupper() else "dim")
              for note in data["notes"]]  # fmt: skip
    return Group(*parts)


def table(title: str, header: list[str], rows: list[list[str]]) -> Table:
    """A table whose cells are text, never markup."""
    made = Table(title=Text(title), title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False)
    brief = max((len(row[0]) for row in rows), default=0) <= 24  # long names wrap rather than push figures out
    for i, name in enumerate(header):
        made.add_column(
            Text(name), justify="left" if i == 0 else "right", no_wrap=i == 0 and brief, overflow="fold", min_width=7
        )
    for row in rows:
        made.add_row(*(Text(word) for word in row))
    return made


def to_csv(data: dict[str, Any]) -> str:
    """A row per run: everything its score depends on."""
    text = io.StringIO()
    writer = csv.DictWriter(text, list(data["runs"][0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(data["runs"])
    return text.getvalue()


SPECIAL = {
    "\\": r"\textbackslash{}", "&": r"\&", "%": r"\%", "$": r"\$", "#": r"\#", "_": r"\_", "{": r"\{", "}": r"\}",
    "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "<": r"\textless{}", ">": r"\textgreater{}",
}  # fmt: skip


def escape(text: str) -> str:
    """Text as LaTeX shows it."""
    return "".join(SPECIAL.get(letter, letter) for letter in text)


def to_latex(data: dict[str, Any]) -> str:
    """Two tables for booktabs: raw scores by game, and human-normalised aggregates.

    The captions say how it was measured, what a reader is warned of, and the protocols of published agents.
    """
    how = data["conditions"]
    measured = (
        f"Protocol {how['protocol']}, sticky-action probability {how['sticky_probability']}, frame cap"
        f" {how['frame_cap']}, $\\epsilon = {how['epsilon']}$, {how['episodes']} episodes a run."
    )
    if data["mixed"]:
        measured = r"\textbf{Scores were not measured alike: } " + escape(", ".join(data["mixed"])) + "."
    notes = [note for note in data["notes"] if note[:5].isupper() or note.startswith("published ")]
    measured = " ".join([measured, *(f"{escape(note)}." for note in notes)])
    captions = {
        "Raw scores: mean over seeds and 95\\,\\% bootstrap interval. ": cells(data),
        "Human-normalised scores with 95\\,\\% stratified bootstrap intervals. ": aggregate_rows(data),
    }
    parts = []
    for caption, (header, rows) in captions.items():
        if rows:
            lines = [" & ".join(escape(word) for word in row) + r" \\" for row in (header, *rows)]
            parts.append("\n".join([
                r"\begin{table}", r"\centering", rf"\begin{{tabular}}{{l{'r' * (len(header) - 1)}}}", r"\toprule",
                lines[0], r"\midrule", *lines[1:], r"\bottomrule", r"\end{tabular}",
                rf"\caption{{{caption}{measured}}}", r"\end{table}", "",
            ]))  # fmt: skip
    return "% needs \\usepackage{booktabs}\n" + "\n".join(parts)
