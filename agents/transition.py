"""Sequences as transitions of up to n steps: what every value-based algorithm learns from."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Self

import torch
from torch import Tensor

from agents.augment import random_intensity, random_shift
from agents.explore import epsilon_greedy
from agents.returns import clip_reward, hopped, mean_over_time, mixed_priority, n_step
from agents.sequence import Sequence, tree_leaves, tree_map
from envs.timestep import TimeStep

PRIORITY_MIX = 0.9  # eta of Kapturowski et al. (2019), sec. 2.3


@dataclass
class Transitions:
    """The transitions that a batch of sequences is learned from: K of each of B, flattened to [K * B].

    From a step (`here`) by `action` to a later one (`there`): the target is total + scale * V(there).
    """

    seq: Sequence
    action: Tensor  # int64 [K * B]
    total: Tensor  # float [K * B] discounted, clipped rewards on the way
    scale: Tensor  # float [K * B] discount^hop, or 0 past a terminal step
    burn_in: int  # the steps before the first that is learned from, which only warm up the memory
    hop: Tensor  # int64 [K, B] agent steps from here to there
    steps: TimeStep  # those of the sequence after the burn-in
    augment: Callable[[Tensor], Tensor]  # images, uint8 [B, ...], as they are learned from; drawn anew for each place
    unrolled: Any = (None, None)  # the network with memory that was last asked `here`, and its output
    left: TimeStep | None = None  # `sooner` and `later`, once they were asked for
    reached: TimeStep | None = None

    @property
    def sooner(self) -> TimeStep:
        """The steps here, [1, K * B]. Networks with memory come to them step by step instead."""
        if self.left is None:  # functools.cached_property has a lock in Python 3.11, which cannot be compiled
            self.left = self._seen(tree_map(lambda x: x[: len(self.hop)].flatten(0, 1), self.steps))
        return self.left

    @property
    def later(self) -> TimeStep:
        """The steps there, [1, K * B], likewise."""
        if self.reached is None:
            self.reached = self._seen(hopped(self.steps, self.hop))
        return self.reached

    def _seen(self, step: TimeStep) -> TimeStep:
        """Steps [K * B] as [1, K * B], augmented."""
        return tree_map(lambda x: x[None], step._replace(obs=self.augment(step.obs)))

    def here(self, network: Any) -> Any:
        """The network's output [K * B, ...] at the steps that are learned from."""
        if self.seq.state == ():
            return tree_map(lambda x: x[0], network(self.sooner, ())[0])
        output = self._unroll(network)
        self.unrolled = network, output
        return tree_map(lambda x: x[: len(self.hop)].flatten(0, 1), output)

    def there(self, network: Any) -> Any:
        """The network's output [K * B, ...] at the steps that are bootstrapped from.

        One with memory that was asked `here` is not unrolled again: both are of one draw of noise or fractions.
        """
        if self.seq.state == ():
            output = network.output if isinstance(network, Foreseen) else network(self.later, ())[0]
            return tree_map(lambda x: x[0], output)
        asked, output = self.unrolled
        if network is not asked:
            output = self._unroll(network)
        return hopped(tree_map(Tensor.detach, output), self.hop)

    def _unroll(self, network: Any) -> Any:
        """The network's output [T - burn_in, B, ...], with no gradient into the steps that warm up its memory."""
        state = self.seq.state
        if self.burn_in:
            with torch.no_grad():
                _, state = network(tree_map(lambda x: x[: self.burn_in], self.seq.step), state)
        return network(self.steps, state)[0]

    def averaged(self, loss: Tensor, size: Tensor, value: Tensor) -> tuple[Tensor, Tensor, dict[str, Tensor]]:
        """(loss [B], priority [B], metrics) of what was found for each transition.

        Args:
            loss: float [K * B].
            size: float [K * B], how wrong each was; without gradient.
            value: values of any shape, to be shown to people.
        """
        live = ~self.steps.last[: len(self.hop)]
        loss = mean_over_time(loss.view(self.hop.shape), live)
        priority = mixed_priority(size.view(self.hop.shape) * live, live, PRIORITY_MIX)
        return loss, priority, {"losses/td_loss": loss.mean().detach(), "losses/q_values": value.mean().detach()}


class Foreseen:
    """Stands for a network that was asked already, of several batches at once.

    Args:
        output: [1, K * B, ...] at the steps that a batch of transitions is bootstrapped from.
    """

    def __init__(self, output: Any):
        self.output = output


@dataclass(frozen=True)
class MultiStep:
    """Settings of every algorithm that bootstraps from up to n steps later (Hessel et al. 2018,
    "Multi-step learning")."""

    foresees: ClassVar[bool] = False  # whether the loss asks the target network of nothing but `there`

    discount: float = 0.99
    """gamma, per agent step"""
    n_steps: int = 1
    """agent steps folded into one before the bootstrap"""
    burn_in: int = 0
    """agent steps that only warm up the memory before those learned from (Kapturowski et al. 2019, sec. 3)"""
    unroll: int = 1
    """agent steps learned from in a row"""
    reward_clip: float = 1.0
    """rewards count as -x to x in the loss, 0 as they are; scores stay raw"""
    shift: int = 0
    """pixels that images move by at most, up, down and sideways, in what is learned from (Kostrikov et al. 2021)"""
    intensity: float = 0.0
    """standard deviation of a factor that makes them brighter or darker (ibid.)"""

    @property
    def reach(self) -> int:
        """Agent steps that are ever folded into one."""
        return self.n_steps

    @property
    def length(self) -> int:
        """Steps per sequence: those that warm up the memory, those learned from, and up to n after them."""
        return self.burn_in + self.unroll + self.reach

    def horizon_of(self, seq: Sequence) -> tuple[int | Tensor | None, float | Tensor]:
        """(n, gamma) of the returns of sequences [T, B], numbers or each [B]; n is None where it is `reach`."""
        return None, self.discount

    def values(self, output: Any) -> Tensor:
        """Q(s, a) [..., A] in a network's output; here it gives nothing else."""
        return output

    def choose(self, output: Any, epsilon: float | Tensor) -> tuple[Tensor, Any]:
        """Epsilon-greedy actions, int64 [N], of a network's output [N, ...]."""
        return epsilon_greedy(self.values(output), epsilon), ()

    @property
    def augments(self) -> bool:
        """Whether what is learned from differs from what was seen."""
        return bool(self.shift or self.intensity)

    @property
    def plain(self) -> Self:
        """The same without what bears on no priority: what counts is what was seen, not how it might have looked."""
        return replace(self, shift=0, intensity=0.0)

    def augment(self, obs: Tensor) -> Tensor:
        """Images, uint8 [B, ...], as they might have looked as well; each of B by a draw of its own."""
        obs = random_shift(obs, self.shift) if self.shift else obs
        return random_intensity(obs, self.intensity) if self.intensity else obs

    def fold(self, seq: Sequence) -> Transitions:
        """Sequences [T, B] as the transitions from every step that is learned from, never past an episode's end.

        Images are augmented by one draw for every place that is learned from or bootstrapped from; for networks with a
        memory, by one for the whole sequence.
        """
        if self.augments and seq.state != ():
            obs = self.augment(seq.step.obs.transpose(0, 1)).transpose(0, 1)
            seq = seq._replace(step=seq.step._replace(obs=obs))
        step = tree_map(lambda x: x[self.burn_in :], seq.step)
        reward = clip_reward(step.reward, self.reward_clip)
        for earned in tree_leaves(seq.intrinsic_reward):
            reward = reward + earned[self.burn_in :]
        n, discount = self.horizon_of(seq)
        total, scale, hop = n_step(reward, step.terminal, step.last, discount, self.reach, n)
        length = len(reward) - self.reach
        action = seq.action[self.burn_in : self.burn_in + length].flatten()
        return Transitions(
            seq, action, total[:length].flatten(), scale[:length].flatten(), self.burn_in, hop[:length], step,
            self.augment,
        )  # fmt: skip
