"""Noisy layers and residual torsos: moments, spectra, sizes."""

import copy
import math
from dataclasses import replace

import pytest
import torch
from torch import nn

from agents.agent import Agent
from agents.c51 import C51
from agents.iqn import IQN
from agents.optimiser import Adam
from experiments.build import build
from experiments.build_network import build_network, build_torso
from experiments.checks import check
from experiments.config import NetworkConfig
from experiments.presets import PRESETS
from networks.heads import Dueling, Implicit, SingleStream
from networks.noisy import MANY, NoisyLinear, signed_root
from networks.torsos import ImpalaCNN, Residual
from tests.test_networks import some_steps
from tests.test_returns import hand


def test_factorised_noise_has_the_moments_of_the_fixture():
    torch.manual_seed(0)
    (fixture,) = hand("noisy_linear_moments")
    f, g = signed_root(torch.randn(2, 1_000_000, dtype=torch.float64))
    assert f.mean().item() == pytest.approx(0, abs=3e-3)
    assert (f**2).mean().item() == pytest.approx(fixture["output"]["E_f2"], rel=5e-3)
    assert (f * g).var().item() == pytest.approx(fixture["output"]["Var_eps_w"], rel=1e-2)


def test_a_noisy_layer_without_sigma_is_linear():
    layer = NoisyLinear(7, 3, sigma=0.0)
    x = torch.randn(5, 7)
    assert torch.allclose(layer(x), nn.functional.linear(x, layer.weight, layer.bias), atol=1e-6)


@pytest.mark.parametrize("shape", [(5, 7), (2, 3, 7), (MANY, 7), (2, MANY, 7)])
def test_noise_is_what_the_paper_says(shape):
    """For few rows and many it is mu + sigma * (eps_out eps_in^T) and mu + sigma * eps_out, worked out in full."""
    layer, x = NoisyLinear(7, 3, sigma=0.5), torch.randn(shape)
    torch.manual_seed(3)
    y = layer(x)
    torch.manual_seed(3)
    eps_in, eps_out = signed_root(torch.randn(7)), signed_root(torch.randn(3))
    weight = layer.weight + layer.weight_sigma * torch.outer(eps_out, eps_in)
    bias = layer.bias + layer.bias_sigma * eps_out
    full = x @ weight.T + bias
    torch.testing.assert_close(y, full)
    g, parameters = torch.randn_like(y), list(layer.parameters())
    torch.testing.assert_close(torch.autograd.grad(y, parameters, g), torch.autograd.grad(full, parameters, g))


def test_noisy_layers_begin_as_in_section_3_2():
    layer = NoisyLinear(400, 50, sigma=0.5)
    assert (layer.weight_sigma == 0.5 / 20).all() and (layer.bias_sigma == 0.5 / 20).all()
    assert 0.97 / 20 < layer.weight.abs().max() <= 1 / 20


def test_noise_is_drawn_for_every_call_and_not_in_evaluation():
    torch.manual_seed(0)
    network = build_network(NetworkConfig(torso="mlp", head="dueling", noise=0.5), (1, 84, 84), 3, C51())
    agent = Agent(network, C51(), Adam(), 1)
    step = some_steps(1, 2)
    step = step._replace(obs=step.obs[:, :, :1])
    for one in (agent.online, agent.target):
        a, b = (one(step, ())[0] for _ in range(2))
        assert not torch.equal(a, b)
    assert not torch.equal(agent.online(step, ())[0], agent.target(step, ())[0])  # each has its own
    with agent.evaluating():
        a, b = (agent.online(step, ())[0] for _ in range(2))
        assert torch.equal(a, b)
    assert agent.online.training


def test_sigma_is_learned():
    layer = NoisyLinear(4, 2)
    layer(torch.randn(8, 4)).square().mean().backward()
    assert layer.weight_sigma.grad.abs().sum() > 0 and layer.bias_sigma.grad.abs().sum() > 0


@pytest.mark.parametrize("make", [SingleStream, Dueling])
@pytest.mark.parametrize("atoms", [0, 5])
def test_heads_give_a_number_or_a_distribution_per_action(make, atoms):
    head = make(6, 4, 8, atoms=atoms)
    assert head(torch.randn(3, 2, 6)).shape == ((3, 2, 4, 5) if atoms else (3, 2, 4))


def test_dueling_distributions_are_dueling_in_every_atom():
    head = Dueling(6, 4, 8, atoms=5)
    x = torch.randn(3, 6)
    value = head.value(x)
    torch.testing.assert_close(head(x).mean(-2), value)  # the mean over actions is V, atom by atom
    with torch.no_grad():
        head.advantage[-1].bias += torch.randn(5).repeat(4)  # the same for all actions
    torch.testing.assert_close(head(x).mean(-2), value)


def test_implicit_quantiles_are_worked_out_by_hand():
    """eq. 4: phi_j(tau) = ReLU(sum_i cos(pi i tau) w_ij + b_j), i from 0; then psi * phi into the head."""
    torch.manual_seed(0)
    head = Implicit(6, SingleStream(6, 4, 8), samples=3, cosines=5)
    x = torch.randn(2, 6)
    values, tau = head(x)
    assert values.shape == (2, 3, 4) and tau.shape == (2, 3) and (0 <= tau).all() and (tau < 1).all()
    cosines = torch.stack([torch.cos(math.pi * i * tau[1, 2]) for i in range(5)])
    phi = torch.relu(head.embedding.weight @ cosines + head.embedding.bias)
    torch.testing.assert_close(values[1, 2], head.values(x[1] * phi))
    assert not torch.equal(head(x)[1], tau)  # other fractions at every call


def test_the_residual_network_is_that_of_the_paper():
    torso = ImpalaCNN((4, 84, 84))
    assert torso.size == 32 * 11 * 11
    weights = sum(p.numel() for p in torso.parameters())
    blocks = 4 * (16 * 16 * 9 + 16) + 8 * (32 * 32 * 9 + 32)
    assert weights == blocks + (4 * 16 * 9 + 16) + (16 * 32 * 9 + 32) + (32 * 32 * 9 + 32)
    obs = torch.randint(0, 256, (2, 4, 84, 84), dtype=torch.uint8)
    assert torso(obs).shape == (2, torso.size)
    for side in (60, 96):
        pooled = ImpalaCNN((3, side, side), width=2, pooling=6)
        assert pooled(torch.zeros(1, 3, side, side, dtype=torch.uint8)).shape == (1, 64 * 36) and pooled.size == 2304


@pytest.mark.parametrize("side", [60, 63, 84])
def test_the_small_residual_network_ends_at_the_same_places(side):
    """Half the resolution once, and one stage less: features from as many places, a fifth of the products."""
    small = build_torso(NetworkConfig(torso="impala-small", blocks=1), (4, side, side))
    large = build_torso(NetworkConfig(torso="impala", blocks=1), (4, side, side))
    obs = torch.randint(0, 256, (2, 4, side, side), dtype=torch.uint8)
    assert small(obs).shape == large(obs).shape == (2, small.size)
    weights = (4 * 16 * 9 + 16) + (16 * 32 * 9 + 32) + 2 * (16 * 16 * 9 + 16) + 2 * (32 * 32 * 9 + 32)
    assert sum(p.numel() for p in small.parameters()) == weights


def test_a_residual_block_with_zero_weights_changes_nothing():
    block = Residual(4, layer_norm=False)
    for p in block.parameters():
        nn.init.zeros_(p)
    x = torch.randn(1, 4, 5, 5)
    assert torch.equal(block(x), x)


def test_spectral_norms_are_one():
    """The largest singular value of every residual convolution, as a matrix [out, in * 3 * 3], within 1 %."""
    torch.manual_seed(0)
    torso = ImpalaCNN((4, 84, 84), width=2, pooling=6)
    torso.normalise_spectrum()
    layers = [layer for block in torso.modules() if isinstance(block, Residual) for layer in block.layers[1::2]]
    assert len(layers) == 12
    with torch.no_grad():
        for layer in layers:
            layer.parametrizations.weight.original *= 7
        for _ in range(60):  # each takes one step of the power iteration
            torso(torch.randint(0, 256, (1, 4, 84, 84), dtype=torch.uint8))
    for layer in layers:
        assert torch.linalg.matrix_norm(layer.weight.detach().flatten(1), 2).item() == pytest.approx(1, abs=0.01)
    plain = [layer for layer in torso.conv if isinstance(layer, nn.Conv2d)]
    assert len(plain) == 3 and not any(hasattr(layer, "parametrizations") for layer in plain)
    torso.eval()
    before = copy.deepcopy(torso.state_dict())
    torso(torch.zeros(1, 4, 84, 84, dtype=torch.uint8))
    assert all(torch.equal(x, before[name]) for name, x in torso.state_dict().items())  # watching changes nothing


def test_beyond_the_rainbow_has_2_9_million_parameters():
    """Clark et al. (2025): 2.91 million for 18 actions, not counting the sigmas of the noise."""
    x = PRESETS["btr"]
    network = build_network(x.network, (4, 84, 84), 18, x.algorithm)
    counted = sum(p.numel() for name, p in network.named_parameters() if "sigma" not in name)
    assert counted == 2_908_851


@pytest.mark.parametrize("flag", [{"width": 2}, {"spectral_norm": True}, {"pooling": 6}, {"blocks": 1}])
def test_parts_that_a_torso_does_not_have_are_refused(flag):
    with pytest.raises(ValueError, match=r"is for --network\.torso impala"):
        build_network(NetworkConfig(**flag), (4, 84, 84), 4)


def test_unrolling_gives_a_distribution_for_every_step():
    for algorithm, shape in ((C51(atoms=5), (3, 2, 6, 5)), (IQN(samples=4), (3, 2, 4, 6))):
        network = build_network(NetworkConfig(torso="impala", blocks=1), (4, 84, 84), 6, algorithm)
        output, _ = network(some_steps(3, 2), ())
        assert (output[0] if isinstance(algorithm, IQN) else output).shape == shape


def test_deterministic_mode_is_torch_s_and_names_what_prevents_it():
    """AdaptiveMaxPool2d is the one operation of ours that has no deterministic gradient on CUDA."""
    x = replace(PRESETS["btr-short"], deterministic=True, num_envs=1)
    with pytest.raises(ValueError, match="adaptive max-pooling"):
        check(x, torch.device("cuda"))
    try:
        setup = build(replace(PRESETS["dqn"], deterministic=True, num_envs=1), torch.device("cpu"))
        assert torch.are_deterministic_algorithms_enabled()
        setup.games.close()
    finally:
        torch.use_deterministic_algorithms(False)


@pytest.mark.parametrize("make", [SingleStream, Dueling])
def test_every_layer_of_a_noisy_head_is_noisy(make):
    head, x = make(6, 4, 8, noise=0.5), torch.randn(1, 6)
    assert not any(isinstance(layer, nn.Linear) for layer in head.modules())
    gaps = [q - q[:, :1] for q in (head(x), head(x))]
    assert not torch.allclose(*gaps)
