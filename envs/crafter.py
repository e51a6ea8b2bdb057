"""Crafter (Hafner 2022): a small Minecraft, in which survival and 22 achievements are rewarded."""

from collections import defaultdict
from functools import partial
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium.spaces import Box, Discrete

from envs.extras import need
from envs.game import Game
from envs.gym_games import GymPicture, make_games
from envs.protocols import Protocol

ACHIEVEMENTS = (
    "collect_coal", "collect_diamond", "collect_drink", "collect_iron", "collect_sapling", "collect_stone",
    "collect_wood", "defeat_skeleton", "defeat_zombie", "eat_cow", "eat_plant", "make_iron_pickaxe",
    "make_iron_sword", "make_stone_pickaxe", "make_stone_sword", "make_wood_pickaxe", "make_wood_sword",
    "place_furnace", "place_plant", "place_stone", "place_table", "wake_up",
)  # fmt: skip
ACTIONS = (
    "noop", "move_left", "move_right", "move_up", "move_down", "do", "sleep", "place_stone", "place_table",
    "place_furnace", "place_plant", "make_wood_pickaxe", "make_stone_pickaxe", "make_iron_pickaxe",
    "make_wood_sword", "make_stone_sword", "make_iron_sword",
)  # fmt: skip
SCREEN = (180, 180)  # pixels of a recording: 20 for each of the 9 x 9 cells


class Ordered(dict):
    """A set that is walked through in the order in which things came into it.

    Crafter keeps its creatures in plain sets, whose order is that of their addresses in memory: with the same seed
    and the same actions no two processes play alike.
    """

    def add(self, thing: Any) -> None:
        self[thing] = None

    def remove(self, thing: Any) -> None:
        del self[thing]


class Crafter(gym.Env):
    """The game in colour: uint8 [1, 3, 64, 64]. `info["achieved"]` has a bit for every achievement of the episode."""

    def __init__(self, protocol: Protocol, render_mode: str | None = None):
        crafter = need("crafter", "crafter")
        self.observation_space = Box(0, 255, (1, 3, 64, 64), np.uint8)
        self.action_space = Discrete(len(ACTIONS))
        self.render_mode = render_mode
        self.game = crafter.Env(length=protocol.max_frames, seed=0)
        self.game._sem_view = lambda: None  # what nobody looks at need not be drawn

        class World(crafter.engine.World):  # type: ignore[name-defined]
            def reset(self, seed: int | None = None) -> None:
                super().reset(seed)
                self._chunks: defaultdict[Any, Ordered] = defaultdict(Ordered)

        self.game._world.__class__ = World

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[np.ndarray, dict]:
        super().reset(seed=seed)
        self.game._seed, self.game._episode = int(self.np_random.integers(1 << 31)), 0
        return self._observe(self.game.reset()), {"achieved": 0}

    def step(self, action: int) -> tuple[np.ndarray, float, bool, bool, dict]:
        screen, reward, over, info = self.game.step(action)
        dead = info["discount"] == 0
        counts = info["achievements"]
        achieved = sum(1 << bit for bit, name in enumerate(ACHIEVEMENTS) if counts[name] > 0)
        return self._observe(screen), reward, dead, over and not dead, {"achieved": achieved}

    def render(self) -> Any:
        chance = self.game._world.random
        before = chance.get_state()  # the darkness of night is drawn by chance, and must not change the game's
        screen = self.game.render(SCREEN)
        chance.set_state(before)
        return [screen]

    def _observe(self, screen: np.ndarray) -> np.ndarray:
        return screen.transpose(2, 0, 1)[None]


GAMES = [
    Game(
        "crafter", "crafter", (3, 64, 64), frame_skip=1, frames_per_second=10,
        make=partial(make_games, Crafter, processes=True, reseed_after=2_000), actions=lambda: list(ACTIONS),
        picture=partial(GymPicture, Crafter), achievements=ACHIEVEMENTS,
    )
]  # fmt: skip
