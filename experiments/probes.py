"""What each memory remembers: the same agent on a probe game with every core, and without one.

python -m experiments.probes t-maze --cores gru none --seeds 1 2 3 --out experiments/evidence/memory
"""

import sys
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import torch
from rich.console import Console

from agents.agent import Agent
from agents.explore import Linear
from agents.optimiser import Adam
from agents.ppo import PPO
from agents.rollout import Rollout, RolloutConfig
from envs.probe import make_probe
from experiments.build_network import build_network
from experiments.cli import parse
from experiments.config import NetworkConfig, to_json
from experiments.loop import evaluate, train
from experiments.run import provenance, write_json
from experiments.stats import bootstrap_interval

SMALL = NetworkConfig(torso="mlp", memory_size=64, hidden=0, initialisation="orthogonal")
CORES = {
    "none": SMALL,
    "lstm": replace(SMALL, memory="lstm"),
    "gru": replace(SMALL, memory="gru"),
    "gtrxl": replace(SMALL, memory="gtrxl", memory_window=16, memory_layers=1),
    "dnc": replace(SMALL, memory="dnc"),
}
ALGORITHM = PPO(unroll=64, clip=0.2, clip_value=False)
OPTIMISER = Adam(1e-3, 1e-5, clip_norm=0.5)
ROLLOUT = RolloutConfig(epochs=4, minibatches=2, shuffle="games")
GAMES = 32


@dataclass(frozen=True)
class Probes:
    """Trains on a probe game with each memory and seed; keeps the shares of episodes won, or scores, as JSON."""

    game: Literal["t-maze", "repeat-previous"]
    """t-maze: what counts is the share of episodes won; repeat-previous: the score, from -1 to 1"""
    cores: tuple[Literal["none", "lstm", "gru", "gtrxl", "dnc"], ...] = ("none", "lstm", "gru", "gtrxl", "dnc")
    """memories to compare"""
    seeds: tuple[int, ...] = (1, 2, 3)
    """of weights, games and exploration"""
    agent_steps: int = 200_000
    """to train for"""
    episodes: int = 2_000
    """played afterwards, on games of their own"""
    out: Path | None = None
    """folder for a file per core; none: only print"""


def probe(game: str, network: NetworkConfig, seed: int, agent_steps: int, episodes: int) -> list[float]:
    """Trains PPO on a probe game; returns the scores of fresh episodes, actions drawn from the policy."""
    torch.manual_seed(seed)
    games = make_probe(game, GAMES)
    built = build_network(network, games.observation_shape, games.num_actions, ALGORITHM)
    agent = Agent(built, ALGORITHM, OPTIMISER, 0)
    memory = Rollout(ROLLOUT, GAMES, ALGORITHM.length, ALGORITHM.targets)
    for _ in train(agent, games, memory, Linear(0.0, 0.0, 0), agent_steps, seed):
        pass
    with agent.evaluating():
        return [x.score for x in evaluate(agent, make_probe(game, GAMES), episodes, 0.0, seed + 1_000_000)]


def result(game: str, scores: list[float]) -> list[float]:
    """Per episode: won or not (1 or 0) in the T-maze, else the score."""
    return [float(score > 0) for score in scores] if game == "t-maze" else scores


def main(args: list[str]) -> int:
    """Runs the command; returns its exit status."""
    options, console = parse(Probes, args, prog="python -m experiments.probes"), Console()
    torch.set_num_threads(1)
    if options.out is not None:
        options.out.mkdir(parents=True, exist_ok=True)
    for core in options.cores:
        rows: list[dict[str, Any]] = []
        for seed in options.seeds:
            began = time.monotonic()
            scores = probe(options.game, CORES[core], seed, options.agent_steps, options.episodes)
            values = result(options.game, scores)
            mean = sum(values) / len(values)
            rows.append({"seed": seed, "mean": mean, "mean_interval": bootstrap_interval(values)})
            console.print(f"{options.game} {core} seed {seed}: {mean:.3f} ({time.monotonic() - began:.0f} s)")
            if options.out is not None:
                write_json(options.out / f"{options.game}-{core}.json", facts(options, core) | {"seeds": rows})
    return 0


def facts(options: Probes, core: str) -> dict[str, Any]:
    """How a file of results came about."""
    settings = {"network": CORES[core], "algorithm": ALGORITHM, "optimiser": OPTIMISER, "rollout": ROLLOUT}
    about = {name: x for name, x in provenance().items() if name != "wandb_id"}
    return about | {
        "command": " ".join(["python -m experiments.probes", *sys.argv[1:]]), "game": options.game, "core": core,
        "agent_steps": options.agent_steps, "episodes": options.episodes, "games": GAMES,
        "measure": "share of episodes won" if options.game == "t-maze" else "score",
        "settings": {name: to_json(part) for name, part in settings.items()},
    }  # fmt: skip


if __name__ == "__main__":
    from experiments.cli import run_command

    sys.exit(run_command("probes", sys.argv[1:]))
