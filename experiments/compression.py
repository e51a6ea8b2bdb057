"""What `--replay.storage compressed`, and a run's replay on the disk, leave of games' frames, and the time it takes.

python -m experiments.compression --games atari57 --out experiments/evidence/compression/atari57.json
python -m experiments.compression --games UpNDown,YarsRevenge --rounds 4
"""

import sys
import time
from dataclasses import dataclass
from statistics import median
from typing import Any, Literal

import torch
from rich.console import Console
from rich.progress import track
from rich.table import Table

from agents.frames import CompressedRing
from envs.library import game_of
from experiments.cli import parse
from experiments.files import write_json
from experiments.matrix import GAMES, words
from experiments.measure import Task, in_a_process_of_its_own
from experiments.options import OptionalPath
from experiments.provenance import provenance
from experiments.segments import CHUNK, compress


@dataclass(frozen=True)
class Compression:
    """Fills a compressed replay's ring by random play, and reads windows of it; then trains, if it shall."""

    games: str = "atari5"
    """games such as "Pong,doom/basic", or atari57, atari100k, atari5, dev"""
    steps: int = 2_000
    """agent steps of each game, two copies of which play"""
    window: int = 5
    """frames of one transition: a stack of four and the next"""
    rounds: int = 0
    """trainings of dqn with frames in RAM and compressed, in turns, to compare"""
    seconds: float = 12.0
    """of each of those, after a warm-up"""
    out: OptionalPath = None
    """a JSON file for the figures"""


def measure(name: str, steps: int, window: int) -> dict[str, float]:
    """Bytes a frame takes whole, compressed and in a run's `replay/`, microseconds to add one and to read one."""
    torch.manual_seed(0)
    game, copies = game_of(name), 2
    games = game.make(copies, game.protocol(game.protocols[0]))
    step, rows = games.reset(seed=0), []
    for _ in range(steps // copies):
        rows.append(step.obs[:, -1].clone())
        step = games.step(torch.randint(games.num_actions, (copies,)))
    games.close()
    ring, began = CompressedRing(len(rows), rows[0]), time.perf_counter()
    for at, row in enumerate(rows):
        ring[at] = row
    added, starts = time.perf_counter() - began, torch.randint((len(rows) - window) * copies, (32 * 20,)).split(32)
    began = time.perf_counter()
    for start in starts:
        ring.take(start + torch.arange(window)[:, None] * copies)
    read = (time.perf_counter() - began) / (32 * 20 * window)
    blocks = (torch.stack(rows[at : at + CHUNK]).flatten(1).numpy() for at in range(0, len(rows), CHUNK))
    return {
        "frame": ring.frame_bytes, "compressed": ring.nbytes / (len(rows) * copies),
        "on_disk": sum(len(compress(block, [rows[0].nbytes], copies)) for block in blocks) / (len(rows) * copies),
        "microseconds_to_add": 1e6 * added / (len(rows) * copies), "microseconds_to_read": 1e6 * read,
    }  # fmt: skip


def train(name: str, rounds: int, seconds: float) -> dict[str, list[float]]:
    """Agent steps per second of dqn on a game, from frames in RAM and compressed, by rounds."""
    kinds: tuple[Literal["ram", "compressed"], ...] = ("ram", "compressed")
    found: dict[str, list[float]] = {storage: [] for storage in kinds}
    task = Task("highscore", "dqn", name, seconds, "auto", matched=False)
    for turn in range(rounds):
        for storage in kinds if turn % 2 == 0 else reversed(kinds):
            rate = in_a_process_of_its_own("measure", task._replace(storage=storage), f"{name}, {storage}")
            found[storage].append(rate["agent_steps_per_second"])
    return found


def main(args: list[str]) -> int:
    """Runs the command; returns its exit status."""
    options, console = parse(Compression, args, prog="python -m experiments.compression"), Console()
    names = GAMES[options.games]() if options.games in GAMES else words(options.games)
    if options.window < 1 or options.steps < 4 * options.window or options.rounds < 0 or options.seconds <= 0:
        raise ValueError("--window and --seconds must be positive, --steps four windows or more, --rounds 0 or more")
    for name in names:
        game_of(name)  # refused now, not after the others were measured
    rows: dict[str, dict[str, Any]] = {}
    for name in track(names, "Playing", console=console):
        rows[name] = measure(name, options.steps, options.window)
    columns = ("game", "bytes a frame", "compressed", "on disk", "us to add", "us to read")
    table = Table(*columns, title="Frames of random play")
    for name, found in sorted(rows.items(), key=lambda row: -row[1]["compressed"]):
        table.add_row(name, *(f"{value:,.0f}" for value in list(found.values())[:3]),
                      *(f"{value:.1f}" for value in list(found.values())[3:]))  # fmt: skip
    console.print(table)
    for name in track(names, "Training", console=console) if options.rounds else []:
        rows[name]["dqn"] = found = train(name, options.rounds, options.seconds)
        turns = [a / b for a, b in zip(found["compressed"], found["ram"], strict=True)]
        ratio = median(found["compressed"]) / median(found["ram"])
        console.print(f"{name}: {ratio:.2f} times the steps/s of RAM, in rounds {min(turns):.2f} to {max(turns):.2f}")
    if options.out is not None:
        about = provenance() | {"command": " ".join(["python -m experiments.compression", *args])}
        options.out.parent.mkdir(parents=True, exist_ok=True)
        write_json(options.out, about | {"games": rows})
    return 0


if __name__ == "__main__":
    from experiments.cli import run_command

    sys.exit(run_command("compression", sys.argv[1:]))
