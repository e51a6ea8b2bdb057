"""Tiny games that isolate one ability each, so that a failure says where to look."""

from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium.spaces import Box, Discrete

from envs.games import Games


class Catch(gym.Env):
    """Move a paddle under a falling ball. Needs credit over `rows` steps, but no memory."""

    def __init__(self, rows: int = 6, columns: int = 5):
        self.rows, self.columns = rows, columns
        self.observation_space = Box(0, 255, (1, rows, columns), np.uint8)
        self.action_space = Discrete(3)  # left, stay, right

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


class Recall(gym.Env):
    """A cue is shown once, then hidden for `delay` steps; repeat it. Impossible without memory."""

    def __init__(self, delay: int = 4):
        self.delay = delay
        self.observation_space = Box(0, 255, (1, 1, 3), np.uint8)
        self.action_space = Discrete(2)

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


PROBES: dict[str, type[gym.Env]] = {"catch": Catch, "recall": Recall}


def make_probe(name: str, num_envs: int, device: str = "cpu") -> Games:
    """Copies of a probe game: "catch" or "recall"."""
    return Games(lambda: gym.vector.SyncVectorEnv([PROBES[name]] * num_envs), device)
