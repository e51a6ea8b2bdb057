"""Losses and targets of policies, worked out by hand."""

import math
from types import SimpleNamespace

import pytest
import torch
from torch import nn

from agents.curious import Bonus, CuriousPPO
from agents.explore import sampled
from agents.ppo import PPO
from agents.pqn import PQN
from agents.returns import mean_over_live, mean_over_time
from agents.sequence import Sequence
from envs.timestep import TimeStep
from tests.test_curious import Stub
from tests.test_returns import column


def one_step(note, obs=(0.0, 0.0)):
    """A step of two places; action 1 was played with mu = .2."""
    none = torch.zeros(1, 2, dtype=torch.bool)
    step = TimeStep(torch.tensor([obs])[..., None, None, None], none.long(), none.float(), none, none, none)
    return Sequence(step, torch.ones(1, 2).long(), (torch.full((1, 2), 0.2).log(), *note), (), (), ())


LOGITS = torch.tensor([3.0, 1.0]).log().expand(1, 2, 2)  # pi = (.75, .25): the ratio is 1.25


def test_the_loss_of_ppo_is_worked_out_by_hand():
    seq = one_step((torch.tensor([[0.0, 2.0]]), torch.tensor([[4.0, 1.0]])))  # advantages: 1, -1 normalised
    algorithm = PPO(clip=0.1, clip_value=False, value_cost=0.5, entropy_cost=0.1)
    output = LOGITS, torch.tensor([[0.5, 2.0]])
    loss, priority, _ = algorithm.loss(lambda step, state: (output, state), None, seq)
    bonus = -0.1 * (0.75 * math.log(0.75) + 0.25 * math.log(0.25))
    assert loss.tolist() == pytest.approx([-1.1 + 0.25 * 3.5**2 - bonus, 1.25 + 0.25 * 1 - bonus])
    assert priority.tolist() == [4, 1]


def test_the_loss_with_surprise_is_worked_out_by_hand():
    class Online(nn.Module):
        bonus = Stub()

        def forward(self, step, state):
            return (LOGITS, torch.zeros(1, 2, 2)), state

    # The game's 1 and 3, half of the intrinsic 6 and 0: 4 and 3, normalised 1 and -1.
    seq = one_step((torch.zeros(1, 2, 2), torch.tensor([[[1.0, 6.0], [3.0, 0.0]]])), obs=(7.0, 9.0))
    algorithm = CuriousPPO(clip=0.1, value_cost=1.0, entropy_cost=0.0, bonus=Bonus(0.5, train_share=1.0))
    assert algorithm.loss(Online(), None, seq)[0].tolist() == pytest.approx(
        [-1.1 + 7 + 0.5 * (1 + 36), 1.25 + 9 + 0.5 * 9]
    )


def rollout(reward, note):
    none = torch.zeros(3, 1, dtype=torch.bool)
    return Sequence(TimeStep(none, none, column(*reward), none, none, none), none.long(), note, (), (), ())


def test_targets_have_the_trace_and_clipped_rewards():
    seq = rollout([0.0, 3.0, -5.0], column(0.0, 2.0, 4.0))
    goal = PQN(discount=0.5, trace=0.25).targets(seq).note
    assert goal.flatten().tolist() == [1 + 0.5 * (0.25 * 1 + 0.75 * 2), -1 + 0.5 * 4]
    seq = rollout([0.0, 300.0, -40.0], (column(0.0, 0, 0), column(0.0, 2.0, 4.0)))
    advantage = PPO(discount=0.5, trace=0.5, reward_scale=0.01).targets(seq).note[2]
    assert advantage.flatten().tolist() == pytest.approx([2 + 0.25 * -0.4, -0.4 + 0.5 * 4 - 2])


def test_intrinsic_returns_have_a_discount_of_their_own():
    algorithm = CuriousPPO(discount=0.5, trace=0.5, bonus=Bonus(discount=0.25))
    seq = rollout([0.0, 0.0, 0.0], (column(0.0, 0, 0), torch.zeros(3, 1, 2)))
    seq = seq._replace(step=seq.step._replace(obs=torch.tensor([9.0, 2.0, 4.0])[:, None, None, None, None]))
    network = SimpleNamespace(bonus=Stub())
    seq = algorithm.targets(algorithm.note_intrinsic(network, seq))
    assert seq.note[2][:, 0, 1].tolist() == [1 + 0.25 * 0.5 * 2, 2] and network.bonus.followed == [(2, 0.25)]


def test_actions_are_drawn_as_often_as_the_policy_says():
    torch.manual_seed(0)
    pi = torch.tensor([0.7, 0.2, 0.1])
    drawn = sampled(pi.log().expand(100_000, 3)).bincount(minlength=3) / 100_000
    torch.testing.assert_close(drawn, pi, rtol=0, atol=0.01)


def test_what_stands_at_an_end_does_not_scale_the_others():
    torch.manual_seed(0)
    logits, live, found = torch.randn(1, 3, 2), torch.tensor([[True, True, False]]), []
    for x in (0.0, 100.0):
        advantage = torch.tensor([[1.0, -2.0, x]])
        loss, _ = PPO().policy_loss(logits, torch.zeros(1, 3).long(), torch.zeros(1, 3), advantage, live)
        found.append(loss[live])
    torch.testing.assert_close(*found)


def test_the_greedy_value_is_noted_whatever_is_played():
    torch.manual_seed(0)
    action, note = PQN().choose(torch.tensor([[1.0, 3.0]]).expand(64, 2), 1.0)
    assert set(action.tolist()) == {0, 1} and (note == 3).all()


def test_means_are_of_the_live_steps():
    x, live = (
        torch.tensor([[1.0, 5.0], [3.0, 7.0], [8.0, 9.0]]),
        torch.tensor([[True, False], [True, False], [False] * 2]),
    )
    assert mean_over_time(x, live).tolist() == [2, 0]
    assert mean_over_live(x, live).item() == 2
    assert mean_over_live(torch.stack([x, -x], -1), live).tolist() == [2, -2]
