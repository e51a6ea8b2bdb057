"""What is shown of an agent: numbers worked out by hand, and pictures pixel by pixel."""

import io
import json
import math
import struct

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from agents.agent import Agent
from agents.c51 import C51
from agents.curious import Bonus, Curious, CuriousPPO
from agents.dqn import DQN
from agents.iqn import IQN
from agents.munchausen import Munchausen
from agents.optimiser import Adam
from agents.ppo import PPO
from agents.qrdqn import QRDQN
from agents.returns import rescale
from envs.library import game_of
from envs.timestep import TimeStep
from experiments.build_network import build_network
from experiments.config import NetworkConfig
from experiments.viewer import explain
from experiments.viewer.blocks import frame_text, half_blocks, shrink
from experiments.viewer.keys import action_of, parts_of
from experiments.viewer.message import Message
from experiments.viewer.pictures import heat, mosaic, png, stacked
from experiments.viewer.score import score_text
from networks.heads import ActorCritic, Implicit, SingleStream
from networks.memory import Memoryless, Recurrent
from networks.network import Network, initialise
from networks.rnd import RND
from networks.torsos import MLP, NatureCNN


def step_of(obs):
    """An ordinary TimeStep [1] that shows one observation."""
    no = torch.tensor([False])
    return TimeStep(obs[None], torch.tensor([1]), torch.tensor([0.5]), no, no, no)


def agent_of(torso, memory, head, algorithm):
    agent = Agent(Network(torso, memory, head), algorithm, Adam(1e-3), target_period=0)
    agent.online.eval()
    return agent


def remembering(head, algorithm, shape=(4, 36, 36)):
    """A small network with convolutions and a memory; and its state after a step."""
    torch.manual_seed(3)
    torso = NatureCNN(shape)
    agent = agent_of(torso, Recurrent("lstm", torso.size, 3, 8), head, algorithm)
    initialise(agent.online, "orthogonal")
    with torch.no_grad():
        for weight in head.parameters():
            weight *= 10  # so that differences are larger than float32's roundings
    step = step_of(torch.randint(0, 256, shape, dtype=torch.uint8))
    _, _, state = agent.act(step, agent.initial_state(1), 0.0)
    return agent, step, state


def finite_difference(agent, step, state, action, pixel, width=2.0):
    """(Q(x + width / 2) - Q(x - width / 2)) / width for one pixel (channel, row, column)."""

    def q(change):
        obs = step.obs.float()
        obs[(0, *pixel)] += change
        with torch.no_grad(), explain.repeatable():
            output, _ = agent.online(TimeStep(*(x[None] for x in step._replace(obs=obs))), state)
        return explain.preferences(agent.algorithm, output[0])[0, action]

    return float(q(width / 2) - q(-width / 2)) / width


def test_gradient_saliency_is_the_finite_difference():
    torch.manual_seed(0)
    agent = agent_of(MLP((2, 6, 5)), Memoryless(64), SingleStream(64, 3, hidden=0), DQN())
    step = step_of(torch.randint(0, 256, (2, 6, 5), dtype=torch.uint8))
    for action in (0, 2):
        saliency = explain.gradient_saliency(agent, step, (), action)
        twin = torch.tensor(
            [
                [max(abs(finite_difference(agent, step, (), action, (c, y, x))) for c in (0, 1)) for x in range(5)]
                for y in range(6)
            ]
        )
        torch.testing.assert_close(saliency, twin, rtol=0.02, atol=2e-5)


@pytest.mark.parametrize("algorithm, atoms", [(C51(atoms=11, v_max=2.0), 11), (QRDQN(quantiles=7), 7)])
def test_gradient_saliency_of_a_network_with_convolutions_and_memory(algorithm, atoms):
    agent, step, state = remembering(SingleStream(8, 3, hidden=0, atoms=atoms), algorithm)
    saliency = explain.gradient_saliency(agent, step, state, 1)
    for y, x in ((0, 0), (17, 20), (30, 12), (35, 35)):
        largest = max(abs(finite_difference(agent, step, state, 1, (c, y, x), width=8.0)) for c in range(4))
        assert float(saliency[y, x]) == pytest.approx(largest, rel=0.05, abs=0.02 * float(saliency.max()))
    assert saliency.max() > 1e-4 and saliency[17, 20] > 0.1 * saliency.max()


def test_explaining_draws_no_random_number_and_changes_nothing():
    agent, step, state = remembering(Implicit(8, SingleStream(8, 3, hidden=0), samples=6), IQN(samples=6))
    before, weights = torch.get_rng_state(), [x.clone() for x in agent.online.parameters()]
    once = explain.gradient_saliency(agent, step, state, 0), explain.perturbed(agent, step, state)
    again = explain.gradient_saliency(agent, step, state, 0), explain.perturbed(agent, step, state)
    explain.feature_maps(agent.online, step, state)
    assert torch.equal(torch.get_rng_state(), before)
    assert all(torch.equal(x, y) for x, y in zip(once, again, strict=True)) and once[1].max() > 0
    assert all(torch.equal(x, y) for x, y in zip(agent.online.parameters(), weights, strict=True))
    assert all(x.grad is None for x in agent.online.parameters())


def test_perturbation_saliency_is_its_equation():
    """A slow twin of Greydanus et al. (2018), eqs. 1 to 3, at every place."""
    height, width = 80, 82
    obs = torch.randint(0, 256, (2, height, width), generator=torch.Generator().manual_seed(1)).to(torch.uint8)
    weight = torch.randn(3, 2 * height * width, generator=torch.Generator().manual_seed(2))
    respond = lambda images: images.flatten(1) @ weight.T
    found = explain.perturbation_saliency(respond, obs, stride=1)
    blurred = explain.gaussian_blur(obs.float(), 3.0)
    for i, j in ((0, 0), (5, 37), (79, 81)):
        rows = ([np.exp(-((y - i) ** 2 + (x - j) ** 2) / (2 * 25)) for x in range(width)] for y in range(height))
        mask = torch.tensor([*rows])
        mixed = obs.float() * (1 - mask) + blurred * mask
        change = respond(mixed[None].float()) - respond(obs.float()[None])
        assert float(found[i, j]) == pytest.approx(0.5 * float((change**2).sum()), rel=1e-3)


def test_perturbation_saliency_of_stacked_pictures_in_colour_is_that_of_their_planes():
    obs = torch.randint(0, 256, (2, 3, 12, 16), generator=torch.Generator().manual_seed(1)).to(torch.uint8)
    weight = torch.randn(3, 6 * 12 * 16, generator=torch.Generator().manual_seed(2))
    found = explain.perturbation_saliency(lambda images: images.flatten(1) @ weight.T, obs)
    assert torch.equal(
        found, explain.perturbation_saliency(lambda images: images.flatten(1) @ weight.T, obs.flatten(0, 1))
    )


def test_agents_that_are_paid_for_surprise_are_shown_as_what_they_are():
    """The game's value of two; distributions on their support, not as quantiles; rescaled values as they are."""
    seen = explain.view(CuriousPPO(), (torch.tensor([0.0, math.log(3)]), torch.tensor([2.5, 9.0])))
    assert seen.value == 2.5 and seen.policy.tolist() == pytest.approx([0.25, 0.75])
    for algorithm, output in (
        (C51(atoms=3, v_max=1.0), torch.tensor([[0.0, 0.0, 50.0], [50.0, 0.0, 0.0]])),
        (QRDQN(quantiles=2), torch.tensor([[3.0, 1.0], [0.0, 4.0]])),
        (DQN(value_rescaling=True), torch.tensor([2.0, 1.0])), (Munchausen(), torch.tensor([2.0, 1.0])),
    ):  # fmt: skip
        own, paid = explain.view(algorithm, output), explain.view(Curious(algorithm, Bonus(0.5)), output)
        torch.testing.assert_close(tuple(own), tuple(paid), rtol=0, atol=0)
        batch = output[None]
        assert torch.equal(
            explain.preferences(algorithm, batch), explain.preferences(Curious(algorithm, Bonus(0.5)), batch)
        )


def test_perturbation_saliency_shows_where_an_agent_looks():
    obs = torch.randint(0, 256, (1, 84, 84), generator=torch.Generator().manual_seed(1)).to(torch.uint8)
    found = explain.perturbation_saliency(lambda images: images[:, 0, 60:64, 20:24].flatten(1), obs)
    y, x = divmod(int(found.argmax()), 84)
    assert abs(y - 62) <= 5 and abs(x - 22) <= 5
    assert found[:30].max() < 1e-3 * found.max() and found.shape == (84, 84)


def test_a_blur_keeps_what_is_even_and_spreads_a_point_as_a_gaussian():
    assert torch.allclose(explain.gaussian_blur(torch.full((2, 9, 9), 7.0), 1.5), torch.tensor(7.0))
    point = torch.zeros(1, 41, 41)
    point[0, 20, 20] = 1.0
    blurred = explain.gaussian_blur(point, 3.0)[0]
    assert float(blurred[20, 23] / blurred[20, 20]) == pytest.approx(np.exp(-0.5), rel=1e-4)
    assert float(blurred.sum()) == pytest.approx(1.0, rel=1e-4)


def test_views_by_hand():
    q = explain.view(DQN(), torch.tensor([1.0, 3.0, 2.5]))
    assert q.values.tolist() == [1.0, 3.0, 2.5] and q.value == 3.0 and q.policy is None and q.spread is None
    assert q.doubt == ("action gap", 0.5, None)
    scaled = explain.view(DQN(value_rescaling=True), rescale(torch.tensor([1.0, 300.0])))
    assert scaled.values.tolist() == pytest.approx([1.0, 300.0], rel=1e-4)
    policy = explain.view(PPO(), (torch.tensor([0.0, np.log(3.0)]), torch.tensor(7.0)))
    assert policy.policy.tolist() == pytest.approx([0.25, 0.75]) and policy.value == 7.0 and policy.values is None
    assert policy.doubt == ("entropy", pytest.approx(0.25 * np.log(4) + 0.75 * np.log(4 / 3)), pytest.approx(np.log(2)))
    soft = explain.view(Munchausen(temperature=0.5), torch.tensor([0.0, 0.5]))
    assert soft.policy.tolist() == pytest.approx([1 / (1 + np.e), np.e / (1 + np.e)]) and soft.doubt[0] == "entropy"


def test_return_distributions_by_hand():
    half = torch.tensor([[0.5, 0.0, 0.5], [0.0, 1.0, 0.0]])
    c51 = explain.view(C51(atoms=3, v_max=2.0), half.log())
    assert c51.values.tolist() == pytest.approx([0.0, 0.0])
    assert c51.spread[0].tolist() == [[-2, 0, 2]] * 2 and c51.spread[1].tolist() == half.tolist()
    quantiles = torch.tensor([[3.0, 1.0, 2.0], [0.0, 0.0, 9.0]])
    qr = explain.view(QRDQN(quantiles=3), quantiles)
    assert qr.values.tolist() == [2, 3] and qr.spread[0].tolist() == [[1, 2, 3], [0, 0, 9]]
    many = quantiles.repeat_interleave(8, 1)  # of a few that are drawn there is no picture
    implicit = explain.view(IQN(samples=24), (many.T, torch.rand(24)))
    assert implicit.values.tolist() == [2, 3] and torch.equal(implicit.spread[0], many.sort().values)


def test_histograms_by_hand():
    support = torch.linspace(-2, 2, 5).expand(2, 5)
    weight = torch.tensor([[0.0, 0.5, 0.5, 0, 0], [0, 0, 0.0, 1.0, 0]])
    low, high, p = explain.histogram((support, weight))
    assert (low, high) == (-1, 1) and p.tolist() == [[0.5, 0.5, 0], [0, 0, 1.0]]  # shared atoms stay as they are
    quantiles = torch.tensor([[0.0, 0, 0, 10, 10, 10], [0.0, 1, 2, 8, 9, 10]])
    low, high, p = explain.histogram((quantiles, torch.full((2, 6), 1 / 6)))
    assert (low, high) == (0, 10) and torch.allclose(p, torch.full((2, 2), 0.5, dtype=torch.double))


def test_memory_norms_by_hand():
    assert explain.memory_norms((), ()) is None
    before, after = (torch.zeros(1, 2), torch.tensor([[1.0]])), (torch.tensor([[3.0, 0.0]]), torch.tensor([[4.0]]))
    assert explain.memory_norms(before, after) == (5.0, pytest.approx(18**0.5))


@pytest.mark.parametrize("torso", ["nature", "minatar", "impala"])
def test_feature_maps_are_what_the_network_goes_on_with(torso):
    """After the normalisation there is; what residual blocks add to, with its size; and not of what it does not ask."""
    config = NetworkConfig(torso=torso, layer_norm=True)
    network = build_network(config, (1, 44, 44), 3)
    step = step_of(torch.randint(0, 256, (1, 44, 44), dtype=torch.uint8))
    maps, x = explain.feature_maps(network, step, ()), network.torso.see(step.obs)
    with torch.no_grad():
        x = network.torso.conv[1](network.torso.conv[0](x))[0]
    torch.testing.assert_close(maps, x.abs() if torso == "impala" else x.relu())
    assert torso == "minatar" or (maps > 0).float().mean() > 0.3
    network = build_network(NetworkConfig(torso="mlp"), (1, 4, 4), 3)
    network.bonus = RND((1, 44, 44), 1)
    assert len(explain.feature_maps(network, step_of(torch.zeros(1, 4, 4, dtype=torch.uint8)), ())) == 0


def test_feature_maps_are_the_first_convolution_rectified():
    agent, step, state = remembering(ActorCritic(8, 3), PPO())
    maps = explain.feature_maps(agent.online, step, state)
    conv = next(part for part in agent.online.modules() if isinstance(part, nn.Conv2d))
    assert maps.shape == (32, 8, 8)
    torch.testing.assert_close(maps, conv(step.obs.float() / 255)[0].detach().relu())
    blind = agent_of(MLP((1, 6, 5)), Memoryless(64), SingleStream(64, 3), DQN())
    empty = explain.feature_maps(blind.online, step_of(torch.zeros(1, 6, 5, dtype=torch.uint8)), ())
    assert len(empty) == 0 and mosaic(empty).size > 0


def test_pictures_come_back_from_png():
    def decoded(content):
        return np.asarray(Image.open(io.BytesIO(content)))

    pixels = np.random.default_rng(0).integers(0, 256, (7, 5, 3), dtype=np.uint8)
    assert np.array_equal(decoded(png(pixels)), pixels)
    obs = torch.arange(24, dtype=torch.uint8).view(2, 3, 4)
    assert stacked(obs)[:, :4].tolist() == obs[0].tolist() and stacked(obs)[:, 4:].tolist() == obs[1].tolist()
    maps = torch.stack([torch.full((2, 2), float(k)) for k in range(5)])
    assert mosaic(maps).shape == (5, 11) and mosaic(maps)[3, 0] == 255 and mosaic(maps)[0, 3] == 63
    light = torch.zeros(20, 20)
    light[10, 10] = 3.0
    opacity = heat(light)[..., 3]
    assert opacity[10, 10] == 230 and opacity[10, 12] < 230 and opacity[0, 0] == 0


NAMES = ["NOOP", "FIRE", "RIGHT", "LEFT", "RIGHTFIRE", "UP"]


@pytest.mark.parametrize(
    "keys, action",
    [
        ([], None), (["x"], None), ([" "], "FIRE"), (["ArrowRight"], "RIGHT"), (["d", " "], "RIGHTFIRE"),
        (["ArrowLeft", " "], "FIRE"), (["ArrowLeft", "ArrowRight"], "NOOP"), (["ArrowDown"], "NOOP"),
        (["ArrowUp", "ArrowRight"], "RIGHT"), (["3"], "LEFT"), (["99"], None),
    ],
)  # fmt: skip
def test_keys_to_actions(keys, action):
    assert action_of(keys, NAMES) == (None if action is None else NAMES.index(action))


def test_action_names_to_joystick():
    assert parts_of("DOWNLEFTFIRE") == {"DOWN", "LEFT", "FIRE"}
    assert parts_of("NOOP") == parts_of("place_stone") == frozenset() and parts_of("move_left") == {"LEFT"}


@pytest.mark.parametrize(
    "game, keys, action",
    [
        ("doom/basic", ["ArrowLeft"], "MOVE_LEFT"), ("doom/basic", [" "], "ATTACK"),
        ("doom/basic", ["ArrowUp"], "NOOP"), ("doom/health-gathering", ["w"], "MOVE_FORWARD"),
        ("crafter", ["ArrowDown"], "move_down"), ("crafter", [" "], "do"), ("crafter", ["7"], "place_stone"),
        ("probe/catch", ["ArrowRight"], "RIGHT"), ("probe/catch", ["ArrowUp"], "STAY"),
        ("probe/t-maze", ["ArrowUp"], "NORTH"), ("probe/recall", ["ArrowUp"], None),
    ],
)  # fmt: skip
def test_keys_in_other_worlds(game, keys, action):
    names = game_of(game).actions()
    assert action_of(keys, names) == (None if action is None else names.index(action))


def test_a_message_has_what_a_page_lacks():
    tracks = {"value": [1.0, float("nan"), 3.0], "reward": [0.0, 0.0, 1.0]}
    message = Message({"cursor": 2}, [b"one", b"three"], 1, tracks)
    content, have = message.pack(1)
    (size,) = struct.unpack(">I", content[:4])
    header = json.loads(content[4 : 4 + size])
    assert header == {"cursor": 2, "track": {"from": 1, "value": [None, 3.0], "reward": [0.0, 1.0]}}
    assert content[4 + size :] == b"onethree" and have == 3
    assert message.pack(0, most=2)[1] == 2


def test_half_blocks_are_two_pixels_each():
    pixels = np.zeros((2, 3, 3), np.uint8)
    pixels[0, :2], pixels[1, 2] = (255, 0, 0), (0, 0, 255)
    (line,) = half_blocks(pixels, 1 << 24)
    assert line == "\x1b[38;2;255;0;0m\x1b[48;2;0;0;0m▀▀\x1b[38;2;0;0;0m\x1b[48;2;0;0;255m▀\x1b[0m"
    (line,) = half_blocks(pixels, 256)
    assert line == "\x1b[38;5;196m\x1b[48;5;16m▀▀\x1b[38;5;16m\x1b[48;5;21m▀\x1b[0m"


def test_shrinking_is_a_mean_over_areas():
    pixels = 2 * np.arange(48, dtype=np.uint8).reshape(4, 4, 3)  # all means are whole numbers
    assert np.array_equal(shrink(pixels, 2, 2), pixels.reshape(2, 2, 2, 2, 3).mean((1, 3)))
    assert np.array_equal(shrink(pixels, 8, 4)[::2], pixels)


@pytest.mark.parametrize(
    "score, words",
    [
        (7.0, "7"), (-0.0, "0"), (1234567.0, "1,234,567"), (-0.1, "-0.1"), (4.4, "4.4"), (0.1 + 0.2 - 0.3, "0"),
        (-1e-9, "0"), (9.999, "10"), (12.345, "12.3"), (1234.5678, "1,235"), (100.0, "100"), (-21.0, "-21"),
        (0.0123456, "0.0123"), (3.0000001, "3"),
    ],
)  # fmt: skip
def test_scores_in_words(score, words):
    assert score_text(score) == words


def test_a_frame_in_the_terminal():
    """Stored by hand: a head line, then the game, then numbers beside it."""
    pixels = np.zeros((30, 20, 3), np.uint8)
    facts = {"label": "Pong", "score": 7.0, "lives": 2, "normalised": 0.5, "action": 1, "values": [1.0, 3.0]}
    text = frame_text(pixels, facts, ["NOOP", "UP"], (80, 20), 256)
    lines = text.removeprefix("\x1b[H").split("\n")
    assert lines[0] == "Pong  7  ♥♥\x1b[K" and len(lines) == 19 and text.count("▀") == 18 * 24
    black = "\x1b[38;5;16m\x1b[48;5;16m" + "▀" * 24 + "\x1b[0m"
    assert lines[1] == black + "  \x1b[1m7\x1b[22m   50 % of human\x1b[K"
    assert lines[4] == black + "  NOOP                        1\x1b[K"
    assert lines[5] == black + "  \x1b[1;33mUP            ████████      3\x1b[0m\x1b[K"
    assert "q quits" in lines[8] or "q quits" in text
    assert "too small" in frame_text(pixels, facts, ["NOOP"], (39, 20), 256)
    assert "-0.1" in frame_text(pixels, facts | {"score": -0.1}, ["NOOP", "UP"], (80, 20), 256)
    narrow = frame_text(pixels, facts, ["NOOP", "UP"], (40, 20), 256)
    assert "NOOP" not in narrow and narrow.count("▀") == 18 * 24
