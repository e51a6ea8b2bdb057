"""MuZero (Schrittwieser et al. 2020) with the search of Danihelka et al. (2022): planning in a learned model."""

from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

import torch
from torch import Tensor

from agents.returns import (
    clip_reward,
    hopped,
    mean_of,
    mean_over_live,
    n_step,
    rescale,
    self_prediction,
    two_hot,
    unscale,
)
from agents.search import Plan, search
from agents.sequence import Sequence
from envs.timestep import TimeStep


class Imagined(NamedTuple):
    """A model to search by: a network's own, whose positions are features [N, F]."""

    network: Any
    discount: float

    def judge(self, position: Tensor) -> tuple[Tensor, Tensor]:
        """As `agents.search.Model`."""
        logits, value = self.network.judge(position)
        return logits, number(value)

    def play(self, position: Tensor, action: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Likewise; nothing ever ends, but may be worth nothing from then on."""
        after, reward = self.network.imagine(position, action)
        return after, number(reward), torch.zeros_like(action, dtype=torch.bool)


@dataclass(frozen=True)
class MuZero:
    """Settings and equations, for one player. The network gives (logits [..., A], value [..., 2 support + 1]), has no
    memory, and a part `prediction` that foretells features and rewards (networks/prediction.py)."""

    discount: float = 0.997
    """gamma, per agent step"""
    simulations: int = 16
    """steps that are imagined before each that is taken"""
    considered: int = 4
    """actions that are tried at the root, at most; of more, chance and the network's policy choose"""
    value_scale: float = 0.1
    """c_scale (Danihelka et al. 2022, eq. 8): how much values weigh beside the network's policy"""
    n_steps: int = 5
    """agent steps whose rewards are summed before a value (Schrittwieser et al. 2020, sec. 3)"""
    unroll: int = 5
    """K, agent steps that are imagined in a row in learning (ibid., eq. 1)"""
    reward_clip: float = 1.0
    """rewards count as -x to x in the loss, 0 as they are; scores stay raw"""
    support: int = 30
    """rescaled values and rewards are distributions over the whole numbers from -x to x (ibid., app. F)"""
    value_cost: float = 0.25
    """weight of the value's cross entropy beside the policy's (ibid., app. H)"""
    prediction_cost: float = 2.0
    """weight of what foretold features miss by (Ye et al. 2021, sec. 4.1); 0 compares none"""

    foresees: ClassVar[bool] = False
    augments: ClassVar[bool] = False

    @property
    def length(self) -> int:
        """Steps per sequence: those that are imagined, and up to n after the last of them."""
        return self.unroll + self.n_steps + 1

    @property
    def plain(self) -> "MuZero":
        """The same: all of it bears on priorities."""
        return self

    def note_bytes(self, num_actions: int) -> int:
        """Of what `plan` notes at a step of one game."""
        return 4 * (num_actions + 1)

    def choose(self, output: tuple[Tensor, Tensor], epsilon: float | Tensor) -> tuple[Tensor, Any]:
        """Nothing is chosen without a search."""
        raise NotImplementedError("MuZero plans")

    def plan(self, network: Any, step: TimeStep, explores: bool) -> Plan:
        """What a search finds for N games, to be noted and learned.

        Args:
            explores: draw actions as in training; else the best that is seen.
        """
        model, roots = Imagined(network, self.discount), network.encode(step.obs)
        return search(model, roots, self.simulations, self.considered, self.value_scale, explores, rescale=True)

    def loss(self, online: Any, target: Any, seq: Sequence) -> tuple[Tensor, Tensor, dict[str, Tensor]]:
        """Cross entropies of policy, value and reward at K + 1 steps, the first seen and the others imagined
        (Schrittwieser et al. 2020, eq. 1), and how far imagined features are from those that came:
        (loss [B], priority [B], metrics); the priority is |z - v| at the first (ibid., app. G).

        What is imagined weighs 1/K, and half of its gradient goes on to the step before (ibid., app. G).
        """
        goals, steps = self.goals(seq), range(self.unroll)
        features = [online.encode(seq.step.obs[0])]  # [B, F]
        rewards = []
        for k in steps:
            after, reward = online.imagine(halved(features[-1]), seq.action[k])
            features.append(after)
            rewards.append(reward)
        logits, value = online.judge(torch.cat(features))
        shape = goals.value.shape  # [K + 1, B]
        log_pi, value = logits.log_softmax(-1).unflatten(0, shape), value.unflatten(0, shape)
        missed_policy = -(goals.policy * log_pi).sum(-1) * goals.live
        missed_value = self.cross_entropy(value, goals.value) * goals.judged
        missed_reward = self.cross_entropy(torch.stack(rewards), goals.reward) * goals.earned
        each = missed_policy + self.value_cost * missed_value
        loss = each[0] + (each[1:] + missed_reward).mean(0)
        metrics = {
            "losses/policy_loss": mean_over_live(missed_policy.detach(), goals.live),
            "losses/value_loss": mean_over_live(missed_value.detach(), goals.judged),
            "losses/reward_loss": mean_over_live(missed_reward.detach(), goals.earned),
            "losses/value": goals.value.mean(),
            "losses/entropy": mean_over_live(-torch.xlogy(goals.policy, goals.policy).sum(-1), goals.live),
        }
        if self.prediction_cost:
            foretold = online.predicted(torch.stack(features[1:]))
            with torch.no_grad():
                came = target.project(target.encode(seq.step.obs[1 : self.unroll + 1].flatten(0, 1)))
                came = came.unflatten(0, foretold.shape[:2])
            missed = self_prediction(foretold, came, goals.live[1:]) / self.unroll
            metrics["losses/self_prediction"] = missed.mean().detach()
            loss = loss + self.prediction_cost * missed
        return loss, (number(value[0].detach()) - goals.value[0]).abs(), metrics

    def cross_entropy(self, logits: Tensor, goal: Tensor) -> Tensor:
        """Of distributions [..., 2 support + 1] over rescaled numbers, and numbers [...]: [...]."""
        return -(two_hot(rescale(goal), self.support) * logits.log_softmax(-1)).sum(-1)

    def goals(self, seq: Sequence) -> "Goals":
        """What is learned at the first K + 1 steps of sequences [T, B].

        An episode that ends in earnest stays as it ended: nothing more is earned, and all is worth nothing. What would
        have come of one that was cut short is not known, and is not learned.
        """
        step, (policy, value), k = seq.step, seq.note, self.unroll
        earned = clip_reward(step.reward, self.reward_clip)
        total, scale, hop = n_step(earned, step.terminal, step.last, self.discount, self.n_steps)
        goal = (total + scale * hopped(value, hop).view(hop.shape))[: k + 1]
        ends, terminal = (step.last | step.terminal)[: k + 1].clone(), step.terminal[: k + 1]
        ends[0] = step.last[0]  # what a lost life began is a beginning as any other
        gone = ends.cumsum(0) > 0  # at or after an end
        before = torch.cat([torch.zeros_like(gone[:1]), gone[:-1]])  # after it
        known = ((ends & ~before & ~terminal).cumsum(0)) == 0
        return Goals(
            policy[: k + 1], torch.where(gone, 0.0, goal), torch.where(before[1:], 0.0, earned[1 : k + 1]),
            ~gone, known, known[:-1],
        )  # fmt: skip


class Goals(NamedTuple):
    """What is learned at each of K + 1 steps, and whether it is."""

    policy: Tensor  # float [K + 1, B, A], where live
    value: Tensor  # float [K + 1, B], where judged
    reward: Tensor  # float [K, B], earned on the way to each step but the first, where earned
    live: Tensor  # bool [K + 1, B]
    judged: Tensor  # bool [K + 1, B]
    earned: Tensor  # bool [K, B]


def number(logits: Tensor) -> Tensor:
    """What a distribution [..., 2 support + 1] says of a value or a reward: [...]."""
    return unscale(mean_of(logits))


def halved(x: Tensor) -> Tensor:
    """The same, with half of its gradient."""
    return x / 2 + x.detach() / 2
