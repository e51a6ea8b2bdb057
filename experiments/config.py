"""What an experiment is: a frozen dataclass that JSON can hold, in full."""

import dataclasses
from dataclasses import dataclass
from functools import cache
from types import UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from tyro.conf import Suppress

from agents.alphazero import AlphaZero
from agents.bbf import BBF
from agents.c51 import C51
from agents.curious import Bonus
from agents.dqn import DQN
from agents.explore import Ladder, Linear
from agents.impala import IMPALA
from agents.iqn import IQN
from agents.munchausen import Munchausen, MunchausenIQN
from agents.muzero import MuZero
from agents.optimiser import Optimisers
from agents.ppo import PPO
from agents.pqn import PQN
from agents.qrdqn import QRDQN
from agents.replay import ReplayConfig
from agents.reset import Reset
from agents.rollout import RolloutConfig
from agents.spr import SPR
from envs.library import game_of

Policies = PPO | IMPALA | AlphaZero | MuZero  # these learn a policy: epsilon means nothing to them
Algorithms = DQN | C51 | SPR | BBF | QRDQN | IQN | Munchausen | MunchausenIQN | PQN | Policies


@dataclass(frozen=True)
class NetworkConfig:
    """torso -> memory -> head."""

    torso: Literal[
        "nature", "nature-padded", "nips", "data-efficient", "impala", "impala-small", "board", "minatar", "mlp"
    ] = "nature"  # fmt: skip
    """convolutions of Mnih et al. (2015), the same padded as in Dopamine (Castro et al. 2018), the smaller ones of Mnih
    et al. (2013), those of van Hasselt et al. (2019) for few samples, residual ones of Espeholt et al. (2018), these at
    half the resolution in two stages, residual ones that keep every place of a board (Silver et al. 2017), the one
    layer of Young & Tian (2019) for small boards, or a perceptron for the smallest"""
    width: int = 1
    """impala, impala-small, board: times 16, 32 and 32 channels, or 16 and 32, or 32"""
    blocks: int = 2
    """impala, impala-small, board: residual blocks in each of the stages"""
    spectral_norm: bool = False
    """impala, impala-small, board: divide the residual blocks' weights by their largest singular value"""
    pooling: int = 0
    """impala, impala-small, board: side of the adaptive max-pooling at the end; 0 for none"""
    standardise: bool = False
    """see every observation with mean 0 and variance 1 (LeCun et al. 1998, sec. 4.3) instead of bytes / 255"""
    renormalise: bool = False
    """bring the torso's features of each observation from 0 to 1 (Schwarzer et al. 2021)"""
    dense: int = 0
    """units of a layer between torso and memory; 0 for none"""
    memory: Literal["none", "lstm", "gru", "gtrxl", "dnc"] = "none"
    """what carries features over time: recurrent units, a gated transformer, or a matrix to write to and read from"""
    memory_size: int = 512
    """units of the memory, of each of its layers, or of its controller"""
    memory_bias: float = 1.0
    """lstm, gru, dnc: how far the gates that keep are open at first (Jozefowicz et al. 2015, sec. 2.2)"""
    memory_window: int = 64
    """gtrxl: steps that each layer looks back"""
    memory_layers: int = 2
    """gtrxl: layers"""
    memory_places: int = 16
    """dnc: words in the matrix, of 16 numbers each"""
    history: bool = True
    """let the memory see the last action and the last reward, too"""
    head: Literal["linear", "dueling"] = "linear"
    """one stream, or value and advantage apart (Wang et al. 2016)"""
    hidden: int = 512
    """units in the head's hidden layer, or in each stream's; 0 for no such layer"""
    noise: float = 0.0
    """sigma_0 of noisy layers in the head (Fortunato et al. 2018); 0 for ordinary ones"""
    layer_norm: bool = False
    """normalise before the ReLUs of torso (impala: of its residual blocks), dense layer and head"""
    initialisation: Literal["torch", "xavier", "variance", "orthogonal"] = "xavier"
    """U(+-1/sqrt(fan_in)) as in 2015; Glorot & Bengio (2010) as Dopamine's DQN; as its distributional agents; or
    orthogonal, as for policy gradients"""


@dataclass(frozen=True)
class Evaluation:
    """Episodes on separate emulators, with fixed seeds, while training waits."""

    period: int = 1_000_000
    """emulator frames from one evaluation to the next; one always ends the training"""
    episodes: int = 10
    """episodes per evaluation in all, shared equally by up to 8 emulators"""
    epsilon: float = 0.001
    """exploration rate while evaluating"""
    video_seconds: int = 30
    """how much of one episode is kept as a video, in seconds of play; 0 for none"""
    keep_weights: bool = False
    """keep the weights that each scored, for `evaluate` and `watch --checkpoint STEPS`; else the newest and the best"""


@dataclass(frozen=True)
class Experiment:
    """Everything that decides what is learned. Complete: a run can be repeated from it."""

    preset: Suppress[str]
    """the published setting that this began as"""
    algorithm: Algorithms
    """equations and their constants"""
    optimiser: Optimisers
    """gradients to parameters"""
    network: NetworkConfig
    explore: Linear | Ladder
    """epsilon of the behaviour policy, by agent steps"""
    replay: ReplayConfig | None
    """off-policy experience"""
    rollout: RolloutConfig | None
    """on-policy experience"""
    target_period: int
    """updates from one copy to the target network to the next, counted as if learning had begun with the first step;
    what learns from rollouts has no such network"""
    num_envs: int
    """games played at once"""
    protocol: str
    """how the game is set up and scored: one that `highscore list games` names for it; empty: the preset's, or the
    game's own where that does not fit"""
    game: str = "Breakout"
    """a name from `highscore list games`, such as Breakout, doom/basic or crafter"""
    frames: int = 200_000_000
    """emulator frames to train for; an agent step is 4 in Atari and Doom, else 1"""
    seed: int = 1
    """decides weights, exploration, sampling and every emulator"""
    variant: str = ""
    """a name of your own for these settings, such as no-double, which comparisons show instead of the preset's"""
    stack: int = 4
    """frames that the network sees at once"""
    checkpoint_period: int = 250_000
    """emulator frames from one checkpoint to the next: the most that a crash costs"""
    precision: Literal["float32", "bf16"] = "float32"
    """of the factors of products and convolutions in learning; bf16 is faster where the processor has it"""
    compile: bool = False
    """let torch compile learning and acting, for a minute or two at the start; `highscore benchmark --compile True`
    says whether it pays"""
    deterministic: bool = False
    """only operations that repeat themselves bit for bit on a GPU, too; the CPU's always do"""
    distributed: Literal["none", "local", "ray"] = "none"
    """who plays: none, the process that learns; local, processes of this machine; ray, those of a Ray cluster"""
    players: int = 2
    """distributed: how many processes play; each has an equal share of the games, and of the replay"""
    evaluation: Evaluation = Evaluation()
    target_tau: float = 1.0
    """how much of the online network the target network takes at a copy; with less than 1 it is a running mean"""
    target_acts: bool = False
    """play with the target network, in training and evaluation (Schwarzer et al. 2023)"""
    reset: Reset = Reset()
    bonus: Bonus = Bonus()
    """an intrinsic reward (random network distillation, Burda et al. 2019): PPO, and all that learn from a replay"""
    source: Suppress[str] = ""
    """where the preset was published"""

    @property
    def agent(self) -> str:
        """What comparisons call it: its variant, or its preset."""
        return self.variant or self.preset

    @property
    def agent_steps(self) -> int:
        """Agent steps to train for, over all games."""
        return -(-self.frames // self.frame_skip)

    @property
    def frame_skip(self) -> int:
        """Emulator frames per agent step."""
        return game_of(self.game).frame_skip


KINDS = {
    kind.__name__: kind
    for kind in (
        *get_args(Algorithms), *get_args(Optimisers), NetworkConfig, Linear, Ladder, Bonus, Reset, ReplayConfig,
        RolloutConfig, Evaluation, Experiment,
    )
}  # fmt: skip


PLAIN = {int: (int,), float: (int, float), str: (str,), bool: (bool,)}  # what JSON has for them
hints = cache(get_type_hints)


def to_json(settings: Any) -> Any:
    """A dataclass as JSON can hold it: its fields, and its class under "kind"."""
    if not dataclasses.is_dataclass(settings):
        return settings
    fields = {f.name: to_json(getattr(settings, f.name)) for f in dataclasses.fields(settings)}
    return {"kind": type(settings).__name__} | fields


def from_json(data: Any) -> Any:
    """The inverse of `to_json`; builds only the classes named in KINDS.

    A field that the writer did not know yet takes its default, which therefore must mean "as before".

    Raises:
        ValueError: an unknown kind, fields that its class lacks, or that it cannot do without, or of another type.
    """
    if not isinstance(data, dict):
        return data
    if data.get("kind") not in KINDS:
        raise ValueError(f"unknown kind of settings: {data.get('kind')!r}")
    kind: Any = KINDS[data["kind"]]
    given = data.keys() - {"kind"}
    known = {f.name for f in dataclasses.fields(kind)}
    needed = {f.name for f in dataclasses.fields(kind) if f.default is dataclasses.MISSING}
    if unfit := (given - known) | (needed - given):
        raise ValueError(f"{data['kind']} settings do not fit this version: {', '.join(sorted(unfit))}")
    made = {name: from_json(data[name]) for name in given}
    if unlike := sorted(name for name, value in made.items() if not fits(value, hints(kind)[name])):
        raise ValueError(f"{data['kind']} settings are of other types: {', '.join(unlike)}")
    return kind(**made)


def fits(value: Any, hint: Any) -> bool:
    """Whether a value may be one of a field's type: a number, a word, a switch, a dataclass, or one of several such.

    Raises:
        TypeError: a field is of none of these.
    """
    if hint in PLAIN:
        return type(value) in PLAIN[hint]
    kind = get_origin(hint)
    if kind is Literal:
        return value in get_args(hint)
    if kind in (Union, UnionType):
        return any(fits(value, one) for one in get_args(hint))
    if kind is not None:
        raise TypeError(f"a setting is a number, a word or a switch, and none is a {hint}")
    return isinstance(value, hint)
