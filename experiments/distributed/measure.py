"""What a training with players costs, part by part, and what a simple model makes of it."""

import json
import sys
import time
from dataclasses import replace
from statistics import median
from typing import Any, Literal, NamedTuple

import psutil
import torch
from rich.console import Console
from rich.table import Table

from agents.explore import Ladder
from experiments.build import device_of
from experiments.config import Experiment
from experiments.distributed.blocks import block_rows, size_of
from experiments.distributed.setup import DistributedSetup, build
from experiments.distributed.weights import weights_of
from experiments.limits import cores
from experiments.measure import NEVER, in_a_process_of_its_own, measured
from experiments.phases import Phases
from experiments.presets import preset

WARM = 3  # blocks of every player before anything is measured


class Task(NamedTuple):
    """What to measure."""

    preset: str
    game: str
    seconds: float
    device: str
    compile: bool  # the learner
    precision: Literal["float32", "bf16"]  # of the learner
    players: int = 1
    learns: bool = True  # or only takes what is played


class Costs(NamedTuple):
    """The parts that the model is made of, in seconds of one core or of the GPU."""

    play: float  # a player's, per agent step
    take: float  # the learner's for taking blocks in and giving weights out, per agent step
    update: float  # the learner's, per update; with drawing the batch
    period: float  # agent steps per update


def experiment_of(task: Task) -> Experiment:
    """The preset with so many players, each with as many games as it has in the preset."""
    x = preset(task.preset)
    games = x.num_envs // x.players * task.players
    explore = replace(x.explore, num_envs=games) if isinstance(x.explore, Ladder) else x.explore
    x = replace(x, distributed="local", players=task.players, num_envs=games, explore=explore)
    x = replace(x, compile=task.compile, precision=task.precision)
    x = measured(x, task.game)
    assert x.replay is not None
    least = 4 * (block_rows(x) + x.algorithm.length + 8 + x.stack) * games
    replay = replace(x.replay, capacity=max(x.replay.capacity, least))
    return replace(x, replay=replay if task.learns else replace(replay, learn_start=NEVER))


def carry_out(task: Task) -> dict[str, Any]:
    """One measurement in this process."""
    x, device = experiment_of(task), device_of(task.device)
    # What only takes blocks would refuse to begin: it would never learn.
    setup = build(x if task.learns else replace(x, frames=16 * NEVER), device)
    assert isinstance(setup, DistributedSetup)
    players, experience = setup.games, setup.experience
    assert x.replay is not None
    players.say = lambda text: print(text, file=sys.stderr)
    calls = [
        ("wait", players, "recv"), ("publish", players, "publish"), ("learn", setup.agent, "learn"),
        ("learn", experience, "batches"), ("learn", experience, "update"),
        *(("take", shard, "extend") for shard in experience.shards),
    ]  # fmt: skip
    phases = Phases(setup.agent, device, calls)
    try:
        found = between(setup, phases, x, task.seconds)
    finally:
        players.close()
    block = size_of(players.block)
    more = {
        "block_bytes": block,
        "block_steps": block_rows(x) * x.num_envs // x.players,
        "period": x.replay.learn_period,
    }
    return found | more | {"weights_bytes": sum(w.nbytes for w in weights_of(setup.agent.acting))}


def between(setup: DistributedSetup, phases: Phases, x: Experiment, seconds: float) -> dict[str, Any]:
    """What happens in so many seconds, once everybody plays and the learner learns."""
    players, agent = setup.games, setup.agent
    steps = blocks = updates = 0
    began = player_time = learner_time = 0.0
    stale: list[float] = []

    def times() -> tuple[float, float]:
        spent = [psutil.Process(process.pid).cpu_times() for process in players.processes.values()]
        return sum(t.user + t.system for t in spent), time.process_time()

    learns = x.replay is not None and x.replay.learn_start < NEVER
    for moment in setup.moments(x, None):
        now = time.perf_counter()
        if not began:
            if min(players.blocks) >= WARM and (agent.updates > 2 or not learns):
                phases.begin()
                began, steps, blocks, updates = now, moment.agent_steps, sum(players.blocks), agent.updates
                player_time, learner_time = times()
            continue
        if moment.metrics:
            stale.append(float(moment.metrics["players/staleness"]))
        if now - began > seconds:
            break
    wall = time.perf_counter() - began
    played, learned = (after - before for after, before in zip(times(), (player_time, learner_time), strict=True))
    steps, blocks, updates = moment.agent_steps - steps, sum(players.blocks) - blocks, agent.updates - updates
    spent = {name: phases.seconds[name] for name in ("learn", "take", "publish")}
    # On a CPU its processor time says what the learner needs, whatever runs beside it; on a GPU the clock does.
    needed = sum(spent.values()) if phases.waits else learned / torch.get_num_threads()
    needs = {name: needed * seconds / max(sum(spent.values()), 1e-9) for name, seconds in spent.items()}
    return {
        "agent_steps_per_second": steps / wall, "updates_per_second": updates / wall,
        "learner_idle": phases.seconds["wait"] / wall, "take_ms": 1e3 * needs["take"] / blocks,
        "publish_ms": 1e3 * needs["publish"] * players.count / blocks,
        "play_seconds_per_step": played / steps,
        "take_seconds_per_step": (needs["take"] + needs["publish"]) / steps,
        "update_seconds": needs["learn"] / updates if updates else 0.0,
        "staleness": median(stale) if stale else 0.0,
    }  # fmt: skip


def predict(costs: Costs, players: int, learners: int, cores: int) -> float:
    """Agent steps per second of P players and G learners on so many cores, learners on GPUs of their own counted in.

    Whoever is slowest decides: the players, the learners with what they take in and learn, or, if there are fewer
    cores than processes, the cores that all of them share.
    """
    learning = costs.take + costs.update / costs.period / learners
    rates = [players / costs.play, 1 / learning]
    if players + learners > cores:  # to share an update among learners does not make it less work
        rates.append(cores / (costs.play + costs.take + costs.update / costs.period))
    return min(rates)


def measure(task: Task, players: tuple[int, ...]) -> list[dict[str, Any]]:
    """A row for each number of players: playing alone, with learning, and the model's prediction of that."""
    rows: list[dict[str, Any]] = []
    for count in players:
        tasks = [task._replace(players=count, learns=learns) for learns in (False, True)]
        alone, whole = (in_a_process_of_its_own("distributed.measure", x, f"players of {x.preset}") for x in tasks)
        rows.append({"players": count, "alone": alone, "whole": whole})
    # The parts are those of the fewest players, who were least in each other's way.
    alone, whole = rows[0]["alone"], rows[0]["whole"]
    parts = alone["play_seconds_per_step"], whole["take_seconds_per_step"], whole["update_seconds"]
    costs = Costs(*parts, whole["period"])
    for row in rows:
        row["predicted"] = predict(costs, row["players"], 1, cores())
        row["predicted_alone"] = predict(costs._replace(update=0.0), row["players"], 1, cores())
    return rows


def show(name: str, rows: list[dict[str, Any]], console: Console) -> None:
    """Prints what was found."""
    table = Table(title=f"{name}: agent steps per second, and what the model says", title_justify="left")
    for column in ("players", "playing", "model", "learning", "model", "updates/s", "learner idle", "staleness"):
        table.add_column(column, justify="right")
    for row in rows:
        alone, x = row["alone"], row["whole"]
        table.add_row(
            str(row["players"]), f"{alone['agent_steps_per_second']:,.0f}", f"{row['predicted_alone']:,.0f}",
            f"{x['agent_steps_per_second']:,.0f}", f"{row['predicted']:,.0f}", f"{x['updates_per_second']:.1f}",
            f"{x['learner_idle']:.0%}", f"{x['staleness']:.0f}",
        )  # fmt: skip
    console.print(table)
    x = rows[0]["whole"]
    console.print(
        f"A player spends {1e3 * rows[0]['alone']['play_seconds_per_step']:.2f} ms on a step. A block is"
        f" {x['block_steps']} steps, {x['block_bytes'] / 1e6:.2f} MB; the learner takes it in {x['take_ms']:.1f} ms."
        f" Weights are {x['weights_bytes'] / 1e6:.1f} MB, given out in {x['publish_ms']:.1f} ms; an update takes"
        f" {1e3 * x['update_seconds']:.0f} ms, one for {x['period']:g} steps. Staleness is in updates.",
        highlight=False, soft_wrap=True,
    )  # fmt: skip


if __name__ == "__main__":
    try:
        print(json.dumps(carry_out(Task(**json.loads(sys.argv[1])))))
    except ValueError as error:
        sys.exit(str(error))
