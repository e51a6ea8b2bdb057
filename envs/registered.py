"""What is registered with Gymnasium, as people see it: gym/CartPole-v1, or gym/package:Own-v0 of an own package."""

import math
import os
import random
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from importlib.util import find_spec
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium.spaces import Box, Discrete
from gymnasium.wrappers import TimeLimit
from PIL import Image

from envs.game import Game
from envs.gym_games import GymPicture, make_games
from envs.protocols import GYMNASIUM, Protocol

PREFIX = "gym/"
SIDE = 84  # pixels of what the agent sees, in both directions
SMALLEST = 32  # pixels of a picture: what is smaller, such as the cells of a board, is looked at on the screen


class Registered(gym.Wrapper):
    """An environment in shades of grey: uint8 [1, 84, 84], its observation if that is a picture, else its screen.

    A seed is also that of `random` and `numpy.random`, which many draw from. In a process of its own it seeds those
    themselves; made with a `render_mode`, it plays beside others, and has the two while it is called, no longer.

    Raises:
        ValueError: there is no such environment; it shows no pictures; an action is not one of up to 256.
    """

    def __init__(self, name: str, protocol: Protocol, render_mode: str | None = None):
        os.environ.setdefault("SDL_VIDEODRIVER", "dummy")  # what draws with it needs no display, and misses it loudly
        others = chance()
        env = made(name)  # which tries it
        set_chance(others)
        super().__init__(TimeLimit(env, protocol.max_frames))
        self.is_picture, actions = shows_pictures(env.observation_space), env.action_space
        if not self.is_picture and env.render_mode != "rgb_array":
            raise ValueError(f"{PREFIX}{name} shows no pictures: {env.observation_space}, and no render mode rgb_array")
        if not isinstance(actions, Discrete) or actions.n > 256:
            raise ValueError(f"{PREFIX}{name} wants {actions}; agents here choose one of 256 actions at most")
        self.name, self.first_action = name, int(actions.start)
        self.chance = others if render_mode else None  # of `random` and `numpy.random`, if they are others', too
        self.screen: Any = None  # as it was drawn for the agent, if it was
        self.observation_space, self.action_space = Box(0, 255, (1, SIDE, SIDE), np.uint8), Discrete(int(actions.n))

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[np.ndarray, dict]:
        with self._own_chance():
            if seed is not None:
                random.seed(seed)
                np.random.seed(seed % 2**32)
            self.shown, _ = self.env.reset(seed=seed)
            return self._observe(), {}

    def step(self, action: int) -> tuple[np.ndarray, float, bool, bool, dict]:
        """Plays one action.

        Raises:
            RuntimeError: the reward is not finite.
        """
        with self._own_chance():
            self.shown, earned, terminated, truncated, _ = self.env.step(self.first_action + int(action))
            if not math.isfinite(reward := float(earned)):
                raise RuntimeError(f"{PREFIX}{self.name} gave the reward {reward} after action {action}")
            return self._observe(), reward, bool(terminated), bool(truncated), {}

    def render(self) -> Any:
        with self._own_chance():
            return [np.asarray(Image.fromarray(flat(self._screen())).convert("RGB"))]

    def _screen(self) -> Any:
        """What people see; that it is drawn changes nothing of what comes."""
        if self.env.render_mode != "rgb_array":
            return self.shown
        if self.screen is None:  # the agent does not look at it
            generator, before = self.env.unwrapped.np_random.bit_generator, chance()
            drawn = generator.state
            self.screen = self.env.render()
            generator.state = drawn
            set_chance(before)
        return self.screen

    @contextmanager
    def _own_chance(self) -> Iterator[None]:
        """While it lasts, `random` and `numpy.random` are the environment's."""
        if self.chance is None:
            yield
            return
        others = chance()
        set_chance(self.chance)
        try:
            yield
        finally:
            self.chance = chance()
            set_chance(others)

    def _observe(self) -> np.ndarray:
        self.screen = None if self.is_picture else self.env.render()
        seen = self.shown if self.is_picture else self.screen
        return np.asarray(Image.fromarray(flat(seen)).convert("L").resize((SIDE, SIDE), Image.Resampling.BOX))[None]


def chance() -> tuple[Any, Any]:
    """Where `random` and `numpy.random` are."""
    return random.getstate(), np.random.get_state()


def set_chance(state: tuple[Any, Any]) -> None:
    """Takes the two back there."""
    random.setstate(state[0])
    np.random.set_state(state[1])


def made(name: str) -> gym.Env:
    """An environment by the name that it is registered with, which shows its screen if it has one.

    Raises:
        ValueError: there is none, or what it or its screen needs is not installed.
    """
    package = name.partition(":")[0].partition(".")[0] if ":" in name else ""
    if package and (spec := find_spec(package)) is not None and spec.origin is None:
        raise ValueError(
            f"--game {PREFIX}{name}: {package} is only a folder, of which anything could be run; if it is a package of"
            " yours, give it an __init__.py"
        )
    try:
        env = gym.make(name, disable_env_checker=True)
        if "rgb_array" in env.metadata.get("render_modes", ()):
            env.close()
            env = gym.make(name, disable_env_checker=True, render_mode="rgb_array")
            env.reset(seed=0)
            check_screen(name, env.render())  # some import what draws only now
    except (gym.error.Error, ModuleNotFoundError) as error:
        why = str(error).splitlines()[0].rstrip(".")
        hint = "; a module in this folder is found with PYTHONPATH=." * isinstance(error, ModuleNotFoundError)
        raise ValueError(f"--game {PREFIX}{name}: {why}{hint}") from None
    return env


def check_screen(name: str, screen: Any) -> None:
    """Refuses what is no picture.

    Raises:
        ValueError: saying what it is.
    """
    kind, shape = getattr(screen, "dtype", type(screen).__name__), getattr(screen, "shape", ())
    if kind != np.uint8 or len(shape) not in (2, 3) or shape[2:] not in ((), (1,), (3,), (4,)):
        raise ValueError(
            f"--game {PREFIX}{name}: its screen is {kind} {[*shape] or ''}; rgb_array is uint8 [height, width, 3]"
        )


def shows_pictures(space: gym.Space) -> bool:
    """Whether observations are uint8 [H, W], [H, W, 1] or [H, W, 3]."""
    if not isinstance(space, Box) or space.dtype != np.uint8 or len(space.shape) not in (2, 3):
        return False
    return min(space.shape[:2]) >= SMALLEST and space.shape[2:] in ((), (1,), (3,))


def flat(picture: Any) -> np.ndarray:
    """A picture of one channel without it."""
    return picture[..., 0] if picture.ndim == 3 and picture.shape[2] == 1 else picture


def actions_of(name: str) -> list[str]:
    """Numbers: Gymnasium has no names for them."""
    env = Registered(name, GYMNASIUM)
    env.close()
    assert isinstance(env.action_space, Discrete)
    return [str(action) for action in range(int(env.action_space.n))]


def pace_of(name: str) -> float | None:
    """Frames a second as the environment has it, if it does."""
    env = Registered(name, GYMNASIUM)
    env.close()
    rate = env.metadata.get("render_fps")
    return float(rate) if isinstance(rate, (int, float, np.number)) and 1 <= rate <= 240 else None


def game(name: str) -> Game:
    """The game of a name that begins with gym/; nothing is imported or made yet, for runs of others are read, too."""
    registered = name.removeprefix(PREFIX)
    make_env = partial(Registered, registered)
    return Game(
        name, GYMNASIUM.world, (SIDE, SIDE), frame_skip=1, frames_per_second=30,
        make=partial(make_games, make_env, processes=True), actions=partial(actions_of, registered),
        picture=partial(GymPicture, make_env), own_pace=partial(pace_of, registered),
    )  # fmt: skip
