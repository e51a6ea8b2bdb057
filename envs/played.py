"""What was played, as seeds and actions: all it takes to play the same again."""

from array import array
from typing import NamedTuple


class ActionLog:
    """The seed of one environment and the actions since: all it takes to play the same again.

    Attributes:
        actions: a byte per agent step, the ignored one that restarts an episode included.
        rewards: what those of the present episode earned.
    """

    def __init__(self, seed: int):
        self.seed = seed
        self.actions, self.rewards = bytearray(), array("f")

    def __len__(self) -> int:
        return len(self.actions)


class Played(NamedTuple):
    """One episode as its environment's log tells it, up to now."""

    seed: int  # as given to the environment
    begin: int  # actions since that seeding which belong to earlier episodes
    actions: bytes  # all since the seeding
    rewards: list[float]  # raw, of this episode's actions only
    achieved: int = 0  # a bit for each achievement of this episode, in games that have such
