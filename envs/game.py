"""What the suite knows of a game by its name."""

import difflib
import typing
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np

from envs.games import Games
from envs.protocols import PROTOCOLS, Protocol

Frame = tuple[np.ndarray, float]
"""One emulator frame: uint8 [height, width, 3] as people see it, and the raw points earned on the way to it."""


class Picture(typing.Protocol):
    """A second copy of one game, for people; with the same seed and the same actions it repeats the agent's.

    Attributes:
        ended: whether the episode is over; the next action then begins another.
    """

    ended: bool

    def reset(self, seed: int) -> Frame:
        """Begins as an environment that was given this seed."""

    def act(self, action: int) -> list[Frame]:
        """The frames of one agent step; one that restarts the game after an episode's end has a single one."""

    def close(self) -> None:
        """Frees what it holds."""


@dataclass(frozen=True)
class Game:
    """One game of one world."""

    name: str
    world: str
    frame_shape: tuple[int, ...]  # of one frame; an observation is [stack, *frame_shape]
    frame_skip: int  # emulator frames per agent step
    frames_per_second: int  # at which people play and watch it
    make: Callable[..., Games]  # takes (num_envs, protocol, device, stack)
    actions: Callable[[], list[str]]  # their names in the agent's order
    picture: Callable[[Protocol], Picture]  # what people see of it under a protocol
    achievements: tuple[str, ...] = ()  # besides points, in the order of the bits of `Played.achieved`
    rules: Any = None  # what may be done and what comes of it, where that can be known without playing (`board.Row`)
    own_pace: Callable[[], float | None] = lambda: None  # frames a second, where only the game itself can tell

    def pace(self) -> int:
        """Frames a second as people shall see it; asks the game itself if it may know better."""
        return round(self.own_pace() or self.frames_per_second)

    @property
    def protocols(self) -> list[str]:
        """Names of the protocols that fit; the first is its own."""
        return [protocol.name for protocol in PROTOCOLS.values() if protocol.world == self.world]

    def evaluation(self, name: str) -> Protocol:
        """The protocol of evaluations of what is trained under one.

        Raises:
            ValueError: there is none such; as `protocol`.
        """
        return self.protocol(self.protocol(name).evaluated_as or name)

    def protocol(self, name: str) -> Protocol:
        """A protocol by name.

        Raises:
            ValueError: there is none, or it is for other games; says which fit.
        """
        if not self.protocols:
            raise ValueError(f"{self.world} has no protocol: envs/protocols.py is where they are")
        if name not in self.protocols:
            why = "is for other games" if name in PROTOCOLS else "does not exist"
            raise ValueError(f"--protocol {name} {why}; for {self.name} there are {', '.join(self.protocols)}")
        return PROTOCOLS[name]


def unknown(kind: str, name: str, known: Iterable[str]) -> str:
    """Says that nothing of a kind has this name, and which of the known names are closest to it."""
    names = {other.lower().replace("_", ""): other for other in known}
    typed = name.lower().replace("_", "").replace("-", "")
    close = [names[found] for found in difflib.get_close_matches(typed, names, cutoff=0.5)]
    hint = f"did you mean {', '.join(close)}?" if close else "`highscore list games` shows them all"
    return f"there is no {kind} called {name!r}; {hint}"
