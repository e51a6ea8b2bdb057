"""Parallelised Q-networks (Gallici et al. 2025): Q(lambda) on fresh experience, no replay, no target network."""

from dataclasses import dataclass
from typing import Any, ClassVar

from torch import Tensor

from agents.explore import epsilon_greedy
from agents.returns import clip_reward, lambda_returns, mean_over_time, pick
from agents.sequence import Sequence, tree_map


@dataclass(frozen=True)
class PQN:
    """Settings and equations. Needs a network with layer normalisation: without it, values diverge."""

    discount: float = 0.99
    """gamma, per agent step"""
    trace: float = 0.65
    """lambda: 0 bootstraps after one step, 1 at the rollout's end"""
    unroll: int = 32
    """agent steps per game from one rollout to the next"""
    reward_clip: float = 1.0
    """rewards count as -x to x in the loss, 0 as they are; scores stay raw"""

    games_wait: ClassVar = False  # the games play on while it learns

    @property
    def length(self) -> int:
        """Steps per sequence: the rollout and the step that it bootstraps from."""
        return self.unroll + 1

    def choose(self, q: Tensor, epsilon: float | Tensor) -> tuple[Tensor, Any]:
        """Epsilon-greedy actions, int64 [N], of action values [N, A]; notes max_a Q for the targets."""
        return epsilon_greedy(q, epsilon), q.amax(-1)

    def targets(self, seq: Sequence) -> Sequence:
        """T steps as they were played to T - 1 that note their Q(lambda) targets.

        The values are those of the network that acted, in every epoch (Gallici et al. 2025, alg. 1).
        """
        reward = clip_reward(seq.step.reward, self.reward_clip)
        goal = lambda_returns(reward, seq.step.terminal, seq.step.last, seq.note, self.discount, self.trace)
        step, action = tree_map(lambda x: x[:-1], (seq.step, seq.action))
        return seq._replace(step=step, action=action, note=goal)

    def loss(self, online: Any, target: Any, seq: Sequence) -> tuple[Tensor, Tensor, dict[str, Tensor]]:
        """Squared errors against the noted targets, averaged over time: (loss [B], priority [B], metrics)."""
        q_all = online(seq.step, seq.state)[0]  # [T, B, A]
        live = ~seq.step.last
        error = seq.note - pick(q_all, seq.action)
        loss = mean_over_time(error**2, live)
        metrics = {"losses/td_loss": loss.mean().detach(), "losses/q_values": q_all.mean().detach()}
        return loss, mean_over_time(error.detach().abs(), live), metrics
