"""A package of somebody's own, which registers a game when it is imported: gym/tests.own_game:Corridor-v0."""

import math
import os
import random
from typing import ClassVar

import gymnasium as gym
import numpy as np
from gymnasium.spaces import Box, Discrete


class Corridor(gym.Env):
    """Six places, one of them red: 1 goes left, 2 right, and the end of the corridor is worth a point."""

    def __init__(self):
        self.observation_space, self.action_space = Box(0, 255, (40, 48, 3), np.uint8), Discrete(2, start=1)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.place = int(self.np_random.integers(3))
        return self._picture(), {"lives": "not a number"}

    def step(self, action):
        assert action in (1, 2)
        self.place = max(self.place + (1 if action == 2 else -1), 0)
        return self._picture(), int(self.place == 5), self.place == 5, False, {"achieved": self}

    def _picture(self):
        picture = np.zeros((40, 48, 3), np.uint8)
        picture[:, 8 * self.place : 8 * (self.place + 1), 0] = 200
        return picture


gym.register("Corridor-v0", Corridor)
gym.register("Drawn-v0", lambda: Drawn())
gym.register("Chancy-v0", lambda render_mode=None: Chancy())
gym.register("Nan-v0", lambda: Nan())
gym.register("Lottery-v0", lambda: Lottery())
gym.register("Broken-v0", lambda: Broken())
gym.register("Floats-v0", lambda render_mode=None: Floats())


class Drawn(Corridor):
    """It says where it is, and draws nothing."""

    def __init__(self):
        super().__init__()
        self.observation_space = Box(0, 5, (1,), np.int64)


class Chancy(Drawn):
    """Its chance is not of its seed, but that of `random` and `numpy.random`; what it draws depends on it, too."""

    metadata: ClassVar = {"render_modes": ["rgb_array"]}
    render_mode = "rgb_array"

    def step(self, action):
        place, _, _, _, _ = super().step(action)
        self.steps += 1
        return place, float(np.random.randint(1_000) + random.random()), self.steps == 12, False, {}

    def reset(self, *, seed=None, options=None):
        self.steps = 0
        return super().reset(seed=seed)

    def render(self):
        return np.full((40, 48, 3), np.random.randint(256) * random.random() * self.np_random.random(), np.uint8)


class Lottery(Corridor):
    """What it shows repeats itself, what it pays does not."""

    def step(self, action):
        seen, *_ = super().step(action)
        return seen, int.from_bytes(os.urandom(3), "big"), False, False, {}


class Nan(Corridor):
    """Its rewards are none."""

    def step(self, action):
        picture, _, *rest = super().step(action)
        return picture, math.nan, *rest


class Floats(Chancy):
    """Its screen is no bytes."""

    def render(self):
        return np.zeros((40, 48, 3))


class Broken(Corridor):
    """It fails with what cannot be told to another process."""

    def step(self, action):
        raise RuntimeError("the ball is lost", open(os.devnull))
