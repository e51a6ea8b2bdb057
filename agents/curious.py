"""Intrinsic rewards for what is new: random network distillation (Burda et al. 2019)."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from agents.ppo import PPO
from agents.returns import gae, mean_over_live, mean_over_time
from agents.sequence import Sequence


@dataclass(frozen=True)
class Bonus:
    """How much the intrinsic reward counts."""

    weight: float = 0.0
    """of the intrinsic advantage beside the game's (from a replay: the return of being surprised by one standard
    deviation for ever); 0 for no bonus"""
    discount: float = 0.99
    """gamma of intrinsic returns, per agent step"""
    train_share: float = 0.25
    """of the steps learned from, how many train the predictor"""

    def predictor_loss(self, error: Tensor) -> Tensor:
        """The mean error over the steps as a random share of them estimates it, without a bias: float [T, B] to [B].

        The authors divide by how many were drawn; of a single step that may be none.
        """
        chosen = torch.rand_like(error) < self.train_share
        return (error * chosen).mean(0) / self.train_share


@dataclass(frozen=True)
class CuriousPPO(PPO):
    """PPO with a second value for intrinsic returns, which no episode's end cuts (Burda et al. 2019, sec. 2.3).

    The network gives (logits [..., A], values [..., 2]); its part `bonus` measures surprise.
    """

    bonus: Bonus = Bonus()

    def note_intrinsic(self, network: Any, seq: Sequence) -> Sequence:
        """Notes the intrinsic reward [T, B] of getting to each step of a rollout, and moves its statistics.

        What is seen is normalised by what was seen before (the first rollout by itself); rewards, as in the
        authors' code, by the spread of returns up to now.
        """
        rnd, new = network.bonus, seq.step.obs[1:]  # step 0 ended the rollout before
        if fresh := not rnd.seen.count:
            rnd.watch(new)
        with torch.no_grad():
            error = torch.stack([rnd(obs) for obs in seq.step.obs])
        rnd.follow(error[1:], self.bonus.discount)
        if not fresh:
            rnd.watch(new)
        return seq._replace(note=(*seq.note, error / rnd.scale()))

    def targets(self, seq: Sequence) -> Sequence:
        """T steps with intrinsic rewards to T - 1 that note (ln mu(a|s), values, their advantages [..., 2])."""
        log_mu, values, earned = seq.note
        value, intrinsic_value = values.unbind(-1)
        own = super().targets(seq._replace(note=(log_mu, value)))
        none = torch.zeros_like(seq.step.last)
        intrinsic = gae(earned, none, none, intrinsic_value, self.bonus.discount, self.trace)
        return own._replace(note=(log_mu[:-1], values[:-1], torch.stack([own.note[2], intrinsic], -1)))

    def loss(self, online: Any, target: Any, seq: Sequence) -> tuple[Tensor, Tensor, dict[str, Tensor]]:
        """As PPO, with the weighted sum of advantages, both values' errors, and the predictor's.

        The intrinsic value is learned at episodes' ends, too, for its returns go on there.
        """
        (logits, values), _ = online(seq.step, seq.state)  # [T, B, A], [T, B, 2]
        log_mu, old_values, advantages = seq.note
        live = ~seq.step.last
        advantage = advantages[..., 0] + self.bonus.weight * advantages[..., 1]
        loss, metrics = self.policy_loss(logits, seq.action, log_mu, advantage, live)
        goals = old_values + advantages
        game = 0.5 * self.value_error(values[..., 0], old_values[..., 0], goals[..., 0])
        intrinsic = 0.5 * (values[..., 1] - goals[..., 1]) ** 2  # only the game's value may be clipped
        surprise = online.bonus(seq.step.obs)
        loss = mean_over_time(loss + self.value_cost * game, live) + self.value_cost * intrinsic.mean(0)
        with torch.no_grad():
            value, intrinsic_value = mean_over_live(values, live)
            metrics |= {
                "losses/value_loss": mean_over_live(game, live), "losses/value": value,
                "losses/intrinsic_value_loss": intrinsic.mean(), "losses/intrinsic_value": intrinsic_value,
                "losses/surprise": surprise.mean(),
            }  # fmt: skip
        return loss + self.bonus.predictor_loss(surprise), mean_over_time(advantage.abs(), live), metrics


@dataclass(frozen=True)
class Curious:
    """An algorithm that learns from a replay, with surprise added to the reward as it learns.

    Taiga et al. (2020) do so with Rainbow. The bonus is of the predictor of now, so what was stored as new is old
    when it is met again. A replay's samples have no intrinsic returns to follow, whose spread is PPO's unit: the bonus
    is in units of the spread of errors, times (1 - discount), so that its return is of the size of the weight.
    """

    algorithm: Any
    bonus: Bonus

    @property
    def length(self) -> int:
        """Agent steps per sequence that it learns from."""
        return self.algorithm.length

    @property
    def discount(self) -> float:
        """gamma, per agent step."""
        return self.algorithm.discount

    def choose(self, output: Any, epsilon: float | Tensor) -> tuple[Tensor, Any]:
        """As the algorithm does."""
        return self.algorithm.choose(output, epsilon)

    def loss(self, online: Any, target: Any, seq: Sequence) -> tuple[Tensor, Tensor, dict[str, Tensor]]:
        """The algorithm's loss of the rewards with the bonus, and the predictor's: (loss [B], priority [B], metrics).

        Moves the statistics, which are buffers of the network.
        """
        rnd = online.bonus
        if fresh := not rnd.seen.count:
            rnd.watch(seq.step.obs)
        surprise = rnd(seq.step.obs)
        rnd.returns.update(surprise.detach().flatten())
        if not fresh:
            rnd.watch(seq.step.obs)
        weight = self.bonus.weight * (1 - self.algorithm.discount)
        earned = weight * surprise.detach() / rnd.scale()
        loss, priority, metrics = self.algorithm.loss(online, target, seq._replace(intrinsic_reward=earned))
        metrics |= {"losses/surprise": surprise.detach().mean(), "losses/intrinsic_reward": earned.mean()}
        return loss + self.bonus.predictor_loss(surprise), priority, metrics
