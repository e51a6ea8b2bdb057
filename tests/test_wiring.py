"""Wiring that a small slip would break unseen: each of these was seen to fail for one."""

import copy
import math
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn

from agents.c51 import C51
from agents.curious import Bonus, Curious
from agents.dqn import DQN
from agents.impala import IMPALA
from agents.ppo import PPO
from agents.replay import ReplayConfig
from agents.sequence import Sequence
from agents.shards import Shards
from networks.gtrxl import sinusoids
from networks.heads import Implicit, SingleStream
from networks.network import initialise
from networks.rnd import RND
from networks.torsos import MLP, MinAtarCNN, NipsCNN
from tests.test_agent import two_steps
from tests.test_policies import LOGITS, one_step
from tests.test_replay import fake_step, filled


def test_a_replay_s_surprise_is_of_what_was_seen_before_and_paid_in_the_spread_up_to_now():
    """The first batch is normalised by itself, each later one by those before; paid by the spread up to now."""
    torch.manual_seed(0)
    network = nn.Module()
    network.bonus = RND((1, 2, 3), num_envs=4, size=8)
    twin = copy.deepcopy(network.bonus)
    algorithm = Curious(DQN(), Bonus(weight=1.0))
    known = SimpleNamespace(discount=0.5, loss=lambda online, target, seq: (0.0, seq, {}))
    algorithm = replace(algorithm, algorithm=known)
    for moment in range(3):
        obs = torch.randint(0, 50 * moment + 50, (2, 4, 1, 2, 3), dtype=torch.uint8)
        seq = Sequence(SimpleNamespace(obs=obs), (), (), (), (), ())
        earned = algorithm.loss(network, None, seq)[1].intrinsic_reward
        if moment == 0:
            twin.watch(obs)
        surprise = twin(obs).detach()
        twin.returns.update(surprise.flatten())
        torch.testing.assert_close(earned, 0.5 * surprise / twin.scale())
        if moment:
            twin.watch(obs)
        for a, b in zip(network.bonus.state_dict().values(), twin.state_dict().values(), strict=True):
            assert torch.equal(a, b)


def test_a_random_network_is_clipped_below_too_and_begins_with_its_variance():
    rnd = RND((1, 1, 2), num_envs=1, size=3)
    rnd.seen.mean.fill_(100.0)
    rnd.seen.variance.fill_(4.0)
    seen = []
    rnd.predictor.register_forward_hook(lambda _, inputs, output: seen.append(inputs[0]))
    rnd(torch.tensor([[[[0, 96]]]], dtype=torch.uint8)[None])
    assert seen[0].flatten().tolist() == [-5.0, -2.0]
    torch.manual_seed(0)
    for layer in RND((1, 84, 84), num_envs=1, size=256).modules():
        if isinstance(layer, nn.Conv2d | nn.Linear):  # variance 2 / fan-in, and no biases
            spread = layer.weight.std().item() * math.sqrt(layer.weight[0].numel() / 2)
            assert spread == pytest.approx(1, abs=0.1) and not layer.bias.any()


def test_of_a_value_that_moved_too_far_the_larger_error_counts():
    # From 0 to: within the bound; beyond it, on the way to the goal and past it; the other way.
    value, goal = torch.tensor([0.05, 0.5, 0.5, -0.5]), torch.tensor([1.0, 1.0, 0.0, 1.0])
    found = PPO(clip=0.1).value_error(value, torch.zeros(4), goal)
    assert found.tolist() == pytest.approx([0.95**2, 0.9**2, 0.5**2, 1.5**2])
    found = PPO(clip=0.1).value_error(torch.tensor([-0.5]), torch.zeros(1), torch.tensor([-1.0]))
    assert found.item() == pytest.approx(0.9**2)


def test_a_divergence_is_never_rounded_below_zero():
    torch.manual_seed(0)
    logits = torch.randn(4_000, 1, 51)
    network = lambda step, state: (logits.expand(2, -1, 1, 51)[: len(step.obs)].clone(), state)
    seq = two_steps(4_000)
    seq = seq._replace(step=seq.step._replace(reward=torch.zeros(2, 4_000)))
    assert (C51(discount=1.0).loss(network, network, seq)[1] >= 0).all()


def test_every_step_has_fractions_of_its_own():
    _, tau = Implicit(6, SingleStream(6, 4, 8), samples=3)(torch.randn(5, 2, 6))
    assert tau.unique().numel() == 5 * 2 * 3


@pytest.mark.parametrize("scheme", ["torch", "variance", "xavier"])
def test_initial_weights_of_convolutions_count_their_whole_filter(scheme):
    torch.manual_seed(0)
    layer = nn.Conv2d(8, 64, 5)
    initialise(layer, scheme)
    variance = {"torch": 1 / 3 / 200, "variance": 1 / math.sqrt(3) / 200, "xavier": 2 / (200 + 1_600)}[scheme]
    assert layer.weight.var().item() == pytest.approx(variance, rel=0.05)


def test_waves_are_those_of_vaswani():
    found = sinusoids(7, 6)
    for place in range(7):
        for i in range(3):
            angle = place / 10_000 ** (2 * i / 6)
            assert found[place, [i, 3 + i]].tolist() == pytest.approx([math.sin(angle), math.cos(angle)], abs=1e-6)


def test_a_late_priority_brings_no_start_back_whose_history_is_gone():
    replay, _ = filled(ReplayConfig(capacity=30, priority_exponent=0.6), 40)
    before = replay.tree.nodes.copy()
    replay.update(torch.arange(9, 14), torch.full((5,), 7.0))  # 9 is gone; 10 to 12 lack a frame of their stacks
    assert np.flatnonzero(replay.tree.nodes[replay.tree.size :] != before[replay.tree.size :]).tolist() == [13]


@pytest.mark.parametrize("torso", [MinAtarCNN, MLP, NipsCNN])
def test_small_torsos_are_worked_out_layer_by_layer(torso):
    F = nn.functional
    for norm in (False, True):
        shape = (2, 44, 44)
        net, obs = torso(shape, layer_norm=norm), torch.randint(0, 256, (3, *shape), dtype=torch.uint8)
        x = obs / 255
        if torso is MLP:
            x = F.linear(x.flatten(1), net.layers[1].weight, net.layers[1].bias)
            x = torch.relu(F.layer_norm(x, (64,)) if norm else x)
        else:
            strides = (1,) if torso is MinAtarCNN else (4, 2)
            for layer, stride in zip([m for m in net.modules() if isinstance(m, nn.Conv2d)], strides, strict=True):
                x = F.conv2d(x, layer.weight, layer.bias, stride)
                x = torch.relu(F.group_norm(x, 1) if norm else x)
        torch.testing.assert_close(net(obs), x.flatten(1), rtol=1e-4, atol=1e-5)


def test_what_ppo_shows_is_worked_out_by_hand():
    # pi = (.75, .25) and mu = .2: the ratio of both is 1.25.
    seq = one_step((torch.tensor([[0.0, 2.0]]), torch.tensor([[4.0, 1.0]])))
    output = LOGITS, torch.tensor([[0.5, 2.0]])
    log = torch.tensor([0.75, 0.25]).log()
    for clip, share in ((0.1, 1.0), (0.2, 1.0), (0.3, 0.0)):
        algorithm = PPO(clip=clip, clip_value=False)
        metrics = algorithm.loss(lambda step, state: (output, state), None, seq)[2]
        assert {name: x.item() for name, x in metrics.items()} == pytest.approx({
            "losses/entropy": -(0.75 * log[0] + 0.25 * log[1]).item(),
            "losses/approx_kl": 0.25 - math.log(1.25), "losses/clipfrac": share,
            "losses/value_loss": (3.5**2 + 1) / 4, "losses/value": 1.25,
        })  # fmt: skip


def test_what_errors_show_is_worked_out_by_hand():
    q = torch.tensor([[[1.0, 2.0], [0.0, 5.0]], [[0.0, 0.0], [0.0, 0.0]]])
    seq = two_steps(2)
    seq = seq._replace(step=seq.step._replace(reward=torch.tensor([[0.0, 0.0], [1.0, 0.5]])))
    network = lambda step, state: (q[:1], state)
    nothing = lambda step, state: (q[1:], state)
    metrics = DQN().loss(network, nothing, seq)[2]
    assert metrics["losses/td_loss"].item() == 0.125 and metrics["losses/q_values"].item() == 2  # errors 0 and .5
    support = C51(atoms=3, v_max=2.0)
    logits = torch.tensor([0.5, 0.25, 0.25]).log().expand(1, 2, 2, 3)
    metrics = support.loss(lambda step, state: (logits, state), lambda step, state: (logits, state), seq)[2]
    assert metrics["losses/q_values"].item() == pytest.approx(-0.5)


def test_frames_on_a_disk_take_no_memory():
    plain, disk = (ReplayConfig(capacity=1_000, storage=storage) for storage in ("auto", "disk"))
    assert plain.bytes_needed(7_056) - disk.bytes_needed(7_056) == 7_056_000
    assert plain.bytes_needed(7_056) - plain.bytes_needed(7_056, steps=400) == 600 * (7_056 + 23)


def test_shards_that_come_back_draw_what_they_would_have_drawn():
    config = ReplayConfig(capacity=240, batch_size=8, priority_exponent=0.6)
    rng, step = np.random.default_rng(0), fake_step(2, np.random.default_rng(1))
    row = (step, torch.zeros(2, dtype=torch.int64), (), ())
    one, other = (Shards(config, 4, 2, seed, 2, row) for seed in (3, 4))
    for _ in range(20):
        step = fake_step(2, rng, after=step)
        for shard in one.shards:
            shard.add(step, row[1])
    one.sample(8)
    other.restore(*one.state(), row)
    for mine, own in zip(one.shards, other.shards, strict=True):
        own.rows = mine.rows
    assert torch.equal(one.sample(64).ids, other.sample(64).ids)


LOOKS = {
    "sample": lambda replay, row: replay.sample(1),
    "state": lambda replay, row: replay.state(),
    "add": lambda replay, row: replay.add(*row),
    "update": lambda replay, row: replay.update(torch.tensor([4]), torch.tensor([0.5])),
}


@pytest.mark.parametrize("look", LOOKS)
def test_priorities_on_their_way_are_waited_for(look, monkeypatch):
    """Those of a GPU are on their way; whoever looks at priorities waits for them."""
    waited = []
    arrived = SimpleNamespace(synchronize=lambda: waited.append(look))
    monkeypatch.setattr("agents.replay.copy_to_host", lambda x: (torch.tensor([5.0]), arrived))
    replay, row = filled(ReplayConfig(capacity=40, priority_exponent=1.0), 20)
    replay.update(torch.tensor([3]), torch.empty(1, device="meta"))
    assert not waited and replay.tree[np.array([3])].item() == pytest.approx(1, abs=1e-5)
    LOOKS[look](replay, row)
    assert waited == [look] and replay.tree[np.array([3])].item() == pytest.approx(5, abs=1e-5)
    if look == "add":
        assert replay.tree[np.array([19])].item() == pytest.approx(5, abs=1e-5)  # the largest so far


def test_what_impala_shows_is_worked_out_by_hand():
    # The hand test of impala: pi = (.75, .25), mu = .5, error .75.
    logits, value = torch.tensor([3.0, 1.0]).log().expand(2, 1, 2), torch.tensor([[1.0], [3.0]])
    seq = two_steps(1)
    seq = seq._replace(step=seq.step._replace(reward=torch.tensor([[0.0], [2.0]])), action=torch.ones(2, 1).long())
    seq = seq._replace(note=torch.full((2, 1), 0.5).log())
    metrics = IMPALA(discount=0.5, unroll=1).loss(lambda step, state: ((logits, value), state), None, seq)[2]
    assert {name: x.item() for name, x in metrics.items()} == pytest.approx({
        "losses/value_loss": 0.5 * 0.75**2, "losses/value": 1.0, "losses/ratio": 0.5, "losses/ratio_off_by": 0.5,
        "losses/entropy": -(0.75 * math.log(0.75) + 0.25 * math.log(0.25)),
    })  # fmt: skip
