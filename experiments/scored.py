"""Runs with their scores, by agent and game."""

from itertools import combinations
from typing import Any, NamedTuple

import numpy as np

from envs.scores import human_normalised
from experiments.published import PublishedAgent
from experiments.records import Record


class Scored(NamedTuple):
    """One run with the evaluation that counts, and its learning curve."""

    record: Record
    agent: str
    result: dict[str, Any]
    curve: list[tuple[int, float]]  # (emulator frames, mean raw score) of each evaluation in training
    hours: list[tuple[int, float]]  # (emulator frames, hours of training)

    @property
    def normalised(self) -> float | None:
        return human_normalised(self.record.game, self.result["mean"])

    @property
    def frames(self) -> int:
        """Emulator frames of training up to the last evaluation of any kind."""
        return max([self.result["frames"], *(frames for frames, _ in self.curve)])


class Comparison(NamedTuple):
    """Runs by agent and game, and what may be said of them."""

    runs: list[Scored]
    mixed: dict[str, list[Any]]  # conditions in which the scores differ: {} unless that was asked for
    differences: dict[str, dict[str, Any]]  # setting: its value by agent, where agents differ
    published: list[PublishedAgent]
    notes: list[str]
    mixed_curves: dict[str, list[Any]]  # conditions in which evaluations in training differ
    frames: int = 0  # of training, after which runs are scored and curves end; 0: at their end
    baseline: str = ""  # the agent over which others may improve; "": any over any

    def over(self, baseline: str) -> "Comparison":
        """The same, with the improvement of the others over one agent; "" is none.

        Raises:
            ValueError: there is no such agent; names the closest.
        """
        if baseline and baseline not in self.agents:
            from experiments.presets import closest

            alike = [agent for agent in self.agents if baseline.lower() in agent.lower()]
            raise ValueError(f"no agent here is called {baseline!r}; {closest(baseline, alike or self.agents)}")
        return self._replace(baseline=baseline)

    @property
    def pairs(self) -> list[tuple[str, str]]:
        """Agents of which the first may score more than the second: every pair once, or each other and the baseline."""
        if self.baseline:
            return [(agent, self.baseline) for agent in self.agents if agent != self.baseline]
        return list(combinations(self.agents, 2))

    @property
    def agents(self) -> list[str]:
        return list(dict.fromkeys(run.agent for run in self.runs))

    @property
    def games(self) -> list[str]:
        return sorted({run.record.game for run in self.runs})

    def of(self, agent: str, game: str) -> list[Scored]:
        """The runs of an agent on a game, by seed."""
        found = [run for run in self.runs if (run.agent, run.record.game) == (agent, game)]
        return sorted(found, key=lambda run: run.record.seed)

    @property
    def shared_games(self) -> list[str]:
        """Games that every agent has played: only over these is one more likely to score more than another."""
        played = {(run.agent, run.record.game) for run in self.runs}
        agents = self.agents
        return [game for game in self.games if all((agent, game) in played for agent in agents)]

    @property
    def common_games(self) -> list[str]:
        """Those of them with human-normalised scores: only over these do aggregates compare."""
        return [game for game in self.shared_games if human_normalised(game, 0.0) is not None]

    def scores(self, agent: str) -> list[np.ndarray]:
        """Human-normalised scores on the common games: per game, [runs]."""
        return [np.array([run.normalised for run in self.of(agent, game)]) for game in self.common_games]

    def raw(self, agent: str) -> list[np.ndarray]:
        """Raw scores on the shared games: per game, [runs]."""
        return [np.array([run.result["mean"] for run in self.of(agent, game)]) for game in self.shared_games]
