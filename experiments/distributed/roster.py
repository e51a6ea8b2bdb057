"""Who plays: how many lives each player has had, how many blocks of it have arrived, and what becomes of the dead."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any

from torch import Tensor

from experiments.files import Failed

DEATHS = 5  # of one player in a row, without a block from it, that end a training


class NobodyPlays(Failed):
    """Nothing more can be played; the training is as it was after its last iteration."""


class Roster(ABC):
    """The players of a training, of whatever kind.

    Attributes:
        count: players.
        lives: how many each player has had.
        blocks: how many blocks of each player have arrived.
        waited: seconds spent in waiting for blocks.
        say: told what people should know.
    """

    def __init__(self, count: int):
        self.count = count
        self.lives, self.blocks = [0] * count, [0] * count
        self.deaths = [0] * count  # since its last block
        self.waited = 0.0
        self.say: Callable[[str], None] = print

    def start(self, player: int) -> None:
        """Begins a player's next life.

        Raises:
            NobodyPlays: this machine has no more processes, memory or files to give.
        """
        try:
            self._start(player)
        except (OSError, EOFError) as error:  # EOFError: of who starts processes for us, and had none
            raise NobodyPlays(f"player {player} cannot be started ({type(error).__name__}: {error})") from error

    @abstractmethod
    def _start(self, player: int) -> None:
        """Begins a player's next life."""

    @abstractmethod
    def _end(self, player: int) -> None:
        """Ends a player's life, if it has not ended, and forgets what it had promised."""

    def replace(self, player: int, how: str) -> None:
        """Gives the place of a player that ended to another.

        Raises:
            NobodyPlays: it ends again and again, or no other can be started.
        """
        self._end(player)
        self.deaths[player] += 1
        if self.deaths[player] > DEATHS:
            raise NobodyPlays(
                f"player {player} {how}, {self.deaths[player]} times in a row; nothing more can be played"
            )
        self.say(
            f"player {player} {how}, after block {self.blocks[player]}; what it had begun is lost and was not counted."
            " Another takes its place, and its games begin new episodes"
        )
        self.start(player)

    def state(self) -> tuple[dict[str, Any], dict[str, Tensor]]:
        """What those who go on with the training must know."""
        return {"lives": self.lives, "blocks": self.blocks}, {}

    def restore(self, facts: dict[str, Any]) -> None:
        """Takes up a `state`; the players begin new lives, and so new episodes."""
        self.lives, self.blocks = list(facts["lives"]), list(facts["blocks"])
