"""Random network distillation: its statistics, what it pays and for what, and that it makes agents go further."""

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn

from agents.agent import Agent
from agents.curious import Bonus, Curious, CuriousPPO
from agents.dqn import DQN
from agents.optimiser import Adam
from agents.ppo import PPO
from agents.rollout import Rollout, RolloutConfig
from agents.sequence import Sequence
from envs.probe import make_probe
from envs.timestep import TimeStep
from experiments.build import algorithm_of, build_agent, build_experience
from experiments.build_network import build_network
from experiments.checks import check
from experiments.config import NetworkConfig
from experiments.presets import PRESETS
from networks.rnd import RND, RunningMoments
from tests.test_cores import some_steps

SMALL = NetworkConfig(torso="mlp", hidden=32)


def test_moments_are_those_of_all_samples():
    rng = np.random.default_rng(0)
    samples = rng.normal(50, 3, (60, 2))
    moments = RunningMoments(2)
    for part in np.split(samples, [1, 7, 40]):
        moments.update(torch.tensor(part))
    assert moments.count == 60
    np.testing.assert_allclose(moments.mean, samples.mean(0))
    np.testing.assert_allclose(moments.variance, samples.var(0))


def test_what_is_seen_is_normalised_and_clipped():
    rnd = RND((4, 1, 2), num_envs=1, size=3)
    rnd.seen.mean.copy_(torch.tensor([[[10.0, 10.0]]]))
    rnd.seen.variance.copy_(torch.tensor([[[4.0, 4.0]]]))
    seen = []
    rnd.fixed = nn.Sequential(nn.Flatten(), nn.Identity())
    rnd.predictor = nn.Sequential(nn.Flatten())
    rnd.predictor.register_forward_hook(lambda _, inputs, output: seen.append(output))
    obs = torch.full((1, 1, 4, 1, 2), 99, dtype=torch.uint8)
    obs[0, 0, -1] = torch.tensor([[14, 200]])  # only the newest frame counts
    assert rnd(obs).shape == (1, 1)
    assert seen[0].tolist() == [[2.0, 5.0]]


def test_intrinsic_returns_go_on_over_rollouts_and_ends():
    """Their spread equals that of a slow loop over each game (sec. 2.4)."""
    rnd, errors = RND((1, 1, 2), num_envs=3, size=2), torch.rand(10, 3, dtype=torch.float64)
    rnd.follow(errors[:4], 0.9)
    rnd.follow(errors[4:], 0.9)
    returns = []
    for game in errors.T.tolist():
        earning = 0.0
        for error in game:
            earning = 0.9 * earning + error
            returns.append(earning)
    assert rnd.scale().item() == pytest.approx(np.std(returns))


def test_only_the_predictor_learns():
    rnd = RND((1, 84, 84), num_envs=2, size=8)
    error = rnd(torch.randint(0, 256, (3, 2, 1, 84, 84), dtype=torch.uint8))
    assert error.shape == (3, 2)
    error.sum().backward()
    assert all(p.grad is not None for p in rnd.predictor.parameters())
    assert not any(p.requires_grad for p in rnd.fixed.parameters())


def test_a_share_of_the_steps_trains_the_predictor():
    error = torch.rand(400, 50)
    loss = Bonus(1.0, train_share=0.25).predictor_loss(error)
    assert loss.shape == (50,) and loss.mean().item() == pytest.approx(error.mean().item(), rel=0.05)
    assert loss.std() > error.mean(0).std()  # not all of them
    assert torch.equal(Bonus(1.0, train_share=1.0).predictor_loss(error), error.mean(0))


class Stub(nn.Module):
    """Is surprised by the number that it sees; paid in units of 2."""

    def __init__(self):
        super().__init__()
        self.seen = self.returns = RunningMoments()
        self.watched, self.followed = [], []

    def forward(self, obs):
        return obs.flatten(-3)[..., -1].float()

    def watch(self, obs):
        self.watched.append(len(obs))
        self.seen.count += 1

    def follow(self, error, discount):
        self.followed.append((len(error), discount))

    def scale(self):
        return torch.tensor(2.0)


def steps_of(obs, **changes):
    none = torch.zeros(len(obs), 1, dtype=torch.bool)
    step = TimeStep(
        torch.tensor(obs)[:, None, None, None, None], none.long(), torch.zeros(len(obs), 1), none, none, none
    )
    return step._replace(**{name: torch.tensor(x)[:, None] for name, x in changes.items()})


def test_the_two_advantages_are_worked_out_by_hand():
    """The game's ends at the game over; the intrinsic one goes through it (sec. 2.3)."""
    algorithm = CuriousPPO(discount=0.5, trace=1.0, unroll=3, bonus=Bonus(weight=0.5, discount=0.5))
    network = nn.Module()
    network.bonus = Stub()
    step = steps_of([9.0, 2.0, 4.0, 8.0], reward=[0.0, 3.0, 1.0, 0.0], terminal=[False, False, True, False])
    step = step._replace(last=step.terminal)
    note = (torch.zeros(4, 1), torch.tensor([[[0.0, 0.0]], [[0.0, 0.0]], [[0.0, 0.0]], [[7.0, 10.0]]]))
    seq = Sequence(step, torch.zeros(4, 1).long(), note, (), torch.ones(1), torch.zeros(1).long())
    seq = algorithm.targets(algorithm.note_intrinsic(network, seq))
    # Rewards 1 (of 3), 1; then over. Bonuses 2 / 2, 4 / 2, 8 / 2, and the last is bootstrapped with 10 / 2.
    assert seq.note[2][:2, 0, 0].tolist() == [1 + 0.5 * 1, 1]
    assert seq.note[2][:, 0, 1].tolist() == [1 + 0.5 * (2 + 0.5 * (4 + 5)), 2 + 0.5 * (4 + 5), 4 + 5]
    assert network.bonus.followed == [(3, 0.5)]  # the step that began the rollout was counted by the one before
    assert network.bonus.watched == [3]
    algorithm.note_intrinsic(network, seq._replace(step=step, note=note))
    assert network.bonus.watched == [3, 3]


def test_a_replay_s_rewards_are_clipped_and_then_joined_by_the_bonus():
    """And the network goes on to see the game's reward, not the bonus."""
    shown = []

    class Online(nn.Module):
        def __init__(self):
            super().__init__()
            self.bonus = Stub()

        def forward(self, step, state):
            shown.append(step.reward.flatten().tolist())
            return torch.zeros(*step.reward.shape, 2), state

    online = Online()
    step = steps_of([1.0, 6.0, 8.0], reward=[0.0, 5.0, -0.5])
    seq = Sequence(step, torch.zeros(3, 1).long(), (), (), torch.ones(1), torch.zeros(1).long())
    algorithm = Curious(DQN(discount=0.5, n_steps=2), Bonus(weight=0.2, train_share=1.0))  # 0.1 a step is 0.2 for ever
    loss, priority, metrics = algorithm.loss(online, online, seq)
    error = (1 + 0.1 * 6 / 2) + 0.5 * (-0.5 + 0.1 * 8 / 2)
    assert priority.item() == pytest.approx(error)
    assert loss.item() == pytest.approx(error**2 + (1 + 6 + 8) / 3)
    assert shown == [[0.0], [-0.5]] and metrics["losses/surprise"].item() == 5
    assert algorithm.length == 3


def test_only_the_game_s_value_may_be_clipped():
    algorithm = CuriousPPO(clip=0.1, clip_value=True, value_cost=1.0, bonus=Bonus(weight=1.0))

    class Online(nn.Module):
        def __init__(self):
            super().__init__()
            self.bonus = Stub()

        def forward(self, step, state):
            return (torch.zeros(2, 1, 3), torch.full((2, 1, 2), 0.5)), state

    none = torch.zeros(2, 1, 2)
    seq = Sequence(steps_of([0.0, 0.0]), torch.zeros(2, 1).long(), (none[..., 0], none, none + 1), (), (), ())
    _, _, metrics = algorithm.loss(Online(), None, seq)
    # Both values moved from 0 to 0.5, and should be 1; to the game's, it is as if it had moved by 0.1.
    assert metrics["losses/value_loss"].item() == pytest.approx(0.5 * 0.9**2)
    assert metrics["losses/intrinsic_value_loss"].item() == pytest.approx(0.5 * 0.5**2)


def test_the_intrinsic_value_is_learned_where_an_episode_ends_and_the_game_s_is_not():
    values = torch.zeros(3, 1, 2, requires_grad=True)

    class Online(nn.Module):
        def __init__(self):
            super().__init__()
            self.bonus = Stub()

        def forward(self, step, state):
            return (torch.zeros(3, 1, 3), values), state

    none = torch.zeros(3, 1, 2)
    step = steps_of([0.0, 0.0, 0.0], last=[False, True, False])
    seq = Sequence(step, torch.zeros(3, 1).long(), (none[..., 0], none, none + 1), (), (), ())
    loss, _, _ = CuriousPPO(value_cost=1.0, bonus=Bonus(weight=1.0)).loss(Online(), None, seq)
    loss.sum().backward()
    assert values.grad[:, 0].tolist() == [pytest.approx(x) for x in ([-1 / 2, -1 / 3], [0, -1 / 3], [-1 / 2, -1 / 3])]


def test_what_was_often_seen_pays_less_than_what_is_new():
    """In a real agent: frames that it learned from surprise it less than others."""
    torch.manual_seed(0)
    algorithm = Curious(DQN(), Bonus(weight=1.0))
    network = build_network(SMALL, (1, 2, 3), 3, algorithm)
    network.bonus = RND((1, 2, 3), num_envs=4, size=32)
    agent = Agent(network, algorithm, Adam(3e-3), 100)
    steps, new = some_steps(2, 4, begins=0.0), some_steps(2, 4, seed=9).obs
    seq = Sequence(steps, torch.zeros(2, 4).long(), (), (), torch.ones(4), torch.arange(4))
    for _ in range(100):
        agent.learn(seq)
    with torch.no_grad():
        assert network.bonus(new).mean() > 5 * network.bonus(steps.obs).mean()


def test_acting_and_evaluating_move_nothing():
    x = replace(PRESETS["ppo-rnd"], network=SMALL, num_envs=2, algorithm=PPO(unroll=4))
    games = make_probe("recall", 2)
    agent = build_agent(x, games.observation_shape, games.num_actions, torch.device("cpu"))
    before = {name: value.clone() for name, value in agent.online.state_dict().items()}
    step, state = games.reset(0), agent.initial_state(2)
    for _ in range(8):
        action, _, state = agent.act(step, state, 0.0)
        step = games.step(action)
    assert all(torch.equal(value, before[name]) for name, value in agent.online.state_dict().items())
    assert {"bonus.earning", "bonus.seen.mean", "bonus.returns.variance"} <= before.keys()


def test_the_ratio_is_one_before_the_first_update():
    x = replace(
        PRESETS["ppo-rnd"], network=SMALL, num_envs=4, algorithm=PPO(unroll=8), rollout=RolloutConfig(1, 2, "steps")
    )
    torch.manual_seed(0)
    games = make_probe("recall", 4)
    agent = build_agent(x, games.observation_shape, games.num_actions, torch.device("cpu"))
    memory = build_experience(x, agent.online)
    assert isinstance(memory, Rollout) and isinstance(agent.algorithm, CuriousPPO)
    step, state = games.reset(0), agent.initial_state(4)
    for _ in range(9):
        action, note, state = agent.act(step, state, 0.0)
        memory.add(step, action, note, state)
        step = games.step(action)
    for seq, _ in [*memory.batches()]:
        _, _, metrics = agent.algorithm.loss(agent.online, None, seq)
        assert metrics["losses/clipfrac"] == 0 and metrics["losses/approx_kl"].abs() < 1e-6
    assert agent.online.bonus.seen.count == 8 * 4


def test_a_bonus_where_there_is_none_is_refused():
    for name in ("pqn", "impala"):
        with pytest.raises(ValueError, match="has no bonus"):
            check(replace(PRESETS[name], bonus=Bonus(weight=1.0)), torch.device("cpu"))
    own = type("Own", (PPO,), {})()  # whatever it changes would be lost in CuriousPPO
    with pytest.raises(ValueError, match="Own has no bonus"):
        check(replace(PRESETS["ppo"], algorithm=own, bonus=Bonus(weight=1.0)), torch.device("cpu"))
    x = replace(PRESETS["rainbow"], bonus=Bonus(weight=1.0))
    with pytest.raises(ValueError, match="return of what never ends"):
        check(replace(x, algorithm=replace(x.algorithm, discount=1.0)), torch.device("cpu"))
    assert algorithm_of(x) == Curious(x.algorithm, x.bonus)
    assert algorithm_of(PRESETS["rainbow"]) is PRESETS["rainbow"].algorithm


def test_a_surprise_is_a_mean_over_features():
    rnd = RND((1, 1, 2), num_envs=1, size=3)
    for p in rnd.predictor[-1].parameters():
        p.data.zero_()
    obs = torch.full((1, 1, 1, 2), 3, dtype=torch.uint8)
    torch.testing.assert_close(rnd(obs), rnd.fixed(obs[:, 0, None].float()).square().mean(-1))


def test_surprise_is_of_what_was_seen_before_and_paid_in_the_spread_up_to_now():
    torch.manual_seed(0)
    rnd, steps = RND((1, 2, 3), num_envs=4, size=8), some_steps(5, 4)
    rnd.watch(some_steps(5, 4, seed=9).obs)
    with torch.no_grad():
        error = torch.stack([rnd(obs) for obs in steps.obs])
    seq = Sequence(steps, steps.prev_action, (), (), (), ())
    noted = CuriousPPO().note_intrinsic(SimpleNamespace(bonus=rnd), seq).note[-1]
    torch.testing.assert_close(noted, error / rnd.scale())
