"""Parallelised Q-networks (Gallici et al. 2025): Q(lambda) on fresh experience, no replay, no target network."""

from dataclasses import dataclass
from typing import Any

from torch import Tensor

from agents.explore import epsilon_greedy
from agents.returns import lambda_returns, pick
from agents.sequence import Sequence


@dataclass(frozen=True)
class PQN:
    """Settings and equations. Needs a network with layer normalisation: without it, values diverge.

    Fields: `trace` is lambda; `unroll` is the agent steps per environment and rollout; rewards are
    clipped to [-reward_clip, reward_clip] in the loss only.
    """

    discount: float = 0.99
    trace: float = 0.65
    unroll: int = 32
    reward_clip: float = 1.0

    @property
    def length(self) -> int:
        """Steps per sequence: the rollout and the step that it bootstraps from."""
        return self.unroll + 1

    def choose(self, q: Tensor, epsilon: float | Tensor) -> tuple[Tensor, Any]:
        """Epsilon-greedy actions, int64 [N], of action values [N, A]; notes max_a Q for the targets."""
        return epsilon_greedy(q, epsilon), q.amax(-1)

    def loss(self, online: Any, target: Any, seq: Sequence) -> tuple[Tensor, Tensor, dict[str, Tensor]]:
        """Squared errors against Q(lambda) targets, averaged over time: (loss [B], priority [B], metrics).

        The targets are those of the network that acted, in every epoch (Gallici et al. 2025, alg. 1).
        """
        reward = seq.step.reward.clamp(-self.reward_clip, self.reward_clip)
        goal = lambda_returns(reward, seq.step.terminal, seq.step.last, seq.note, self.discount, self.trace)
        q_all = online(seq.step, seq.state)[0][:-1]  # [T - 1, B, A]
        live = ~seq.step.last[:-1]
        error = (goal - pick(q_all, seq.action[:-1])) * live
        steps = live.sum(0).clamp(min=1)
        loss = (error**2).sum(0) / steps
        metrics = {"losses/td_loss": loss.mean().detach(), "losses/q_values": q_all.mean().detach()}
        return loss, error.detach().abs().sum(0) / steps, metrics
