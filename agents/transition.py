"""Sequences as transitions of up to n steps: what every value-based algorithm learns from."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from agents.returns import mixed_priority, n_step
from agents.sequence import Sequence, tree_map

PRIORITY_MIX = 0.9  # eta of Kapturowski et al. (2019), sec. 2.3


@dataclass(frozen=True)
class Transitions:
    """The transitions that a batch of sequences is learned from: K of each of B, flattened to [K * B].

    From a step (`here`) by `action` to a later one (`there`): the target is total + scale * V(there).
    """

    seq: Sequence
    action: Tensor  # int64 [K * B]
    total: Tensor  # float [K * B] discounted, clipped rewards on the way
    scale: Tensor  # float [K * B] discount^hop, or 0 past a terminal step
    start: int  # the first step that is learned from; those before it only warm up the memory
    hop: Tensor  # int64 [K, B] agent steps from here to there

    def here(self, network: Any) -> Any:
        """The network's output [K * B, ...] at the steps that are learned from."""
        length = len(self.hop)
        if self.seq.state == ():
            step = tree_map(lambda x: x[self.start : self.start + length].flatten(0, 1)[None], self.seq.step)
            return tree_map(lambda x: x[0], network(step, ())[0])
        return tree_map(lambda x: x[:length].flatten(0, 1), self._unroll(network))

    def there(self, network: Any) -> Any:
        """The network's output [K * B, ...] at the steps that are bootstrapped from."""
        length, batch = self.hop.shape
        rows = torch.arange(length, device=self.hop.device)[:, None] + self.hop
        places = (rows * batch + torch.arange(batch, device=self.hop.device)).flatten()
        if self.seq.state == ():
            step = tree_map(lambda x: x[self.start :].flatten(0, 1).index_select(0, places)[None], self.seq.step)
            return tree_map(lambda x: x[0], network(step, ())[0])
        return tree_map(lambda x: x.flatten(0, 1).index_select(0, places), self._unroll(network))

    def _unroll(self, network: Any) -> Any:
        """The network's output [T - start, B, ...], with no gradient into the steps that warm up its memory."""
        state = self.seq.state
        if self.start:
            with torch.no_grad():
                _, state = network(tree_map(lambda x: x[: self.start], self.seq.step), state)
        return network(tree_map(lambda x: x[self.start :], self.seq.step), state)[0]

    def summed_up(self, loss: Tensor, size: Tensor, value: Tensor) -> tuple[Tensor, Tensor, dict[str, Tensor]]:
        """(loss [B], priority [B], metrics) of what was found for each transition.

        Args:
            loss: float [K * B].
            size: float [K * B], how wrong each was; without gradient.
            value: values of any shape, to be shown to people.
        """
        live = ~self.seq.step.last[self.start : self.start + len(self.hop)]
        loss = (loss.view(self.hop.shape) * live).sum(0) / live.sum(0).clamp(min=1)
        priority = mixed_priority(size.view(self.hop.shape) * live, live, PRIORITY_MIX)
        return loss, priority, {"losses/td_loss": loss.mean().detach(), "losses/q_values": value.mean().detach()}


def fold(seq: Sequence, discount: float, n: int, reward_clip: float, burn_in: int = 0) -> Transitions:
    """Transitions of up to n steps, never past an episode's end, from every step with n steps after it.

    Args:
        reward_clip: rewards count as -x to x; 0 leaves them as they are.
        burn_in: steps at the beginning that are not learned from (Kapturowski et al. 2019, sec. 3).
    """
    step = tree_map(lambda x: x[burn_in:], seq.step)
    reward = step.reward.clamp(-reward_clip, reward_clip) if reward_clip else step.reward
    total, scale, hop = n_step(reward, step.terminal, step.last, discount, n)
    length = len(reward) - n
    action = seq.action[burn_in : burn_in + length].flatten()
    return Transitions(seq, action, total[:length].flatten(), scale[:length].flatten(), burn_in, hop[:length])
