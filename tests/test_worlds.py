"""Worlds beyond Atari: each is a game like any other, from the command line down to the emulator."""

import json
import sys
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from gymnasium.spaces import Box

from agents.replay import Replay, ReplayConfig
from agents.sequence import tree_map
from envs.crafter import Crafter
from envs.doom import Doom
from envs.games import pushed
from envs.gym_games import make_stacked
from envs.library import GAMES, game_of
from envs.minatar import MinAtar
from envs.protocols import CRAFTER, FLICKER, MACHADO, MINATAR, NATURE, PROTOCOLS, VIZDOOM, Protocol
from envs.recording import Recording, render
from envs.scores import human_normalised
from experiments.achievements import achievement_score, names_of, success_rates
from experiments.build import build_agent, make_games
from experiments.checks import check
from experiments.cli import parse_train, run_command
from experiments.evaluate import describe
from experiments.presets import preset
from experiments.scoring import score_agent
from experiments.video import video_of
from networks.torsos import MinAtarCNN

CPU = torch.device("cpu")


def make(name, num_envs=2, stack=1, protocol=""):
    game = game_of(name)
    rules = protocol if isinstance(protocol, Protocol) else game.protocol(protocol or game.protocols[0])
    return game.make(num_envs, rules, device="cpu", stack=stack)


def play(games, step, generator, steps):
    shown = []
    for _ in range(steps):
        step = games.step(torch.randint(games.num_actions, (games.num_envs,), generator=generator))
        shown.append(step)
    return shown


def same(one, other):
    for a, b in zip(one, other, strict=True):
        tree_map(lambda x, y: torch.testing.assert_close(x, y, rtol=0, atol=0), a, b)


LENGTH = {"doom/basic": 100, "crafter": 60}
"""Agent steps in which some episode ends, and another one is on its way."""
RULES = {"crafter": replace(CRAFTER, max_frames=40)}  # where an episode takes too long


@pytest.mark.parametrize(
    "name, stack",
    [
        ("doom/basic", 4),
        ("crafter", 1),
        ("minatar/breakout", 1),
        ("minatar/seaquest", 3),
        ("board/tic-tac-toe", 1),
        ("probe/t-maze", 2),
        ("gym/CartPole-v1", 4),
    ],
)
def test_a_world_is_played_repeated_resumed_and_shown_again(name, stack):
    """Spaces; the same seed plays the same; a state goes on exactly; recordings score what was scored."""
    game, length = game_of(name), LENGTH.get(name, 150)
    rules = RULES.get(name) or game.protocol(game.protocols[0])
    games = make(name, stack=stack, protocol=rules)
    games.reseed_after = length // 2
    step, generator = games.reset(3), torch.Generator().manual_seed(0)
    assert games.observation_shape == (stack, *game.frame_shape) == step.obs.shape[1:]
    assert step.obs.dtype == torch.uint8 and games.num_actions == len(set(game.actions()))
    assert step.obs[:, -1].any() or game.world == "board"  # whose own beginning is blank
    assert not step.obs[:, :-1].any()  # as the stack's is

    recordings = []
    shown = []
    for _ in range(length):
        shown += play(games, step, generator, 1)
        for i in shown[-1].last.nonzero().flatten().tolist():
            recordings.append(Recording.of(name, rules, games.played(i)))
    assert recordings
    for before, now in pairwise(shown):  # what a GPU is told: the newest frames, and where episodes begin
        assert torch.equal(pushed(before.obs, now.obs[:, -1], now.first), now.obs)
    facts, tensors = games.state()
    state = generator.get_state()
    shown += play(games, shown[-1], generator, 40)

    other = make(name, stack=stack, protocol=rules)
    other.reseed_after = games.reseed_after
    again, exact = other.restore(json.loads(json.dumps(facts)), tensors)
    assert exact
    twin = torch.Generator().manual_seed(0)
    twin.set_state(state)
    same(shown[length - 1 :], [again, *play(other, again, twin, 40)])

    short = [other.reset(3), *play(other, None, torch.Generator().manual_seed(0), 30)]
    same([step, *shown[:30]], short)  # whatever it had played before
    elsewhere = [other.reset(4), *play(other, None, torch.Generator().manual_seed(0), 30)]
    assert not all(torch.equal(a.obs, b.obs) for a, b in zip(short, elsewhere, strict=True))
    games.close(), other.close()

    recording = recordings[-1]
    frames, rewards = zip(*render(recording), strict=True)
    assert sum(rewards) == pytest.approx(recording.score, abs=1e-4)
    steps = len(recording.actions) - recording.begin
    assert (steps - 1) * game.frame_skip < len(frames) - 1 <= steps * game.frame_skip
    assert frames[0].dtype == np.uint8 and frames[0].shape[2] == 3
    assert len({frame.tobytes() for frame in frames}) > 1  # it moves
    assert any(frame.std(axis=2).any() for frame in frames)  # in colour


def test_every_game_of_every_world_begins():
    """Those of the first test were only a few."""
    names = [name for name, game in GAMES.items() if game.world in ("minatar", "probe", "doom")]
    assert len(names) == 5 + 4 + 5
    for name in names:
        games = make(name, num_envs=1)
        step = games.reset(0)
        assert step.obs.shape == (1, 1, *game_of(name).frame_shape)
        assert games.num_actions == len(game_of(name).actions())
        play(games, step, torch.Generator().manual_seed(0), 3)
        games.close()


def test_a_scenario_out_of_time_is_cut_short_and_shows_its_last_screen():
    """Kempka et al.'s basic lasts 300 tics: 75 actions of 4, each -1 a tic."""
    doom = Doom("basic", VIZDOOM)
    doom.reset(seed=0)
    score, steps, over, cut = 0.0, 0, False, False
    while not (over or cut):
        obs, reward, over, cut, _ = doom.step(0)
        score, steps = score + reward, steps + 1
    assert (score, steps, over, cut) == (-300, 75, False, True) and obs.std() > 5
    # The engine ignores a seed that it has just been given; the game must begin alike all the same.
    first, _ = doom.reset(seed=7)
    second, _ = doom.reset(seed=7)
    one = [doom.step(1)[0] for _ in range(20)]
    doom.reset(seed=7)
    assert np.array_equal(first, second) and all(np.array_equal(a, doom.step(1)[0]) for a in one)
    assert doom.step(3)[1] <= -4  # a shot costs 5, or hits
    doom.close()
    assert not Path("_vizdoom").exists() and not Path("_vizdoom.ini").exists()


def test_flickering_frames_are_the_same_game_seen_half_the_time():
    """Each frame is black with probability 1/2, stays so in the stack, and nothing else differs from `nature`."""
    plain, flickering, twin = (make("Breakout", 2, 3, name) for name in ("nature", "flicker", "flicker"))
    assert FLICKER == replace(NATURE, name="flicker", source=FLICKER.source, flicker=0.5)
    streams = []
    for games in (plain, flickering, twin):
        games.reseed_after = 100
        streams.append([games.reset(0), *play(games, None, torch.Generator().manual_seed(0), 250)])
        games.close()
    same(streams[1], streams[2])
    lit, dark = 0, 0
    for t, (whole, seen) in enumerate(zip(streams[0], streams[1], strict=True)):
        same([whole._replace(obs=whole.reward)], [seen._replace(obs=seen.reward)])
        for game in range(2):
            for frame, shown in zip(whole.obs[game], seen.obs[game], strict=True):
                assert torch.equal(frame, shown) or not shown.any()
            lit += bool(seen.obs[game, -1].any())
            dark += not seen.obs[game, -1].any()
            if t and not seen.first[game]:  # what was shown black stays black
                before = streams[1][t - 1].obs[game]
                assert torch.equal(seen.obs[game, :-1], before[1:])
    assert abs(dark / (dark + lit) - 0.5) < 0.067  # 502 frames: three standard deviations
    patterns = {tuple(bool(step.obs[game, -1].any()) for step in streams[1][:50]) for game in range(2)}
    assert len(patterns) == 2  # each game has chances of its own


def test_the_replay_returns_frames_with_channels_as_they_were_seen():
    games = make("minatar/breakout", 2, stack=3)
    replay = Replay(ReplayConfig(capacity=200, batch_size=64, learn_start=1), 2, length=2)
    seen, step, generator = [], games.reset(0), torch.Generator().manual_seed(0)
    for _ in range(60):
        action = torch.randint(6, (2,), generator=generator)
        replay.add(step, action)
        seen.append(step.obs)
        step = games.step(action)
    assert replay.rows[0].obs.shape == (100, 2, 4, 10, 10)  # each frame once
    seq = replay.sample(64)
    assert seq.step.obs.shape == (2, 64, 3, 4, 10, 10)
    for t in range(2):
        for column, i in enumerate(seq.ids.tolist()):
            assert torch.equal(seq.step.obs[t, column], seen[i // 2 + t][i % 2])


def test_the_torso_for_small_boards():
    torso = MinAtarCNN((4, 10, 10))
    assert torso.size == 1024 and sum(p.numel() for p in torso.parameters()) == 16 * 4 * 9 + 16
    boards = torch.randint(0, 256, (5, 4, 10, 10), dtype=torch.uint8)
    assert torso(boards).shape == (5, 1024)
    assert torch.equal(torso(boards), torso(boards.view(5, 2, 2, 10, 10)))  # a stack of two frames, two channels each


def test_achievements_are_scored_as_in_the_paper():
    """Hafner (2022): exp(mean(ln(1 + s))) - 1 of success rates in per cent."""
    crafter = game_of("crafter")
    assert names_of(crafter, 0b1000000000000000000101) == ["collect_coal", "collect_drink", "wake_up"]
    rates = success_rates(crafter, [["wake_up"], ["wake_up", "eat_cow"], [], ["wake_up"]])
    assert len(rates) == 22 and rates["wake_up"] == 75 and rates["eat_cow"] == 25 and rates["eat_plant"] == 0
    assert achievement_score([75, 25] + [0] * 20) == pytest.approx((76 * 26) ** (1 / 22) - 1)
    assert achievement_score([100] * 22) == pytest.approx(100) and achievement_score([0] * 22) == 0
    assert success_rates(game_of("Pong"), [[]]) == {}
    assert human_normalised("crafter", 9.0) is None


def test_an_evaluation_of_crafter_counts_achievements():
    """Against the game's own count, on the same episode."""
    x = preset("ppo-crafter")
    torch.manual_seed(0)
    agent = build_agent(x, (1, 3, 64, 64), 17, CPU)
    result, (recording,) = score_agent(agent, x, 1, epsilon=0.0, seed=1, device=CPU)
    import crafter

    from envs.crafter import Crafter
    from envs.protocols import CRAFTER

    env = Crafter(CRAFTER)
    env.reset(seed=recording.seed)
    for action in recording.actions:
        env.step(action)
    counts = env.game._player.achievements
    assert result["success_rates"] == {name: 100.0 * (n > 0) for name, n in sorted(counts.items())}
    assert list(result["success_rates"]) == sorted(crafter.constants.achievements)
    assert result["achievement_score"] == pytest.approx(101 ** (sum(n > 0 for n in counts.values()) / 22) - 1)
    assert f"achievements {result['achievement_score']:.1f} %" in describe(result)


@pytest.mark.parametrize(
    "game, package, extra",
    [("doom/basic", "vizdoom", "doom"), ("crafter", "crafter", "crafter"), ("minatar/freeway", "minatar", "minatar")],
)
def test_a_missing_package_is_named_with_its_command(game, package, extra, monkeypatch, capsys, tmp_path):
    monkeypatch.setitem(sys.modules, package, None)
    args = ["ppo", "--game", game, "--network.torso", "mlp", "--runs", str(tmp_path)]
    assert run_command("train", args) == 2
    err = capsys.readouterr().err
    assert f"{package} is not installed" in err and f"pip install -e '.[{extra}]'" in err and err.count("\n") == 1
    assert not list(tmp_path.iterdir())


def test_a_protocol_fits_its_game(capsys, tmp_path):
    def chosen(*args):
        return parse_train([*args]).experiment.protocol

    assert chosen("ppo") == "nature" and chosen("dqn", "--game", "Pong") == "machado"
    assert chosen("ppo", "--game", "crafter") == "crafter"
    assert chosen("ppo", "--game", "doom/my-way-home", "--stack", "1") == "vizdoom"
    assert chosen("ppo-minatar", "--game", "Pong") == "machado"
    assert chosen("ppo", "--game", "Pong", "--protocol", "flicker") == "flicker"
    for args, words in (
        (["ppo", "--game", "crafter", "--protocol", "machado"], "for crafter there are crafter"),
        (["dqn", "--protocol", "vizdoom"], "for Breakout there are machado, nature, atari100k, flicker"),
        (["ppo", "--game", "doom/basics"], "did you mean doom/basic"),
        (["ppo", "--game", "minatar/breakout"], "--network.torso minatar"),
    ):
        assert run_command("train", [*args, "--runs", str(tmp_path)]) == 2
        assert words in capsys.readouterr().err
    worlds = {game.world for game in GAMES.values()}
    assert {protocol.world for protocol in PROTOCOLS.values()} == worlds | {"gymnasium"}


def test_a_recording_from_before_there_were_other_worlds_is_read():
    recording = Recording("Pong", MACHADO, 3, 0, b"\1\2", (), 0.0)
    import zlib

    header, actions = zlib.decompress(recording.pack()).split(b"\n", 1)
    fields = json.loads(header)
    del fields["protocol"]["world"], fields["protocol"]["flicker"]
    assert Recording.unpack(zlib.compress(json.dumps(fields).encode() + b"\n" + actions), None) == recording


def test_a_video_runs_at_the_pace_of_its_game(tmp_path):
    import av

    x = replace(preset("ppo-minatar"), game="probe/catch", protocol="probe")
    games = make_games(x, 1, CPU)
    step = games.reset(0)
    while not step.last:
        step = games.step(torch.zeros(1, dtype=torch.int64))
    recording = Recording.of("probe/catch", game_of("probe/catch").protocol("probe"), games.played(0))
    assert video_of(recording, tmp_path / "v.mp4") == 6 / 5  # six boards, five a second
    with av.open(str(tmp_path / "v.mp4")) as container:
        assert container.streams.video[0].average_rate == 5


def test_protocols_are_what_they_cite():
    found = {p.name: (p.sticky_actions, p.noop_max, p.life_loss_is_terminal, p.max_frames) for p in PROTOCOLS.values()}
    assert found == {
        "machado": (0.25, 0, False, 108_000), "nature": (0, 30, True, 108_000), "atari100k": (0, 30, True, 108_000),
        "flicker": (0, 30, True, 108_000), "vizdoom": (0, 0, False, 0), "crafter": (0, 0, False, 10_000),
        "minatar": (0.1, 0, False, 108_000), "probe": (0, 0, False, 0), "self-play": (0, 5, False, 0),
        "minimax": (0, 0, False, 0), "random": (0, 0, False, 0),
        "gymnasium": (0, 0, False, 108_000),
    }  # fmt: skip
    assert MinAtar("breakout", MINATAR).game.sticky_action_prob == 0.1


@pytest.mark.parametrize(
    "make",
    [lambda: Crafter(replace(CRAFTER, max_frames=20)), lambda: MinAtar("freeway", replace(MINATAR, max_frames=20))],
    ids=["crafter", "minatar"],
)
def test_a_time_limit_is_no_death(make):
    env = make()
    env.reset(seed=0)
    ends = [env.step(0)[2:4] for _ in range(20)]
    assert ends == [(False, False)] * 19 + [(False, True)]


@pytest.mark.parametrize("shape, kind", [((3, 20, 20), np.uint8), ((1, 20, 20), np.float32), ((20,), np.uint8)])
def test_frames_that_would_be_cut_or_rounded_are_refused(shape, kind):
    """Of three colours without the axis of the stack only the first would be seen."""
    env = SimpleNamespace(observation_space=Box(0, 255, shape, kind))
    with pytest.raises(ValueError, match=r"frames must be uint8 \[1, \.\.\.\]"):
        make_stacked(lambda protocol: env, PROTOCOLS["probe"], stack=4)


def test_a_world_without_a_protocol_is_named(monkeypatch):
    kept = {name: protocol for name, protocol in PROTOCOLS.items() if protocol.world != "atari"}
    monkeypatch.setattr("envs.game.PROTOCOLS", kept)
    for more in ([], ["--protocol", "machado"]):
        with pytest.raises(ValueError, match=r"atari has no protocol: envs/protocols\.py"):
            check(parse_train(["dqn", "--game", "Pong", *more]).experiment, CPU)
