"""The named protocols: which game is being played when a score is quoted.

Scores under two protocols are two benchmarks; every score in this suite carries the name of its own.
"""

from dataclasses import dataclass


@dataclass(frozen=True)
class Protocol:
    """How a game is set up."""

    name: str
    source: str
    sticky_actions: float  # probability, at each emulator frame, that the previous action is repeated instead
    noop_max: int  # bounds the no-op frames at a reset, or a board's moves at random: 0 to noop_max - 1
    life_loss_is_terminal: bool  # a lost life stops value, not the game
    max_frames: int = 108_000  # an episode's cap in emulator frames; 0 for the game's own
    flicker: float = 0.0  # probability that a frame is shown black
    world: str = "atari"  # the games that it is for
    opponent: str = ""  # who plays against the agent, where somebody does; self: the agent
    evaluated_as: str = ""  # the protocol of evaluations in training under this one; "": this one


MACHADO = Protocol(
    "machado", "Machado et al. 2018, sec. 5: sticky actions, no life information; with 4 frames an action, and of these"
    " only those that the game knows, as Castro et al. 2018",
    sticky_actions=0.25, noop_max=0, life_loss_is_terminal=False,
)  # fmt: skip
NATURE = Protocol(
    "nature", "Mnih et al. 2015, Methods: no-ops at first, a lost life ends value in training; at most 108,000 frames"
    " an episode, as Hessel et al. 2018",
    sticky_actions=0.0, noop_max=30, life_loss_is_terminal=True,
)  # fmt: skip
ATARI100K = Protocol(
    "atari100k", "Kaiser et al. 2020: as nature, for 400k frames of training",
    sticky_actions=0.0, noop_max=30, life_loss_is_terminal=True,
)  # fmt: skip
FLICKER = Protocol(
    "flicker", "Hausknecht & Stone 2015, sec. 5: as nature, and every frame is black with probability 0.5",
    sticky_actions=0.0, noop_max=30, life_loss_is_terminal=True, flicker=0.5,
)  # fmt: skip
VIZDOOM = Protocol(
    "vizdoom", "Kempka et al. 2016: the scenario's own rewards and time limit, 4 tics per action, from the screen",
    sticky_actions=0.0, noop_max=0, life_loss_is_terminal=False, max_frames=0, world="doom",
)  # fmt: skip
CRAFTER = Protocol(
    "crafter", "Hafner 2022, sec. 3: rewarded, 10,000 steps at most",
    sticky_actions=0.0, noop_max=0, life_loss_is_terminal=False, max_frames=10_000, world="crafter",
)  # fmt: skip
MINATAR = Protocol(  # the cap is ALE's: the paper has none, and an evaluation must end
    "minatar", "Young & Tian 2019: sticky actions 0.1, all six actions, difficulty ramps",
    sticky_actions=0.1, noop_max=0, life_loss_is_terminal=False, world="minatar",
)  # fmt: skip
PROBE = Protocol(
    "probe", "the game as its docstring says", sticky_actions=0.0, noop_max=0, life_loss_is_terminal=False,
    max_frames=0, world="probe",
)  # fmt: skip
SELF_PLAY = Protocol(
    "self-play", "Silver et al. 2018: the agent moves for both players, here after up to four moves at random; it is"
    " evaluated against minimax",
    sticky_actions=0.0, noop_max=5, life_loss_is_terminal=False, max_frames=0, world="board", opponent="self",
    evaluated_as="minimax",
)  # fmt: skip
MINIMAX = Protocol(
    "minimax", "an opponent that sees all that four moves can bring, in tic-tac-toe all nine, and draws from the best;"
    " who begins is drawn; 1 for a win, 0 for a draw, -1 for a loss or a move against the rules",
    sticky_actions=0.0, noop_max=0, life_loss_is_terminal=False, max_frames=0, world="board", opponent="minimax",
)  # fmt: skip
RANDOM = Protocol(
    "random", "an opponent that draws from all that it may do; who begins is drawn; points as under minimax",
    sticky_actions=0.0, noop_max=0, life_loss_is_terminal=False, max_frames=0, world="board", opponent="random",
)  # fmt: skip
GYMNASIUM = Protocol(  # the cap is ALE's: an evaluation must end
    "gymnasium", "as it is registered, with its own time limit; from its pictures, in 84 x 84 shades of grey",
    sticky_actions=0.0, noop_max=0, life_loss_is_terminal=False, world="gymnasium",
)  # fmt: skip

PROTOCOLS = {
    protocol.name: protocol
    for protocol in (
        MACHADO, NATURE, ATARI100K, FLICKER, VIZDOOM, CRAFTER, MINATAR, RANDOM, MINIMAX, SELF_PLAY, PROBE, GYMNASIUM,
    )
}  # fmt: skip
