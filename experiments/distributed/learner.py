"""The loop of a training whose games are played elsewhere."""

from collections.abc import Iterator
from typing import Any, Protocol

import torch

from agents.agent import Agent
from envs.timestep import NO_STEP
from experiments.distributed.blocks import Told
from experiments.loop import Moment


class Players(Protocol):
    """Whoever plays: each player fills blocks of its own shard, in order, and is at most a few blocks ahead."""

    count: int
    device: torch.device

    def publish(self, agent: Agent, agent_steps: int) -> None:
        """Gives all players the agent's weights, sooner or later."""

    def recv(self) -> tuple[Any, Told] | None:
        """Waits for the next block of any player, for `experience.extend`; it stays as it is until it is released.

        None: there was none for a while, and who follows the training may want to stop it.
        """

    def release(self, told: Told) -> None:
        """Lets a player fill the block again."""


def learn(agent: Agent, players: Players, experience: Any, agent_steps: int) -> Iterator[Moment]:
    """Takes blocks and makes exactly the updates that they have paid for, up to `agent_steps`.

    Yields after every block and what was learned since, and now and then while there is none. Players that are faster
    wait for the learner, for they run out of blocks; a learner that is faster waits for a block. Weights go out once
    for every round of blocks.

    Args:
        experience: `Shards`, or what stands for them.
    """
    players.publish(agent, experience.steps_added)
    blocks = 0
    while experience.steps_added < agent_steps:
        if (received := players.recv()) is None:
            yield Moment(experience.steps_added, NO_STEP, (), {})
            continue
        block, told = received
        experience.extend(told.player, block)
        players.release(told)
        staleness = agent.updates - told.version
        metrics: dict[str, Any] = {}
        seq = None
        for seq, count in experience.batches():
            priority, metrics = agent.learn(seq, count, experience.steps_added)
            experience.update(seq.ids, priority)
        blocks += 1
        if blocks % players.count == 0:
            players.publish(agent, experience.steps_added)
        if metrics:
            metrics["players/staleness"] = staleness
        yield Moment(experience.steps_added, NO_STEP, (), metrics, seq, told.ended)
