"""Tiny games that isolate one ability each, so that a failure says where to look."""

from abc import ABC, abstractmethod
from functools import partial
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium.spaces import Box, Discrete

from envs.game import Game
from envs.games import Games
from envs.gym_games import GymPicture, cells, make_games
from envs.protocols import PROBE, Protocol


class Probe(gym.Env, ABC):
    """A board uint8 [1, H, W] that people can look at, too."""

    def render(self) -> Any:
        return [cells(self._draw(), side=24)]

    @abstractmethod
    def _draw(self) -> np.ndarray:
        """The board uint8 [1, H, W] as the agent sees it now."""


class Catch(Probe):
    """Move a paddle under a falling ball. Needs credit over `rows` steps, but no memory."""

    rows, columns = 6, 5
    observation_space = Box(0, 255, (1, rows, columns), np.uint8)
    action_space = Discrete(3)  # left, stay, right

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[np.ndarray, dict]:
        super().reset(seed=seed)
        self.ball = [0, int(self.np_random.integers(self.columns))]
        self.paddle = self.columns // 2
        return self._draw(), {}

    def step(self, action: int) -> tuple[np.ndarray, float, bool, bool, dict]:
        self.paddle = int(np.clip(self.paddle + action - 1, 0, self.columns - 1))
        self.ball[0] += 1
        over = self.ball[0] == self.rows - 1
        return self._draw(), float(over and (1 if self.ball[1] == self.paddle else -1)), over, False, {}

    def _draw(self) -> np.ndarray:
        board = np.zeros((1, self.rows, self.columns), np.uint8)
        board[0, self.ball[0], self.ball[1]] = board[0, self.rows - 1, self.paddle] = 255
        return board


class Recall(Probe):
    """A cue is shown once, then hidden for `delay` steps; repeat it. Impossible without memory."""

    delay = 4
    observation_space = Box(0, 255, (1, 1, 3), np.uint8)
    action_space = Discrete(2)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[np.ndarray, dict]:
        super().reset(seed=seed)
        self.cue, self.t = int(self.np_random.integers(2)), 0
        return self._draw(), {}

    def step(self, action: int) -> tuple[np.ndarray, float, bool, bool, dict]:
        self.t += 1
        over = self.t > self.delay
        return self._draw(), float(over and (1 if action == self.cue else -1)), over, False, {}

    def _draw(self) -> np.ndarray:
        show = np.zeros((1, 1, 3), np.uint8)
        show[0, 0, self.cue if self.t == 0 else 2] = 255 * (self.t in (0, self.delay))
        return show


class TMaze(Probe):
    """Bakker (2002), sec. 3: a sign at the start of a corridor says which way to turn at its end, `length` steps on.

    Actions: north, east, south, west. Standing still costs 0.1; the turn at the end earns 4, or costs 0.1 if it is
    the wrong one. So guessing pays, and half of the guesses are right. An episode is won if its score is positive.
    The sign is shown once: who walks back does not see it again.
    """

    def __init__(self, length: int = 10):
        self.length = length
        self.observation_space = Box(0, 255, (1, 1, 4), np.uint8)  # sign north, sign south, corridor, junction
        self.action_space = Discrete(4)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[np.ndarray, dict]:
        super().reset(seed=seed)
        self.south, self.at, self.t = bool(self.np_random.integers(2)), 0, 0
        return self._draw(), {}

    def step(self, action: int) -> tuple[np.ndarray, float, bool, bool, dict]:
        self.t += 1
        if self.at == self.length and action in (0, 2):
            return self._draw(), 4.0 if (action == 2) == self.south else -0.1, True, False, {}
        moved = {1: min(self.at + 1, self.length), 3: max(self.at - 1, 0)}.get(action, self.at)
        cost, self.at = (-0.1 if moved == self.at else 0.0), moved
        return self._draw(), cost, False, self.t >= 10 * self.length, {}

    def _draw(self) -> np.ndarray:
        show = np.zeros((1, 1, 4), np.uint8)
        show[0, 0, int(self.south) if self.t == 0 else 3 if self.at == self.length else 2] = 255
        return show


class RepeatPrevious(Probe):
    """After Morad et al. (2023), POPGym: say at every step which of four suits was shown `k` steps ago.

    A right answer earns 1/n, a wrong one -1/n, of the n that are asked for. Theirs deals one deck of 52, without
    putting back, where here every suit is drawn anew; their k of 4 asks for what was shown three steps ago, and 48
    answers count there, and 44 here.
    """

    k, steps = 4, 48
    observation_space = Box(0, 255, (1, 1, 4), np.uint8)
    action_space = Discrete(4)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[np.ndarray, dict]:
        super().reset(seed=seed)
        self.suits, self.t = self.np_random.integers(4, size=self.steps + 1), 0
        return self._draw(), {}

    def step(self, action: int) -> tuple[np.ndarray, float, bool, bool, dict]:
        asked = self.steps - self.k
        reward = 0.0
        if self.t >= self.k:
            reward = (1.0 if action == self.suits[self.t - self.k] else -1.0) / asked
        self.t += 1
        return self._draw(), reward, self.t == self.steps, False, {}

    def _draw(self) -> np.ndarray:
        show = np.zeros((1, 1, 4), np.uint8)
        show[0, 0, self.suits[self.t]] = 255
        return show


PROBES: dict[str, type[Probe]] = {
    "catch": Catch, "recall": Recall, "t-maze": TMaze, "repeat-previous": RepeatPrevious,
}  # fmt: skip
ACTIONS = {
    "catch": ["LEFT", "STAY", "RIGHT"], "recall": ["0", "1"], "t-maze": ["NORTH", "EAST", "SOUTH", "WEST"],
    "repeat-previous": ["CLUBS", "DIAMONDS", "HEARTS", "SPADES"],
}  # fmt: skip


def make_probe(name: str, num_envs: int, device: str = "cpu") -> Games:
    """Copies of a probe game: "catch", "recall", "t-maze" or "repeat-previous"."""
    return make_games(partial(make_env, name), num_envs, PROBE, device=device)


def make_env(name: str, protocol: Protocol, render_mode: str | None = None) -> Probe:
    """One probe; all have one protocol."""
    return PROBES[name]()


def game(name: str) -> Game:
    """A probe as the suite knows games."""
    make = partial(make_env, name)
    space = PROBES[name]().observation_space
    assert space.shape is not None
    return Game(
        f"probe/{name}", "probe", space.shape[1:], frame_skip=1, frames_per_second=5,
        make=partial(make_games, make), actions=lambda: ACTIONS[name], picture=partial(GymPicture, make),
    )  # fmt: skip


GAMES = [game(name) for name in PROBES]
