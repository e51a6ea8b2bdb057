"""The contract that every memory keeps, and each one's own equations against numbers and slow twins."""

import math
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from agents.agent import Agent
from agents.c51 import C51
from agents.dqn import DQN
from agents.impala import IMPALA
from agents.iqn import IQN
from agents.munchausen import Munchausen, MunchausenIQN
from agents.optimiser import Adam
from agents.ppo import PPO
from agents.pqn import PQN
from agents.qrdqn import QRDQN
from agents.replay import ReplayConfig
from agents.sequence import Sequence, tree_leaves, tree_map
from agents.transition import Transitions
from envs.timestep import TimeStep
from experiments.build_network import build_memory, build_network, state_bytes
from experiments.checks import check_memory
from experiments.config import NetworkConfig
from experiments.memory_speed import WAYS
from experiments.presets import PRESETS
from networks.gtrxl import Gate, GTrXL, Layer, RelativeAttention, visible
from networks.memory import Recurrent, stretches, with_history
from tests.test_returns import column

CORES = {
    "lstm": {"memory": "lstm"},
    "gru": {"memory": "gru"},
    "gtrxl": {"memory": "gtrxl", "memory_window": 6},
    "dnc": {"memory": "dnc", "memory_places": 5},
}
T, F = True, False


def some_steps(time, batch, begins=0.2, seed=0):
    generator = torch.Generator().manual_seed(seed)

    def draw(*shape):
        return torch.rand(*shape, generator=generator)

    first = draw(time, batch) < begins
    last = torch.cat([first[1:], torch.zeros(1, batch, dtype=torch.bool)])
    obs = (draw(time, batch, 1, 2, 3) * 255).to(torch.uint8)
    action = (draw(time, batch) * 3).long()
    return TimeStep(obs, torch.where(first, 0, action), draw(time, batch) * ~first, first, last, last)


def network_of(core, algorithm=None, **more):
    torch.manual_seed(0)
    config = NetworkConfig(torso="mlp", hidden=64, memory_size=64, **CORES[core], **more)
    return build_network(config, (1, 2, 3), 3, algorithm)


def played(network, batch, seed=7):
    """The state after some steps: what a replay would have kept."""
    with torch.no_grad():
        return network(some_steps(11, batch, 0.1, seed), network.initial_state(batch))[1]


@pytest.mark.parametrize("core", CORES)
@pytest.mark.parametrize("history", [False, True])
@pytest.mark.parametrize("begins", [0.0, 0.2])
def test_unrolling_is_acting(core, history, begins):
    """In one call over 30 steps, with episodes beginning in between, or a step at a time: outputs and states."""
    network, steps = network_of(core, history=history), some_steps(30, 4, begins)
    state = played(network, 4)
    together, after = network(steps, state)
    for t in range(30):
        alone, state = network(tree_map(lambda x: x[t : t + 1], steps), state)
        torch.testing.assert_close(together[t : t + 1], alone, rtol=1e-4, atol=1e-5)
    for a, b in zip(tree_leaves(after), tree_leaves(state), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("core", CORES)
def test_outputs_where_an_episode_begins_do_not_depend_on_what_was_before(core):
    network, steps = network_of(core), some_steps(6, 3, begins=0.0)
    steps.first[3, 1] = True
    one, after = network(steps, played(network, 3))
    steps.obs[:3, 1] = 0
    other, other_after = network(steps, network.initial_state(3))
    torch.testing.assert_close(one[3:, 1], other[3:, 1])
    assert not torch.allclose(one[3:, 0], other[3:, 0])  # where none begins, they do
    for a, b in zip(tree_leaves(after), tree_leaves(other_after), strict=True):
        torch.testing.assert_close(a[1], b[1])


@pytest.mark.parametrize("core", CORES)
def test_no_gradient_crosses_the_beginning_of_an_episode(core):
    """What is learned from step 3 on changes nothing about the steps of the episode before."""
    network, steps = network_of(core), some_steps(6, 2, begins=0.0)
    steps.first[3, 0] = True
    embedded = nn.Parameter(steps.obs.float() / 255)
    network.torso.forward = lambda x: network.torso.layers[1:](x.flatten(1))  # takes floats
    network(steps._replace(obs=embedded), network.initial_state(2))[0][3:].sum().backward()
    touched = embedded.grad.flatten(2).abs().sum(-1) > 0
    assert touched.T.tolist() == [[F, F, F, T, T, T], [T] * 6]


@pytest.mark.parametrize("core", CORES)
def test_a_memory_has_no_state_of_its_own(core):
    network = network_of(core)
    before = network.initial_state(5)
    assert all(len(x) == 5 and not x.any() for x in tree_leaves(before))
    _, after = network(some_steps(20, 5), before)
    shapes = [(x.shape, x.dtype) for x in tree_leaves(after)]
    assert shapes == [(x.shape, x.dtype) for x in tree_leaves(before)]  # bounded, however much was seen
    with pytest.raises(TypeError):
        network(some_steps(1, 2))


ALGORITHMS = (
    DQN(double=True, n_steps=2, burn_in=2, unroll=4), C51(atoms=5, unroll=4), QRDQN(quantiles=4, unroll=4),
    IQN(samples=3, unroll=4), Munchausen(unroll=4), MunchausenIQN(samples=3, unroll=4), PQN(unroll=5), PPO(unroll=5),
    IMPALA(unroll=5),
)  # fmt: skip


@pytest.mark.parametrize("core", CORES)
@pytest.mark.parametrize("algorithm", ALGORITHMS, ids=lambda x: type(x).__name__)
def test_every_algorithm_learns_through_every_memory(core, algorithm):
    network = network_of(core, algorithm)
    agent = Agent(network, algorithm, Adam(1e-2), 2)
    before = {name: x.clone() for name, x in network.memory.named_parameters()}
    steps = some_steps(algorithm.length, 4)
    rows = []
    state = start = agent.initial_state(4)
    for t in range(algorithm.length):
        action, note, state = agent.act(tree_map(lambda x: x[t], steps), state, 0.5)
        rows.append((action, note))
    action, note = tree_map(lambda *xs: torch.stack(xs), *rows)
    seq = Sequence(steps, action, note, start, torch.ones(4), torch.arange(4))
    if hasattr(algorithm, "targets"):
        seq = algorithm.targets(seq)
    priority, _ = agent.learn(seq)
    assert priority.shape == (4,) and priority.isfinite().all()
    assert any(not torch.equal(x, before[name]) for name, x in network.memory.named_parameters())


@given(st.lists(st.lists(st.booleans(), min_size=3, max_size=3), min_size=1, max_size=9))
def test_stretches_cover_every_step_once_in_order(rows):
    first = torch.tensor(rows)
    place, sizes, carries, ends = stretches(first)
    time, batch = first.shape
    assert sorted(place.tolist()) == list(range(time * batch))
    # Walk through the packed order and rebuild each stretch.
    columns: dict[int, list[int]] = {}
    at = iter(place.tolist())
    for size in sizes.tolist():
        for s in range(size):
            columns.setdefault(s, []).append(next(at))
    slow = []
    for b in range(batch):
        for t in range(time):
            if t == 0 or first[t, b]:
                slow.append([])
            slow[-1].append(t * batch + b)
    assert sorted(columns.values()) == sorted(slow)
    assert [columns[int(s)][0] for s in carries] == list(range(batch))
    assert [columns[int(s)][-1] for s in ends] == [(time - 1) * batch + b for b in range(batch)]


@pytest.mark.parametrize("kind", ["lstm", "gru"])
@pytest.mark.parametrize("rate", [0.0, 0.02, 0.5])
def test_stretches_equal_the_loop_over_cells_and_so_do_their_gradients(kind, rate):
    torch.manual_seed(0)
    core, x, first = Recurrent(kind, 5, 0, 7), torch.randn(20, 4, 5, requires_grad=True), torch.rand(20, 4) < rate
    state = tuple(torch.randn(4, 7) for _ in range(core.parts))
    weights = torch.randn(20, 4, 7)
    found = []
    for way in WAYS.values():
        output = way(core, x, first, state)
        found.append((output, *torch.autograd.grad((output * weights).sum(), [x, *core.parameters()])))
    for other in found[1:]:
        for a, b in zip(found[0], other, strict=True):
            torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("kind", ["lstm", "gru"])
def test_gates_that_keep_are_open_at_first(kind):
    """A forget gate at 1, and at 0 by default in torch: what one step leaves of a memory."""
    torch.manual_seed(0)
    plain, biased = (Recurrent(kind, 4, 0, 32, bias) for bias in (0.0, 3.0))
    quiet = TimeStep(*[None] * 3, torch.zeros(1, 1, dtype=torch.bool), None, None)

    def kept(core):
        one = core(torch.zeros(1, 1, 4), quiet, tuple(torch.full_like(x, 0.9) for x in core.initial_state(1)))[1][-1]
        zero = core(torch.zeros(1, 1, 4), quiet, core.initial_state(1))[1][-1]
        return ((one - zero).mean() / 0.9).item()

    assert kept(plain) < 0.7 and kept(biased) > 0.85


def test_a_step_sees_itself_and_the_window_before_it_within_its_episode():
    # Two steps known from before, of a window of 3; an episode begins at step 2.
    seen = visible(torch.tensor([[F], [F], [T], [F]]), torch.tensor([[F, T, T]]))
    assert seen[0].int().tolist() == [
        [0, 1, 1, 1, 0, 0, 0],
        [0, 1, 1, 1, 1, 0, 0],
        [0, 0, 0, 0, 0, 1, 0],
        [0, 0, 0, 0, 0, 1, 1],
    ]
    long = visible(torch.zeros(5, 1, dtype=torch.bool), torch.zeros(1, 2, dtype=torch.bool))
    assert long[0, 4].tolist() == [F, F, F, F, T, T, T]  # no further than two back


def test_relative_attention_equals_its_sum():
    """Dai et al. (2019), sec. 3.3, one head and one query at a time."""
    torch.manual_seed(0)
    layer = RelativeAttention(size=8, window=3, heads=2).double()
    for bias in (layer.content_bias, layer.distance_bias):
        nn.init.normal_(bias)
    x, first = torch.randn(3 + 4, 1, 8).double(), torch.tensor([[F], [F], [F], [T]])
    seen = visible(first, torch.tensor([[F, T, T]]))
    found = layer(x, 4, seen)
    for t in range(4):
        heads = []
        for h in range(2):
            part = slice(4 * h, 4 * h + 4)
            query = layer.query(x[3 + t, 0])[part]
            keys = [j for j in range(7) if seen[0, t, j]]
            scores = []
            for j in keys:
                wave = layer.distance(layer.waves[3 + t - j].double())[part]
                content = (query + layer.content_bias[h]) @ layer.key(x[j, 0])[part]
                scores.append((content + (query + layer.distance_bias[h]) @ wave) / math.sqrt(4))
            weight = torch.stack(scores).softmax(0)
            heads.append(sum(w * layer.value(x[j, 0])[part] for w, j in zip(weight, keys, strict=True)))
        torch.testing.assert_close(found[t, 0], layer.output(torch.cat(heads)))


def test_the_gate_is_worked_out_by_hand():
    gate = Gate(1, bias=2.0)
    with torch.no_grad():
        gate.from_y.weight.copy_(torch.tensor([[1.0], [2.0], [3.0]]))  # W_r, W_z, W_g
        gate.from_x.weight.copy_(torch.tensor([[0.5], [-1.0]]))  # U_r, U_z
        gate.from_reset.weight.fill_(0.25)  # U_g
    x, y = 2.0, 0.5
    r, z = (1 / (1 + math.exp(-v)) for v in (1 * y + 0.5 * x, 2 * y - 1 * x - 2.0))
    new = math.tanh(3 * y + 0.25 * r * x)
    assert gate(torch.tensor([x]), torch.tensor([y])).item() == pytest.approx((1 - z) * x + z * new)


def test_gtrxl_forgets_what_is_beyond_its_layers_windows():
    torch.manual_seed(0)
    core = GTrXL(4, 0, 8, window=3, layers=2, heads=2)
    x, first = torch.randn(9, 1, 4), torch.zeros(9, 1, dtype=torch.bool)
    step = TimeStep(*[None] * 3, first, None, None)
    one = core(x, step, core.initial_state(1))[0][-1]
    far, near = x.clone(), x.clone()
    far[1] += 1  # seven steps back, of 2 * 3
    near[2] += 1
    assert torch.equal(core(far, step, core.initial_state(1))[0][-1], one)
    assert not torch.equal(core(near, step, core.initial_state(1))[0][-1], one)
    with pytest.raises(ValueError, match="must be a multiple of 4"):
        GTrXL(4, 0, 10)


DOUBLED = {
    "dqn": DQN(double=True, value_rescaling=True), "c51": C51(double=True, atoms=5),
    "qrdqn": QRDQN(double=True, quantiles=4), "munchausen": Munchausen(),
}  # fmt: skip


@pytest.mark.parametrize("algorithm", DOUBLED)
@pytest.mark.parametrize("core", CORES)
def test_a_memory_is_unrolled_once_for_all_that_is_asked_of_it(core, algorithm, monkeypatch):
    """What it values here and would choose there, or here and there of the target; and as if asked anew."""
    algorithm = replace(DOUBLED[algorithm], n_steps=2, burn_in=3, unroll=6)
    online, target = (network_of(core, algorithm) for _ in range(2))
    target.head.layers[-1].bias.data += torch.randn_like(target.head.layers[-1].bias)
    seq = Sequence(
        some_steps(11, 4), torch.randint(3, (11, 4)), (), played(online, 4), torch.ones(4), torch.arange(4)
    )  # fmt: skip
    asked = []
    asks = [
        lambda *args, network=network: asked.append(len(args[0].first)) or network(*args)
        for network in (online, target)
    ]

    def learned():
        asked.clear()
        loss, priority, _ = algorithm.loss(*asks, seq)
        return loss, priority, torch.autograd.grad(loss.sum(), online.head.layers[-1].weight)[0]

    found = learned()
    assert asked == [3, 8, 3, 8]
    there = Transitions.there
    monkeypatch.setattr(Transitions, "there", lambda x, network: there(replace(x, unrolled=(None, None)), network))
    for a, b in zip(found, learned(), strict=True):
        assert torch.equal(a, b)
    assert asked == [3, 8] * 3


def test_a_replay_counts_the_memories_that_it_keeps():
    config = NetworkConfig(memory="gtrxl", memory_size=128, memory_window=32, memory_layers=3)
    assert state_bytes(config) == 32 * 3 * 128 * 4 + 32
    assert state_bytes(config) == sum(x.nbytes for x in build_memory(config, 9, 4).initial_state(1))
    assert state_bytes(NetworkConfig()) == 0 and state_bytes(NetworkConfig(memory="lstm", memory_size=8)) == 64
    replay = ReplayConfig(capacity=1_000, stride=20)
    assert replay.bytes_needed(7056, 1_000) - replay.bytes_needed(7056) == 50_000
    big = NetworkConfig(memory="gtrxl", memory_window=1_000_000, memory_layers=8)
    with pytest.raises(ValueError, match="GB free; try"):
        check_memory(replace(PRESETS["r2d2-small"], network=big), torch.device("cpu"))


def test_settings_of_another_memory_are_refused():
    for more, words in (
        ({"memory": "lstm", "memory_window": 8}, "--network.memory-window is for --network.memory gtrxl; lstm"),
        ({"memory_places": 8}, "--network.memory-places is for --network.memory dnc; none"),
    ):
        with pytest.raises(ValueError, match=words):
            build_network(NetworkConfig(torso="mlp", **more), (1, 2, 3), 3)


def test_a_memory_is_told_the_last_action_and_the_clipped_reward_within_an_episode():
    first = torch.tensor([[True], [False]])
    step = SimpleNamespace(first=first, prev_action=torch.tensor([[1], [2]]), reward=column(5.0, -7.0))
    found = with_history(torch.full((2, 1, 1), 9.0), step, 3)
    assert found[:, 0].tolist() == [[9, 0, 0, 0, 0], [9, 0, 0, 1, -1]]
    assert with_history(found, step, 0) is found
    config = NetworkConfig(torso="mlp", memory="lstm", memory_size=8, memory_bias=5.0)
    known, blind = (build_network(replace(config, history=h), (1, 2, 3), 3).memory.cell for h in (True, False))
    assert known.input_size == blind.input_size + 4 and known.bias_hh_l0[8:16].min() > 4


def test_a_layer_of_the_transformer_is_worked_out_by_hand():
    """Sec. 3.2: norm, sublayer, ReLU, gate; and a gate is nearly shut at first."""
    layer, given = Layer(8, 3, 2), torch.randn(7, 1, 8)
    seen = visible(torch.zeros(4, 1, dtype=torch.bool), torch.ones(1, 3, dtype=torch.bool))
    x = layer.gates[0](given[3:], torch.relu(layer.attention(nn.functional.layer_norm(given, (8,)), 4, seen)))
    x = layer.gates[1](x, torch.relu(layer.perceptron(nn.functional.layer_norm(x, (8,)))))
    torch.testing.assert_close(layer(given[3:], given, seen), x)
    assert (Gate(8).bias == 2).all()
