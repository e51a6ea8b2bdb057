"""MinAtar (Young & Tian 2019): five Atari games, each reduced to a 10 x 10 board."""

from functools import partial
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium.spaces import Box, Discrete

from envs.extras import need
from envs.game import Game
from envs.gym_games import GymPicture, cells, make_games
from envs.protocols import Protocol

CHANNELS = {"asterix": 4, "breakout": 4, "freeway": 7, "seaquest": 10, "space_invaders": 6}
ACTIONS = ["NOOP", "LEFT", "UP", "RIGHT", "DOWN", "FIRE"]


class MinAtar(gym.Env):
    """One of the games: uint8 [1, C, 10, 10], 255 where a channel's kind of thing is, else 0."""

    def __init__(self, name: str, protocol: Protocol, render_mode: str | None = None):
        minatar = need("minatar", "minatar")
        self.game = minatar.Environment(name, sticky_action_prob=protocol.sticky_actions)
        self.observation_space = Box(0, 255, (1, CHANNELS[name], 10, 10), np.uint8)
        self.action_space = Discrete(len(ACTIONS))
        self.max_frames, self.render_mode = protocol.max_frames, render_mode

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[np.ndarray, dict]:
        super().reset(seed=seed)
        if seed is not None:
            self.game.seed(seed)
            self.game.last_action = 0  # which may stick, and outlives an episode
        self.game.reset()
        self.frames = 0
        return self._observe(), {}

    def step(self, action: int) -> tuple[np.ndarray, float, bool, bool, dict]:
        reward, over = self.game.act(action)
        self.frames += 1
        return self._observe(), float(reward), over, not over and self.frames >= self.max_frames, {}

    def render(self) -> Any:
        return [cells(self._observe()[0])]

    def _observe(self) -> np.ndarray:
        return self.game.state().transpose(2, 0, 1)[None] * np.uint8(255)


def game(name: str) -> Game:
    """A board as the suite knows games."""
    make_env = partial(MinAtar, name)
    return Game(
        f"minatar/{name.replace('_', '-')}", "minatar", (CHANNELS[name], 10, 10), frame_skip=1, frames_per_second=20,
        make=partial(make_games, make_env), actions=lambda: ACTIONS, picture=partial(GymPicture, make_env),
    )  # fmt: skip


GAMES = [game(name) for name in CHANNELS]
