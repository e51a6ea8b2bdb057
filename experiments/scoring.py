"""Scores of an agent, with everything that they depend on; and the weights that scored best."""

import hashlib
from collections.abc import Callable
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

import numpy as np
import torch

from agents.agent import Agent, load_network
from envs.library import game_of
from envs.recording import Recording
from envs.scores import human_normalised
from experiments.achievements import achievements, names_of
from experiments.build import build_agent, make_games
from experiments.checkpoint import read_weights, write_weights
from experiments.config import Experiment
from experiments.files import RunError, write_atomically
from experiments.fingerprint import fingerprint
from experiments.loop import evaluate
from experiments.provenance import emulator, git_commit
from experiments.records import evaluations, in_training, is_weights
from experiments.run import Run
from experiments.stats import mean_interval

EVALUATION_GAMES = 8  # emulators at once; each plays an equal share of the episodes


def score_agent(
    agent: Agent, experiment: Experiment, episodes: int, *, epsilon: float, seed: int, device: torch.device,
    protocol: str = "", watch: Callable[[Any], Any] = lambda episodes: episodes,
) -> tuple[dict[str, Any], list[Recording]]:  # fmt: skip
    """Plays episodes on games of their own; returns the scores with everything they depend on, and the episodes.

    Args:
        seed: of the emulators, and of torch.
        watch: wraps the iterator over episodes, for a progress bar.
    """
    game = game_of(experiment.game)
    chosen = game.protocol(protocol) if protocol else game.evaluation(experiment.protocol)
    torch.manual_seed(seed)
    num_envs = min(EVALUATION_GAMES, episodes)
    games = make_games(experiment, num_envs, device, chosen.name)
    scores, recordings, players, achieved = [], [], [], []
    with agent.evaluating(), closing(games):
        for episode in watch(evaluate(agent, games, episodes, epsilon, seed)):
            played = games.played(episode.game)
            scores.append(episode.score)
            recordings.append(Recording.of(game.name, chosen, played))
            achieved.append(names_of(game, played.achieved))
            players.append(episode.game)
    mean = float(np.mean(scores))
    return {
        "game": game.name, "protocol": chosen.name, "epsilon": epsilon, "seed": seed, "episodes": episodes,
        "mean": mean, "mean_interval": mean_interval(scores), "median": float(np.median(scores)),
        "human_normalised_mean": human_normalised(game.name, mean), "scores": scores,
        "games": players, **achievements(game, achieved), "checkpoint": "last", "emulator": emulator(game.world),
        "fingerprint": fingerprint(
            chosen, epsilon=epsilon, episodes=episodes, seeds=[seed], checkpoint=weights_hash(agent),
            commit=git_commit(),
        ),
    }, recordings  # fmt: skip


def mean_of(result: dict[str, Any]) -> str:
    """The mean score of an evaluation, and its interval over episodes if there are several, in words."""
    found = result["mean_interval"]
    return f"{result['mean']:.1f}" + (f" [{found[0]:.1f}, {found[1]:.1f}]" if found else "")


def weights_hash(agent: Agent) -> str:
    """SHA-256 of the parameters and buffers of the network that acts."""
    sha256 = hashlib.sha256()
    for name, x in sorted(agent.acting.state_dict().items()):
        sha256.update(name.encode())
        sha256.update(x.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy())
    return sha256.hexdigest()


def keep_recordings(run: Run, name: str, recordings: list[Recording]) -> list[tuple[int, int]]:
    """Writes the episodes of an evaluation into one file; returns where each is: (offset, length)."""
    each = [recording.pack() for recording in recordings]
    write_atomically(run.path / "recordings" / f"{name}.rec", b"".join(each))
    ends = np.cumsum([len(content) for content in each]).tolist()
    return [(end - len(content), len(content)) for end, content in zip(ends, each, strict=True)]


def evaluation_seed(experiment: Experiment) -> int:
    """The seed of evaluations during training, always the same and none that training has."""
    return experiment.seed + 1_000_000


def command_seed(seed: int) -> int:
    """The seed of what `highscore evaluate` and `watch` play: no training with a seed below 1,000,000 has it, nor have
    its own evaluations, by which its best weights were chosen."""
    return seed + 2_000_000


def load_agent(run: Run, device: torch.device) -> tuple[Agent, dict[str, Any]]:
    """A run's agent as of its newest whole checkpoint, and that checkpoint's state.

    Raises:
        RunError: there is none, or its tensors do not fit the run's own network.
    """
    games = make_games(run.experiment, 1, device)
    agent = build_agent(run.experiment, games.observation_shape, games.num_actions, device)
    games.close()
    tensors, state = run.load_checkpoint()
    try:
        agent.load_tensors(tensors)
    except ValueError as error:
        raise RunError(f"the checkpoint of {run.path} does not fit its config: {error}") from None
    return agent, state


def load_best(run: Run, agent: Agent) -> dict[str, Any]:
    """Gives an agent the weights that scored best while it was trained; as `load_weights`.

    Raises:
        RunError: none are kept, or they are damaged.
    """
    if not is_weights(run.path / "best"):
        raise RunError(f"{run.path} keeps no best weights; it was not evaluated while it was trained")
    return load_weights(run.path / "best", agent)


def load_weights(folder: Path, agent: Agent) -> dict[str, Any]:
    """Gives an agent the weights that an evaluation scored; returns when that was, and their file's hash.

    Raises:
        RunError: they are damaged.
    """
    tensors, facts = read_weights(folder)
    try:
        load_network(agent.acting, tensors)
        return {key: facts[key] for key in ("frames", "agent_steps", "tensors_sha256")}
    except (ValueError, KeyError) as error:
        raise RunError(f"the weights in {folder} are damaged: {error}") from None


def keep_weights(run: Run, agent: Agent, result: dict[str, Any]) -> None:
    """Keeps the weights that an evaluation in training scored, if they shall be kept or are the best."""
    if run.experiment.evaluation.keep_weights:
        write_scored(run.path / "weights" / f"{result['agent_steps']:012d}", agent, result)
    keep_best(run, agent, result)


def keep_best(run: Run, agent: Agent, result: dict[str, Any]) -> bool:
    """Keeps the weights that an evaluation scored, if none before scored more; returns whether it did.

    Only evaluations from earlier in the training count, so that a resumed run decides as the whole one did; and
    only if weights as good are kept, which a full disk may have hindered.
    """
    best = float("-inf")
    earlier = [one for one in in_training(evaluations(run.path)) if one["agent_steps"] < result["agent_steps"]]
    with suppress(RunError, KeyError, TypeError, ValueError):  # none yet, or damaged
        best = float(read_weights(run.path / "best")[1]["mean"])
    if best >= result["mean"] and any(one["mean"] >= result["mean"] for one in earlier):
        return False
    write_scored(run.path / "best", agent, result)
    return True


def write_scored(folder: Path, agent: Agent, result: dict[str, Any]) -> None:
    """Keeps the weights that an evaluation scored, and what it said."""
    write_weights(folder, agent.acting.state_dict(), {key: result[key] for key in ("frames", "agent_steps", "mean")})
