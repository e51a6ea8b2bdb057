"""Networks: shapes, invariances, initial weights."""

import json
import math
from pathlib import Path

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from envs.timestep import TimeStep
from experiments.build_network import TORSOS, build_network, build_torso
from experiments.config import NetworkConfig
from experiments.presets import preset
from networks.heads import ActorCritic, Dueling, dueling
from networks.network import initialise
from networks.torsos import ImpalaCNN, NatureCNN, border, standardise, to_unit_range


def some_steps(time, batch):
    obs = torch.randint(0, 256, (time, batch, 4, 84, 84), dtype=torch.uint8)
    flags = torch.zeros(time, batch, dtype=torch.bool)
    return TimeStep(obs, torch.zeros(time, batch).long(), torch.zeros(time, batch), flags, flags, flags)


@pytest.mark.parametrize("head", ["linear", "dueling"])
@pytest.mark.parametrize("layer_norm", [False, True])
def test_unrolling_is_stepping(head, layer_norm):
    network = build_network(NetworkConfig(head=head, layer_norm=layer_norm), (4, 84, 84), 6)
    steps = some_steps(3, 2)
    together, _ = network(steps, network.initial_state(2))
    assert together.shape == (3, 2, 6)
    for t in range(3):
        alone, _ = network(TimeStep(*(x[t : t + 1] for x in steps)), network.initial_state(2))
        torch.testing.assert_close(together[t : t + 1], alone, rtol=1e-4, atol=1e-5)


def test_nature_network_has_the_published_size():
    """Mnih et al. (2015): 32 8x8/4, 64 4x4/2, 64 3x3/1, 512, one per action."""
    network = build_network(NetworkConfig(), (4, 84, 84), 4)
    weights = 4 * 64 * 32 + 32 * 16 * 64 + 64 * 9 * 64 + 3136 * 512 + 512 * 4
    assert sum(p.numel() for p in network.parameters()) == weights + 32 + 64 + 64 + 512 + 4


def test_the_data_efficient_network_has_the_published_size():
    """Van Hasselt et al. (2019): 32 5x5/5, 64 5x5/5, and of each stream 256 units, noisy: every weight has a sigma."""
    x = preset("der")
    network = build_network(x.network, (4, 84, 84), 4, x.algorithm)
    assert network.torso.size == 64 * 3 * 3
    convolutions = 4 * 32 * 25 + 32 + 32 * 64 * 25 + 64
    streams = 2 * (576 * 256 + 256) + (256 + 1) * 51 * (1 + 4)
    assert sum(p.numel() for p in network.parameters()) == convolutions + 2 * streams


def test_padded_layers_see_beyond_the_border_as_in_dopamine():
    """84 to 21, 11 and 11; where an odd number of zeros is wanted, one more is below, and to the right."""
    torso = build_torso(NetworkConfig(torso="nature-padded"), (4, 84, 84))
    assert torso.size == 64 * 11 * 11 == torso(torch.zeros(1, 4, 84, 84, dtype=torch.uint8)).shape[1]
    assert border(84, 8, 4) == (2, 2) and border(21, 4, 2) == (1, 2) and border(11, 3, 1) == (1, 1)
    *_, pad, conv = (layer for layer in list(torso.conv)[:5] if not isinstance(layer, nn.ReLU))
    nn.init.ones_(conv.weight), nn.init.zeros_(conv.bias)
    seen = conv(pad(torch.ones(1, 32, 21, 15)))[0, 0] / 32  # pixels that a filter sees
    assert [seen[0, 0], seen[0, 5], seen[-1, 5], seen[5, -1], seen[-1, -1]] == [9, 12, 8, 8, 4]


def test_pixels_become_zero_to_one():
    obs = torch.arange(256, dtype=torch.uint8).view(1, 1, 16, 16)
    assert torch.equal(to_unit_range(obs).flatten(), torch.arange(256) * torch.tensor(1 / 255))


@pytest.mark.parametrize("see", [to_unit_range, standardise])
def test_with_16_bits_pixels_are_those_of_float32_rounded(see):
    obs = torch.randint(0, 256, (3, 4, 84, 84), dtype=torch.uint8)
    with torch.autocast("cpu", torch.bfloat16):
        seen = see(obs)
    assert seen.dtype == torch.bfloat16 and seen.is_contiguous(memory_format=torch.channels_last)
    torch.testing.assert_close(seen, see(obs).bfloat16(), rtol=2**-7, atol=0.0)  # a digit of bfloat16 at most


def test_standardised_observations_have_mean_0_and_variance_1():
    obs = torch.tensor([[[[0, 2], [4, 6]]]], dtype=torch.uint8)  # mean 3, variance 5; 1 is added to it
    by_hand = torch.tensor([-3.0, -1.0, 1.0, 3.0]) / math.sqrt(6)
    torch.testing.assert_close(standardise(obs).flatten(), by_hand)
    assert not standardise(torch.full((2, 4, 3, 3), 87, dtype=torch.uint8)).any()
    noise = torch.randint(0, 100, (3, 2, 4, 5, 5), dtype=torch.uint8)  # a stack of 2 with 4 channels
    seen = standardise(noise)
    assert seen.shape == (3, 8, 5, 5)
    torch.testing.assert_close(standardise(noise + 100), seen)  # however bright
    torch.testing.assert_close(standardise(noise * 2), seen, rtol=1e-3, atol=1e-3)  # and with any contrast
    torch.testing.assert_close(standardise(noise[1:2]), seen[1:2])  # each by itself
    perceptron = build_torso(NetworkConfig(torso="mlp", standardise=True), (2, 4, 5, 5))
    torch.testing.assert_close(perceptron(noise + 100), perceptron(noise))


def test_a_grey_background_switches_no_filter_off_where_observations_are_standardised():
    torch.manual_seed(0)
    obs = torch.full((8, 4, 84, 84), 87, dtype=torch.uint8)  # a grey like that of Pong, and a ball
    for i in range(8):
        obs[i, :, 10 * i : 10 * i + 2, 40] = 236

    def answering(config: NetworkConfig) -> int:
        torso = build_torso(config, (4, 84, 84))
        initialise(torso, "xavier")
        answer = torso.conv[:2](torso.see(obs))  # after the first ReLU
        return int((answer.amax((0, 2, 3)) > answer.amin((0, 2, 3))).sum())

    assert answering(NetworkConfig(torso="nips")) <= 13
    assert answering(NetworkConfig(torso="nips", standardise=True)) == 16


def test_dueling_equals_the_hand_fixture_and_is_invariant():
    fixtures = json.loads((Path(__file__).parent / "data/hand_fixtures.json").read_text())["fixtures"]
    (fixture,) = [f for f in fixtures if f["name"] == "dueling"]
    value, advantage = torch.tensor([fixture["inputs"]["V"]]), torch.tensor(fixture["inputs"]["A"])
    q = dueling(value, advantage)
    assert q.tolist() == fixture["output"]["Q"]
    assert q.mean().item() == pytest.approx(fixture["output"]["meanQ"])
    torch.testing.assert_close(dueling(value, advantage + 7), q)


def test_dueling_head_has_two_streams():
    head = Dueling(10, 4, hidden=8)
    q = head(torch.randn(5, 10))
    assert q.shape == (5, 4)
    (q.mean(-1).sum()).backward()
    assert head.advantage[0].weight.grad.abs().max() < 1e-6  # the mean over actions is V's alone
    assert head.value[0].weight.grad.abs().max() > 0


@pytest.mark.parametrize("scheme", ["torch", "xavier"])
def test_initial_weights_fill_their_range(scheme):
    torch.manual_seed(0)
    layer = nn.Linear(400, 100)
    initialise(layer, scheme)
    bound = 1 / math.sqrt(400) if scheme == "torch" else math.sqrt(6 / 500)
    assert 0.98 * bound < layer.weight.abs().max() <= bound
    assert layer.weight.std().item() == pytest.approx(bound / math.sqrt(3), rel=0.02)
    assert bool(layer.bias.any()) == (scheme == "torch")


def test_bad_settings_are_refused():
    with pytest.raises(ValueError, match="initialisation"):
        initialise(nn.Linear(2, 2), "magic")
    with pytest.raises(ValueError, match="larger observations than 20 x 20"):
        NatureCNN((4, 20, 20))


@pytest.mark.parametrize("norm", [False, True])
def test_the_network_of_2015_is_worked_out_layer_by_layer(norm):
    network, steps = build_network(NetworkConfig(layer_norm=norm), (4, 84, 84), 6), some_steps(1, 2)
    x = steps.obs[0] / 255
    convolutions, dense = ([m for m in network.modules() if isinstance(m, kind)] for kind in (nn.Conv2d, nn.Linear))
    for layer, stride in zip(convolutions, (4, 2, 1), strict=True):
        x = F.conv2d(x, layer.weight, layer.bias, stride)
        x = torch.relu(F.group_norm(x, 1) if norm else x)
    x = dense[0](x.flatten(1))
    x = dense[1](torch.relu(F.layer_norm(x, x.shape[1:]) if norm else x))
    torch.testing.assert_close(network(steps, ())[0][0], x, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("norm", [False, True])
def test_the_residual_network_is_worked_out_layer_by_layer(norm):
    torso = ImpalaCNN((4, 20, 20), layer_norm=norm, pooling=2)
    convolutions = iter([m for m in torso.modules() if isinstance(m, nn.Conv2d)])
    obs = torch.randint(0, 256, (2, 4, 20, 20), dtype=torch.uint8)
    x = obs / 255
    for _ in range(3):
        x = F.max_pool2d(next(convolutions)(x), 3, 2, padding=1)
        for _ in range(2):
            y = x
            for _ in range(2):
                y = next(convolutions)(torch.relu(F.group_norm(y, 1) if norm else y))
            x = x + y
    x = torch.relu(F.adaptive_max_pool2d(x, 2).flatten(1))
    torch.testing.assert_close(torso(obs), x, rtol=1e-4, atol=1e-5)


def test_the_actor_critic_is_worked_out_by_hand():
    head, x = ActorCritic(6, 3, 8, layer_norm=True), torch.randn(5, 6)
    hidden = torch.relu(F.layer_norm(head.shared[0](x), (8,)))
    torch.testing.assert_close(head(x), (head.policy(hidden), head.value(hidden).squeeze(-1)))


def test_weights_of_policies_are_orthogonal_and_of_distributions_have_their_variance():
    head, layer = ActorCritic(64, 3, 32), nn.Linear(400, 100)
    initialise(head, "orthogonal")
    for part, gain in ((head.shared[0], math.sqrt(2)), (head.policy, 0.01), (head.value, 1.0)):
        size = torch.linalg.svdvals(part.weight.detach())
        torch.testing.assert_close(size, torch.full_like(size, gain))
        assert not part.bias.any()
    initialise(layer, "variance")
    assert layer.weight.var().item() == pytest.approx(1 / math.sqrt(3) / 400, rel=0.05) and not layer.bias.any()


def test_a_torso_that_sees_in_a_way_of_its_own_is_not_said_to_standardise(monkeypatch):
    class Own(nn.Module):
        def __init__(self, shape, layer_norm):
            super().__init__()

    monkeypatch.setitem(TORSOS, "mlp", Own)
    with pytest.raises(ValueError, match=r"--network\.standardise: mlp sees observations in a way of its own"):
        build_torso(NetworkConfig(torso="mlp", standardise=True), (4, 8, 8))
