"""Proximal policy optimisation (Schulman et al. 2017)."""

from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from agents.explore import sampled
from agents.returns import clip_reward, clipped_surrogate, entropy, gae, mean_over_live, mean_over_time, pick
from agents.sequence import Sequence, tree_map


@dataclass(frozen=True)
class PPO:
    """Settings and equations; the network gives (logits [..., A], value [...])."""

    discount: float = 0.99
    """gamma, per agent step"""
    trace: float = 0.95
    """lambda of the advantage estimates (Schulman et al. 2016)"""
    unroll: int = 128
    """agent steps per game from one rollout to the next"""
    clip: float = 0.1
    """epsilon: how far the probability ratio may move"""
    clip_value: bool = True
    """bound the value's move, too, by the same number"""
    value_cost: float = 0.5
    """weight of the value's squared error"""
    entropy_cost: float = 0.01
    """weight of the policy's entropy"""
    reward_clip: float = 1.0
    """rewards count as -x to x in the loss, 0 as they are; scores stay raw"""
    reward_scale: float = 1.0
    """rewards are multiplied by this in the loss, before they are clipped"""

    games_wait: ClassVar = True  # nothing is played on while it learns: the ratio is 1 before the first update

    @property
    def length(self) -> int:
        """Steps per sequence: the rollout and the step that it bootstraps from."""
        return self.unroll + 1

    def choose(self, output: tuple[Tensor, Tensor], epsilon: float | Tensor) -> tuple[Tensor, Any]:
        """Actions drawn from the policy, int64 [N]; notes ln pi(a|s) and V(s). Epsilon means nothing here."""
        logits, value = output
        log_pi = logits.log_softmax(-1)
        action = sampled(log_pi)
        return action, (pick(log_pi, action), value)

    def targets(self, seq: Sequence) -> Sequence:
        """T steps as they were played to T - 1 that note (ln mu(a|s), V(s), advantage), of the network that acted."""
        reward = clip_reward(seq.step.reward * self.reward_scale, self.reward_clip)
        log_mu, value = seq.note
        advantage = gae(reward, seq.step.terminal, seq.step.last, value, self.discount, self.trace)
        step, action = tree_map(lambda x: x[:-1], (seq.step, seq.action))
        return seq._replace(step=step, action=action, note=(log_mu[:-1], value[:-1], advantage))

    def loss(self, online: Any, target: Any, seq: Sequence) -> tuple[Tensor, Tensor, dict[str, Tensor]]:
        """-L^{CLIP+VF+S} (Schulman et al. 2017, eq. 9), averaged over time: (loss [B], priority [B], metrics)."""
        (logits, value), _ = online(seq.step, seq.state)  # [T, B, A], [T, B]
        log_mu, old_value, advantage = seq.note
        live = ~seq.step.last
        loss, metrics = self.policy_loss(logits, seq.action, log_mu, advantage, live)
        error = self.value_error(value, old_value, old_value + advantage)
        loss = mean_over_time(loss + self.value_cost * 0.5 * error, live)
        with torch.no_grad():
            metrics["losses/value_loss"] = mean_over_live(0.5 * error, live)
            metrics["losses/value"] = mean_over_live(value, live)
        return loss, mean_over_time(advantage.abs(), live), metrics

    def policy_loss(
        self, logits: Tensor, action: Tensor, log_mu: Tensor, advantage: Tensor, live: Tensor
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """The clipped surrogate and the entropy (Schulman et al. 2017, eqs. 7 and 9): what is to be minimised, [T, B].

        Advantages are normalised over the minibatch, the steps at episodes' ends left out.

        Args:
            logits: float [T, B, A].
            action: int64 [T, B].
            log_mu, advantage: float [T, B], as noted when it was played.
            live: bool [T, B]: not at an episode's end.
        """
        normal = advantage - mean_over_live(advantage, live)
        normal = normal / (mean_over_live(normal**2, live).sqrt() + 1e-8)
        log_pi = logits.log_softmax(-1)
        log_ratio = pick(log_pi, action) - log_mu
        ratio = log_ratio.exp()
        spread = entropy(log_pi)
        with torch.no_grad():
            metrics = {
                "losses/entropy": mean_over_live(spread, live),
                "losses/approx_kl": mean_over_live(ratio - 1 - log_ratio, live),
                "losses/clipfrac": mean_over_live((ratio - 1).abs() > self.clip, live),
            }  # fmt: skip
        return clipped_surrogate(ratio, normal, self.clip) - self.entropy_cost * spread, metrics

    def value_error(self, value: Tensor, old_value: Tensor, goal: Tensor) -> Tensor:
        """Squared errors of values, three times float [T, B] to [T, B].

        With `clip_value`, of those moved at most `clip` if these are larger.
        """
        error = (value - goal) ** 2
        if not self.clip_value:
            return error
        near = old_value + (value - old_value).clamp(-self.clip, self.clip)
        return torch.maximum(error, (near - goal) ** 2)
