"""IMPALA (Espeholt et al. 2018): an actor-critic that corrects for the age of the policy that played."""

from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from agents.explore import sampled
from agents.returns import clip_reward, entropy, mean_over_live, mean_over_time, pick, vtrace
from agents.sequence import Sequence


@dataclass(frozen=True)
class IMPALA:
    """Settings and equations; the network gives (logits [..., A], value [...]).

    The loop plays and learns in turn, so what makes a rollout old is the updates between its playing and its
    learning: of K minibatches the k-th is k - 1 updates behind in the first epoch, and K more in each further one.
    V-trace corrects for that, with the network of now for the values and the log-probabilities noted in playing.
    """

    discount: float = 0.99
    """gamma, per agent step"""
    unroll: int = 20
    """agent steps per game from one rollout to the next"""
    rho_max: float = 1.0
    """bound of the importance weights in the errors: which policy is evaluated"""
    c_max: float = 1.0
    """bound of those in the trace: how far errors reach back"""
    value_cost: float = 0.5
    """weight of the value's squared error"""
    entropy_cost: float = 0.01
    """weight of the policy's entropy"""
    reward_clip: float = 1.0
    """rewards count as -x to x in the loss, 0 as they are; scores stay raw"""

    games_wait: ClassVar = False  # the games play on while it learns

    @property
    def length(self) -> int:
        """Steps per sequence: the rollout and the step that it bootstraps from."""
        return self.unroll + 1

    def choose(self, output: tuple[Tensor, Tensor], epsilon: float | Tensor) -> tuple[Tensor, Any]:
        """Actions drawn from the policy, int64 [N]; notes ln mu(a|s). Epsilon means nothing here."""
        log_pi = output[0].log_softmax(-1)
        action = sampled(log_pi)
        return action, pick(log_pi, action)

    def targets(self, seq: Sequence) -> Sequence:
        """The steps as they were played: targets are of the network that learns, and so part of the loss."""
        return seq

    def loss(self, online: Any, target: Any, seq: Sequence) -> tuple[Tensor, Tensor, dict[str, Tensor]]:
        """Sec. 4.2 of the paper, summed over time, as theirs: (loss [B], priority [B], metrics)."""
        (logits, value), _ = online(seq.step, seq.state)  # [T, B, A], [T, B]
        reward = clip_reward(seq.step.reward, self.reward_clip)
        log_pi = logits[:-1].log_softmax(-1)
        log_chosen = pick(log_pi, seq.action[:-1])
        with torch.no_grad():
            ratio = (log_chosen - seq.note[:-1]).exp()
            goal, advantage = vtrace(
                reward, seq.step.terminal, seq.step.last, value, ratio, self.discount, self.rho_max, self.c_max
            )
        error = goal - value[:-1]
        live = ~seq.step.last[:-1]
        loss = -advantage * log_chosen + self.value_cost * 0.5 * error**2 - self.entropy_cost * entropy(log_pi)
        with torch.no_grad():
            metrics = {
                "losses/value_loss": mean_over_live(0.5 * error**2, live),
                "losses/entropy": mean_over_live(entropy(log_pi), live),
                "losses/value": mean_over_live(value[:-1], live), "losses/ratio": mean_over_live(ratio, live),
                "losses/ratio_off_by": mean_over_live((ratio - 1).abs(), live),
            }  # fmt: skip
        return (loss * live).sum(0), mean_over_time(error.detach().abs(), live), metrics
