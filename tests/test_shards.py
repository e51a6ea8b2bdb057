"""Blocks of rows, and several replays as one: nothing comes out otherwise than from one replay, row by row."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from agents.explore import Linear
from agents.replay import Replay, ReplayConfig
from agents.sequence import tree_leaves, tree_map
from agents.shards import Shards
from tests.test_replay import fake_step

CONFIG = ReplayConfig(
    capacity=240, batch_size=8, learn_start=20, learn_period=4, priority_exponent=0.6, stride=3,
    importance_exponent=Linear(0.4, 0.4, 0),
)  # fmt: skip
LENGTH, GAMES = 5, 2


def rows(count, seed=0):
    """(step, action, note, state) of some steps in a row of two games."""
    rng, step, found = np.random.default_rng(seed), None, []
    for _ in range(count):
        step = fake_step(GAMES, rng, after=step)
        found.append((step, torch.from_numpy(rng.integers(0, 4, GAMES)), torch.rand(GAMES), torch.rand(GAMES, 3)))
    return found


def packed(replay, block, priority=None):
    """Rows as a block: what `Replay.extend` takes."""
    step, action, note, _ = (tree_map(lambda *xs: torch.stack(xs), *part) for part in zip(*block, strict=True))
    kept = [row[3] for t, row in enumerate(block) if (replay.rows_added + t) % replay.config.stride == 0]
    state = torch.stack(kept) if kept else torch.zeros(0, GAMES, 3)
    priority = torch.full(action.shape, torch.nan) if priority is None else priority
    return step._replace(obs=step.obs[:, :, -1]), action, note, state, priority


def extend(replay, block, priority=None):
    replay.extend(*packed(replay, block, priority))


def assert_equal(one, other):
    assert all(torch.equal(a, b) for a, b in zip(tree_leaves(one), tree_leaves(other), strict=True))


@pytest.mark.parametrize("count", [1, 2, 7, 23])
def test_a_block_is_what_its_rows_are(count):
    """Shorter and longer than a sequence, and beyond the ring's end again and again."""
    torch.manual_seed(0)
    one, other = (Replay(CONFIG, GAMES, LENGTH, seed=3) for _ in range(2))
    played = rows(300)
    other.allocate(played[0])
    for begin in range(0, 300 - count, count):
        for row in played[begin : begin + count]:
            one.add(*row)
        extend(other, played[begin : begin + count])
        assert (one.tree.nodes == other.tree.nodes).all()
        assert one.state()[0] == other.state()[0]
        if one.tree.total:
            assert_equal(tuple(one.sample(8)), tuple(other.sample(8)))
    assert_equal(one.rows, other.rows)


def test_priorities_that_come_with_a_block_are_those_of_the_sequences_it_completes():
    replay, played = Replay(CONFIG, GAMES, LENGTH), rows(20)
    played = [(step._replace(last=torch.zeros(2, dtype=torch.bool)), *rest) for step, *rest in played]
    replay.allocate(played[0])
    priority = torch.arange(40).view(20, 2).float()
    extend(replay, played[:10], priority[:10])
    priority[12] = torch.nan
    extend(replay, played[10:], priority[10:])
    # Sequences of five begin at 0, 3, ...: they end at 4, 7, 10, 13, 16 and 19. Row 0 was overwritten by nobody.
    begins = np.arange(0, 16, 3)
    found = replay.tree[(begins[:, None] * 2 + np.arange(2)).ravel()]
    wanted = (priority[begins + 4].flatten().double().numpy() + 1e-6) ** 0.6
    assert np.allclose(found, wanted)
    assert replay.max_priority == pytest.approx(39)


@pytest.mark.parametrize("stride", [1, 3])
def test_nothing_is_learned_across_a_tear(stride):
    """A player dies; the first row of the next one is a `first`: the row before it is a `last` then."""
    replay, one, other = Replay(replace(CONFIG, stride=stride), GAMES, LENGTH), rows(30), rows(30, seed=1)
    never = torch.zeros(2, dtype=torch.bool)
    one = [(step._replace(last=never, terminal=never, first=never), *rest) for step, *rest in one]
    replay.allocate(one[0])
    extend(replay, one)
    extend(replay, other)  # whose first row is the first of both games
    assert one[-1][0].last.sum() == 0 and other[0][0].first.all()
    seq, seen = replay.sample(400), 0
    for b, row in enumerate((seq.ids // GAMES).tolist()):
        assert row != 29  # nothing is known of what came of the last row's action
        if 29 - (LENGTH - 1) < row < 29:  # the end of a sequence is only bootstrapped from
            seen += 1
            assert seq.step.last[29 - row, b] and not seq.step.terminal[29 - row, b]
    assert seen > 3


def test_with_a_stride_no_step_of_an_episode_is_left_out():
    """A sequence that begins on a `last` is the only one with the steps after it."""
    replay, played = Replay(CONFIG, GAMES, LENGTH), rows(60)
    for row in played:
        replay.add(*row)
    wanted = {t * GAMES + game for t in range(0, 60 - LENGTH + 1, CONFIG.stride) for game in range(GAMES)}
    assert set(replay.sample(4_000).ids.tolist()) == wanted
    assert any(played[i // GAMES][0].last[i % GAMES] for i in wanted)


def test_one_shard_is_a_replay():
    played = rows(200)
    one, other = Replay(CONFIG, GAMES, LENGTH, seed=3), Shards(CONFIG, GAMES, LENGTH, 3, 1, played[0])
    rng = np.random.default_rng(0)
    for row in played:
        one.add(*row)
        other.shards[0].add(*row)
        for (a, _), (b, _) in zip(one.batches(), other.batches(), strict=True):
            assert_equal(tuple(a), tuple(b))
            priority = torch.from_numpy(rng.random(8))
            one.update(a.ids, priority)
            other.update(b.ids, priority)
    assert one.updates == other.updates == (one.steps_added - 20) // 4


def test_what_is_new_has_the_largest_priority_that_any_shard_has_seen():
    shards = Shards(CONFIG, 2 * GAMES, LENGTH, 3, 2, rows(1)[0])
    for shard in shards.shards:
        for row in rows(20):
            shard.add(*row)
    seq = shards.sample(50)
    shards.update(seq.ids, torch.where(seq.ids % 2 == 0, 30.0, 0.1))
    assert shards.shards[1].tree.leaves.max() <= 1
    shards.extend(1, packed(shards.shards[1], rows(8, seed=2)))
    assert shards.shards[1].tree.leaves.max() == pytest.approx((30 + 1e-6) ** 0.6)


def test_shards_are_sampled_as_if_they_were_one():
    """In proportion to priorities, wherever they are, with weights of the whole; updates find their way back."""
    shards = Shards(CONFIG, 3 * GAMES, LENGTH, 3, 3, rows(1)[0])
    rng, counts = np.random.default_rng(0), (40, 15, 25)
    for i, (shard, count) in enumerate(zip(shards.shards, counts, strict=True)):
        for row in rows(count, seed=i):
            shard.add(*row)
    seq = shards.sample(2_000)
    priority = torch.from_numpy(rng.random(2_000) * 5)
    shards.update(seq.ids, priority)
    newest = dict(zip(seq.ids.tolist(), priority.tolist(), strict=True))
    seq = shards.sample(60_000)
    ids, drawn = np.unique(seq.ids, return_counts=True)
    wanted = np.array([(newest[i] + 1e-6) ** 0.6 for i in ids])
    wanted = wanted / wanted.sum() * 60_000
    many = wanted > 20
    assert (np.abs(drawn - wanted)[many] < 5 * np.sqrt(wanted[many])).all()
    assert {0, 1, 2} == set((ids % 3).tolist())
    weight = dict(zip(seq.ids.tolist(), seq.weight.tolist(), strict=True))
    least = min(newest[i] for i in ids)
    assert all(weight[i] == pytest.approx(((least + 1e-6) / (newest[i] + 1e-6)) ** 0.24, rel=1e-4) for i in ids)
