"""What the suite knows of a game by its name."""

import importlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from types import ModuleType

import numpy as np

from envs.games import Games
from envs.protocols import PROTOCOLS, Protocol

Frames = Iterator[tuple[np.ndarray, float]]
"""(frame, reward) per emulator frame: uint8 [height, width, 3], and the raw points earned on the way to it."""


@dataclass(frozen=True)
class Game:
    """One game of one world.

    Fields: `frame_shape` is that of one frame of an observation; observations are [stack, *frame_shape].
    `make` takes (num_envs, protocol, device, stack). `actions` gives their names in the agent's order.
    `play_again` takes (protocol, seed, actions, begin) and shows the episode that the actions from number
    `begin` on play, after this seed and all actions before. `frame_skip` is emulator frames per agent step;
    `frames_per_second` the pace at which people play or watch it; `achievements` names what an episode
    can achieve besides points, in the order of the bits of `Played.achieved`.
    """

    name: str
    world: str
    frame_shape: tuple[int, ...]
    frame_skip: int
    frames_per_second: int
    make: Callable[..., Games]
    actions: Callable[[], list[str]]
    play_again: Callable[[Protocol, int, bytes, int], Frames]
    achievements: tuple[str, ...] = ()

    @property
    def protocols(self) -> list[str]:
        """Names of the protocols that fit; the first is its own."""
        return [protocol.name for protocol in PROTOCOLS.values() if protocol.world == self.world]

    def protocol(self, name: str) -> Protocol:
        """A protocol by name.

        Raises:
            ValueError: there is none, or it is for other games; says which fit.
        """
        if name not in self.protocols:
            why = "is for other games" if name in PROTOCOLS else "does not exist"
            raise ValueError(f"--protocol {name} {why}; for {self.name} there are {', '.join(self.protocols)}")
        return PROTOCOLS[name]


def need(package: str, extra: str) -> ModuleType:
    """Imports a package that only some games need.

    Raises:
        ValueError: it is not installed; says how to install it.
    """
    try:
        return importlib.import_module(package)
    except ModuleNotFoundError as error:
        if error.name != package:
            raise
        raise ValueError(f"{package} is not installed; to play its games: pip install 'highscore[{extra}]'") from None
