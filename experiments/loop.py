"""The training loop, and evaluation."""

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import torch
from torch import Tensor

from agents.agent import Agent
from envs.games import Games
from envs.timestep import TimeStep


class Moment(NamedTuple):
    """Where training stands after one iteration, learning included: a checkpoint here is consistent."""

    agent_steps: int
    step: TimeStep  # [N] what the games show now
    metrics: dict[str, Tensor]  # of the last update in this iteration; empty if there was none


def train(
    agent: Agent, games: Games, memory: Any, epsilon: Callable[[int], float], agent_steps: int, seed: int
) -> Iterator[Moment]:
    """Plays and learns for `agent_steps`; yields after every iteration, so logging stays with the caller.

    Args:
        memory: a Replay or a Rollout; it decides when to learn, and from what.
        epsilon: agent steps to exploration rate.
    """
    step, state = games.reset(seed), agent.initial_state(games.num_envs)
    while games.agent_steps < agent_steps:
        action, note, next_state = agent.act(step, state, epsilon(games.agent_steps))
        memory.add(step, action, note, state)
        games.send(action)  # the emulators run while we learn
        metrics: dict[str, Tensor] = {}
        for seq in memory.batches():
            priority, metrics = agent.learn(seq)
            memory.update(seq.ids, priority)
        step, state = games.recv(), next_state
        yield Moment(games.agent_steps, step, metrics)


def evaluate(agent: Agent, games: Games, episodes: int, epsilon: float, seed: int) -> Iterator[float]:
    """Yields raw scores of `episodes` episodes: the first few of each game, equally many (give or take one).

    Taking the first to finish instead would favour short episodes. Unlike training, each game stops
    being counted once it has played its share.
    """
    step, state = games.reset(seed), agent.initial_state(games.num_envs)
    share = torch.full((games.num_envs,), episodes // games.num_envs)
    share[: episodes % games.num_envs] += 1
    score = torch.zeros(games.num_envs, dtype=torch.float64)
    while share.any():
        action, _, state = agent.act(step, state, epsilon)
        step = games.step(action)
        score += step.reward.cpu()
        for game in step.last.nonzero().flatten().tolist():
            if share[game]:
                share[game] -= 1
                yield score[game].item()
            score[game] = 0
