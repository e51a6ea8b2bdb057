"""What each memory remembers: the same agent on a probe game with every core, and without one.

python -m experiments.probes t-maze --cores gru none --seeds 1 2 3 --out experiments/evidence/memory
"""

import sys
import time
from dataclasses import dataclass, replace
from typing import Any, Literal, NamedTuple

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
from experiments.files import write_json
from experiments.loop import evaluate, train
from experiments.options import OptionalPath
from experiments.provenance import provenance
from experiments.stats import mean_interval

CORES = {
    "none": NetworkConfig(),
    "lstm": NetworkConfig(memory="lstm"),
    "gru": NetworkConfig(memory="gru"),
    "gtrxl": NetworkConfig(memory="gtrxl", memory_window=16, memory_layers=1),
    "dnc": NetworkConfig(memory="dnc"),
}
GAMES = 32


class Setting(NamedTuple):
    """What PPO learns a game with, whatever its memory."""

    algorithm: PPO
    optimiser: Adam
    rollout: RolloutConfig
    memory_size: int


SETTINGS = {
    "t-maze": Setting(
        PPO(unroll=64, clip=0.2, clip_value=False), Adam(1e-3, 1e-5, clip_norm=0.5, anneal=True),
        RolloutConfig(4, 2, "games"), 64,
    ),
    # Every answer is paid for at once, so what comes later is only noise.
    "repeat-previous": Setting(
        PPO(unroll=64, clip=0.2, clip_value=False, discount=0.5),
        Adam(3e-3, 1e-5, clip_norm=0.5, anneal=True),
        RolloutConfig(4, 4, "games"), 128,
    ),
}  # fmt: skip


@dataclass(frozen=True)
class Probes:
    """Trains on a probe game with each memory and seed; keeps the shares of episodes won, or scores, as JSON."""

    game: Literal["t-maze", "repeat-previous"]
    """t-maze: what counts is the share of episodes won; repeat-previous: the score, from -1 to 1"""
    cores: tuple[Literal["none", "lstm", "gru", "gtrxl", "dnc"], ...] = ("none", "lstm", "gru", "gtrxl", "dnc")
    """memories to compare"""
    seeds: tuple[int, ...] = (1, 2, 3)
    """of weights, games and exploration"""
    agent_steps: int = 320_000
    """to train for"""
    episodes: int = 2_000
    """played afterwards, on games of their own"""
    out: OptionalPath = None
    """folder for a file per core; none: only print"""


def network_of(game: str, core: str) -> NetworkConfig:
    """A perceptron with a memory, as large as the game's setting says."""
    size = SETTINGS[game].memory_size
    return replace(CORES[core], torso="mlp", memory_size=size, hidden=0, initialisation="orthogonal")


def probe(game: str, core: str, seed: int, agent_steps: int, episodes: int) -> list[float]:
    """Trains PPO on a probe game; returns the scores of fresh episodes, actions drawn from the policy."""
    torch.manual_seed(seed)
    games, (algorithm, optimiser, rollout, _) = make_probe(game, GAMES), SETTINGS[game]
    network = build_network(network_of(game, core), games.observation_shape, games.num_actions, algorithm)
    agent = Agent(network, algorithm, optimiser, 0)
    experience = Rollout(rollout, GAMES, algorithm.length, algorithm.targets, algorithm.games_wait)
    agent.plan(*experience.annealing(agent_steps))
    for _ in train(agent, games, experience, Linear(0.0, 0.0, 0), agent_steps, seed):
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
            scores = probe(options.game, core, seed, options.agent_steps, options.episodes)
            values = result(options.game, scores)
            mean = sum(values) / len(values)
            rows.append({"seed": seed, "mean": mean, "mean_interval": mean_interval(values)})
            console.print(f"{options.game} {core} seed {seed}: {mean:.3f} ({time.monotonic() - began:.0f} s)")
            if options.out is not None:
                write_json(options.out / f"{options.game}-{core}.json", facts(options, core) | {"seeds": rows})
    return 0


def facts(options: Probes, core: str) -> dict[str, Any]:
    """How a file of results came about."""
    setting, network = SETTINGS[options.game], network_of(options.game, core)
    return provenance() | {
        "command": " ".join(["python -m experiments.probes", *sys.argv[1:]]), "game": options.game, "core": core,
        "agent_steps": options.agent_steps, "episodes": options.episodes, "games": GAMES,
        "measure": "share of episodes won" if options.game == "t-maze" else "score",
        "settings": {"network": to_json(network)} | {name: to_json(part) for name, part in setting._asdict().items()},
    }  # fmt: skip


if __name__ == "__main__":
    from experiments.cli import run_command

    sys.exit(run_command("probes", sys.argv[1:]))
