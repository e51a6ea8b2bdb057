"""Self-prediction and horizons that move: what learns from few samples beside its returns."""

from dataclasses import replace

import pytest
import torch
from torch import nn

from agents.agent import Agent
from agents.bbf import BBF
from agents.c51 import C51
from agents.optimiser import Adam, Optimiser
from agents.returns import n_step, self_prediction, spread
from agents.sequence import Sequence, tree_map
from agents.spr import SPR
from envs.timestep import TimeStep
from experiments import build_network as build_network_module
from experiments.build_network import build_network
from experiments.checks import check
from experiments.config import NetworkConfig
from experiments.presets import PRESETS
from networks.noisy import NoisyLinear
from networks.prediction import SelfPrediction, renormalised

CPU = torch.device("cpu")
SHAPE, ACTIONS = (2, 10, 10), 3
SMALL = NetworkConfig(torso="minatar", head="dueling", hidden=8, renormalise=True)


def sequences(length, batch=4, ends=0.0):
    """Random steps of boards, some of them the last of their episodes; what follows a last one is a first one."""
    last = torch.rand(length, batch) < ends
    first = torch.cat([torch.zeros(1, batch, dtype=torch.bool), last[:-1]])
    obs = torch.randint(0, 256, (length, batch, *SHAPE), dtype=torch.uint8)
    action = torch.randint(ACTIONS, (length, batch))
    step = TimeStep(obs, action, torch.randn(length, batch), first, last & (torch.rand(length, batch) < 0.5), last)
    return Sequence(step, action, (), (), torch.ones(batch), torch.arange(batch))


def networks(algorithm, config=SMALL):
    torch.manual_seed(3)
    return [build_network(config, SHAPE, ACTIONS, algorithm) for _ in range(2)]


def test_self_prediction_is_worked_out_by_hand():
    foretold = torch.tensor([[[3.0, 4.0]], [[1.0, 0.0]], [[1.0, 0.0]]])
    came = torch.tensor([[[4.0, 3.0]], [[0.0, 2.0]], [[-7.0, 0.0]]])
    assert self_prediction(foretold, came, torch.ones(3, 1)).tolist() == pytest.approx([-0.96 + 0 + 1])
    assert self_prediction(foretold, came, torch.tensor([[1], [1], [0]])).tolist() == pytest.approx([-0.96])


def test_what_all_look_alike_is_foretold_at_once():
    """Which is why the spread of projections is shown: the loss is at its least, and nothing was learned."""
    same = torch.ones(5, 7, 4)
    assert self_prediction(3 * same, 2 * same, torch.ones(5, 7)).tolist() == pytest.approx([-5.0] * 7)
    assert spread(same[0] * torch.arange(1.0, 8.0)[:, None]).item() == pytest.approx(0, abs=1e-6)
    assert spread(torch.tensor([[3.0, 0.0], [0.0, 4.0]])).item() == pytest.approx(0.5)
    assert spread(torch.tensor([[3.0, 4.0], [-6.0, -8.0]])).item() == pytest.approx(1.0)


def test_features_are_renormalised_one_observation_at_a_time():
    features = torch.tensor([[1.0, 3.0, 2.0], [0.0, 10.0, 5.0], [4.0, 4.0, 4.0]])
    assert torch.allclose(renormalised(features), torch.tensor([[0, 1, 0.5], [0, 1, 0.5], [0, 0, 0]]), atol=1e-4)


@pytest.mark.parametrize("renormalise", [False, True])
def test_features_are_foretold_one_from_the_other(renormalise):
    torch.manual_seed(0)
    part = SelfPrediction((4, 3, 5), ACTIONS, 8, renormalise)
    features, actions = torch.rand(2, 60), torch.tensor([[0, 1], [2, 0], [1, 1]])
    every = part(features, actions)
    assert every.shape == (3, 2, 60)
    assert (every.amax() > 0.999 and every.amin() == 0) or not renormalise
    for k in range(3):
        features = part(features, actions[k : k + 1])[0]
        assert torch.allclose(every[k], features, atol=1e-6)
    other = part(every[1], torch.tensor([[0, 1]]))[0]
    assert not torch.allclose(other[0], every[2, 0]) and torch.allclose(other[1], every[2, 1], atol=1e-6)


def slow_loss(algorithm, online, target, seq):
    """lambda times the sum of -cos over the steps of an episode, one place and one step at a time; [B]."""
    found = []
    for b in range(seq.action.shape[1]):
        per_step = []
        for t in range(algorithm.unroll):
            if seq.step.last[t, b]:
                continue
            features, sum_ = online.encode(seq.step.obs[t, b][None]), 0.0
            for k in range(algorithm.jumps):
                if seq.step.last[t : t + k + 1, b].any() or seq.step.terminal[t + 1 : t + k + 1, b].any():
                    break
                features = online.prediction(features, seq.action[t + k, b].view(1, 1))[0]
                said = online.prediction.predictor(online.project(features))[0]
                came = target.project(target.encode(seq.step.obs[t + k + 1, b][None]))[0]
                sum_ -= float((said @ came / (said.norm() * came.norm())).detach())
            per_step.append(sum_)
        found.append(algorithm.prediction_cost * sum(per_step) / max(len(per_step), 1))
    return found


@pytest.mark.parametrize("kind", [SPR, BBF])
@pytest.mark.parametrize("unroll", [1, 3])
@pytest.mark.parametrize("n_steps, jumps", [(2, 4), (6, 3)])
def test_the_loss_is_that_of_returns_and_that_of_a_slow_loop(kind, unroll, n_steps, jumps):
    torch.manual_seed(1)
    algorithm = kind(n_steps=n_steps, jumps=jumps, unroll=unroll, prediction_cost=0.7, double=True)
    returns = C51(n_steps=n_steps, unroll=unroll, double=True)
    online, target = networks(algorithm)
    reach = algorithm.reach
    assert algorithm.length == unroll + max(reach, jumps)
    seq = sequences(algorithm.length, batch=6, ends=0.2)
    seq.step.last[0, 0] = True  # a whole sequence that counts nothing
    seq.step.terminal[torch.rand(seq.step.terminal.shape) < 0.15] = True  # lost lives
    both, priority, metrics = algorithm.loss(online, target, seq)
    if reach == n_steps:
        shorter = tree_map(lambda x: x[: unroll + n_steps], (seq.step, seq.action))
        own, expected, _ = returns.loss(online, target, seq._replace(step=shorter[0], action=shorter[1]))
    else:  # those of the horizon's end
        own, expected, _ = replace(algorithm, prediction_cost=0.0).loss(online, target, seq)
    assert torch.allclose(priority, expected)
    assert (both - own).tolist() == pytest.approx(slow_loss(algorithm, online, target, seq), abs=1e-4)
    assert metrics["losses/projection_spread"] > 0


def test_the_target_network_is_what_is_foretold_and_learns_nothing():
    algorithm = SPR(n_steps=2, jumps=2)
    online, target = networks(algorithm)
    algorithm.loss(online, target, sequences(algorithm.length))[0].sum().backward()
    assert all(p.grad is None for p in target.parameters())
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in online.prediction.parameters())


def test_projections_are_before_the_relu_and_without_noise():
    for config, parts in ((replace(SMALL, noise=0.5), 2), (replace(SMALL, head="linear", noise=0.5), 1)):
        network = networks(SPR(), config)[0]
        features = torch.rand(5, network.torso.size)
        once = network.project(features)
        assert once.shape == (5, 8 * parts) and torch.equal(once, network.project(features)) and once.min() < 0
        assert network.prediction.predictor.in_features == 8 * parts
        layers = [m for m in network.head.modules() if isinstance(m, NoisyLinear) and m.weight.shape[0] == 8]
        assert torch.equal(once, torch.cat([layer.quiet(features) for layer in layers[:parts]], -1))
    network = networks(SPR(), replace(SMALL, dense=16, hidden=0))[0]
    assert torch.equal(network.project(features), network.dense[0](features))
    assert torch.equal(network.judge(features), network.head(network.dense(features)))


def test_images_are_augmented_by_draws_of_their_own(monkeypatch):
    """What returns are learned from is what features are foretold from; all that came is drawn anew."""
    algorithm = SPR(n_steps=2, jumps=3, shift=1)
    online, target = networks(algorithm)
    seen = {"online": [], "target": []}
    for name, network in (("online", online), ("target", target)):
        network.torso.register_forward_hook(lambda _, inputs, output, name=name: seen[name].append(inputs[0]))
    obs = torch.arange(100, dtype=torch.uint8).view(10, 10).expand(6, 16, 2, 10, 10)
    seq = sequences(algorithm.length, batch=16)
    algorithm.loss(online, target, seq._replace(step=seq.step._replace(obs=obs[: algorithm.length])))
    (here,), (there, came) = seen["online"], seen["target"]
    assert here.shape[0] == there.shape[0] == 16 and came.shape[0] == 3 * 16
    for images in (here, there, came):
        assert len(torch.unique(images.flatten(1), dim=0)) > 4
    assert not torch.equal(came[:16], came[16:32]) and not torch.equal(here, there)


def shifted(batch=32, length=3):
    """Boards with a bar that an action moves by a cell: left, not at all, or right."""
    seq = sequences(length, batch)
    obs = [torch.zeros(batch, *SHAPE, dtype=torch.uint8)]
    obs[0][torch.arange(batch), :, 2:8, torch.randint(3, 7, (batch,))] = 255
    for action in seq.action[:-1]:
        obs.append(torch.stack([torch.roll(x, int(a) - 1, -1) for x, a in zip(obs[-1], action, strict=True)]))
    return seq._replace(step=seq.step._replace(obs=torch.stack(obs)))


@pytest.mark.parametrize("bf16", [False, True])
def test_an_agent_learns_what_its_actions_do(bf16):
    """Two steps ahead. What sees and projects does not move, or there would be nothing to see in the end."""
    torch.manual_seed(0)
    algorithm = SPR(n_steps=2, jumps=2)
    network = networks(algorithm)[0].requires_grad_(False)
    network.prediction.requires_grad_(True)
    agent = Agent(network, algorithm, Adam(learning_rate=3e-3), target_period=1, bf16=bf16)
    for _ in range(100):
        agent.learn(shifted())
    seq = shifted(256)
    other = seq._replace(action=(seq.action + 1) % ACTIONS)
    right, wrong = (float(algorithm.loss(*agent.learning, x)[2]["losses/self_prediction"]) for x in (seq, other))
    assert right < -1.9 and wrong > -1, (right, wrong)


@pytest.mark.parametrize(
    "network, message",
    [
        ({"memory": "lstm"}, "SPR foretells what a network without memory sees"),
        ({"hidden": 0}, "--network.hidden 0: SPR compares what a hidden layer is given"),
    ],
)
def test_networks_that_cannot_foretell_are_refused(network, message):
    with pytest.raises(ValueError, match=message):
        build_network(replace(SMALL, **network), SHAPE, ACTIONS, SPR())


def test_a_horizon_is_worked_out_by_hand():
    algorithm = BBF(n_steps=3, discount=0.997, first_n_steps=10, first_discount=0.97, horizon_updates=10_000)
    n, discount = zip(*map(algorithm.horizon, (0, 2_500, 5_000, 10_000, 20_000)), strict=True)
    assert n == (10, 7, 5, 3, 3)  # 10, 7.4008, 5.4772, 3, 3
    assert discount == pytest.approx((0.97, 0.98312976, 0.990513167, 0.997, 0.997))


def test_returns_of_several_horizons_are_those_of_each():
    torch.manual_seed(0)
    seq = sequences(12, batch=6, ends=0.15)
    reward, terminal, last = seq.step.reward, seq.step.terminal, seq.step.last
    n, discount = torch.tensor([1, 2, 3, 5, 8, 9]), torch.tensor([0.9, 0.8, 0.7, 0.6, 0.5, 1.0])
    every = n_step(reward, terminal, last, discount, 9, n)
    for b in range(6):
        one = n_step(*(x[:, b : b + 1] for x in (reward, terminal, last)), float(discount[b]), int(n[b]))
        for x, y in zip(every, one, strict=True):
            assert torch.allclose(x[:, b], y[:, 0])


def test_an_agent_looks_as_far_ahead_as_its_updates_say():
    algorithm = BBF(n_steps=2, discount=0.9, first_n_steps=4, first_discount=0.5, horizon_updates=4, jumps=1)
    asked = []

    class Asked(BBF):
        def loss(self, online, target, seq):
            asked.append(tuple(x.tolist() for x in seq.horizon))
            return super().loss(online, target, seq)

    network = networks(algorithm)[0]
    agent = Agent(network, Asked(**vars(algorithm)), Adam(), target_period=2, lookahead=2)
    for _ in range(3):
        agent.learn(sequences(algorithm.length, batch=6), 2)  # of three places each
    assert [n[0] for n, _ in asked] == [4, 3, 3, 2, 2, 2] and all(len(set(n)) == 1 and len(n) == 3 for n, _ in asked)
    assert [d[0] for _, d in asked] == pytest.approx([1 - 0.5 * 0.2 ** min(i / 4, 1) for i in range(6)])
    agent.cycle_begin = agent.updates
    agent.learn(sequences(algorithm.length, batch=3))
    assert asked[-1][0] == [4, 4, 4]


def test_weights_decay_and_biases_do_not():
    torch.manual_seed(0)
    ours, theirs = (nn.Linear(3, 2) for _ in range(2))
    theirs.load_state_dict(ours.state_dict())
    optimiser = Optimiser(Adam(epsilon=1e-3, weight_decay=0.1), ours.parameters())
    groups = [{"params": [theirs.weight], "weight_decay": 0.1}, {"params": [theirs.bias], "weight_decay": 0.0}]
    reference = torch.optim.AdamW(groups, lr=0.05, eps=1e-3)
    for _ in range(5):
        x = torch.randn(4, 3)
        for layer in (ours, theirs):
            layer.zero_grad()
            layer(x).square().sum().backward()
        optimiser.step(0.05)
        reference.step()
    for a, b in zip(ours.parameters(), theirs.parameters(), strict=True):
        assert torch.allclose(a, b, atol=1e-6)


@pytest.mark.parametrize("name, updates", [("spr", 196_000), ("sr-spr", 784_000), ("bbf", 196_000)])
def test_presets_make_the_updates_that_their_papers_say(name, updates):
    x = PRESETS[name]
    assert x.agent_steps == 100_000 and x.replay.planned_updates(x.agent_steps) == updates


@pytest.mark.parametrize("setting", ["discount", "first_discount"])
def test_a_horizon_without_end_is_refused(setting):
    x = PRESETS["bbf"]
    with pytest.raises(ValueError, match="must be less than 1"):
        check(replace(x, algorithm=replace(x.algorithm, **{setting: 1.0})), CPU)


def test_torsos_must_say_the_shape_of_what_is_foretold(monkeypatch):
    class Own(torch.nn.Module):
        size = 4

        def __init__(self, shape, layer_norm=False):
            super().__init__()

    monkeypatch.setitem(build_network_module.TORSOS, "nips", Own)
    with pytest.raises(ValueError, match="has no `shape`"):
        build_network(replace(SMALL, torso="nips"), SHAPE, ACTIONS, SPR())
