"""Atari 2600 games, preprocessed in C++ by ale-py."""

from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from ale_py import ALEInterface, LoggerMode, roms
from ale_py.vector_env import AtariVectorEnv

from envs.flicker import Flicker
from envs.game import Frame, Game, unknown
from envs.games import Games
from envs.protocols import MACHADO, Protocol

RESEED_AFTER = 30_000  # agent steps; seeding takes an emulator 0.15 s, in which the others wait
FRAME_SKIP = 4  # emulator frames per agent step
FRAMES_PER_SECOND = 60

_TWO_PLAYER_ONLY = {"combat", "joust", "maze_craze", "warlords"}  # ale-py ships them but cannot play them


def _camel_case(rom: str) -> str:
    return "".join(word[0].upper() + word[1:] for word in rom.split("_")).replace("3d", "3D")


ROMS = {_camel_case(rom): rom for rom in roms.get_all_rom_ids() if rom not in _TWO_PLAYER_ONLY}
"""Game names, as in ALE/<name>-v5, to ale-py's ROM names."""


def rom_of(game: str) -> str:
    """ale-py's name of a game.

    Raises:
        ValueError: no such game; the message names the closest ones.
    """
    if game not in ROMS:
        raise ValueError(unknown("Atari game", game, ROMS))
    return ROMS[game]


class Emulators(AtariVectorEnv):
    """ale-py's, but a masked reset takes the seeds of all games, as Gymnasium's own do."""

    def reset(self, *, seed: Any, options: dict[str, Any] | None = None) -> Any:  # type: ignore[override]
        return super().reset(seed=np.array(seed)[options["reset_mask"] if options else slice(None)], options=options)


def make_atari(
    game: str, num_envs: int, protocol: Protocol = MACHADO, *,
    device: str | torch.device = "cpu", num_threads: int = 0, reseed_after: int | None = RESEED_AFTER, stack: int = 4,
) -> Games:  # fmt: skip
    """Copies of one game under a named protocol, as 84x84 grey frames in stacks.

    Max over the last two of 4 skipped frames, area resize, minimal action set, zero-padded stacks:
    the preprocessing of Mnih et al. (2015). Rewards stay raw.

    Args:
        stack: frames shown at once; 1 hides all movement, so that a network must remember.
        num_threads: emulator threads; 0 lets ale-py choose. Frames do not depend on it.
        reseed_after: agent steps, see Games.

    Raises:
        ValueError: no such game.
    """
    make_env: Any = partial(
        Emulators, rom_of(game), num_envs, num_threads=num_threads, frameskip=FRAME_SKIP, stack_num=stack,
        repeat_action_probability=protocol.sticky_actions, noop_max=protocol.noop_max,
        max_num_frames_per_episode=protocol.max_frames, reward_clipping=False, use_fire_reset=False,
    )  # fmt: skip
    if protocol.flicker:
        plain = make_env
        make_env = lambda: Flicker(plain(), protocol.flicker)
    return Games(make_env, device, life_loss_is_terminal=protocol.life_loss_is_terminal, reseed_after=reseed_after)


def rom_path(game: str) -> Path:
    """Where ale-py keeps a game.

    Raises:
        ValueError: there is no such game.
    """
    path = roms.get_rom_path(rom_of(game))
    assert path is not None, game
    return path


@cache
def _facts(game: str) -> tuple[tuple[str, ...], tuple[int, int]]:
    """Names of the actions, (height, width) of the screen; asked for once, for loading takes as long as seeding."""
    ALEInterface.setLoggerMode(LoggerMode.Error)
    ale = ALEInterface()
    ale.loadROM(rom_path(game))
    return tuple(action.name for action in ale.getMinimalActionSet()), tuple(ale.getScreenDims())


def action_names(game: str) -> list[str]:
    """What the game's actions are called, such as NOOP and FIRE, in the agent's order."""
    return list(_facts(game)[0])


def screen_shape(game: str) -> tuple[int, int]:
    """(height, width) of the game's own screen in pixels, mostly (210, 160)."""
    return _facts(game)[1]


class AtariPicture:
    """See `Picture`: the game's own screen, frame by frame, in colour; it never flickers."""

    def __init__(self, game: str, protocol: Protocol):
        height, width = screen_shape(game)
        self.env = AtariVectorEnv(
            rom_of(game), 1, frameskip=1, stack_num=1, maxpool=False, grayscale=False,
            img_height=height, img_width=width, repeat_action_probability=protocol.sticky_actions,
            noop_max=protocol.noop_max, max_num_frames_per_episode=protocol.max_frames, reward_clipping=False,
            use_fire_reset=False,
        )  # fmt: skip
        self.ended, self.num_actions = False, len(action_names(game))

    def reset(self, seed: int) -> Frame:
        self.ended = False
        return self.env.reset(seed=np.array([seed]))[0][0, 0], 0.0

    def act(self, action: int) -> list[Frame]:
        if not 0 <= action < self.num_actions:  # it would hang the emulator
            raise ValueError(f"action {action} is none of the {self.num_actions} that the game has")
        frames: list[Frame] = []
        for _ in range(1 if self.ended else FRAME_SKIP):  # the action after an end plays nothing
            obs, reward, terminated, truncated, _ = self.env.step(np.array([action]))
            self.ended = bool(terminated[0] or truncated[0])
            frames.append((obs[0, 0], float(reward[0])))
            if self.ended:
                break
        return frames

    def close(self) -> None:
        self.env.close()


GAMES = [
    Game(
        name, "atari", (84, 84), FRAME_SKIP, FRAMES_PER_SECOND, make=partial(make_atari, name),
        actions=partial(action_names, name), picture=partial(AtariPicture, name),
    )
    for name in ROMS
]  # fmt: skip
