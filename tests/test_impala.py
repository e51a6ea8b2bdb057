"""IMPALA: V-trace against its definition, what makes a rollout old, and what is learned from it."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from agents.agent import Agent
from agents.impala import IMPALA
from agents.optimiser import Adam
from agents.returns import pick, vtrace
from agents.rollout import Rollout, RolloutConfig
from agents.sequence import Sequence, tree_map
from envs.probe import make_probe
from envs.timestep import TimeStep
from experiments.build_network import build_network
from experiments.config import NetworkConfig
from tests.test_agents import MORE, learn
from tests.test_returns import column, episodes, tensor

SMALL = {"torso": "mlp", "hidden": 64, "memory_size": 64}


@given(episodes, st.floats(0, 1), st.lists(st.floats(0, 3), min_size=12, max_size=12))
def test_vtrace_equals_its_definition(rows, discount, ratios):
    """Eq. 1 of the paper: v_s = V_s + sum_t discount^(t - s) (prod c) rho (r + discount V' - V), never past an end."""
    reward = tensor([r for r, _ in rows])[:, None]
    terminal = torch.tensor([kind in ("life", "over") for _, kind in rows])[:, None]
    last = torch.tensor([kind in ("over", "limit") for _, kind in rows])[:, None]
    value, ratio = reward.flip(0) / 3, tensor((ratios * len(rows))[: len(rows) - 1])[:, None]
    targets, advantages = vtrace(reward, terminal, last, value, ratio, discount, rho_max=2.0, c_max=1.0)
    slow = []
    for s in range(len(rows) - 1):
        total, scale = value[s].item(), 1.0
        for t in range(s, len(rows) - 1):
            error = reward[t + 1] + discount * ~terminal[t + 1] * value[t + 1] - value[t]
            total += scale * min(2.0, ratio[t].item()) * error.item()
            scale *= discount * min(1.0, ratio[t].item()) * (not terminal[t + 1]) * (not last[t + 1])
        slow.append(total)
    # c of the first step is in the trace from the second on: the scale of eq. 1 is a product up to t - 1.
    assert targets.flatten().tolist() == pytest.approx(slow, abs=1e-5)
    for s in range(len(rows) - 1):
        after = value[s + 1].item() if last[s + 1] or s + 2 == len(rows) else slow[s + 1]
        error = reward[s + 1].item() + discount * (not terminal[s + 1]) * after - value[s].item()
        assert advantages[s].item() == pytest.approx(min(2.0, ratio[s].item()) * error, abs=1e-5)


def test_the_loss_is_worked_out_by_hand():
    # Two actions, pi = (.75, .25), action 1 played with mu = .5: ratio .5. V = 1 then 3; r = 2 (clipped to 1).
    logits = torch.tensor([3.0, 1.0]).log().expand(2, 1, 2)
    value = torch.tensor([[1.0], [3.0]])
    none = torch.zeros(2, 1, dtype=torch.bool)
    step = TimeStep(torch.zeros(2, 1), none.long(), torch.tensor([[0.0], [2.0]]), none, none, none)
    note = torch.tensor([[0.5], [0.5]]).log()
    seq = Sequence(step, torch.ones(2, 1).long(), note, (), torch.ones(1), torch.zeros(1).long())
    algorithm = IMPALA(discount=0.5, unroll=1, value_cost=0.5, entropy_cost=0.1)
    loss, priority, metrics = algorithm.loss(lambda step, state: ((logits, value), state), None, seq)
    error = 0.5 * (1 + 0.5 * 3 - 1)  # rho (r + discount V' - V), which is both v - V and the advantage
    log = torch.tensor([0.75, 0.25]).log()
    entropy = -(0.75 * log[0] + 0.25 * log[1])
    assert loss.item() == pytest.approx((-error * log[1] + 0.5 * 0.5 * error**2 - 0.1 * entropy).item())
    assert priority.item() == pytest.approx(error) and metrics["losses/ratio"].item() == pytest.approx(0.5)


def test_targets_and_advantages_are_constants():
    """Of the hand test: dL/dV is -0.5 * 0.75 here, and nothing for the value that is bootstrapped from."""
    logits, value = torch.tensor([3.0, 1.0]).log().expand(2, 1, 2), torch.tensor([[1.0], [3.0]], requires_grad=True)
    none = torch.zeros(2, 1, dtype=torch.bool)
    step = TimeStep(torch.zeros(2, 1), none.long(), torch.tensor([[0.0], [2.0]]), none, none, none)
    note = torch.full((2, 1), 0.5).log()
    seq = Sequence(step, torch.ones(2, 1).long(), note, (), torch.ones(1), torch.zeros(1).long())
    loss, *_ = IMPALA(discount=0.5, unroll=1).loss(lambda step, state: ((logits, value), state), None, seq)
    loss.sum().backward()
    assert value.grad.flatten().tolist() == pytest.approx([-0.375, 0])


def test_the_loss_is_summed_over_time():
    """A lost life cuts the trace: two steps cost what each of them costs alone."""
    torch.manual_seed(0)
    none, logits, value = torch.zeros(3, 1, dtype=torch.bool), torch.randn(3, 1, 2), torch.randn(3, 1)
    terminal = torch.tensor([[False], [True], [False]])
    step = TimeStep(torch.arange(3)[:, None], none.long(), column(0.0, 1.0, -0.5), none, none, terminal)

    def network(step, state):
        return (logits[step.obs[:, 0]], value[step.obs[:, 0]]), state

    def loss(rows):
        x, action, note = tree_map(lambda t: t[rows], (step, torch.ones(3, 1).long(), torch.full((3, 1), 0.5).log()))
        return IMPALA().loss(network, None, Sequence(x, action, note, (), torch.ones(1), torch.zeros(1).long()))[0]

    torch.testing.assert_close(loss(slice(0, 3)), loss(slice(0, 2)) + loss(slice(1, 3)))


def test_which_bound_is_for_the_errors_and_which_for_the_trace():
    """Ratio 2, V = 0, rewards 0 and 1: the error at the end is 1 times rho, and goes back times c."""
    value, none = torch.zeros(3, 1), torch.zeros(3, 1, dtype=torch.bool)
    step = TimeStep(torch.zeros(3, 1), none.long(), column(0.0, 0.0, 1.0), none, none, none)
    logits, note = torch.zeros(3, 1, 2), torch.full((3, 1), 0.25).log()
    seq = Sequence(step, torch.ones(3, 1).long(), note, (), torch.ones(1), torch.zeros(1).long())
    algorithm = IMPALA(discount=1.0, unroll=2, rho_max=1.5, c_max=1.0, entropy_cost=0.0)
    _, priority, _ = algorithm.loss(lambda step, state: ((logits, value), state), None, seq)
    assert priority.item() == pytest.approx((1.5 + 1.5) / 2)


def rollouts(memory, minibatches=4):
    """Two rollouts of an agent that learns: yields each minibatch, and the agent just before it learns from it."""
    algorithm = IMPALA(unroll=16)
    torch.manual_seed(0)
    games = make_probe("recall", 8)
    config = NetworkConfig(memory=memory, **SMALL)
    network = build_network(config, games.observation_shape, games.num_actions, algorithm)
    agent = Agent(network, algorithm, Adam(1e-2), 0)
    rollout = Rollout(RolloutConfig(1, minibatches, "games"), 8, algorithm.length, algorithm.targets)
    step, state = games.reset(0), agent.initial_state(8)
    for _ in range(2 * 16 + 1):
        action, note, following = agent.act(step, state, 0.0)
        rollout.add(step, action, note, state)
        for seq, _ in rollout.batches():
            yield seq, agent
            agent.learn(seq)
        step, state = games.step(action), following


@pytest.mark.parametrize("memory", ["none", "gru", "gtrxl"])
def test_the_policy_is_its_own_until_the_first_update_and_older_after_it(memory):
    """Log-probabilities are those that acted; from the second minibatch on, V-trace has something to correct."""
    off = []
    for seq, agent in rollouts(memory):
        with torch.no_grad():
            (logits, _), _ = agent.online(seq.step, seq.state)
        ratio = (pick(logits.log_softmax(-1), seq.action) - seq.note).exp()
        off.append((ratio - 1).abs().amax(1)[:-1])  # [T]
    assert len(off) == 8 and off[0].max() < 1e-5
    assert all(x.min() > 1e-4 for x in off[1:4])
    assert off[4][0] > 1e-2  # the step that begins the next rollout was played before these updates
    if memory == "none":
        assert off[4][1:].max() < 1e-5


def test_the_row_at_an_end_teaches_nothing_and_a_time_limit_is_bootstrapped():
    seq, _ = next(rollouts("none", minibatches=1))
    network = build_network(NetworkConfig(initialisation="torch", **SMALL), (1, 1, 3), 2, IMPALA())
    assert seq.step.last.any()
    one = IMPALA().loss(network, None, seq)[0]
    other = torch.where(seq.step.last, 1 - seq.action, seq.action)
    assert torch.equal(one, IMPALA().loss(network, None, seq._replace(action=other))[0])
    limit = seq._replace(step=seq.step._replace(terminal=torch.zeros_like(seq.step.terminal)))
    ends = seq.step.last[:-1].any(0)
    assert torch.equal(one != IMPALA().loss(network, None, limit)[0], ends | seq.step.last[-1])


MORE.update({
    "impala": (
        IMPALA(unroll=16), NetworkConfig(**SMALL), RolloutConfig(2, 4, "games"), Adam(1e-3, 1e-5, 1.0), 0,
    ),
    "gru-impala": (
        IMPALA(unroll=16), NetworkConfig(memory="gru", **SMALL), RolloutConfig(2, 4, "games"), Adam(2e-3, 1e-5, 1.0), 0,
    ),
})  # fmt: skip


def test_impala_masters_catch():
    assert learn("impala", "catch", 12_000, enough=0.8) >= 0.8


def test_impala_with_memory_recalls():
    assert learn("gru-impala", "recall", 8_000, enough=0.9) >= 0.9
