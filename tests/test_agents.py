"""Agents learn what they should be able to learn, and nothing else; losses are what they say."""

import math
from dataclasses import replace

import pytest
import torch

from agents.agent import Agent
from agents.c51 import C51
from agents.dqn import DQN
from agents.explore import Linear, epsilon_greedy
from agents.iqn import IQN
from agents.munchausen import Munchausen, MunchausenIQN
from agents.optimiser import Adam, RAdam, RMSProp
from agents.pqn import PQN
from agents.qrdqn import QRDQN
from agents.replay import Replay, ReplayConfig
from agents.rollout import Rollout, RolloutConfig
from agents.sequence import Sequence, tree_map
from envs.probe import make_probe
from envs.timestep import TimeStep
from experiments.build import build
from experiments.build_network import build_network
from experiments.config import NetworkConfig
from experiments.loop import evaluate, train
from experiments.presets import PRESETS
from tests.test_agent import two_steps

SMALL = {"torso": "mlp", "hidden": 64}
REPLAY = ReplayConfig(20_000, 32, learn_start=500, learn_period=4)
CASES = {
    "dqn": (DQN(), NetworkConfig(**SMALL), REPLAY, Adam(3e-3, 1e-5), 100),
    "double, dueling, three steps, prioritised": (
        DQN(n_steps=3, double=True, error_loss="huber"), NetworkConfig(head="dueling", **SMALL),
        ReplayConfig(20_000, 32, 500, 4, priority_exponent=0.6), RMSProp(3e-3), 100,
    ),
    "c51": (C51(v_max=2.0), NetworkConfig(**SMALL), REPLAY, Adam(3e-3, 1e-5), 100),
    "qrdqn": (QRDQN(quantiles=16), NetworkConfig(**SMALL), REPLAY, Adam(3e-3, 1e-5), 100),
    "iqn": (IQN(samples=8), NetworkConfig(**SMALL), REPLAY, Adam(3e-3, 1e-5), 100),
    "munchausen": (Munchausen(), NetworkConfig(**SMALL), REPLAY, Adam(3e-3, 1e-5), 100),
    "rainbow": (
        C51(n_steps=3, double=True, v_max=2.0), NetworkConfig(head="dueling", noise=0.5, **SMALL),
        ReplayConfig(20_000, 32, 500, 4, priority_exponent=0.5), Adam(3e-3, 1e-5), 100,
    ),
    "btr": (
        MunchausenIQN(n_steps=3, samples=8, discount=0.997), NetworkConfig(head="dueling", noise=0.5, **SMALL),
        ReplayConfig(20_000, 32, 500, 4, priority_exponent=0.2), Adam(3e-3, 1e-5), 100,
    ),
    "pqn": (PQN(unroll=8), NetworkConfig(layer_norm=True, **SMALL), RolloutConfig(2, 4), RAdam(2e-3), 0),
}  # fmt: skip


MORE: dict = {}  # what other modules let learn
EXPLORED = 3_000  # agent steps after which epsilon is at its lowest
# Agent steps before it is tried whether enough was learned, and from one trial to the next.
SOONEST, PERIOD = 1_500, 256


def learn(name, game, agent_steps, envs=16, enough=math.inf):
    """Mean greedy score of 64 episodes after so many agent steps, or when it was enough twice."""
    algorithm, config, experience, optimiser, target_period = (CASES | MORE)[name]
    torch.manual_seed(0)
    games = make_probe(game, envs)
    agent = Agent(
        build_network(config, games.observation_shape, games.num_actions, algorithm), algorithm, optimiser,
        target_period,
    )  # fmt: skip
    kind = Replay if isinstance(experience, ReplayConfig) else Rollout
    more = () if kind is Replay else (algorithm.targets,)
    memory = kind(experience, envs, algorithm.length, *more)

    def score():
        with agent.evaluating(), torch.random.fork_rng():
            scores = [episode.score for episode in evaluate(agent, make_probe(game, 16), 64, epsilon=0.0, seed=1)]
        return sum(scores) / len(scores)

    assert enough == math.inf or score() < enough, "this seed is enough without learning"
    times, due = 0, SOONEST if enough < math.inf else math.inf
    for moment in train(agent, games, memory, Linear(1.0, 0.05, EXPLORED), agent_steps, seed=0):
        if moment.agent_steps >= due:
            due, found = moment.agent_steps + PERIOD, score()
            times = times + 1 if found >= enough else 0
            if times == 2:
                return found
    return score()


@pytest.mark.parametrize("name", CASES)
def test_agent_masters_catch(name):
    assert learn(name, "catch", 7_000, enough=0.9) >= 0.9


def test_agent_without_memory_cannot_recall():
    assert abs(learn("dqn", "recall", 4_000)) < 0.6


def sequence(q, action=0, **changes):
    """Two steps of one place; the network under test returns `q` whatever it sees."""
    steps = len(q)
    flags = torch.zeros(steps, 1, dtype=torch.bool)
    step = TimeStep(torch.arange(steps)[:, None, None], flags.long(), torch.zeros(steps, 1), flags, flags, flags)
    step = step._replace(**{name: torch.tensor(x)[:, None] for name, x in changes.items()})
    table = torch.tensor(q)  # [T, A]: the observation is the row
    seq = Sequence(step, torch.full((steps, 1), action), (), (), torch.ones(1), torch.zeros(1).long())
    return seq, lambda step, state: (table[step.obs[..., 0]], state)


def test_dqn_error_is_worked_out_by_hand():
    # r = 1, clipped from 3; discount 0.9; Q(s, .) = [1, 2, .5], a = 1; max Q'(s', .) = 4: 1 + 3.6 - 2 = 2.6.
    seq, network = sequence([[1.0, 2.0, 0.5], [0.3, -1.0, 4.0]], action=1, reward=[0.0, 3.0])
    loss, priority, _ = DQN(discount=0.9).loss(network, network, seq)
    assert loss.item() == pytest.approx(2.6**2) and priority.item() == pytest.approx(2.6)
    loss, _, _ = DQN(discount=0.9, error_loss="huber").loss(network, network, seq)
    assert loss.item() == pytest.approx(2.6 - 0.5)
    loss, priority, _ = DQN(discount=0.9, reward_clip=10).loss(network, network, seq)
    assert priority.item() == pytest.approx(4.6)


def test_double_dqn_of_rescaled_values_is_worked_out_by_hand():
    # R2D2's target: a* = argmax Q(s', .) = 0; h^-1(Q'(s', a*)) = h^-1(0.3) = 0.688875..; h(1 + 0.9 * that) = 0.620072;
    # less Q(s, 1) = 2.
    seq, online = sequence([[1.0, 2.0, 0.5], [5.0, 1.0, 0.0]], action=1, reward=[0.0, 1.0])
    _, target = sequence([[9.0, 9.0, 9.0], [0.3, -1.0, 4.0]])
    algorithm = DQN(discount=0.9, double=True, reward_clip=0.0, value_rescaling=True)
    assert algorithm.loss(online, target, seq)[1].item() == pytest.approx(1.3799276, rel=1e-5)


def test_double_dqn_selects_online_and_values_by_target():
    seq, online = sequence([[1.0, 2.0, 0.5], [5.0, 1.0, 0.0]], action=1, reward=[0.0, 1.0])
    _, target = sequence([[9.0, 9.0, 9.0], [0.3, -1.0, 4.0]])
    _, priority, _ = DQN(discount=0.9, double=True).loss(online, target, seq)
    assert priority.item() == pytest.approx(0.73)
    _, single, _ = DQN(discount=0.9, double=False).loss(online, online, seq)
    _, double, _ = DQN(discount=0.9, double=True).loss(online, online, seq)
    assert single.item() == double.item()


def test_a_terminal_target_is_the_reward_whatever_the_network():
    seq, network = sequence([[0.0, 0.0], [50.0, 70.0]], reward=[0.0, 1.0], terminal=[False, True], last=[False, True])
    _, priority, _ = DQN().loss(network, network, seq)
    assert priority.item() == 1


def test_a_truncated_target_bootstraps_from_the_final_observation():
    seq, network = sequence([[0.0, 0.0], [50.0, 70.0]], reward=[0.0, 1.0], last=[False, True])
    _, priority, _ = DQN(discount=0.5).loss(network, network, seq)
    assert priority.item() == 36


def test_pqn_never_learns_from_the_row_at_an_end():
    """The action there is ignored, and the reward after it is the next episode's."""
    changes = {
        "reward": [0.0, 1.0, 0.0, 1.0],
        "last": [False, True, False, False],
        "terminal": [False, True, False, False],
    }
    q = [[0.5, 0.0], [9.0, 3.0], [0.25, 0.0], [0.0, 1.0]]
    seq, network = sequence(q, **changes)
    seq = seq._replace(note=torch.tensor(q).amax(-1)[:, None])
    algorithm = PQN(discount=0.5)
    seq = algorithm.targets(seq)
    loss, _, _ = algorithm.loss(network, None, seq)
    # Step 0: terminal target 1, error 0.5. Step 1: nothing. Step 2: 1 + 0.5 * 1 - 0.25 = 1.25. Mean of two squares.
    assert loss.item() == pytest.approx((0.5**2 + 1.25**2) / 2)
    other = seq._replace(action=seq.action.clone())
    other.action[1] = 1
    assert algorithm.loss(network, None, other)[0].item() == loss.item()


def test_no_gradient_reaches_the_target():
    torch.manual_seed(0)
    online = build_network(NetworkConfig(**SMALL), (1, 2, 2), 3)
    agent = Agent(online, DQN(), Adam(), 10)
    seq = two_steps(8)
    loss, priority, metrics = agent.algorithm.loss(agent.online, agent.target, seq)
    assert loss.shape == priority.shape == (8,) and loss.requires_grad and not priority.requires_grad
    assert not any(x.requires_grad for x in metrics.values())
    loss.sum().backward()
    assert all(p.grad is None for p in agent.target.parameters())


def test_epsilon_greedy_explores_as_often_as_it_says():
    torch.manual_seed(0)
    q = torch.tensor([[0.0, 1.0, 0.0, 0.0]]).repeat(40_000, 1)
    assert (epsilon_greedy(q, 0.0) == 1).all()
    assert (epsilon_greedy(q, 0.2) == 1).float().mean().item() == pytest.approx(0.8 + 0.2 / 4, abs=0.01)
    per_game = epsilon_greedy(q, torch.tensor([0.0, 1.0]).repeat(20_000))
    assert (per_game[::2] == 1).all() and (per_game[1::2] == 1).float().mean().item() == pytest.approx(0.25, abs=0.02)


def test_the_learning_rate_is_annealed_over_the_agent_steps():
    """However many updates they turn out to pay for: the first rollout has the whole rate, the last its smallest."""
    torch.manual_seed(0)
    for anneal, wanted in ((True, [1.0, 0.75, 0.75, 0.5, 0.25, 0.0]), (False, [1.0] * 6)):
        agent = Agent(build_network(NetworkConfig(**SMALL), (1, 2, 2), 3), DQN(), Adam(1.0, anneal=anneal), 9)
        agent.plan(400, begin=100)
        rates: list[float] = []
        agent.optimiser.step = rates.append
        for agent_steps in (100, 200, 200, 300, 400, 500):
            agent.learn(two_steps(4), agent_steps=agent_steps)
        assert rates == wanted


def test_the_learning_rate_lasts_to_the_end_where_episodes_are_short():
    """Rows that begin episodes fill rollouts and are no agent steps: there are more updates than steps tell."""
    algorithm, config, experience, _, _ = CASES["pqn"]
    games = make_probe("catch", 16)
    network = build_network(config, games.observation_shape, games.num_actions, algorithm)
    agent = Agent(network, algorithm, RAdam(1.0, anneal=True), 0)
    memory = Rollout(experience, 16, algorithm.length, algorithm.targets)
    agent.plan(*memory.annealing(2_000))
    rates: list[float] = []
    agent.optimiser.step = rates.append
    for _ in train(agent, games, memory, Linear(1.0, 1.0, 0), 2_000, seed=0):
        pass
    assert len(rates) > 1.1 * memory.planned_updates(2_000)
    assert (
        rates[0] == 1.0 and 0 < rates[-1] < 2 * 16 * algorithm.length / 2_000 and rates == sorted(rates, reverse=True)
    )
    assert Replay(REPLAY, 16, 2).annealing(2_000) == (1_500, 500)  # from the first update to the last


def test_linear_schedule_at_its_ends():
    epsilon = Linear(1.0, 0.1, steps=100, begin=50)
    assert [epsilon(t) for t in (0, 50, 100, 150, 10_000)] == pytest.approx([1, 1, 0.55, 0.1, 0.1])


@pytest.mark.parametrize("games_wait", [False, True])
@pytest.mark.parametrize("shuffle", ["games", "steps"])
def test_rollout_hands_out_every_step_once_per_epoch(shuffle, games_wait):
    seen = []

    def targets(seq):
        """Notes which step it was, and drops the last."""
        seen.append(seq.step.obs[:, 0, 0].tolist())
        step, action = tree_map(lambda x: x[:-1], (seq.step, seq.action))
        return seq._replace(step=step, action=action, note=step.obs[..., 0])

    rollout = Rollout(RolloutConfig(epochs=2, minibatches=2, shuffle=shuffle), 4, 3, targets, games_wait)
    flags = torch.zeros(4, dtype=torch.bool)
    for t in range(7):
        step = TimeStep(torch.full((4, 1), t), flags.long(), torch.zeros(4), flags, flags, flags)
        assert rollout.waits == (games_wait and t in (2, 4, 6))
        rollout.add(step, torch.full((4,), -1) if rollout.waits else torch.arange(4) + 10 * t)
        batches = [seq for seq, _ in rollout.batches()]
        assert bool(batches) == (t in (2, 4, 6))
        if batches:  # the bootstrap step begins the next rollout
            if games_wait:
                rollout.add(step, torch.arange(4) + 10 * t)
            assert seen[-1] == [t - 2, t - 1, t]
            assert [len(seq.action) for seq in batches] == [2 if shuffle == "games" else 1] * 4
            for epoch in (batches[:2], batches[2:]):
                actions = [a for seq in epoch for a in seq.action.flatten().tolist()]
                assert sorted(actions) == [10 * s + game for s in (t - 2, t - 1) for game in range(4)]
            assert all((seq.action == 10 * seq.note + seq.ids).all() for seq in batches)
    with pytest.raises(ValueError, match="equal minibatches"):
        Rollout(RolloutConfig(minibatches=3), 4, 3, targets)


@pytest.mark.parametrize("games_wait", [False, True])
@pytest.mark.parametrize("unroll", [1, 3])
def test_a_row_that_comes_in_between_costs_no_rollout_its_memory(unroll, games_wait):
    """As when games begin new episodes after a resume: that row is asked for no batches."""
    rollout = Rollout(RolloutConfig(minibatches=1, shuffle="games"), 2, unroll + 1, lambda seq: seq, games_wait)
    flags, begun = torch.zeros(2, dtype=torch.bool), []
    for t in range(12):
        step = TimeStep(torch.full((2, 1), t), flags.long(), torch.zeros(2), flags, flags, flags)
        rollout.add(step, flags.long(), (), torch.full((2,), t))
        if t != unroll:  # when the first is full
            batches = [seq for seq, _ in rollout.batches()]
            assert all(len(seq.action) == unroll + 1 for seq in batches)
            begun += [(int(seq.step.obs[0, 0]), int(seq.state[0])) for seq in batches]
            if batches and games_wait:
                rollout.add(step, flags.long(), (), torch.full((2,), t))
    assert begun and all(first == state for first, state in begun)


def test_tree_map_over_nothing_is_nothing():
    assert tree_map(lambda x: x + 1, ()) == ()


def test_the_learning_rate_falls_over_the_agent_steps_of_all_frames():
    setup = build(replace(PRESETS["ppo"], num_envs=1, frames=40_000), torch.device("cpu"))  # 10,000 agent steps
    setup.games.close()
    assert setup.agent.learning_rate == Linear(2.5e-4, 0.0, 10_000, begin=128)


def test_a_schedule_that_ends_for_good():
    epsilon = Linear(1.0, 0.1, steps=10, until=50)
    assert [epsilon(t) for t in (49, 50, 1_000)] == [pytest.approx(0.1), 0, 0]


def test_every_epoch_is_shuffled_anew():
    torch.manual_seed(0)
    flags = torch.zeros(64, dtype=torch.bool)
    step = TimeStep(flags, flags.long(), flags.float(), flags, flags, flags)
    rollout = Rollout(
        RolloutConfig(2, 2),
        64,
        2,
        lambda seq: seq._replace(
            **dict(zip(("step", "action"), tree_map(lambda x: x[:-1], (seq.step, seq.action)), strict=True))
        ),
    )
    for _ in range(2):
        rollout.add(step, flags.long())
    ids = [seq.ids.tolist() for seq, _ in rollout.batches()]
    assert len({tuple(sorted(part)) for part in [*ids, range(32), range(32, 64)]}) == 6
