"""Doom (Kempka et al. 2016) through ViZDoom: five of its scenarios, from the screen."""

import contextlib
import os
import tempfile
from functools import partial
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium.spaces import Box, Discrete

from envs.extras import need
from envs.game import Game
from envs.gym_games import GymPicture, make_games
from envs.protocols import Protocol

FRAME_SKIP = 4  # tics per action, as in Kempka et al. (2016), sec. IV-A, and Petrenko et al. (2020)
TICS_PER_SECOND = 35
FRAME = (60, 80)  # pixels; Kempka et al. show 45 x 60, Lample & Chaplot (2017) 60 x 108
BUTTONS = {
    "basic": "MOVE_LEFT MOVE_RIGHT ATTACK",
    "health_gathering": "TURN_LEFT TURN_RIGHT MOVE_FORWARD",
    "defend_the_center": "TURN_LEFT TURN_RIGHT ATTACK",
    "my_way_home": "TURN_LEFT TURN_RIGHT MOVE_FORWARD MOVE_LEFT MOVE_RIGHT",
    "deathmatch": "ATTACK SPEED STRAFE MOVE_RIGHT MOVE_LEFT MOVE_BACKWARD MOVE_FORWARD TURN_RIGHT TURN_LEFT"
    " SELECT_WEAPON1 SELECT_WEAPON2 SELECT_WEAPON3 SELECT_WEAPON4 SELECT_WEAPON5 SELECT_WEAPON6"
    " SELECT_NEXT_WEAPON SELECT_PREV_WEAPON",
}
"""The scenarios, and the buttons that each has; mouse axes are left out."""


class Doom(gym.Env):
    """One scenario. An action is no button, or one of its buttons, held for 4 tics.

    Shows the screen in grey, uint8 [1, 60, 80]: 120 x 160 pixels, averaged by four. An episode that runs out of
    time is truncated, and its last frame is a real one; of one that ends otherwise the engine has no last screen,
    so the one before stands for it.
    """

    def __init__(self, scenario: str, protocol: Protocol, render_mode: str | None = None):
        self.vizdoom, self.scenario, self.render_mode = need("vizdoom", "doom"), scenario, render_mode
        self.observation_space = Box(0, 255, (1, *FRAME), np.uint8)
        self.buttons = BUTTONS[scenario].split()
        self.action_space = Discrete(1 + len(self.buttons))
        self.engine: Any = None
        self.engine_seed = -1
        self.shown: list[np.ndarray] = []

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[np.ndarray, dict]:
        super().reset(seed=seed)
        self.engine = self.engine or self._configured()
        drawn = int(self.np_random.integers(1, 1 << 31))
        if drawn == self.engine_seed:  # the engine ignores a seed that it was given last
            self._begin(drawn - 1)
        self._begin(drawn)
        self.end = self.engine.get_episode_time() + self.timeout
        self.shown = [self._screen()]
        return self._observe(), {}

    def step(self, action: int) -> tuple[np.ndarray, float, bool, bool, dict]:
        pressed = [button + 1 == action for button in range(len(self.buttons))]
        tics = min(FRAME_SKIP, self.end - self.engine.get_episode_time())
        reward, before, self.shown = 0.0, self.shown[-1], []
        for hold in [1] * tics if self.render_mode else [tics]:
            reward += self.engine.make_action(pressed, hold)
            if over := self.engine.is_episode_finished():
                break
            self.shown.append(self._screen())
        self.shown = self.shown or [before]
        return self._observe(), reward, over, not over and self.engine.get_episode_time() >= self.end, {}

    def render(self) -> Any:
        return self.shown

    def close(self) -> None:
        if self.engine is not None:
            self.engine.close()
            self.folder.cleanup()
            self.engine = None

    def _configured(self) -> Any:
        vizdoom = self.vizdoom
        engine = vizdoom.DoomGame()
        engine.load_config(os.path.join(vizdoom.scenarios_path, f"{self.scenario}.cfg"))
        self.folder = tempfile.TemporaryDirectory(prefix="doom-", ignore_cleanup_errors=True)
        engine.set_doom_config_path(os.path.join(self.folder.name, "vizdoom.ini"))
        engine.set_window_visible(False)
        engine.set_mode(vizdoom.Mode.PLAYER)
        engine.set_available_buttons([getattr(vizdoom.Button, name) for name in self.buttons])
        colour = self.render_mode is not None
        engine.set_screen_format(vizdoom.ScreenFormat.RGB24 if colour else vizdoom.ScreenFormat.GRAY8)
        resolution = vizdoom.ScreenResolution
        engine.set_screen_resolution(resolution.RES_320X240 if colour else resolution.RES_160X120)
        self.timeout = engine.get_episode_timeout()
        engine.set_episode_timeout(0)  # it would show nothing at the end
        return engine

    def _begin(self, seed: int) -> None:
        self.engine.set_seed(seed)
        self.engine_seed = seed
        if self.engine.is_running():
            self.engine.new_episode()
        else:
            with contextlib.chdir(self.folder.name):  # the engine makes a folder where it is started
                self.engine.init()

    def _screen(self) -> np.ndarray:
        return self.engine.get_state().screen_buffer

    def _observe(self) -> np.ndarray:
        if self.render_mode:
            return np.zeros((1, *FRAME), np.uint8)
        quads = self.shown[-1].reshape(FRAME[0], 2, FRAME[1], 2)
        return quads.mean((1, 3), dtype=np.float32).astype(np.uint8)[None]


def game(scenario: str) -> Game:
    """A scenario as the suite knows games."""
    make_env = partial(Doom, scenario)
    return Game(
        f"doom/{scenario.replace('_', '-')}", "doom", FRAME, FRAME_SKIP, TICS_PER_SECOND,
        make=partial(make_games, make_env, processes=True),
        actions=lambda: ["NOOP", *BUTTONS[scenario].split()], picture=partial(GymPicture, make_env),
    )  # fmt: skip


GAMES = [game(scenario) for scenario in BUTTONS]
