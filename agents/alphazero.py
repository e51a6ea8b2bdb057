"""AlphaZero (Silver et al. 2018) with the search of Danihelka et al. (2022): a network learns what planning found."""

from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

import torch
from torch import Tensor

from agents.explore import sampled
from agents.returns import lambda_returns, mean_over_live, mean_over_time
from agents.search import NEVER, Plan, search
from agents.sequence import Sequence, tree_map
from envs.timestep import TimeStep


@dataclass(frozen=True)
class AlphaZero:
    """Settings; the network gives (logits [..., A], value [...]) of who is to move."""

    simulations: int = 32
    """positions that are looked at before each move"""
    considered: int = 8
    """moves that are tried at the root, at most; of more, chance and the network's policy choose"""
    value_scale: float = 1.0
    """c_scale (Danihelka et al. 2022, eq. 8): how much values weigh beside the network's policy"""
    trace: float = 1.0
    """lambda of the value's targets: 1 is how games end, 0 what the search said a move later"""
    unroll: int = 32
    """moves of each game from one rollout to the next"""
    value_cost: float = 1.0
    """weight of the value's squared error"""

    discount: ClassVar = 1.0
    games_wait: ClassVar = False  # the games play on while it learns

    @property
    def length(self) -> int:
        """Steps per sequence: the rollout and the step that it bootstraps from."""
        return self.unroll + 1


class Known(NamedTuple):
    """A model to search by: two players' rules, and what a network thinks of boards, uint8 [N, 1, ...]."""

    rules: Any  # as `envs.board.Row`
    network: Any
    discount: float = -1.0

    def judge(self, position: Tensor) -> tuple[Tensor, Tensor]:
        """As `agents.search.Model`."""
        logits, value = self.network.judge(self.network.encode(position))
        return logits.masked_fill(~self.rules.legal(position[:, 0]), NEVER), value

    def play(self, position: Tensor, action: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Likewise."""
        board, reward, over = self.rules.play(position[:, 0], action)
        return board[:, None], reward, over


@dataclass(frozen=True)
class Planning(AlphaZero):
    """Equations, in a game whose rules are known."""

    rules: Any = None
    """as `envs.board.Row`"""

    def choose(self, output: tuple[Tensor, Tensor], epsilon: float | Tensor) -> tuple[Tensor, Any]:
        """Actions [N] drawn from the network's policy, without a search; epsilon means nothing here."""
        logits, value = output
        return sampled(logits.log_softmax(-1)), (logits.softmax(-1), value)

    def plan(self, network: Any, step: TimeStep, explores: bool) -> Plan:
        """What a search finds for N games, to be noted and learned.

        Args:
            explores: draw moves as in training; else the best that is seen.
        """
        # Nothing can be planned where a game is over: any position will do.
        obs = torch.where(step.last.view(-1, *[1] * (step.obs.dim() - 1)), 0, step.obs)
        model = Known(self.rules, network)
        return search(model, obs, self.simulations, self.considered, self.value_scale, explores)

    def targets(self, seq: Sequence) -> Sequence:
        """T moves as they were played to T - 1 that note the policy [A] and the value to learn.

        Who moves next is the other player, to whom everything is worth the opposite: a discount of -1.
        """
        policy, value = seq.note
        goal = lambda_returns(seq.step.reward, seq.step.terminal, seq.step.last, value, -1.0, self.trace)
        step, action, policy = tree_map(lambda x: x[:-1], (seq.step, seq.action, policy))
        return seq._replace(step=step, action=action, note=(policy, goal))

    def loss(self, online: Any, target: Any, seq: Sequence) -> tuple[Tensor, Tensor, dict[str, Tensor]]:
        """Cross entropy of the policy and squared error of the value (Silver et al. 2018, eq. 1), averaged over time:
        (loss [B], priority [B], metrics)."""
        (logits, value), _ = online(seq.step, seq.state)  # [T, B, A], [T, B]
        policy, goal = seq.note
        live = ~seq.step.last
        legal = self.rules.legal(seq.step.obs[:, :, 0])
        log_pi = logits.masked_fill(~legal, NEVER).log_softmax(-1)
        missed = -(policy * log_pi.masked_fill(~legal, 0.0)).sum(-1)
        error = (value - goal) ** 2
        loss = mean_over_time(missed + self.value_cost * error, live)
        with torch.no_grad():
            metrics = {
                "losses/policy_loss": mean_over_live(missed, live), "losses/value_loss": mean_over_live(error, live),
                "losses/value": mean_over_live(value, live),
                "losses/entropy": mean_over_live(-torch.xlogy(policy, policy).sum(-1), live),
            }  # fmt: skip
        return loss, mean_over_time(error.detach(), live), metrics
