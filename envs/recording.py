"""An episode as its seed and its actions; rendered again in full colour at 60 frames a second.

The emulator repeats itself exactly when it is given the same seed and the same actions, chance
included, so a few kilobytes are the whole episode.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from ale_py.vector_env import AtariVectorEnv

from envs.atari import FRAME_SKIP, rom_of, screen_shape
from envs.protocols import Protocol

FRAMES_PER_SECOND = 60


@dataclass(frozen=True)
class Recording:
    """One whole episode.

    Fields: `seed`, as given to the environment; `actions`, one byte per agent step from the reset on;
    `score`, the raw score that was seen while playing.
    """

    game: str
    protocol: Protocol
    seed: int
    actions: bytes
    score: float


def render(recording: Recording) -> Iterator[tuple[np.ndarray, float]]:
    """Plays a recording again.

    Yields:
        (frame, reward) per emulator frame: uint8 [height, width, 3], the game's own screen, and the
        raw points earned on the way to it. The first is the screen after the reset.
    """
    protocol, (height, width) = recording.protocol, screen_shape(recording.game)
    env = AtariVectorEnv(
        rom_of(recording.game), 1, frameskip=1, stack_num=1, maxpool=False, grayscale=False,
        img_height=height, img_width=width, repeat_action_probability=protocol.sticky_actions,
        noop_max=protocol.noop_max, max_num_frames_per_episode=protocol.max_frames, reward_clipping=False,
        use_fire_reset=False,
    )  # fmt: skip
    obs, _ = env.reset(seed=np.array([recording.seed]))
    yield obs[0, 0], 0.0
    for action in recording.actions:
        for _ in range(FRAME_SKIP):
            obs, reward, terminated, truncated, _ = env.step(np.array([action]))
            yield obs[0, 0], float(reward[0])
            if terminated[0] or truncated[0]:
                env.close()
                return
    env.close()
