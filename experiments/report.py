"""highscore report: a suite as one HTML page that can be mailed."""

import base64
import html
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import tyro
from rich.console import Console

from experiments import tables
from experiments.compare import import_matplotlib, refuse_folder
from experiments.comparison import Comparison, Scored, load
from experiments.files import write_atomically
from experiments.options import OptionalPath
from experiments.published import published_agent
from experiments.records import is_count
from experiments.results import as_json

STYLE = """
:root { color-scheme: light dark; --line: #8884; --quiet: #666; --warn: #c22; }
@media (prefers-color-scheme: dark) { :root { --quiet: #aaa; --warn: #ff8a80; } }
body { font: 15px/1.5 system-ui, sans-serif; max-width: 980px; margin: 0 auto; padding: 24px 16px 80px; }
h1 { font-size: 24px; margin: 0 0 4px; } h2 { font-size: 17px; margin: 36px 0 8px; }
.quiet { color: var(--quiet); } .warn { color: var(--warn); font-weight: 600; }
table { border-collapse: collapse; font-size: 13px; font-variant-numeric: tabular-nums; }
th, td { padding: 5px 10px; border-bottom: 1px solid var(--line); text-align: right; vertical-align: top; }
th:first-child, td:first-child { text-align: left; } .left td, .left th { text-align: left; }
h1, p, figcaption, summary { overflow-wrap: anywhere; }
.runs :is(th, td):nth-child(-n + 3) { text-align: left; } .runs td:nth-child(-n + 2) { min-width: 110px; }
.commands td { overflow-wrap: anywhere; min-width: 100px; }
.commands td:last-child { font: 12px/1.5 ui-monospace, monospace; }
.wide { overflow-x: auto; } figure { margin: 14px 0; }
figure img { background: #fff; border-radius: 8px; padding: 8px; max-width: 100%; box-sizing: border-box; }
code, pre { font: 12px/1.5 ui-monospace, monospace; overflow-wrap: anywhere; white-space: pre-wrap; }
.films { display: flex; flex-wrap: wrap; gap: 16px; } .films video { width: 220px; display: block; background: #000; }
summary { cursor: pointer; }
@media print { video { display: none; } }
"""
FIGURES = {
    "curves": "Learning curves: evaluations, mean over seeds and 95 % t interval, dotted beyond the shortest run;"
    " published ones under their own protocols.",
    "aggregates": "Human-normalised aggregates with 95 % stratified bootstrap intervals, if all games have several"
    " runs; a mean of one game's runs has a t interval.",
    "profiles": "Performance profiles: the fraction of runs above each score.",
    "efficiency": "The interquartile mean by emulator frames, dotted beyond the shortest run, and by hours of training,"
    " up to the shortest run.",
    "sensitivity": "How the score hangs on each setting that was varied alone.",
    "improvement": "The probability that one agent beats another on a game chosen at random.",
}


@dataclass(frozen=True)
class Report:
    """Writes one self-contained HTML page: figures, tables, settings, commands, commits, films."""

    runs: Annotated[tuple[Path, ...], tyro.conf.Positional]
    """a suite's folder, or run directories"""
    out: OptionalPath = None
    """the page; by default report.html in the suite's folder; where several are named, say where"""
    title: str = ""
    """of the page; empty: the suite's name, or where several are named the file's"""
    published: tuple[str, ...] = ()
    """published agents to show beside them, such as "DQN CNN (Dopamine)"; each keeps its own protocol's label"""
    megabytes: float = 20.0
    """of films, at most: what is larger cannot be mailed"""
    protocol: str = ""
    """only evaluations under this protocol; empty: any"""
    frames: int = 0
    """score runs by their last evaluation in training up to so many frames (and a hundredth more); 0: at their end"""
    baseline: str = ""
    """the probability of improvement only of the others over this agent; empty: of every pair"""
    checkpoint: Literal["last", "best"] = "last"
    """best: score the weights that did best in training, which flatters; the page says so"""
    mixed: bool = False
    """report scores that were not measured alike; the page says so"""


def table(header: list[str], rows: list[list[str]], kind: str = "") -> str:
    """An HTML table of plain text."""
    head = "".join(f"<th>{html.escape(word)}</th>" for word in header)
    body = "".join("<tr>" + "".join(f"<td>{html.escape(word)}</td>" for word in row) + "</tr>" for row in rows)
    return f'<div class="wide"><table class="{kind}"><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>'


def inline(content: bytes, kind: str) -> str:
    """A file as an address that holds it."""
    return f"data:{kind};base64,{base64.b64encode(content).decode()}"


def films(comparison: Comparison, limit: float) -> list[tuple[str, bytes]]:
    """A film of each agent's best run that has one, for each game, as far as `limit` bytes allow: (caption, file)."""
    found, size = [], 0
    for game in comparison.games:
        for agent in comparison.agents:
            runs = sorted(comparison.of(agent, game), key=lambda run: -run.result["mean"])
            newest = [(i, path) for i, run in enumerate(runs, 1) for path in film_of(run)]
            if newest and size + newest[0][1].stat().st_size <= limit:
                place, path = newest[0]
                size += path.stat().st_size
                best = f", number {place} of {len(runs)} runs" if place > 1 else f", the best of {len(runs)} runs"
                played = f", after {int(path.stem):,} agent steps"
                caption = f"{agent} on {game}: {runs[place - 1].record.name}{best * (len(runs) > 1)}{played}"
                found.append((caption, path.read_bytes()))
    return found


def film_of(run: Scored) -> list[Path]:
    """A film of the weights that a run is scored by, or if there is none, the newest of its training, or none."""
    films = sorted(film for film in (run.record.path / "recordings").glob("*.mp4") if is_count(film.stem))
    return [film for film in films if int(film.stem) == run.result["agent_steps"]] or films[-1:]


def page(title: str, comparison: Comparison, data: dict[str, Any], drawn: dict[str, bytes], shown: Any) -> str:
    """The whole page.

    Args:
        data: as `as_json` makes it.
        drawn: SVG by figure.
        shown: films, as `films` finds them.
    """
    how, text = data["conditions"], html.escape
    created = sorted(str(run.record.config.get("created", "")) for run in comparison.runs)
    commits = sorted({str(run.record.config.get("commit")) for run in comparison.runs})
    parts = [
        f"<h1>{text(title)}</h1>",
        f'<p class="quiet">{len(comparison.runs)} runs of {len(comparison.agents)} agents on {len(comparison.games)} '
        f"games, begun {text(created[0])} to {text(created[-1])}; commit {text(', '.join(commits))}</p>",
    ]
    parts += [f'<p class="{"warn" if note[:5].isupper() else "quiet"}">{text(note)}</p>' for note in data["notes"]]
    if data["aggregates"]:
        parts += ["<h2>Human-normalised scores (1 is a human)</h2>", table(*tables.aggregate_rows(data))]
    parts += [f"<h2>{tables.raw_title(data)}</h2>", table(*tables.cells(data))]
    parts.append("<h2>Figures</h2>")
    for name, content in drawn.items():
        image = f'<img alt="{text(FIGURES[name])}" src="{inline(content, "image/svg+xml")}">'
        parts.append(f'<figure>{image}<figcaption class="quiet">{text(FIGURES[name])}</figcaption></figure>')
    if shown:
        cards = (
            f'<figure><video controls muted loop src="{inline(content, "video/mp4")}"></video>'
            f'<figcaption class="quiet">{text(caption)}</figcaption></figure>'
            for caption, content in shown
        )
        parts += ["<h2>Films</h2>", f'<div class="films">{"".join(cards)}</div>']
    if data["differences"]:
        rows = [[key, *(str(row[agent]) for agent in comparison.agents)] for key, row in data["differences"].items()]
        parts += ["<h2>Settings that differ</h2>", table(["setting", *comparison.agents], rows, "left")]
    words = [
        [key.replace("_", " "), "none but the game's own" if (key, value) == ("frame_cap", 0) else str(value)]
        for key, value in how.items()
    ]
    parts += ["<h2>How it was measured</h2>", table(["condition", "value"], words, "left")]
    runs = [
        [run["name"], run["agent"], run["game"], str(run["seed"]), f"{run['frames']:,}",
         tables.number(run["score"]), f"{run['hours']:.2f}", run["fingerprint"], str(run["weights"])[:12]]
        for run in data["runs"]
    ]  # fmt: skip
    header = ["run", "agent", "game", "seed", "frames", "score", "hours", "fingerprint", "weights"]
    commands = table(["run", "command"], [[run["name"], str(run["command"])] for run in data["runs"]], "left commands")
    parts += ["<h2>Runs</h2>", table(header, runs, "runs")]
    parts.append(f"<details><summary>The command of each run</summary>{commands}</details>")
    first = {run.agent: run.record.config for run in reversed(comparison.runs)}
    for agent, config in sorted(first.items()):
        whole = text(json.dumps(config, indent=2))
        parts.append(f"<details><summary>Configuration of {text(agent)}</summary><pre>{whole}</pre></details>")
    head = '<meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">'
    body = "\n".join(parts)
    return (
        f'<!doctype html>\n<html lang="en"><head>{head}<title>{text(title)}</title><style>{STYLE}</style></head>\n'
        f"<body>\n{body}\n</body></html>\n"
    )


def main(args: list[str]) -> int:
    """Runs the command; returns its exit status."""
    from experiments.cli import parse

    options, console = parse(Report, args), Console()
    if not options.runs:
        raise ValueError("name a suite's folder, or runs: highscore report runs/NAME")
    several = len(options.runs) > 1
    if several and options.out is None:
        raise ValueError("of several folders the page is in none: say where, such as --out report.html")
    refuse_folder("out", options.out)
    import_matplotlib()
    comparison = load(
        list(options.runs), checkpoint=options.checkpoint, protocol=options.protocol, frames=options.frames,
        mixed=options.mixed, published=tuple(published_agent(name) for name in options.published),
    ).over(options.baseline)  # fmt: skip
    from experiments.figures import content_of, draw_all

    drawn = {name: content_of(figure, "svg") for name, figure in draw_all(comparison).items()}
    out = options.out or options.runs[0] / "report.html"
    shown = films(comparison, options.megabytes * 1e6)
    title = options.title or (out.stem if several else options.runs[0].resolve().name)
    content = page(title, comparison, as_json(comparison), drawn, shown)
    out.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(out, content.encode())
    console.print(f"wrote {out} ({len(content) / 1e6:.1f} MB, {len(shown)} films)", highlight=False, soft_wrap=True)
    return 0
