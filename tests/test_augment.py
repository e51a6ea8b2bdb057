"""Augmentation: what is drawn, for whom, and when."""

from dataclasses import replace

import pytest
import torch

from agents.augment import random_intensity, random_shift
from agents.dqn import DQN
from agents.sequence import Sequence
from envs.timestep import TimeStep
from experiments.build import build_agent
from experiments.presets import PRESETS


def images(batch: int = 64) -> torch.Tensor:
    """Bytes [batch, 2, 1, 9, 7], a number of its own for every pixel of a frame."""
    return torch.arange(63, dtype=torch.uint8).view(9, 7).expand(batch, 2, 1, 9, 7).contiguous()


def test_a_shift_moves_all_frames_of_an_image_alike_and_repeats_its_border():
    torch.manual_seed(0)
    obs = images(300)
    moved = random_shift(obs, 2)
    assert moved.shape == obs.shape and moved.dtype == torch.uint8
    assert torch.equal(moved[:, 0], moved[:, 1])  # the frames of a stack tell of motion only so
    seen = set()
    for image in moved[:, 0, 0]:
        centre = int(image[4, 3])  # was at (4 + down, 3 + right)
        down, right = centre // 7 - 4, centre % 7 - 3
        seen.add((down, right))
        rows, columns = (torch.arange(9) + down).clamp(0, 8), (torch.arange(7) + right).clamp(0, 6)
        assert torch.equal(image, obs[0, 0, 0][rows][:, columns])
    assert seen == {(down, right) for down in range(-2, 3) for right in range(-2, 3)}


def test_no_shift_and_no_intensity_change_nothing():
    obs = images()
    assert torch.equal(random_shift(obs, 0), obs) and torch.equal(random_intensity(obs, 0.0), obs)
    assert DQN().augment(obs) is obs and not DQN().augments


def test_intensity_is_one_bounded_factor_for_an_image_and_black_stays_black():
    torch.manual_seed(0)
    obs = torch.tensor([0, 100, 240], dtype=torch.uint8).view(1, 1, 1, 1, 3).expand(4_000, 2, 1, 1, 3)
    black, grey, white = random_intensity(obs, 0.05)[:, 0, 0, 0].unbind(-1)
    assert not black.any()
    assert grey.min() == 90 and grey.max() == 110  # 1 +- 2 standard deviations
    factor = grey.double() / 100
    assert factor.mean() == pytest.approx(1, abs=0.003) and factor.std() == pytest.approx(0.048, abs=0.003)
    expected = (240 * factor).clamp(max=255)
    assert (white.double() - expected).abs().max() <= 1.7  # of two roundings
    assert not torch.equal(random_intensity(obs, 0.05), random_intensity(obs, 0.05))  # drawn anew


def sequences(state: tuple = ()) -> Sequence:
    """Six steps of 64 places, all of the same image."""
    flags = torch.zeros(6, 64, dtype=torch.bool)
    step = TimeStep(images().expand(6, 64, 2, 1, 9, 7), flags.long(), torch.zeros(6, 64), flags, flags, flags)
    return Sequence(step, flags.long(), (), state, torch.ones(64), torch.arange(64))


def test_here_and_there_are_drawn_apart_and_the_same_for_every_network_that_is_asked():
    torch.manual_seed(0)
    asked = []

    def network(step, state):
        asked.append(step.obs)
        return torch.zeros(*step.reward.shape, 3), state

    x = DQN(n_steps=3, unroll=3, shift=2).fold(sequences())
    x.here(network), x.here(network), x.there(network), x.there(network)
    here, here_again, there, there_again = asked
    assert here.shape == there.shape == (1, 3 * 64, 2, 1, 9, 7)
    assert torch.equal(here, here_again) and torch.equal(there, there_again)
    assert not torch.equal(here, there)
    assert len(torch.unique(here[0].flatten(1), dim=0)) == 25  # each place by a draw of its own


def test_a_memory_sees_one_draw_for_a_whole_sequence():
    """An image that jumps from step to step would tell it of motion that never was."""
    torch.manual_seed(0)
    x = DQN(n_steps=1, unroll=4, burn_in=1, shift=2).fold(sequences((torch.zeros(64, 1),)))
    obs = x.seq.step.obs
    assert torch.equal(obs, obs[:1].expand_as(obs)) and torch.equal(x.steps.obs, obs[1:])
    assert len(torch.unique(obs[0].flatten(1), dim=0)) > 15  # of 25, in 64 draws


@pytest.mark.parametrize("settings", [{"shift": 2}, {"intensity": 0.1}])
def test_the_loss_is_that_of_the_augmented_images(settings):
    """With images that the augmentation of this draw leaves alike, nothing differs; else it does."""

    def network(step, state):
        return step.obs.float().flatten(2).std(-1, keepdim=True) * torch.tensor([1.0, 2.0, 3.0]), state

    def loss(algorithm, seq):
        torch.manual_seed(1)
        return algorithm.loss(network, network, seq)[0]

    plain, augmenting = DQN(n_steps=5), DQN(n_steps=5, **settings)
    seq = sequences()
    black = seq._replace(step=seq.step._replace(obs=torch.zeros_like(seq.step.obs)))
    assert torch.equal(loss(augmenting, black), loss(plain, black))
    assert not torch.equal(loss(augmenting, seq), loss(plain, seq))
    assert torch.equal(loss(replace(augmenting, shift=0, intensity=0.0), seq), loss(plain, seq))


def test_where_the_target_is_as_new_as_the_network_double_q_is_the_maximum():
    """So that `drq` need not ask a third time: there and then it is bit for bit what its source learns."""
    x = replace(PRESETS["drq"], network=replace(PRESETS["drq"].network, torso="mlp", hidden=8))
    ends = []
    for double in (False, True):
        torch.manual_seed(0)
        asked = replace(x, algorithm=replace(x.algorithm, double=double, n_steps=5))
        agent = build_agent(asked, (2, 1, 9, 7), 3, torch.device("cpu"))
        for _ in range(3):
            seq = sequences()
            earned = torch.arange(6.0)[:, None].expand(6, 64) / 6
            agent.learn(seq._replace(step=seq.step._replace(reward=earned)))
        ends.append(agent.online.state_dict())
    assert all(torch.equal(x, ends[1][name]) for name, x in ends[0].items())
