"""Compiled agents act and learn as they would anyway."""

import functools
import shutil
from dataclasses import replace

import pytest
import torch
from torch import nn
from torch._dynamo.utils import counters

from agents.compiled import compiled
from agents.curious import Bonus
from agents.dqn import DQN
from agents.sequence import Sequence
from experiments.build import build
from experiments.distributed.share import build_share
from experiments.distributed.world import World
from experiments.presets import PRESETS
from networks.torsos import ImpalaCNN, MinAtarCNN, NatureCNN
from tests.test_cores import some_steps
from tests.test_players import on_policy, small

CPU = torch.device("cpu")
COMPILERS = ("g++", "clang++", "c++")


def planned():
    """MuZero on a board, which has places for its model to look at."""
    x = PRESETS["muzero-minatar"]
    return replace(
        x, game="probe/catch", protocol="probe", num_envs=4, frames=2_000, network=replace(x.network, hidden=8),
        algorithm=replace(x.algorithm, simulations=2, support=2),
        replay=replace(x.replay, capacity=1_200, batch_size=8, learn_start=200),
    )  # fmt: skip


KINDS = {
    "several batches at once, 16 bits": lambda: replace(uniform("dqn"), precision="bf16"),
    "a memory": lambda: doubled(small("drqn", game="probe/repeat-previous")),
    "distributions, noise, three steps": lambda: small("rainbow"),
    "an intrinsic reward": lambda: small("dqn", bonus=Bonus(weight=0.5)),
    "quantiles at random": lambda: small("m-iqn"),
    "features that are foretold, a horizon that moves": lambda: small("bbf"),
    "a model to plan in": planned,
    "images that are moved": lambda: small("dqn", algorithm=DQN(double=True, shift=1, intensity=0.1)),
    "ppo": lambda: on_policy("ppo", frames=4_000, num_envs=2),
    "pqn": lambda: on_policy("pqn", frames=4_000, num_envs=32),
}


def uniform(name):
    x = small(name)
    return replace(x, replay=replace(x.replay, priority_exponent=0.0, initial_priority="largest", learn_period=2))


def doubled(x):
    return replace(x, algorithm=replace(x.algorithm, double=True))


def trained(x, updates=4):
    """Losses, and the parameters that so many updates end with."""
    setup = build(replace(x, distributed="none"), CPU)
    losses = []
    for moment in setup.moments(x, None):
        losses += [moment.metrics["losses/loss"].item()] if moment.metrics else []
        if setup.agent.updates >= updates:
            break
    setup.games.close()
    return losses, [p.detach().clone() for p in setup.agent.online.parameters()]


def only_traced(monkeypatch):
    """Lets what torch compiles be traced only, and run as it was traced; returns the list of the graphs to come."""
    torch._dynamo.reset()
    traced = []

    def aot_eager(graph, inputs):
        traced.append(graph)
        return torch._dynamo.backends.debugging.aot_eager(graph, inputs)

    monkeypatch.setattr(torch, "compile", functools.partial(torch.compile, backend=aot_eager))
    return traced


@pytest.mark.parametrize("kind", KINDS)
def test_a_compiled_agent_is_the_same_agent(kind, monkeypatch):
    """The C++ would take half a minute for each of these."""
    traced = only_traced(monkeypatch)
    x = KINDS[kind]()
    losses, parameters = trained(x)
    assert not traced
    same_losses, same_parameters = trained(replace(x, compile=True))
    # One acts, one learns, one may ask the target once for several; with parts that run as ever, what is between them.
    most = 20 if "memory" in kind else 8 if "reward" in kind else 4 if "plan" in kind else 3  # it asks in three ways
    assert 2 <= len(traced) <= most and len(losses) > 0  # not one more for each cut of a memory's steps
    assert losses == pytest.approx(same_losses, rel=1e-5)
    assert all(torch.allclose(a, b, atol=1e-6) for a, b in zip(parameters, same_parameters, strict=True))


def test_a_rank_of_several_is_compiled_too(monkeypatch):
    traced = only_traced(monkeypatch)
    share = build_share(small("dqn", distributed="none", compile=True), World(0, 1), CPU)
    share.agent.act(share.games.reset(0), (), 0.0)
    share.games.close()
    assert traced


@pytest.mark.parametrize("torso", [NatureCNN, ImpalaCNN, MinAtarCNN])
def test_a_compiled_torso_keeps_no_mask_of_its_features(torso, monkeypatch):
    """To write one costs a CPU with AVX2 as much as a small convolution."""
    torch._dynamo.reset()
    torso = torso((1, 44, 44))
    monkeypatch.setattr(torch, "compile", functools.partial(torch.compile, backend="aot_eager_decomp_partition"))
    network = compiled(nn.Sequential(torso, nn.Linear(torso.size, 2)))
    kept = []
    with torch.autograd.graph.saved_tensors_hooks(lambda x: kept.append(x) or x, lambda x: x):
        network(torch.zeros(3, 1, 44, 44, dtype=torch.uint8))
    assert any(x.shape == (3, torso.size) for x in kept) and not any(x.dtype == torch.bool for x in kept)


@pytest.mark.skipif(not any(map(shutil.which, COMPILERS)), reason="no C++ compiler here: apt-get install g++")
def test_it_is_compiled_for_this_processor():
    """A loss and its gradient; C++ takes two seconds for each of the kernels."""
    steps, weight = some_steps(2, 8), torch.randn(6, 3, requires_grad=True)
    seq = Sequence(steps, steps.prev_action, (), (), torch.ones(8), torch.arange(8))

    def loss_of(weight):
        q = lambda step, state: ((step.obs.flatten(2) / 255) @ weight, state)
        return DQN().loss(q, q, seq)[0]

    graphs = counters["stats"]["unique_graphs"]
    loss, same = loss_of(weight), compiled(loss_of)(weight)
    assert counters["stats"]["unique_graphs"] > graphs
    assert torch.allclose(loss, same, rtol=1e-4)
    gradients = [torch.autograd.grad(x.sum(), weight)[0] for x in (loss, same)]
    assert gradients[0].any() and torch.allclose(*gradients, rtol=1e-4)


def test_what_cannot_be_compiled_is_said(monkeypatch):
    def broken(graph, inputs):
        raise RuntimeError("something long\nfile.cpp:1: error: no such thing\n")

    monkeypatch.setattr(torch, "compile", functools.partial(torch.compile, backend=broken))
    with pytest.raises(ValueError, match=r"cannot compile this agent here \(.*no such thing\); --compile False"):
        compiled(lambda x: x + 1)(torch.ones(2))


def test_without_a_compiler_it_is_refused_at_once(monkeypatch):
    monkeypatch.setattr(shutil, "which", lambda name: None)
    with pytest.raises(ValueError, match=r"needs a C\+\+ compiler"):
        build(small("dqn", compile=True, distributed="none"), CPU)
