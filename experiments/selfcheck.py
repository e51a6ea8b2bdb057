"""highscore selfcheck: proves on this machine what the suite promises."""

import itertools
import os
import random
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from rich.console import Console
from rich.table import Table
from safetensors.torch import load_file

from envs.atari import FRAME_SKIP, RESEED_AFTER, make_atari, rom_of
from envs.protocols import PROTOCOLS
from envs.recording import Recording
from experiments.build import build
from experiments.checks import check_disk, replay_size
from experiments.children import ours
from experiments.files import read_json, write_json
from experiments.interruption import Interruption
from experiments.log import Log
from experiments.loop import Moment
from experiments.measure import peak_memory
from experiments.options import OptionalPath
from experiments.presets import preset
from experiments.provenance import provenance
from experiments.records import checkpoints
from experiments.run import Run
from experiments.trainer import Trainer
from experiments.wandb_mirror import NoMirror

# Small enough that 20 kills fit into minutes: all parts are there, and the replay's ring wraps several times.
SHORT = (
    "--protocol machado --num-envs 4 --network.hidden 64 --target-period 100 --replay.capacity 6k"
    " --replay.learn-start 1k --replay.learn-period 16 --explore.steps 10k --explore.begin 1k"
    " --checkpoint-period 4k --evaluation.period 30k --evaluation.episodes 2 --evaluation.epsilon 0.2"
    " --evaluation.video-seconds 0 --device cpu --wandb off"
).split()


@dataclass(frozen=True)
class Selfcheck:
    """Checks a promise by breaking things on purpose; prints what it measured. Status 1 if the promise does not hold.

    resume: trainings are killed (SIGKILL) at random moments, many of them while a checkpoint is written, and must end
    bit for bit as those that never were. checkpoint: what saving a full replay costs. games: what seeding emulators
    anew and recording every episode cost.
    """

    what: Literal["resume", "checkpoint", "games"]
    """what to check"""
    kills: int = 20
    """resume: how often each training is killed"""
    games: tuple[str, ...] = ("Breakout", "Seaquest")
    """the games to play; checkpoint: the first"""
    preset: str = "prioritized"
    """resume: what to train"""
    frames: int = 100_000
    """resume: emulator frames of each training"""
    rounds: int = 1
    """resume: how often to repeat it all, with other seeds"""
    capacity: int = 1_000_000
    """checkpoint: agent steps in the replay"""
    seed: int = 1
    """of the trainings, and of the moments of the kills"""
    json: OptionalPath = None
    """where the figures go, too"""


def differences(one: Path, other: Path) -> list[str]:
    """What differs between two finished runs that should be the same; empty if nothing does.

    Logs, scores, recordings, evaluations, parameters, optimiser, priorities, emulators, random states, and the
    replay's rows, by the hashes in the last checkpoint.
    """
    found = []
    files = {"metrics.jsonl", "episodes.jsonl", "summary.json"}
    for run in (one, other):
        files |= {
            str(p.relative_to(run)) for folder in ("evaluations", "recordings") for p in (run / folder).glob("[!.]*")
        }
    for file in sorted(files):
        if not file.endswith(".mp4"):
            a, b = ((run / file).read_bytes() if (run / file).exists() else b"missing" for run in (one, other))
            found += [file] * (a != b)
    last = [Run.open(run).checkpoints()[-1] for run in (one, other)]
    x, y = (load_file(path / "tensors.safetensors") for path in last)
    found += sorted(x.keys() ^ y.keys())
    found += [name for name in sorted(x.keys() & y.keys()) if not torch.equal(x[name], y[name])]
    facts = [read_json(path / "checkpoint.json") for path in last]
    found += [name for name in sorted(facts[0].keys() | facts[1].keys()) if facts[0].get(name) != facts[1].get(name)]
    return found


def check_resume(options: Selfcheck, console: Console, folder: Path) -> dict[str, Any]:
    """Trains each game twice, once undisturbed and once killed again and again; compares."""
    rows = []
    for seed in range(options.seed, options.seed + options.rounds):
        for game in options.games:
            name = f"{game}-{seed}"
            train = ours(
                "train", options.preset, "--game", game, "--seed", str(seed),
                "--frames", str(options.frames), "--runs", str(folder), *SHORT,
            )  # fmt: skip
            console.print(f"{name}: undisturbed", highlight=False)
            began = time.monotonic()
            subprocess.run([*train, "--name", name], check=True, stdout=subprocess.DEVNULL, env=one_thread())
            undisturbed = time.monotonic() - began
            console.print(f"{name}: killed {options.kills} times", highlight=False)
            began = time.monotonic()
            path, rng = folder / f"{name}-killed", random.Random(seed)
            row: dict[str, Any] = {"game": game, "seed": seed}
            steps = options.frames // FRAME_SKIP
            row |= kill_again_and_again([*train, "--name", path.name], path, options.kills, rng, steps)
            row["seconds_undisturbed"] = undisturbed
            row["seconds_lost_per_resume"] = (time.monotonic() - began - undisturbed) / max(row["kills"], 1)
            row["differences"] = differences(folder / name, path)
            rows.append(row)
    table = Table(
        "game", "seed", "kills", "in a checkpoint", "agent steps brought back", "s lost per resume", "differs"
    )
    for row in rows:
        table.add_row(
            row["game"], str(row["seed"]), str(row["kills"]), str(row["kills_while_saving"]),
            f"{row['agent_steps_brought_back']:_}", f"{row['seconds_lost_per_resume']:.1f}",
            ", ".join(row["differences"][:4]) or "nothing",
        )  # fmt: skip
    console.print(table)
    return {"holds": all(row["kills"] >= options.kills and not row["differences"] for row in rows), "runs": rows}


def kill_again_and_again(
    train: list[str], path: Path, kills: int, rng: random.Random, agent_steps: int
) -> dict[str, Any]:
    """Starts a training, and kills and resumes it until it has been killed `kills` times; then lets it end.

    Every other kill waits for a checkpoint that is just being written; the others come at random, but early enough
    for the rest of them.
    """
    command, done, while_saving, brought_back = train, 0, 0, 0
    while True:
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, env=one_thread())
        if done < kills:
            wait_for(lambda: process.poll() is not None or bool(checkpoints(path)), 120)
            if done % 2:
                wait_for(lambda: process.poll() is not None or writing(path), 60)
                time.sleep(rng.uniform(0, 0.03))
            else:
                far = agent_steps * (done + 1) // (kills + 1)
                wait_for(lambda: process.poll() is not None or newest(path) >= far, rng.uniform(0, 12))
            process.send_signal(signal.SIGKILL)
        _, error = process.communicate()
        if process.returncode == 0 or b"is finished" in error:  # it was killed right after its last checkpoint
            break
        if process.returncode != -signal.SIGKILL:
            raise RuntimeError(f"{' '.join(command)} ended with {process.returncode}: {error.decode()}")
        done += 1
        while_saving += writing(path)
        brought_back += newest(path)
        if checkpoints(path):
            command = ours("resume", str(path), "--device", "cpu", "--wandb", "off")
    return {"kills": done, "kills_while_saving": while_saving, "agent_steps_brought_back": brought_back}


def one_thread() -> dict[str, str]:
    """The environment of a training that shares the machine with others; so small a network needs no more."""
    return os.environ | {"OMP_NUM_THREADS": "1"}


def wait_for(condition: Callable[[], bool], seconds: float) -> None:
    """Waits until something holds, but not for ever."""
    until = time.monotonic() + seconds
    while not condition() and time.monotonic() < until:
        time.sleep(0.004)


def newest(path: Path) -> int:
    """Agent steps at a run's newest checkpoint; 0 if it has none."""
    return max((int(p.name) for p in checkpoints(path)), default=0)


def writing(path: Path) -> bool:
    """Whether a checkpoint is being written, or was when the writer died."""
    return any((path / "checkpoints").glob(".writing-*"))


def check_checkpoint(options: Selfcheck, console: Console, folder: Path) -> dict[str, Any]:
    """Fills a replay with random play and saves it at the usual pace; measures stalls and memory."""
    x = replace(preset("dqn"), game=options.games[0], frames=8 * options.capacity)
    assert x.replay is not None
    x = replace(x, replay=replace(x.replay, capacity=options.capacity))
    device = torch.device("cpu")
    console.print(replay_size(x, device), highlight=False)
    setup = build(x, device)
    console.print(check_disk(folder, setup.agent, x), highlight=False)
    run = Run.create(folder, x, "full")
    generator, played = torch.Generator().manual_seed(options.seed), [setup.games.reset(options.seed)]
    for _ in range(511):
        played.append(setup.games.step(torch.randint(setup.games.num_actions, (x.num_envs,), generator=generator)))
    step, rows, idle = played[-1], itertools.cycle(played), torch.zeros(x.num_envs, dtype=torch.int64)
    saves, writes = [], []
    with Interruption() as interruption, Log(run, x.frames, NoMirror(), console) as log:
        trainer = Trainer(run, setup, log, interruption)
        store, experience = trainer.segments, setup.experience
        assert store is not None

        def add(agent_steps: int) -> None:
            for _ in range(agent_steps // x.num_envs):
                experience.add(next(rows), idle, (), ())

        def write_now_and_then(agent_steps: int) -> None:
            for _ in range(agent_steps // 2_500):
                add(2_500)
                began = time.monotonic()
                store.write(experience)
                writes.append(time.monotonic() - began)

        with console.status("filling the replay"):
            write_now_and_then(options.capacity)
        writes.clear()
        before = peak_memory()
        size = folder_bytes(run.path)
        with console.status("saving"):
            for _ in range(6):
                write_now_and_then(x.checkpoint_period // 4)
                trainer.agent_steps = experience.steps_added  # type: ignore[union-attr]
                began = time.monotonic()
                trainer.save(Moment(trainer.agent_steps, step, (), {}))
                saves.append(time.monotonic() - began)
        extra = (peak_memory() - before) / 1e6
        largest = folder_bytes(run.path)
    setup.games.close()
    row = {
        "capacity": options.capacity, "save_seconds_median": statistics.median(saves), "save_seconds_max": max(saves),
        "write_seconds_median": statistics.median(writes), "write_seconds_max": max(writes),
        "extra_memory_mb": extra, "disk_gb_full": size / 1e9, "disk_gb_after_6_saves": largest / 1e9,
    }  # fmt: skip
    console.print(
        f"a replay of {options.capacity:_} steps: a checkpoint stalls training for {row['save_seconds_median']:.2f} s"
        f" (at most {row['save_seconds_max']:.2f}), the rows of 10,000 frames for {row['write_seconds_median']:.2f} s"
        f" (at most {row['write_seconds_max']:.2f}); {extra:.0f} MB more memory at most; {size / 1e9:.1f} GB on disk"
        f" when full, {largest / 1e9:.1f} GB after 6 checkpoints more", highlight=False,
    )  # fmt: skip
    return {"holds": max(*saves, *writes) < 2 and extra < 300, "checkpoint": row}


def folder_bytes(folder: Path) -> int:
    """Bytes of all files in a folder."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def check_games(options: Selfcheck, console: Console, folder: Path) -> dict[str, Any]:
    """Random play, faster than which nothing plays, and the part of its time that resuming and recording take."""
    rows: list[dict[str, Any]] = []
    for game in options.games:
        games = make_atari(game, 8)
        games.reset(options.seed)
        generator, spent, sizes = torch.Generator().manual_seed(0), {"seeding": 0.0, "recording": 0.0}, []
        reset = games._reset

        def timed_reset(mask: np.ndarray, original: Any = reset, spent: dict[str, float] = spent) -> Any:
            began = time.monotonic()
            result = original(mask)
            spent["seeding"] += time.monotonic() - began
            return result

        games._reset = timed_reset  # type: ignore[assignment,method-assign]
        started = time.monotonic()
        while games.agent_steps < 9 * RESEED_AFTER:  # each environment's log comes to its end once
            step = games.step(torch.randint(games.num_actions, (8,), generator=generator))
            began = time.monotonic()
            for i in torch.nonzero(step.last).flatten().tolist():
                sizes.append(len(Recording.of(game, PROTOCOLS["machado"], games.played(i)).pack()))
            spent["recording"] += time.monotonic() - began
        seconds = time.monotonic() - started
        games.close()
        rest = seconds - sum(spent.values())
        costs = {name: part / rest for name, part in spent.items()}
        speed = FRAME_SKIP * games.agent_steps / seconds
        rows.append({"game": game, "frames_per_second": speed, "cost": costs, "bytes": statistics.mean(sizes)})
        console.print(
            f"{game}: {speed:,.0f} frames/s of random play; seeding anew takes {100 * costs['seeding']:.1f} % of it,"
            f" and recording every episode {100 * costs['recording']:.1f} %; {statistics.mean(sizes):.0f} bytes per"
            " episode", highlight=False,
        )  # fmt: skip
    return {"holds": all(row["cost"]["seeding"] < 0.02 for row in rows), "games": rows}


CHECKS = {"resume": check_resume, "checkpoint": check_checkpoint, "games": check_games}


def main(args: list[str]) -> int:
    """Runs the command; returns its exit status."""
    from experiments.cli import parse

    options, console = parse(Selfcheck, args), Console()
    if not options.games:
        raise ValueError("--games: name one or more, such as Breakout")
    for game in options.games:
        rom_of(game)
    if preset(options.preset).replay is None:
        raise ValueError(f"--preset {options.preset} learns from no replay; choose one that does, such as dqn")
    if options.json is not None:
        options.json.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="highscore-selfcheck-", dir=".") as folder:
        result = CHECKS[options.what](options, console, Path(folder))
    if options.json is not None:
        write_json(options.json, provenance() | result)
    console.print("The promise holds." if result["holds"] else "THE PROMISE DOES NOT HOLD.", highlight=False)
    return 0 if result["holds"] else 1


if __name__ == "__main__":
    from experiments.cli import run_command

    sys.exit(run_command("selfcheck", sys.argv[1:]))
