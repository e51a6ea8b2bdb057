"""Some of the games, and the agent that plays them."""

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor

from agents.sequence import tree_leaves
from envs.played import Played
from experiments.build import build_agent, make_games
from experiments.config import Experiment
from experiments.distributed.blocks import Block
from experiments.distributed.priorities import Priorities
from experiments.loop import Episode, Scores

CPU = torch.device("cpu")


class Player:
    """Plays its share of the games and fills blocks with what it saw.

    Args:
        number: which of the players it is; its games are those from number * n, with their rungs of the ladder.
        life: how many players of this number there were before it, each with games and exploration of its own.
        first_row: how many rows its shard has already.
    """

    def __init__(self, x: Experiment, number: int, life: int, first_row: int):
        assert x.replay is not None
        games = x.num_envs // x.players
        seed = int(np.random.SeedSequence([x.seed, number, life]).generate_state(1)[0])
        torch.manual_seed(seed)
        np.random.seed(seed)
        self.explore, self.mine = x.explore, slice(number * games, (number + 1) * games)
        self.stride = x.replay.stride
        self.games = make_games(x, games, CPU)
        self.agent = build_agent(x, self.games.observation_shape, self.games.num_actions, CPU)
        wanted = x.replay.initial_priority == "player"
        self.priorities = Priorities(self.agent, x.replay.stride, first_row) if wanted else None
        self.scores = Scores(games)
        self.step, self.state = self.games.reset(seed), self.agent.initial_state(games)

    def fill(self, block: Block, agent_steps: Callable[[], int]) -> list[tuple[Episode, Played]]:
        """Plays the steps of a block; returns the episodes that ended, and how each can be played again.

        Args:
            agent_steps: of all players, for the schedule of exploration.
        """
        ended = []
        for t in range(len(block.action)):
            step, state = self.step, self.state
            action, note, self.state = self.agent.act(step, state, self.epsilon(agent_steps()))
            self.games.send(action)  # the emulators run while the row is written
            row = (step._replace(obs=step.obs[:, -1]), action, note)
            for ring, new in zip(tree_leaves(tuple(block[:3])), tree_leaves(row), strict=True):
                ring[t] = new
            if t % self.stride == 0:
                for ring, new in zip(tree_leaves(block.state), tree_leaves(state), strict=True):
                    ring[t // self.stride] = new
            if self.priorities:
                self.priorities.add(step, action, note)
            self.step = self.games.recv()
            for episode in self.scores.add(self.games.on_host):
                played = self.games.played(episode.game)
                ended.append((episode._replace(game=self.mine.start + episode.game), played))
        block.priority[:] = self.priorities.of_last(len(block.action)) if self.priorities else torch.nan
        return ended

    def epsilon(self, agent_steps: int) -> float | Tensor:
        """The exploration rate of its games: one for all, or each its own [n]."""
        rate: Any = self.explore(agent_steps)
        return rate[self.mine] if isinstance(rate, Tensor) else rate
