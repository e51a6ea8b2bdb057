"""What a game shows to people: its own colours and sound, every emulator frame.

The vector environment that agents play in gives grey frames, four at a time, and no sound. A second emulator,
seeded alike and given the same actions, repeats it exactly, chance included.
"""

import typing
from typing import NamedTuple

import numpy as np
from ale_py import ALEInterface, LoggerMode

from envs.atari import FRAME_SKIP, FRAMES_PER_SECOND, action_names, rom_path
from envs.game import Game
from envs.games import Games
from envs.library import game_of
from envs.protocols import Protocol
from envs.timestep import TimeStep

SILENCE = np.empty(0, np.uint8)
SOUND_RATE = 30_720  # samples a second: 512 for each of 60 frames


class ScreenFrame(NamedTuple):
    """One emulator frame: pixels uint8 [H, W, 3], and sound uint8 [512], 128 being silence; empty if it has none."""

    pixels: np.ndarray
    sound: np.ndarray


class Screen(typing.Protocol):
    """A picture of one game (N = 1) that follows what its agent does."""

    frames_per_second: int
    frames_per_step: int
    action_names: list[str]

    def follow(self, games: Games, step: TimeStep, show: bool = True) -> list[ScreenFrame]:
        """The frames on the way to the TimeStep [1] that these games have just given; none unless `show`.

        Raises:
            ValueError: the picture is no longer that of the game.
        """

    def close(self) -> None:
        """Ends what it has started."""


class AtariScreen:
    """A second emulator of an Atari game.

    A step has as many frames as the agent skips, or fewer where an episode ends.
    """

    frames_per_second, frames_per_step = FRAMES_PER_SECOND, FRAME_SKIP

    def __init__(self, game: str, protocol: Protocol):
        ALEInterface.setLoggerMode(LoggerMode.Error)
        self.rom, self.ale = rom_path(game), ALEInterface()
        self.ale.setFloat("repeat_action_probability", protocol.sticky_actions)
        self.ale.setBool("sound_obs", True)
        self.action_names = action_names(game)

    def follow(self, games: Games, step: TimeStep, show: bool = True) -> list[ScreenFrame]:
        """See `Screen`."""
        (log,) = games.logs
        if not log.actions or bool(step.first[0]):
            if not log.actions:
                self.ale.setInt("random_seed", log.seed)
                self.ale.loadROM(self.rom)  # for the seed to count
                self.actions = self.ale.getMinimalActionSet()
            self.ale.reset_game()
            # Some protocols begin with no-ops; frames that some games themselves begin with are there already.
            for _ in range(int(games.info["episode_frame_number"][0]) - self.ale.getEpisodeFrameNumber()):
                self.ale.act(0)
            return [self._frame()] if show else []
        frames, reward = [], 0.0
        for _ in range(FRAME_SKIP):
            reward += self.ale.act(self.actions[log.actions[-1]])
            if show:
                frames.append(self._frame())
            if self.ale.game_over(with_truncation=False):
                break
        if reward != float(step.reward[0]) or self.ale.lives() != int(games.info["lives"][0]):
            raise ValueError(f"the picture is not that of the game: it earned {reward}, the agent {step.reward[0]}")
        return frames

    def close(self) -> None:
        """An emulator in this process has nothing to end."""

    def _frame(self) -> ScreenFrame:
        return ScreenFrame(self.ale.getScreenRGB(), self.ale.getAudio())


class PictureScreen:
    """The picture of a game that has no sound, as for its recordings."""

    def __init__(self, game: Game, protocol: Protocol):
        self.frames_per_second, self.frames_per_step = game.pace(), game.frame_skip
        self.action_names, self.picture, self.name = game.actions(), game.picture(protocol), game.name

    def follow(self, games: Games, step: TimeStep, show: bool = True) -> list[ScreenFrame]:
        """See `Screen`."""
        (log,) = games.logs
        played = self.picture.act(log.actions[-1]) if log.actions else [self.picture.reset(log.seed)]
        earned = np.float32(sum(reward for _, reward in played))
        if bool(step.first[0]):
            played = played[-1:]
        elif earned != np.float32(step.reward[0]) or self.picture.ended != bool(step.last[0]):
            raise ValueError(
                f"the picture is not that of the game: it earned {earned}, the agent {step.reward[0]}. The same seed"
                f" and actions must make the same game, and {self.name} has chances of its own"
            )
        return [ScreenFrame(pixels, SILENCE) for pixels, _ in played] if show else []

    def close(self) -> None:
        """Ends the second copy of the game."""
        self.picture.close()


def screen_of(game: str, protocol: Protocol) -> Screen:
    """The picture of a game."""
    known = game_of(game)
    return AtariScreen(game, protocol) if known.world == "atari" else PictureScreen(known, protocol)
