"""A comparison as LaTeX."""

from typing import Any

from experiments.tables import aggregate_rows, cells, extent, raw_title

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
    """Two tables for booktabs: raw scores by game, and human-normalised aggregates.

    The captions say how long agents trained and with how many seeds, how it was measured, what a reader is warned of,
    and the protocols of published agents.
    """
    how = data["conditions"]
    cap = f"frame cap {how['frame_cap']}" if how["frame_cap"] else "no frame cap but the game's own"
    measured = (
        f"Protocol {how['protocol']}, sticky-action probability {how['sticky_probability']}, {cap},"
        f" $\\epsilon = {how['epsilon']}$, {how['episodes']} episodes a run."
    )
    if data["mixed"]:
        measured = r"\textbf{Scores were not measured alike: } " + escape(", ".join(data["mixed"])) + "."
    seeds = extent([len(set(one["seeds"])) for found in data["games"].values() for one in found.values()])
    trained = (
        f"Scored after {extent([run['frames'] for run in data['runs']])} frames of training, with {seeds}"
        f" seed{'s' * (seeds != '1')} a game."
    )
    notes = [note for note in data["notes"] if note[:5].isupper() or note.startswith(PRINTED)]
    measured = " ".join([trained, measured, *(f"{escape(note[0].upper() + note[1:])}." for note in notes)])
    varied = any(one["interval"] for found in data["aggregates"].values() for one in found.values())
    human = "Human-normalised scores" + " with 95 % stratified bootstrap intervals" * varied
    tables = {raw_title(data): cells(data), human: aggregate_rows(data)}
    parts = []
    for title, (header, rows) in tables.items():
        if rows:
            caption = escape(title).replace(r" \%", r"\,\%")
            lines = [" & ".join(escape(word) for word in row) + r" \\" for row in (header, *rows)]
            parts.append("\n".join([
                r"\begin{table}", r"\centering", rf"\begin{{tabular}}{{l{'r' * (len(header) - 1)}}}", r"\toprule",
                lines[0], r"\midrule", *lines[1:], r"\bottomrule", r"\end{tabular}",
                rf"\caption{{{caption}. {measured}}}", r"\end{table}", "",
            ]))  # fmt: skip
    return "% needs \\usepackage{booktabs}\n" + "\n".join(parts)
