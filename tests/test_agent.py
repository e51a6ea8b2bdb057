"""The agent: how gradients are clipped, what the target network is and is asked, 16 bits, and what is saved."""

import copy
from dataclasses import replace

import pytest
import torch
from torch import nn

from agents.agent import Agent, clip_gradients, load_network
from agents.c51 import C51
from agents.dqn import DQN
from agents.iqn import IQN
from agents.optimiser import Adam
from agents.ppo import PPO
from agents.qrdqn import QRDQN
from agents.sequence import Sequence, cut, tree_leaves, tree_map
from agents.shards import join
from envs.timestep import TimeStep
from experiments.build import build_agent
from experiments.build_network import build_network
from experiments.config import NetworkConfig
from experiments.presets import PRESETS
from experiments.snapshot import check_like

SMALL = {"torso": "mlp", "hidden": 64}


def test_the_norm_of_all_gradients_is_exact_for_large_matrices():
    p = nn.Parameter(torch.zeros(512, 3136))
    p.grad = torch.randn(512, 3136)
    assert clip_gradients([p], 1e9).item() == pytest.approx(p.grad.double().norm().item(), rel=1e-6)


@pytest.mark.parametrize("bound", [0.1, 4.999999, 5.0, 100.0])
def test_gradients_are_clipped_as_torch_does(bound):
    def parameters():
        found = [nn.Parameter(torch.zeros(2)), nn.Parameter(torch.zeros(1, 1)), nn.Parameter(torch.zeros(1))]
        found[0].grad, found[1].grad = torch.tensor([3.0, 0.0]), torch.tensor([[4.0]])
        return found

    ours, theirs = parameters(), parameters()
    assert clip_gradients(ours, bound).item() == nn.utils.clip_grad_norm_(theirs, bound).item() == 5
    assert all(torch.equal(a.grad, b.grad) for a, b in zip(ours[:2], theirs[:2], strict=True))
    assert ours[0].grad[0].item() == pytest.approx(3 * min(1, bound / 5))


def test_bf16_learns_almost_the_same_and_acts_just_the_same():
    """Parameters, outputs and gradients stay float32; only factors lose digits."""
    grads, actions = [], []
    for bf16 in (False, True):
        torch.manual_seed(0)
        network = build_network(NetworkConfig(hidden=64), (4, 84, 84), 3)
        agent = Agent(network, DQN(double=True), Adam(0.0), 10, bf16=bf16)
        seq = two_steps(16)
        seq = seq._replace(step=seq.step._replace(obs=torch.randint(0, 256, (2, 16, 4, 84, 84), dtype=torch.uint8)))
        _, metrics = agent.learn(seq)
        assert all(p.grad.dtype == p.dtype == torch.float32 for p in agent.online.parameters())
        assert metrics["losses/q_values"].dtype == torch.float32
        grads.append(torch.cat([p.grad.flatten() for p in agent.online.parameters()]))
        actions.append(agent.online(tree_map(lambda x: x[:1], seq.step), ())[0])
    assert torch.equal(*actions)
    assert torch.cosine_similarity(*grads, dim=0) > 0.99 and not torch.equal(*grads)


@pytest.mark.parametrize("learns", [DQN(), QRDQN(quantiles=9), C51(v_max=2.0), IQN(samples=4), PPO()])
def test_bf16_tells_large_values_apart(learns):
    """Values of 40 that are .02 apart: in 16 bits numbers of that size are 0.25 apart."""
    torch.manual_seed(0)
    head = "linear" if isinstance(learns, PPO) else "dueling"
    network = build_network(NetworkConfig(hidden=64, head=head), (4, 84, 84), 6, learns)
    with torch.no_grad():
        for name, bias in network.named_parameters():
            if "value" in name and bias.shape in ((1,), (9,), (51,)):
                bias += 40
    agent = Agent(network, learns, Adam(1e-3), 0 if isinstance(learns, PPO) else 10, bf16=True)
    step = two_steps(64).step._replace(obs=torch.randint(0, 256, (2, 64, 4, 84, 84), dtype=torch.uint8))
    for learning in filter(None, agent.learning):
        with torch.no_grad():
            values = tree_leaves(learning(step, ())[0])[1 if isinstance(learns, PPO) else 0]
        assert values.dtype == torch.float32 and values.mean() > 30
        assert (values != values.bfloat16()).float().mean() > 0.9


@pytest.mark.parametrize("noise", [0.0, 0.5])
@pytest.mark.parametrize("memory", ["none", "lstm", "gru", "gtrxl", "dnc"])
@pytest.mark.parametrize("torso", ["nature", "impala"])
def test_a_target_network_of_16_bits_says_what_it_would_say_if_rounded_at_every_use(torso, memory, noise):
    config = NetworkConfig(
        torso=torso, memory=memory, memory_size=16, hidden=32, noise=noise, head="dueling",
        spectral_norm=torso == "impala",
    )  # fmt: skip
    network = build_network(config, (4, 36, 36), 3).eval()  # without noise, which is drawn anew each time
    agent = Agent(network, DQN(), Adam(1e-2), target_period=1, bf16=True)
    step = two_steps(3).step._replace(obs=torch.randint(0, 256, (2, 3, 4, 36, 36), dtype=torch.uint8))
    state = network.initial_state(3)
    online, target = (part(step, state)[0] for part in agent.learning)
    assert target.dtype == torch.float32 and torch.equal(online, target)
    assert any(p.dtype == torch.bfloat16 for p in agent.target.parameters())


def test_what_learned_with_16_bits_is_saved_and_loaded():
    def agent():
        return Agent(build_network(NetworkConfig(**SMALL), (1, 2, 2), 3), DQN(), Adam(1e-2), 2, bf16=True)

    one, other = agent(), agent()
    for _ in range(3):
        one.learn(two_steps(4))
    saved = one.tensors()
    other.load_tensors({name: x.clone() for name, x in saved.items()})
    assert all(torch.equal(x, saved[name]) and x.dtype == saved[name].dtype for name, x in other.tensors().items())
    with pytest.raises(ValueError, match="weights do not fit"):
        other.load_tensors({name: x for name, x in saved.items() if name != "target.head.layers.0.weight"})
    older = {name: x.bfloat16() if name.startswith("target.") else x for name, x in saved.items()}  # all was rounded
    other.load_tensors(older)
    check_like(older, saved)
    assert {name: x.dtype for name, x in other.tensors().items()} == {name: x.dtype for name, x in saved.items()}
    with pytest.raises(ValueError, match="bfloat16"):
        check_like({name: x.bfloat16() for name, x in saved.items()}, saved)


def two_steps(batch):
    flags = torch.zeros(2, batch, dtype=torch.bool)
    obs = torch.randint(0, 256, (2, batch, 1, 2, 2), dtype=torch.uint8)
    step = TimeStep(obs, flags.long(), torch.rand(2, batch), flags, flags, flags)
    return Sequence(step, torch.zeros(2, batch).long(), (), (), torch.ones(batch), torch.arange(batch))


@pytest.mark.parametrize("phase", [0, 3, 4])
def test_target_follows_every_period_and_only_then(phase):
    network = build_network(NetworkConfig(**SMALL), (1, 2, 2), 3)
    agent = Agent(network, DQN(), Adam(1e-2), target_period=3, target_phase=phase, lookahead=8)
    first = copy.deepcopy(agent.target.state_dict())
    assert agent.room() == 3 - phase % 3  # no batch is drawn beyond a copy
    for update in range(1, 7):
        agent.learn(two_steps(4))
        target, online = agent.target.state_dict(), agent.online.state_dict()
        same = [all(torch.equal(a[k], b[k]) for k in a) for a, b in ((target, online), (target, first))]
        assert same == [(update + phase) % 3 == 0, update + phase % 3 < 3]


def test_the_target_is_copied_when_the_sources_copy_it():
    """Dopamine, every 8,000 agent steps from the first on, of which 20,000 come before learning."""
    for preset, steps in (("dqn", 24_000), ("rainbow", 24_000), ("c51", 60_000), ("double-dqn", 60_000)):
        x = PRESETS[preset]
        agent = build_agent(x, (4, 84, 84), 3, torch.device("cpu"))
        agent.lookahead = x.target_period
        assert x.replay.learn_start + agent.room() * x.replay.learn_period == steps


@pytest.mark.parametrize("bf16", [False, True])
@pytest.mark.parametrize(
    "algorithm",
    [DQN(), DQN(n_steps=3, double=True), DQN(n_steps=2, unroll=3), C51(n_steps=3, v_max=2.0), QRDQN(quantiles=8)],
    ids=repr,
)
def test_a_target_network_asked_of_several_batches_at_once_teaches_the_same(algorithm, bf16):
    torch.manual_seed(0)
    batches = [ended_steps(4, algorithm.length) for _ in range(11)]
    network = build_network(NetworkConfig(**SMALL), (1, 2, 2), 3, algorithm)

    def agent(lookahead):
        return Agent(
            copy.deepcopy(network), algorithm, Adam(1e-2), 5, bf16=bf16, lookahead=lookahead, foresee=lookahead > 1
        )

    plain, fast, asked = agent(1), agent(3), []
    fast.target.register_forward_hook(
        lambda _, inputs, output: asked.append(inputs[0].obs.shape[1] // (4 * algorithm.unroll))
    )
    while left := batches[plain.updates :]:
        block = left[: fast.room()]
        joined = join(block)
        for a, b in zip(cut(joined, len(block)), block, strict=True):
            assert all(map(torch.equal, tree_leaves(tuple(a)), tree_leaves(tuple(b))))
        assert plain.room() == 1
        found = [plain.learn(batch) for batch in block]
        priority, metrics = fast.learn(joined, len(block))
        assert torch.allclose(torch.cat([own for own, _ in found]), priority, atol=1e-4)
        assert metrics["losses/loss"].item() == pytest.approx(found[-1][1]["losses/loss"].item(), abs=1e-4)
    assert asked == [3, 2, 3, 2, 1]  # never past a change of the target network
    for a, b in zip(plain.online.parameters(), fast.online.parameters(), strict=True):
        assert torch.allclose(a, b, atol=1e-4)


def test_only_what_errors_and_noise_do_not_change_is_asked_ahead():
    small = {name: replace(x, network=replace(x.network, hidden=8, width=1)) for name, x in PRESETS.items()}
    ahead = {name for name, x in small.items() if build_agent(x, (4, 84, 84), 6, torch.device("cpu")).lookahead > 1}
    assert {"dqn", "qrdqn", "c51"} <= ahead
    for name in ahead:
        x = PRESETS[name]
        assert x.replay.priority_exponent == 0 and not x.network.noise and x.network.memory == "none"
        assert isinstance(x.algorithm, DQN | C51 | QRDQN)


def test_noise_is_drawn_for_every_update_where_several_are_one_launch(monkeypatch):
    monkeypatch.setattr("experiments.build.captures", lambda x, device: True)

    def built(**network):
        x = PRESETS["dqn"]
        x = replace(x, network=replace(x.network, torso="mlp", hidden=8, **network))
        return build_agent(x, (1, 2, 2), 3, torch.device("cpu"))

    plain, noisy = built(), built(noise=0.5)
    assert (plain.lookahead, plain.foresee) == (noisy.lookahead, plain.foresee) and not noisy.foresee
    asked = []
    noisy.target.register_forward_hook(lambda _, inputs, output: asked.append(inputs[0].obs.shape[1]))
    noisy.learn(two_steps(8), 2)
    assert asked == [4, 4]


def ended_steps(batch, length):
    """Random steps, some of them the last of their episodes."""
    seq = tree_map(lambda x: torch.cat([x] * length)[:length] if x.dim() > 1 else x, two_steps(batch))
    last = torch.rand(length, batch) < 0.3
    last[0] = False
    first = torch.cat([torch.zeros(1, batch, dtype=torch.bool), last[:-1]])
    obs = torch.randint(0, 256, seq.step.obs.shape, dtype=torch.uint8)
    reward = torch.rand(length, batch)
    return seq._replace(step=seq.step._replace(obs=obs, reward=reward, first=first, last=last, terminal=last))


def test_what_an_agent_learns_along_is_clipped():
    agent = Agent(build_network(NetworkConfig(**SMALL), (1, 2, 2), 3), DQN(), Adam(clip_norm=1e-3), 9)
    _, metrics = agent.learn(two_steps(4))
    norm = torch.cat([p.grad.flatten() for p in agent.online.parameters()]).norm().item()
    assert metrics["losses/grad_norm"] > 2e-3 and norm == pytest.approx(1e-3, rel=1e-2)


def test_importance_weights_multiply_each_loss():
    def step(weight):
        torch.manual_seed(0)
        agent = Agent(build_network(NetworkConfig(**SMALL), (1, 2, 2), 3), DQN(), Adam(), 100)
        agent.learn(two_steps(4)._replace(weight=weight))
        return [p.grad for p in agent.online.parameters()]

    halves = zip(step(torch.full((4,), 0.5)), step(torch.ones(4)), strict=True)
    assert all(torch.allclose(half * 2, whole) for half, whole in halves)
    each = [step(4 * one) for one in torch.eye(4)]  # of one sequence alone, in the mean of four
    assert not torch.allclose(each[0][0], each[1][0])
    weight = torch.tensor([0.1, 0.4, 0.2, 0.8])
    summed = [sum(w * g / 4 for w, g in zip(weight, gradients, strict=True)) for gradients in zip(*each, strict=True)]
    for found, wanted in zip(step(weight), summed, strict=True):
        torch.testing.assert_close(found, wanted)


def test_agent_comes_back_from_its_tensors():
    def make():
        return Agent(build_network(NetworkConfig(**SMALL), (1, 2, 2), 3), DQN(), Adam(1e-2), target_period=3)

    torch.manual_seed(0)
    agent, other, batches = make(), make(), [two_steps(4) for _ in range(6)]
    for seq in batches[:4]:
        agent.learn(seq)
    other.load_tensors({name: x.clone() for name, x in agent.tensors().items()})
    other.updates = agent.updates
    for seq in batches[4:]:
        agent.learn(seq)
        other.learn(seq)
    for name, x in agent.tensors().items():
        assert torch.equal(x, other.tensors()[name]), name


@pytest.mark.parametrize("spoil", [lambda x: x[:1], lambda x: x.double(), None])
def test_tensors_that_do_not_fit_are_refused(spoil):
    network = nn.Linear(3, 2)
    tensors = {name: x.clone() for name, x in network.state_dict().items()}
    tensors = {"weight": spoil(tensors["weight"]), "bias": tensors["bias"]} if spoil else {"weight": tensors["weight"]}
    before = network.weight.clone()
    with pytest.raises(ValueError, match="do not fit"):
        load_network(network, tensors)
    assert torch.equal(network.weight, before)
