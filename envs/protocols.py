"""The named protocols: which game is being played when a score is quoted.

Scores under two protocols are two benchmarks; every score in this suite carries the name of its own.
"""

from dataclasses import dataclass


@dataclass(frozen=True)
class Protocol:
    """How a game is set up.

    Fields: `sticky_actions` is the probability, at each emulator frame, that the previous action is
    repeated instead; `noop_max` is the most no-op frames played at a reset (0: none; otherwise at
    least one); `life_loss_is_terminal` stops value, not the game, at a lost life; `max_frames` is
    the episode cap in emulator frames.
    """

    name: str
    source: str
    sticky_actions: float
    noop_max: int
    life_loss_is_terminal: bool
    max_frames: int = 108_000


MACHADO = Protocol(
    "machado", "Machado et al. 2018, sec. 5: sticky actions, no life information",
    sticky_actions=0.25, noop_max=0, life_loss_is_terminal=False,
)  # fmt: skip
NATURE = Protocol(
    "nature", "Mnih et al. 2015, Methods: up to 30 no-ops, a lost life ends value in training",
    sticky_actions=0.0, noop_max=30, life_loss_is_terminal=True,
)  # fmt: skip
ATARI100K = Protocol(
    "atari100k", "Kaiser et al. 2020: as nature, for 400k frames of training",
    sticky_actions=0.0, noop_max=30, life_loss_is_terminal=True,
)  # fmt: skip

PROTOCOLS = {protocol.name: protocol for protocol in (MACHADO, NATURE, ATARI100K)}
