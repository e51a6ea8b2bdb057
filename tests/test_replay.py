"""Replay returns exactly what the agent saw, and as often as it should."""

import itertools
import json
import os
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from agents.explore import Linear
from agents.frames import CompressedRing, HostRing, frame_ring, stack_frames
from agents.replay import Replay, ReplayConfig, importance_weights
from agents.sequence import tree_leaves
from agents.shards import Shards
from agents.sumtree import SumTree
from envs.atari import make_atari
from envs.protocols import MACHADO, Protocol
from envs.timestep import TimeStep

SHORT = Protocol("short", "for tests: a time limit after 15 agent steps", 0.25, 0, True, max_frames=60)


def fake_step(n, rng, last_chance=0.2, after=None):
    """A TimeStep [n] whose frames carry a number of their own; follows `after` as autoreset would."""
    first = after.last if after is not None else torch.ones(n, dtype=torch.bool)
    last = torch.from_numpy(rng.random(n) < last_chance) & ~first
    obs = torch.from_numpy(rng.integers(0, 255, (n, 4, 2, 2), dtype=np.uint8))
    zeros = torch.zeros(n, dtype=torch.int64)
    return TimeStep(obs, zeros, torch.from_numpy(rng.normal(size=n).astype(np.float32)), first, last, last)


@pytest.fixture(scope="module")
def seen():
    """(step, action, note) of 170 steps of a real game with time limits, three at once."""
    games = make_atari("Breakout", 3, SHORT, reseed_after=40)
    rows, step, rng = [], games.reset(seed=0), torch.Generator().manual_seed(0)
    for _ in range(170):
        action = torch.randint(games.num_actions, (3,), generator=rng)
        rows.append((step, action, torch.rand(3, generator=rng)))
        step = games.step(action)
    games.close()
    return rows


@pytest.mark.parametrize(("length", "storage"), [(2, "auto"), (4, "compressed"), (9, "disk"), (4, "ram")])
def test_sequences_are_what_the_agent_saw(length, storage, seen):
    """After the ring has wrapped several times."""
    rows, envs, played = 40, 3, len(seen)
    replay = Replay(ReplayConfig(capacity=envs * rows, priority_exponent=0.6, storage=storage), envs, length)
    for row in seen:
        replay.add(*row)
    drawn = set()
    for _ in range(60):
        seq = replay.sample(16)
        for b, (t, game) in enumerate(zip((seq.ids // envs).tolist(), (seq.ids % envs).tolist(), strict=True)):
            drawn.add((t, game))
            assert played - rows <= t < played and not seq.step.last[0, b]
            for i in range(length):
                for got, want in zip(seq.step, seen[t + i][0], strict=True):
                    assert torch.equal(got[i, b], want[game])
                assert seq.action[i, b] == seen[t + i][1][game]
                assert seq.note[i, b] == seen[t + i][2][game]
    starts = {
        (t, g) for t in range(played - rows + 4, played - length + 1) for g in range(envs) if not seen[t][0].last[g]
    }
    assert len(drawn & starts) > 0.9 * len(starts)
    assert drawn <= starts | {(t, g) for t in range(played - rows, played - rows + 4) for g in range(envs)}
    assert any(seen[t][0].last[g] and not seen[t][0].terminal[g] for t in range(played) for g in range(envs))


def test_compressed_frames_take_what_is_promised():
    """On the game whose frames are hardest to compress of those measured."""
    games = make_atari("YarsRevenge", 2)
    config = ReplayConfig(capacity=2 * 200, storage="compressed")
    replay, step, rng = Replay(config, 2, 2), games.reset(seed=0), torch.Generator().manual_seed(0)
    for _ in range(200):
        action = torch.randint(games.num_actions, (2,), generator=rng)
        replay.add(step, action)
        step = games.step(action)
    games.close()
    assert 1_000 < replay.rows[0].obs.nbytes / 400 < 0.27 * 84 * 84
    whole = replace(config, storage="ram").bytes_needed(84 * 84)
    assert replay.rows[0].obs.nbytes < config.bytes_needed(84 * 84) < 0.31 * whole


def test_frames_go_to_a_gpu_once_whatever_stacks_they_are_in():
    ring, asked = frame_ring("disk", 50, torch.zeros(3, 6, 6, dtype=torch.uint8)), []
    for i, frames in enumerate(torch.randint(256, (50, 3, 6, 6), dtype=torch.uint8)):
        ring[i] = frames
    far = SimpleNamespace(device=torch.device("cuda"), take=lambda leaf: asked.append(leaf.numel()) or ring.take(leaf))
    window, first = torch.randint(150, (9, 16)), torch.rand(9, 16) < 0.2
    assert torch.equal(stack_frames(far, window, first, 4), stack_frames(ring, window, first, 4))
    assert asked == [window.numel()]


def test_frames_on_a_gpu_need_one():
    replay = Replay(ReplayConfig(capacity=400, storage="cuda"), 2, 2)
    with pytest.raises(ValueError, match="--device cuda, or another storage"):
        replay.add(fake_step(2, np.random.default_rng(0)), torch.zeros(2, dtype=torch.int64))


def test_a_replay_on_a_disk_takes_its_room_at_once(monkeypatch):
    taken = []
    monkeypatch.setattr(os, "posix_fallocate", lambda file, begin, size: taken.append((begin, size)), raising=False)
    ring = HostRing(2_000, torch.zeros(4, 84, 84, dtype=torch.uint8), on_disk=True)
    assert taken == [(0, ring.rows.nbytes)] and ring.rows[-1].sum() == 0


@pytest.mark.parametrize("size", [5, 8, 21])
@pytest.mark.parametrize("kind", [HostRing, partial(HostRing, on_disk=True), CompressedRing])
def test_rings_behave_as_the_tensor_that_they_stand_for(kind, size):
    """Whatever is written first, and again: groups that are compressed together are whole, in part new, or short."""
    torch.manual_seed(0)
    like = torch.zeros(3, 4, 2, dtype=torch.uint8)
    ring, plain = kind(size, like), torch.zeros(size, *like.shape, dtype=torch.uint8)
    orders = [[0, 4, torch.tensor([1, 3]), 4, 0], range(size), [torch.arange(size)], torch.randperm(size).tolist()]
    for rows in itertools.chain(*orders, range(3)):
        plain[rows] = ring[rows] = torch.randint_like(plain[rows], 256)
        assert torch.equal(ring[torch.arange(size)], plain)
    assert len(ring) == size and ring.shape == plain.shape and ring.dtype == plain.dtype
    assert torch.equal(ring[3], plain[3])
    leaf = torch.tensor([[0, 14, 7], [3, 3, 9]])
    assert torch.equal(ring.take(leaf), plain.flatten(0, 1)[leaf])


def test_no_step_is_a_start_while_its_history_is_gone():
    rng = np.random.default_rng(0)
    replay, step = Replay(ReplayConfig(capacity=60), 2, 3), None
    for t in range(100):
        step = fake_step(2, rng, after=step)
        replay.add(step, torch.zeros(2, dtype=torch.int64))
        if t >= 10:
            starts = replay.sample(64).ids // 2
            oldest = max(0, t + 1 - 30)
            assert starts.max() <= t - 2  # the whole sequence is there
            assert starts.min() >= (oldest + 3 if oldest else 0)  # and the three frames before it


@pytest.mark.parametrize("length", [2, 5])
def test_what_is_remembered_of_flags_is_what_the_ring_holds(length):
    """Flags that were heard on the host, flags of the step, and flags read from the ring: the same starts."""
    rng, step = np.random.default_rng(0), None
    heard, shown, forgetful = (Replay(ReplayConfig(capacity=90, priority_exponent=0.6), 3, length) for _ in range(3))
    for _ in range(100):
        step = fake_step(3, rng, after=step)
        action = torch.zeros(3, dtype=torch.int64)
        heard.add(step, action, on_host=step._replace(obs=torch.empty(0)))
        shown.add(step, action)
        forgetful.recent.clear()
        forgetful.add(step, action)
        for other in (shown, forgetful):
            assert np.array_equal(heard.tree.leaves, other.tree.leaves) and heard.steps_added == other.steps_added
    assert 0 < (heard.tree.leaves == 0).sum() < 90 - 30 and len(heard.recent) == length


def test_memory_per_transition_is_what_was_promised():
    """At most 7.2 KB each, so a million fit in 7.3 GB."""
    games = make_atari("Pong", 2, MACHADO)
    config = ReplayConfig(capacity=4096)
    replay = Replay(config, 2, 2)
    replay.add(games.reset(0), torch.zeros(2, dtype=torch.int64))
    games.close()
    actual = sum(x.nbytes for x in tree_leaves(replay.rows)) + replay.tree.nodes.nbytes
    assert actual / config.capacity <= 7_200
    assert config.bytes_needed(84 * 84) == actual
    assert ReplayConfig(capacity=1_000_000).bytes_needed(84 * 84) <= 7.3e9


@settings(max_examples=15, deadline=None)
@given(
    envs=st.integers(1, 9),
    period=st.sampled_from([0.25, 1, 3, 4, 16]),
    start=st.integers(0, 60),
    seed=st.integers(0, 99),
)
def test_the_replay_ratio_is_exact(envs, period, start, seed):
    """For any number of games: floor((agent steps - start) / period) updates, at every moment."""
    rng = np.random.default_rng(seed)
    replay, step = (
        Replay(ReplayConfig(capacity=100 * envs, batch_size=1, learn_start=start, learn_period=period), envs, 2),
        None,
    )
    steps = updates = 0
    for _ in range(40):
        step = fake_step(envs, rng, after=step)
        replay.add(step, torch.zeros(envs, dtype=torch.int64))
        steps += int((~step.last).sum())
        if len(replay.rows[1]) and replay.tree.total:
            updates += sum(1 for _ in replay.batches())
            assert updates == max(0, int((steps - start) // period))


def test_sampling_follows_priorities():
    """Frequencies of 100,000 draws against p^alpha, by a chi-square far beyond chance."""
    rng = np.random.default_rng(1)
    replay, step = Replay(ReplayConfig(capacity=40, priority_exponent=0.6), 1, 2), None
    for _ in range(40):
        step = fake_step(1, rng, last_chance=0, after=step)
        replay.add(step, torch.zeros(1, dtype=torch.int64))
    ids = torch.arange(39)
    priority = torch.from_numpy(rng.random(39) * 3)
    replay.update(ids, priority)
    counts = np.bincount(replay.sample(100_000).ids, minlength=40)
    alive = replay.tree[np.arange(40)] > 0
    wanted = (priority.numpy() + 1e-6) ** 0.6
    wanted = np.append(wanted, 0)[: len(alive)] * alive
    wanted = wanted / wanted.sum() * 100_000
    chi_square = ((counts - wanted)[alive] ** 2 / wanted[alive]).sum()
    assert counts[~alive].sum() == 0
    assert chi_square < alive.sum() + 5 * np.sqrt(2 * alive.sum())


def test_probabilities_and_weights_equal_the_hand_fixtures():
    fixtures = json.loads((Path(__file__).parent / "data/hand_fixtures.json").read_text())["fixtures"]
    for fixture in (f for f in fixtures if f["name"] == "per_weights"):
        x, want = fixture["inputs"], fixture["output"]
        tree = SumTree(4)
        tree[np.arange(4)] = np.array(x["priorities_plus_eps"]) ** x["alpha"]
        probability = tree[np.arange(4)] / tree.total
        assert probability.tolist() == pytest.approx(want["P"], abs=1e-8)
        assert importance_weights(probability, x["beta"]).tolist() == pytest.approx(want["w_normalised"], abs=1e-8)


def test_full_correction_makes_the_weighted_mean_unbiased():
    p = np.random.default_rng(0).random(50)
    p, f = p / p.sum(), np.arange(50.0)
    weight = importance_weights(p, 1.0)
    assert (p * weight * f).sum() / (p * weight).sum() == pytest.approx(f.mean())


def test_new_steps_get_the_largest_priority_seen_and_late_updates_are_ignored():
    rng = np.random.default_rng(2)
    replay, step = Replay(ReplayConfig(capacity=40, priority_exponent=1.0), 1, 2), None

    def play(steps):
        nonlocal step
        for _ in range(steps):
            step = fake_step(1, rng, last_chance=0, after=step)
            replay.add(step, torch.zeros(1, dtype=torch.int64))

    play(20)
    replay.update(torch.tensor([3, 4]), torch.tensor([5.0, 0.5]))
    assert replay.tree[np.array([3, 4, 5])].tolist() == pytest.approx([5, 0.5, 1], abs=1e-5)
    play(2)
    assert replay.tree[np.array([20])].item() == pytest.approx(5, abs=1e-5)
    replay.update(torch.tensor([3]), torch.tensor([0.1]))
    play(1)
    assert replay.tree[np.array([21])].item() == pytest.approx(5, abs=1e-5)  # seen so far, not the largest now
    play(30)  # steps 0 to 12 are overwritten
    before = replay.tree.nodes.copy()
    replay.update(torch.tensor([4]), torch.tensor([99.0]))  # slot 4 holds step 44 now
    assert (replay.tree.nodes == before).all() and replay.max_priority == pytest.approx(99)  # it was seen all the same


def test_importance_exponent_follows_agent_steps():
    rng = np.random.default_rng(3)
    config = ReplayConfig(capacity=64, priority_exponent=1.0, importance_exponent=Linear(0.0, 1.0, 40))
    replay, step = Replay(config, 1, 2), None
    for _ in range(41):
        step = fake_step(1, rng, last_chance=0, after=step)
        replay.add(step, torch.zeros(1, dtype=torch.int64))
    replay.update(torch.arange(20), torch.full((20,), 4.0))
    seq = replay.sample(256)
    assert sorted({round(w, 4) for w in seq.weight.tolist()}) == [0.25, 1.0]


@pytest.mark.parametrize("shards", [False, True])
def test_importance_exponent_follows_the_agent_steps_of_all_games(shards):
    rng = np.random.default_rng(3)
    config = ReplayConfig(capacity=200, priority_exponent=1.0, importance_exponent=Linear(0.0, 1.0, 80))
    step = fake_step(4, rng, last_chance=0)
    replay = Replay(config, 4, 2)
    if shards:
        replay = Shards(config, 4, 2, 0, 1, (step, torch.zeros(4, dtype=torch.int64), (), ()))
    add = replay.shards[0].add if shards else replay.add
    for _ in range(10):  # 40 agent steps: beta is 0.5
        step = fake_step(4, rng, last_chance=0, after=step)
        add(step, torch.zeros(4, dtype=torch.int64))
    replay.update(torch.arange(16), torch.full((16,), 4.0))
    assert sorted({round(w, 3) for w in replay.sample(256).weight.tolist()}) == [0.5, 1.0]


def test_too_small_a_ring_is_refused():
    with pytest.raises(ValueError, match="capacity"):
        Replay(ReplayConfig(capacity=50), 8, 2)


def test_sum_tree_finds_by_mass():
    tree = SumTree(5)
    tree[np.arange(5)] = np.array([1.0, 0, 3, 0, 4])
    mass = (np.arange(8000) + 0.5) / 8000 * tree.total
    assert np.bincount(tree.find(mass), minlength=5).tolist() == [1000, 0, 3000, 0, 4000]
    assert tree.find(np.array([0.0, 1.0, 4.0, 8.0])).tolist() == [0, 2, 4, 4]  # edges, and the total itself


@settings(max_examples=50, deadline=None)
@given(st.integers(2, 70), st.integers(0, 10_000))
def test_sum_tree_agrees_with_a_plain_array(capacity, seed):
    rng = np.random.default_rng(seed)
    tree, plain = SumTree(capacity), np.zeros(capacity)
    for _ in range(20):
        leaf = rng.choice(capacity, min(5, capacity), replace=False)
        tree[leaf] = plain[leaf] = rng.integers(0, 8, len(leaf)) * rng.integers(0, 2, len(leaf))  # sums are exact
        assert tree.total == plain.sum()
        if tree.total:
            mass = rng.random(20) * tree.total
            assert (tree.find(mass) == np.searchsorted(plain.cumsum(), mass, side="right")).all()


def test_sum_tree_does_not_drift():
    rng = np.random.default_rng(0)
    tree, plain = SumTree(1000), np.zeros(1000)
    for _ in range(10_000):
        leaf = rng.integers(0, 1000, 10)
        value = rng.random(10) * 10.0 ** rng.integers(-6, 6)
        tree[leaf] = value
        plain[leaf] = value
    assert tree.total == pytest.approx(plain.sum(), rel=1e-12)


def filled(config, rows):
    """A replay of one game and sequences of two steps, to which so many rows of an endless episode were added; and what
    may be added next, (step, action)."""
    rng, replay, action = np.random.default_rng(0), Replay(config, 1, 2), torch.zeros(1, dtype=torch.int64)
    step = fake_step(1, rng, last_chance=0)
    for _ in range(rows):
        replay.add(step, action)
        step = fake_step(1, rng, last_chance=0, after=step)
    return replay, (step, action)


def test_a_sequence_without_error_is_still_drawn_now_and_then():
    replay, _ = filled(ReplayConfig(capacity=40, priority_exponent=1.0), 20)
    replay.update(torch.tensor([3]), torch.tensor([0.0]))
    replay.update(torch.tensor([3]), torch.tensor([2.0]))
    assert replay.tree[np.array([3])].item() == pytest.approx(2, abs=1e-5)
