"""A sequence as one transition of up to n steps: what every one-step value algorithm learns from."""

from typing import Any, NamedTuple

from torch import Tensor

from agents.returns import hopped, n_step
from agents.sequence import Sequence, tree_map
from envs.timestep import TimeStep


class Transition(NamedTuple):
    """From `here` by `action` to `there`: the target is total + scale * V(there)."""

    here: TimeStep  # [1, B, ...]
    action: Tensor  # int64 [B]
    there: TimeStep  # [1, B, ...]
    total: Tensor  # float [B] discounted, clipped rewards on the way
    scale: Tensor  # float [B] discount^n, or 0 past a terminal step


def fold(seq: Sequence, discount: float, n: int, reward_clip: float) -> Transition:
    """The first step of each sequence and the up to n steps after it, never past an episode's end."""
    reward = seq.step.reward.clamp(-reward_clip, reward_clip)
    total, scale, hop = n_step(reward, seq.step.terminal, seq.step.last, discount, n)
    here = tree_map(lambda x: x[:1], seq.step)
    there = tree_map(lambda x: hopped(x, hop[0])[None], seq.step)
    return Transition(here, seq.action[0], there, total[0], scale[0])


def output(network: Any, step: TimeStep) -> Any:
    """Output [B, ...] of a network without memory at steps [1, B, ...]."""
    return tree_map(lambda x: x[0], network(step, ())[0])
