"""Players fill blocks with what they saw, and with the priorities that the learner would find."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from agents.c51 import C51
from agents.explore import Ladder, Linear
from agents.munchausen import MunchausenIQN
from agents.sequence import tree_leaves, tree_map
from agents.shards import Shards
from experiments.build_network import build_network
from experiments.config import NetworkConfig
from experiments.distributed.blocks import block_rows, carve, example_row, like, size_of
from experiments.distributed.player import Player
from experiments.distributed.setup import build
from experiments.distributed.weights import Weights, memory_for
from experiments.presets import PRESETS


def small(preset="dqn", **changes):
    """A preset on a probe game, for two players of two games each."""
    x = PRESETS[preset]
    network = replace(x.network, torso="mlp", width=1, dense=0, hidden=16, memory_size=8)
    x = replace(
        x, game="probe/catch", protocol="probe", stack=2, num_envs=4, players=2, distributed="local", network=network,
        explore=Ladder(4, base=0.5, alpha=3.0), frames=2_000, target_period=20,
        replay=replace(
            x.replay, capacity=1_200, batch_size=8, learn_start=200, learn_period=8, stride=min(x.replay.stride, 8),
            priority_exponent=0.6, importance_exponent=Linear(0.4, 0.4, 0), initial_priority="player",
        ),
        evaluation=replace(x.evaluation, episodes=4, video_seconds=0),
    )  # fmt: skip
    algorithm = replace(x.algorithm, burn_in=min(x.algorithm.burn_in, 4), unroll=min(x.algorithm.unroll, 6))
    return replace(replace(x, algorithm=algorithm), **changes)


def on_policy(preset, **changes):
    """A preset that learns from rollouts, on a probe game."""
    x = PRESETS[preset]
    network = replace(x.network, torso="mlp", hidden=16)
    return replace(x, game="probe/catch", protocol="probe", network=network, **changes)


def play(x, blocks, **how):
    """The player number 1, and copies of the blocks that it filled."""
    player = Player(x, number=1, life=0, first_row=0, **how)
    with torch.no_grad():  # larger than at first, and without biases, so that what is seen matters
        for parameter in player.agent.online.parameters():
            parameter.mul_(3 if parameter.dim() > 1 else 0)
    shape, filled, ended = like(x, example_row(x, player.agent)), [], []
    memory = torch.zeros(size_of(shape), dtype=torch.uint8)
    for _ in range(blocks):
        block = carve(memory, shape)
        ended += player.fill(block, lambda: 0)
        filled.append(tree_map(torch.clone, block))
    return player, filled, ended


KINDS = {
    "three steps": lambda: small("prioritized", algorithm=replace(PRESETS["prioritized"].algorithm, n_steps=3)),
    "augmented": lambda: small(
        "prioritized", algorithm=replace(PRESETS["prioritized"].algorithm, shift=1, intensity=0.2)
    ),
    "a memory": lambda: small("r2d2-small", game="probe/repeat-previous"),  # whose episodes are long
    "distributions": lambda: small("c51", algorithm=C51(n_steps=2, atoms=7)),
    "quantiles": lambda: small(
        "m-iqn", algorithm=MunchausenIQN(samples=4, n_steps=2), network=NetworkConfig("mlp", hidden=8)
    ),
}


@pytest.mark.parametrize("kind", KINDS)
def test_priorities_are_those_of_the_learner_with_the_same_weights(kind):
    """And what the learner gets is what was played: its network answers as the player's did."""
    x = KINDS[kind]()
    player, filled, _ = play(x, 5)
    agent, algorithm = player.agent, player.agent.algorithm
    agent.target.load_state_dict(agent.online.state_dict())
    shards = Shards(x.replay, x.num_envs, algorithm.length, 0, x.players, example_row(x, agent))
    shard = shards.shards[1]
    for block in filled:
        shard.extend(*block)
    assert shard.rows_added == 5 * block_rows(x) and not shards.shards[0].rows_added
    seq = shards.sample(64)
    given = shard.tree[((seq.ids // 2) % (shard.size * 2)).numpy()]
    with torch.no_grad():
        priority = replace(algorithm, shift=0, intensity=0.0).loss(agent.online, agent.target, seq)[1]
    if kind != "quantiles":  # which are drawn anew each time
        assert torch.allclose(torch.from_numpy(given), (priority.double() + 1e-6) ** 0.6, rtol=1e-4)
    assert given.std() > 0 and given.max() != 1


def test_without_them_new_sequences_get_the_largest_so_far():
    x = small("prioritized")
    player, (block, *_), _ = play(replace(x, replay=replace(x.replay, initial_priority="largest")), 1)
    shards = Shards(x.replay, x.num_envs, player.agent.algorithm.length, 0, x.players, example_row(x, player.agent))
    shard = shards.shards[1]
    shard.max_priority = 3.0
    shard.extend(*block)
    found = shard.tree[np.arange(shard.size * 2)]
    assert set(found) == {0.0, 3.0**0.6} and (found > 0).sum() > 20


def test_what_arrives_is_what_was_played():
    """Asked again, the network says what the player did, who explores one time in millions."""
    x = small("prioritized", explore=Ladder(4, base=0.5, alpha=30.0))
    player, filled, _ = play(x, 8)
    shards = Shards(x.replay, x.num_envs, player.agent.algorithm.length, 0, 2, example_row(x, player.agent))
    for block in filled:
        shards.shards[1].extend(*block)
    seq = shards.sample(500)
    said = player.agent.online(seq.step, ())[0].argmax(-1)
    assert said.unique().numel() > 1 and (said == seq.action).float().mean() > 0.99


def test_each_life_of_a_player_is_another():
    (_, one, _), (_, same, _) = play(small(), 1), play(small(), 1)
    assert all(torch.equal(a, b) for a, b in zip(tree_leaves(one[0][:3]), tree_leaves(same[0][:3]), strict=True))
    again = Player(small(), number=1, life=1, first_row=0)
    other = Player(small(), number=0, life=0, first_row=0)
    seeds = [tuple(log.seed for log in player.games.logs) for player in (play(small(), 1)[0], again, other)]
    assert len(set(seeds)) == 3


def test_players_have_their_own_rungs_of_the_ladder():
    x = small()
    rungs = torch.cat([Player(x, number, 0, 0).epsilon(0) for number in range(2)])
    assert torch.equal(rungs, Ladder(4, base=0.5, alpha=3.0)(0)) and rungs[0] == 0.5
    assert Player(replace(x, explore=Linear(1.0, 0.0, 100)), 0, 0, 0).epsilon(50) == 0.5


def test_episodes_are_told_with_all_it_takes_to_play_them_again():
    _, filled, ended = play(small(), 4)
    rewards = torch.cat([block.step.reward for block in filled])
    lasts = torch.cat([block.step.last for block in filled])
    assert {episode.game for episode, _ in ended} == {2, 3}  # of all games, those of player 1
    for game in (0, 1):
        scores = [episode.score for episode, _ in ended if episode.game == game + 2]
        assert rewards[lasts[:, game], game].tolist() == scores[: int(lasts[:, game].sum())]
    assert all(sum(played.rewards) == episode.score for episode, played in ended)


def test_weights_are_read_whole_or_again():
    """A reader that is overtaken twice while it reads has mixed two copies, and reads again."""
    torch.manual_seed(0)
    writer, reader = (build_network(NetworkConfig("mlp", hidden=8), (1, 2, 2), 3) for _ in range(2))
    memory = memory_for(writer)
    out, into = Weights(memory, writer), Weights(memory, reader)
    names = list(writer.state_dict())

    def is_one_of(version):
        return all(torch.equal(x, torch.full_like(x, version)) for x in reader.state_dict().values())

    def publish(version):
        for x in writer.state_dict().values():
            x.fill_(version)
        out.publish(version)

    publish(7)
    assert into.load() == 7 and is_one_of(7)
    overtaken = [False]

    class Slow(dict):
        """State dict of a reader that is interrupted after the first tensor."""

        def values(self):
            for i, x in enumerate(super().values()):
                if i == 1 and not overtaken[0]:
                    overtaken[0] = True
                    publish(8)
                    publish(9)
                yield x

    plain = reader.state_dict
    reader.state_dict = lambda: Slow(plain())
    assert into.load() == 9 and overtaken[0] and len(names) > 2
    reader.state_dict = plain
    assert is_one_of(9)


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"players": 3}, "--num-envs 4 cannot be shared equally by --players 3"),
        ({"players": 0}, "--players must be at least 1"),
        ({"replay": replace(small().replay, capacity=100)}, "--replay.capacity 100 is too small for blocks"),
        ({"bonus": replace(small().bonus, weight=0.5)}, "--bonus.weight"),
    ],
)
def test_what_cannot_work_is_refused(changes, says):
    with pytest.raises(ValueError, match=says):
        build(replace(small(), **changes), torch.device("cpu"))


def test_rollouts_have_no_players():
    x = replace(PRESETS["ppo"], distributed="local", num_envs=8)
    with pytest.raises(ValueError, match="--distributed local needs a replay, and PPO learns from rollouts"):
        build(x, torch.device("cpu"))


@pytest.mark.parametrize(
    "period, games, stride, rows", [(4, 16, 1, 2), (16, 32, 1, 4), (658, 256, 1, 16), (1, 64, 1, 1), (16, 16, 20, 20)]
)
def test_blocks_are_short_where_much_is_learned(period, games, stride, rows):
    """A round of blocks pays for 8 updates at most, but for blocks that have to hold a stride."""
    x = small(num_envs=games)
    assert block_rows(replace(x, replay=replace(x.replay, learn_period=period, stride=stride))) == rows
