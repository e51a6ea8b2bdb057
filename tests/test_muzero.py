"""MuZero: what is learned by hand and beside a slow loop, where episodes end, and that it learns to plan."""

from dataclasses import replace

import pytest
import torch

from agents.muzero import MuZero, halved, number
from agents.returns import mean_of, rescale, two_hot
from agents.sequence import Sequence
from envs.library import game_of
from envs.timestep import TimeStep
from experiments.build import build, build_agent
from experiments.build_network import build_network
from experiments.checks import check
from experiments.config import NetworkConfig
from experiments.presets import PRESETS
from experiments.scoring import score_agent
from experiments.viewer import explain
from experiments.viewer.player import Player

CPU = torch.device("cpu")
SHAPE, ACTIONS = (2, 10, 10), 3
SMALL = NetworkConfig(torso="minatar", hidden=8, renormalise=True)


def test_numbers_are_distributions_over_the_two_next_to_them_by_hand():
    found = two_hot(torch.tensor([2.3, -0.25, 3.0, 9.0, -9.0]), 3)
    expected = [[0] * 5 + [0.7, 0.3], [0, 0, 0.25, 0.75, 0, 0, 0], [0] * 6 + [1], [0] * 6 + [1], [1] + [0] * 6]
    assert [[round(x, 5) for x in row] for row in found.tolist()] == expected


def test_a_number_comes_back_from_its_distribution():
    x = torch.linspace(-200, 200, 1001)
    back = number(two_hot(rescale(x), 30).log())
    assert torch.allclose(back, x, rtol=1e-4, atol=1e-4)
    logits = torch.randn(4, 5, 61)
    assert torch.allclose(mean_of(logits), (logits.softmax(-1) * torch.arange(-30.0, 31)).sum(-1), atol=1e-4)


def sequence(reward, last=(), terminal=(), value=None, batch=1):
    """Steps of one place, the same for a batch: obs and policies are random, and the rest is said."""
    length = len(reward)
    flags = torch.zeros(3, length, dtype=torch.bool)
    flags[0, list(last)] = True
    flags[1, list(terminal)] = True
    first = torch.cat([flags[2, :1], flags[0, :-1]])
    rows = [x[:, None].expand(-1, batch).clone() for x in (torch.tensor(reward), first, flags[0], flags[1])]
    obs = torch.randint(0, 256, (length, batch, *SHAPE), dtype=torch.uint8)
    action = torch.randint(ACTIONS, (length, batch))
    step = TimeStep(obs, action, rows[0], rows[1], rows[2], rows[3])
    worth = torch.tensor(value if value is not None else [0.0] * length)[:, None].expand(-1, batch)
    note = torch.randn(length, batch, ACTIONS).softmax(-1), worth
    return Sequence(step, action, note, (), torch.ones(batch), torch.arange(batch))


ALGORITHM = MuZero(discount=0.5, n_steps=2, unroll=3, reward_clip=0.0, support=5)
REWARDS, VALUES = [0.0, 1.0, 2.0, 4.0, 8.0, 16.0], [10.0, 20.0, 30.0, 40.0, 50.0, 60.0]


def test_what_is_learned_of_a_game_that_goes_on_is_worked_out_by_hand():
    goals = ALGORITHM.goals(sequence(REWARDS, value=VALUES))
    # r[t+1] + r[t+2] / 2 + v[t+2] / 4
    assert goals.value[:, 0].tolist() == [1 + 1 + 7.5, 2 + 2 + 10, 4 + 4 + 12.5, 8 + 8 + 15]
    assert goals.reward[:, 0].tolist() == [1, 2, 4]
    assert goals.live.all() and goals.judged.all() and goals.earned.all()


@pytest.mark.parametrize("lost_life", [False, True])
def test_what_ends_in_earnest_is_worth_nothing_from_then_on(lost_life):
    """Over at step 2, which earns 2; a life that is lost ends as much, though the game goes on."""
    seq = sequence(REWARDS, last=() if lost_life else (2,), terminal=(2,), value=VALUES)
    goals = ALGORITHM.goals(seq)
    assert goals.value[:, 0].tolist() == [1 + 1, 2, 0, 0] and goals.reward[:, 0].tolist() == [1, 2, 0]
    assert goals.live[:, 0].tolist() == [True, True, False, False] and goals.judged.all() and goals.earned.all()


def test_what_is_cut_short_is_not_known_any_more():
    goals = ALGORITHM.goals(sequence(REWARDS, last=(2,), value=VALUES))
    assert goals.value[:2, 0].tolist() == [1 + 1 + 7.5, 2 + 15]  # by the value of where it was cut
    assert goals.live[:, 0].tolist() == goals.judged[:, 0].tolist() == [True, True, False, False]
    assert goals.reward[:2, 0].tolist() == [1, 2] and goals.earned[:, 0].tolist() == [True, True, False]


def test_what_a_lost_life_began_is_a_beginning_and_the_end_of_an_episode_is_none():
    goals = ALGORITHM.goals(sequence(REWARDS, terminal=(0,), value=VALUES))
    assert goals.live.all() and goals.value[0, 0] == 9.5
    goals = ALGORITHM.goals(sequence(REWARDS, last=(0,), value=VALUES))
    assert not goals.live.any() and not goals.judged.any() and not goals.earned[1:].any()


def test_after_an_episode_was_cut_no_end_counts():
    """Cut at 1, and the next one ends in earnest at 2: of that nothing was imagined."""
    goals = ALGORITHM.goals(sequence(REWARDS, last=(1, 2), terminal=(2,), value=VALUES))
    assert goals.judged[:, 0].tolist() == [True, False, False, False]
    assert goals.earned[:, 0].tolist() == [True, False, False]
    goals = ALGORITHM.goals(sequence(REWARDS, last=(1, 2), terminal=(1,), value=VALUES))  # and the other way round
    assert goals.judged.all() and goals.value[1:, 0].tolist() == [0, 0, 0] and goals.reward[1:, 0].tolist() == [0, 0]


def network(algorithm=ALGORITHM, config=SMALL, seed=3):
    torch.manual_seed(seed)
    return build_network(config, SHAPE, ACTIONS, algorithm)


def test_half_of_the_gradient_goes_on():
    x = torch.tensor([2.0, -3.0], requires_grad=True)
    (halved(x) ** 2).sum().backward()
    assert torch.equal(halved(x), x) and x.grad.tolist() == [2.0, -3.0]


@pytest.mark.parametrize("last, terminal", [((), ()), ((2,), (2,)), ((2,), ()), ((3, 5), (3,))])
def test_the_loss_is_that_of_a_slow_loop(last, terminal):
    """One place, one step and one number at a time."""
    torch.manual_seed(0)
    algorithm = replace(ALGORITHM, value_cost=0.3, prediction_cost=0.7)
    online, target = network(), network(seed=4)
    seq = sequence(REWARDS, last, terminal, VALUES, batch=4)
    loss, priority, metrics = algorithm.loss(online, target, seq)
    goals, atoms = algorithm.goals(seq), torch.arange(-5.0, 6.0)

    def crossed(logits, goal):
        goal = max(-5.0, min(5.0, float(rescale(torch.tensor(goal)))))
        low = int(goal // 1)
        log = logits.log_softmax(-1)
        missed = -(1 - (goal - low)) * log[low + 5]
        return missed - (goal - low) * log[low + 6] if goal > low else missed

    for b in range(4):
        features, sum_ = online.encode(seq.step.obs[0, b][None]), 0.0
        for k in range(4):
            share = 1 if k == 0 else 1 / 3
            if k:
                features, reward = online.imagine(features, seq.action[k - 1, b][None])
                if goals.earned[k - 1, b]:
                    sum_ += share * float(crossed(reward[0].detach(), float(goals.reward[k - 1, b])))
                if goals.live[k, b]:
                    said = online.predicted(features)[0]
                    came = target.project(target.encode(seq.step.obs[k, b][None]))[0]
                    sum_ -= 0.7 * share * float((said @ came / (said.norm() * came.norm())).detach())
            logits, value = (x.detach() for x in online.judge(features))
            if goals.live[k, b]:
                sum_ -= share * float((goals.policy[k, b] * logits[0].log_softmax(-1)).sum())
            if goals.judged[k, b]:
                sum_ += share * 0.3 * float(crossed(value[0], float(goals.value[k, b])))
            if k == 0:
                mean = float((value[0].softmax(-1) * atoms).sum())
                first = mean
        assert float(loss[b]) == pytest.approx(sum_, abs=1e-4)
        expected = abs(float(number(two_hot(torch.tensor(first), 5).log())) - float(goals.value[0, b]))
        assert float(priority[b]) == pytest.approx(expected, rel=1e-3)
    assert all(x.isfinite() and not x.requires_grad for x in metrics.values())


def test_nothing_is_learned_from_what_is_not_known():
    """Of a place that was cut at once, what comes after changes no gradient; nor does another policy of it."""
    online, target = network(), network(seed=4)
    found = []
    for _ in range(2):
        torch.manual_seed(len(found))
        seq = sequence([0.0, 1.0, *torch.rand(4).tolist()], last=(1,), value=torch.rand(6).tolist())
        fixed = torch.full_like(seq.step.obs[0], 3)
        obs = torch.cat([fixed[None], seq.step.obs[1:]])
        policy = torch.cat([torch.full((1, 1, 3), 1 / 3), seq.note[0][1:]])
        value = torch.cat([seq.note[1][:1], torch.tensor([[0.5]]), seq.note[1][2:]])
        seq = seq._replace(step=seq.step._replace(obs=obs), note=(policy, value), action=torch.zeros_like(seq.action))
        online.zero_grad()
        ALGORITHM.loss(online, target, seq)[0].sum().backward()
        found.append([p.grad.clone() if p.grad is not None else None for p in online.parameters()])
    for one, other in zip(*found, strict=True):
        assert (one is None and other is None) or torch.allclose(one, other, atol=1e-6)


def test_what_is_imagined_hangs_on_the_action():
    online = network()
    features = online.encode(torch.randint(0, 256, (5, *SHAPE), dtype=torch.uint8))
    after = [online.imagine(features, torch.full((5,), action)) for action in range(ACTIONS)]
    assert after[0][0].shape == features.shape and after[0][1].shape == (5, 11)
    assert not torch.allclose(after[0][0], after[1][0]) and after[0][0].amin() == 0 and after[0][0].amax() <= 1
    twice = online.prediction(features, torch.zeros(2, 5, dtype=torch.int64))
    assert torch.equal(twice[0], after[0][0]) and torch.equal(
        twice[1], online.imagine(twice[0], torch.zeros(5).long())[0]
    )


def small(**changes):
    x = PRESETS["muzero-minatar"]
    algorithm = replace(x.algorithm, simulations=8, considered=3, support=3, discount=0.95)
    replay = replace(x.replay, capacity=10_000, learn_start=500, learn_period=4.0, batch_size=32)
    own = {
        "game": "probe/catch", "protocol": "probe", "algorithm": algorithm, "replay": replay, "frames": 6_000,
        "network": NetworkConfig(torso="minatar", hidden=32, renormalise=True), "num_envs": 16,
    }  # fmt: skip
    return replace(x, **own | changes)


def test_it_learns_to_catch():
    x = small(optimiser=replace(PRESETS["muzero-minatar"].optimiser, learning_rate=3e-3))
    setup = build(x, CPU)

    def scored():
        return score_agent(setup.agent, x, 40, epsilon=0.0, seed=1, device=CPU)[0]["mean"]

    assert scored() < 0.5
    for _ in setup.moments(x, None):
        pass
    setup.games.close()
    assert scored() > 0.85


def test_the_viewer_shows_what_the_search_found():
    x = small()
    agent = build_agent(x, (1, 1, 6, 5), 3, CPU)
    player = Player(x, game_of(x.game).protocol("probe"), CPU, agent, None)
    agent.acting.eval()
    view = player.start(3).view
    with agent.evaluating():
        policy, value = agent.act(player.scene.step, (), 0.0)[1]
    assert torch.allclose(view.policy, policy[0]) and view.value == pytest.approx(value.item()) and view.values is None
    assert view.plan[0] == player.scene.action and 1 <= len(view.plan) <= 8
    assert explain.worth(agent.algorithm) == "discounted by 0.95, as the search found it"
    player.close()


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"game": "board/tic-tac-toe", "protocol": "self-play"}, "MuZero does not know that what one player wins"),
        ({"network": replace(SMALL, memory="gru")}, "--network.memory gru: MuZero"),
        ({"bonus": replace(PRESETS["dqn"].bonus, weight=0.1)}, "--bonus.weight: MuZero has no bonus"),
        ({"replay": replace(small().replay, initial_priority="player")}, "--replay.initial-priority player: pl"),
        ({"replay": None, "rollout": PRESETS["ppo"].rollout}, "MuZero learns from a replay, not from rollouts"),
    ],
)
def test_what_cannot_be_planned_is_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        check(small(**changes), CPU)
