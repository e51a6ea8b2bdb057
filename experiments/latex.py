"""A comparison as LaTeX."""

import re
from textwrap import wrap
from typing import Any

from experiments.tables import LONG, MOST, aggregate_rows, cells, extent, improvement_rows, place, raw_title, upright

FEW = 3  # more columns of scores than these fit a page only with intervals on lines of their own

SPECIAL = {
    "\\": r"\textbackslash{}", "&": r"\&", "%": r"\%", "$": r"\$", "#": r"\#", "_": r"\_", "{": r"\{", "}": r"\}",
    "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "<": r"\textless{}", ">": r"\textgreater{}",
}  # fmt: skip


def escape(text: str) -> str:
    """Text as LaTeX shows it."""
    return "".join(SPECIAL.get(letter, letter) for letter in text)


# What a paper's reader must know, of the notes that are no warnings in capitals.
PRINTED = (
    "scores after ", "published ", "as few as ", "some cells have a single seed", "every cell has a single seed",
    "aggregates ", "human-normalised aggregates ", "left out, ", "not finished: ", "measured more than once ",
)  # fmt: skip


def to_latex(data: dict[str, Any]) -> str:
    """Tables for booktabs: raw and human-normalised scores by game, aggregates, and the probability of improvement.

    The first caption says how long agents trained and with how many seeds, how it was measured, what a reader is warned
    of, and the protocols of published agents; the others refer to it.
    """
    varied = any(one["interval"] for found in data["aggregates"].values() for one in found.values())
    bootstrap = " with 95 % stratified bootstrap intervals" * varied
    of_means = ", or Student's t of the mean over one game's runs" * (varied and len(data["common_games"]) == 1)
    improvement = data["improvement"][: MOST * (len(data["improvement"]) <= MOST)]
    title = raw_title(data)
    tables = {
        "raw": (title, 1, *upright(*cells(data))),
        "games": (title.replace("Raw", "Human-normalised"), 1, *upright(*cells(data, normalised=True))),
        "human": (f"Human-normalised scores{bootstrap}{of_means}", 1, *aggregate_rows(data)),
        "improvement": (f"Probability of improvement {place(data)}{bootstrap}", 2, *improvement_rows(improvement)),
    }
    parts, said = ["% needs \\usepackage{booktabs}"], measured(data)
    for name, (title, names, header, rows) in tables.items():
        if any(any(row[1:]) for row in rows):
            caption = f"{escape(title)}. {said}".replace(r" \%", r"\,\%")
            parts.append("\n".join([
                r"\begin{table}", r"\centering\small\setlength{\tabcolsep}{4pt}", *tabular(names, header, rows),
                rf"\caption{{{caption}}}", rf"\label{{tab:{name}}}", r"\end{table}", "",
            ]))  # fmt: skip
            said = r"Measured as in Table~\ref{tab:raw}."
    return "\n".join(parts)


def tabular(names: int, header: list[str], rows: list[list[str]]) -> list[str]:
    """The lines of a table with so many columns of names, then scores; of many, intervals have lines of their own."""
    width = max(len(word) for row in rows for word in row[:names])
    left = "l" if width <= LONG else rf"p{{{0.3 if names > 1 else 0.28}\linewidth}}"
    lines = [" & ".join(map(folded, header)) + r" \\", r"\midrule"]
    for row in rows:
        words, scores = [escape(word) for word in row[:names]], [signed(word) for word in row[names:]]
        if len(scores) <= FEW or not any(" [" in score for score in scores):
            lines.append(" & ".join([*words, *scores]) + r" \\")
            continue
        means, intervals = zip(*(score.partition(" [")[::2] for score in scores), strict=True)
        small = [rf"{{\footnotesize [{interval}}}" * bool(interval) for interval in intervals]
        lines += [" & ".join([*words, *means]) + r" \\", " & ".join([" " * names, *small]) + r" \\"]
    columns = left * names + "r" * (len(header) - names)
    return [rf"\begin{{tabular}}{{{columns}}}", r"\toprule", *lines, r"\bottomrule", r"\end{tabular}"]


def folded(name: str) -> str:
    """The head of a column, in several lines if it is long."""
    lines = wrap(escape(name), LONG // 2, break_long_words=False, break_on_hyphens=False)
    return r"\shortstack[r]{" + r"\\".join(lines) + "}" if len(lines) > 1 else escape(name)


def signed(text: str) -> str:
    """Scores with a minus as mathematics has it."""
    return re.sub(r"-(?=\d)", "$-$", text)


def measured(data: dict[str, Any]) -> str:
    """How scores were measured, and what a reader is warned of, as LaTeX."""
    how = data["conditions"]
    cap = f"frame cap {how['frame_cap']}" if how["frame_cap"] else "no frame cap but the game's own"
    words = (
        f"Protocol {how['protocol']}, sticky-action probability {how['sticky_probability']}, {cap},"
        f" $\\epsilon = {how['epsilon']}$, {how['episodes']} episodes a run."
    )
    if data["mixed"]:
        words = r"\textbf{Scores were not measured alike: } " + escape(", ".join(data["mixed"])) + "."
    seeds = extent([len(set(one["seeds"])) for found in data["games"].values() for one in found.values()])
    trained = (
        f"Scored after {extent([run['frames'] for run in data['runs']])} frames of training, with {seeds}"
        f" seed{'s' * (seeds != '1')} a game."
    )
    notes = [note for note in data["notes"] if note[:5].isupper() or note.startswith(PRINTED)]
    return " ".join([trained, words, *(f"{escape(note[0].upper() + note[1:])}." for note in notes)])
