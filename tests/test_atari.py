"""Our games against gymnasium's own preprocessing, and what else is promised of them."""

import json
from dataclasses import replace

import ale_py
import gymnasium
import numpy as np
import pytest
import torch
from gymnasium.vector import AutoresetMode, SyncVectorEnv
from gymnasium.wrappers import AtariPreprocessing, FrameStackObservation

from agents.sequence import tree_map
from envs.atari import ROMS, AtariPicture, action_names, make_atari, screen_shape
from envs.games import Games, pushed
from envs.probe import Catch, make_probe
from envs.protocols import ATARI100K, MACHADO, NATURE, Protocol
from envs.scores import baselines, human_normalised

gymnasium.register_envs(ale_py)

PLAIN = Protocol("plain", "for tests: no chance at all", 0.0, 0, False)
LIVES = Protocol("lives", "for tests: a lost life is terminal", 0.0, 0, True)


def oracle(game, sticky=0.0, max_frames=108_000):
    env = gymnasium.make(
        f"ALE/{game}-v5", frameskip=1, repeat_action_probability=sticky, max_num_frames_per_episode=max_frames
    )
    return FrameStackObservation(AtariPreprocessing(env, noop_max=0), 4, padding_type="zero")


def ale_seed(seed):
    """The seed that gymnasium's environment hands to the emulator for its own `seed`."""
    return int(np.int32(np.random.SeedSequence(seed).generate_state(2)[1].astype(np.int64) & 0xFFFFFFFF))


def compare_episode(game, protocol, env, seed, emulator_seed):
    """Plays one whole episode in both; returns its length in agent steps."""
    games = make_atari(game, 1, protocol)
    games._draw_seeds = lambda count: np.full(count, emulator_seed)
    step = games.reset(0)
    obs, _ = env.reset(seed=seed)
    rng, played, terminated, truncated = np.random.default_rng(seed), 0, False, False
    while True:
        assert np.array_equal(step.obs[0].numpy(), obs), f"{game}: frames differ after {played} steps"
        assert bool(step.last) == (terminated or truncated)
        assert bool(step.terminal) == terminated
        if step.last:
            break
        action = int(rng.integers(games.num_actions))
        step = games.step(torch.tensor([action]))
        obs, reward, terminated, truncated, _ = env.step(action)
        assert step.reward.item() == reward
        played += 1
    games.close()
    env.close()
    return played


@pytest.mark.parametrize("game", ["Pong", "Seaquest", "MsPacman", "Qbert"])
def test_whole_episodes_equal_gymnasium(game):
    """Frames, rewards and endings, bit for bit, without sticky actions."""
    assert compare_episode(game, PLAIN, oracle(game), seed=3, emulator_seed=3) > 100


@pytest.mark.parametrize("game", ["Breakout", "SpaceInvaders"])
def test_whole_episodes_equal_gymnasium_with_sticky_actions(game):
    """Other games with sticky actions, where the two emulators are given the same seed."""
    seed = next(s for s in range(100) if 0 <= ale_seed(s))
    assert compare_episode(game, MACHADO, oracle(game, sticky=0.25), seed, ale_seed(seed)) > 100


def test_the_frame_cap_truncates_and_is_not_terminal():
    short = Protocol("short", "for tests", 0.0, 0, False, max_frames=400)
    assert compare_episode("Pong", short, oracle("Pong", max_frames=400), 0, 0) == 100


def test_a_lost_life_is_terminal_but_not_the_end():
    games = make_atari("Breakout", 2, LIVES)
    step, lost, over = games.reset(0), 0, 0
    generator = torch.Generator().manual_seed(0)
    while not over:
        step = games.step(torch.randint(games.num_actions, (2,), generator=generator))
        lost += int((step.terminal & ~step.last)[0])
        over = int(step.last[0])
        assert step.terminal[step.last].all()
    assert lost == 4  # five lives: four lost before the one that ends the game
    games.close()


def test_the_row_after_an_end_begins_the_next_episode():
    short = Protocol("short", "for tests", 0.25, 0, False, max_frames=40)
    games = make_atari("Pong", 2, short)
    step = games.reset(0)
    assert step.first.all() and not step.last.any()
    for t in range(1, 34):
        before, step = step, games.step(torch.full((2,), 2))
        assert torch.equal(pushed(before.obs, step.obs[:, -1], step.first), step.obs)  # as a GPU is told
        assert all(torch.equal(a, b) for a, b in zip(games.on_host[1:], step[1:], strict=True))
        assert step.last.tolist() == [t % 11 == 10] * 2
        assert step.first.tolist() == [t % 11 == 0] * 2
        if step.first.all():
            assert not step.reward.any() and not step.prev_action.any()
            assert not step.obs[:, :3].any()  # the stack begins blank
    assert games.agent_steps == 2 * 30  # the three restarts played nothing
    games.close()


def test_rewards_are_raw():
    games = make_atari("SpaceInvaders", 4)
    games.reset(0)
    generator, seen = torch.Generator().manual_seed(0), set()
    for _ in range(300):
        seen |= set(games.step(torch.randint(games.num_actions, (4,), generator=generator)).reward.tolist())
    assert max(seen) >= 10
    games.close()


@pytest.mark.parametrize("protocol", [MACHADO, NATURE, ATARI100K], ids=lambda p: p.name)
def test_same_seed_same_frames_for_one_thread_and_two(protocol):
    short = replace(protocol, max_frames=160)  # so that emulators are seeded anew, too

    def play(num_threads, seed, steps=110):
        games = make_atari("Pong", 2, short, num_threads=num_threads, reseed_after=60)
        found, generator = [games.reset(seed)], torch.Generator().manual_seed(0)
        for _ in range(steps):
            found.append(games.step(torch.randint(games.num_actions, (2,), generator=generator)))
        games.close()
        return found

    one, two = play(1, 5), play(2, 5)
    for a, b in zip(one, two, strict=True):
        tree_map(lambda x, y: torch.testing.assert_close(x, y, rtol=0, atol=0), a, b)
    other = play(1, 6, steps=40)
    assert not all(torch.equal(a.obs, b.obs) for a, b in zip(one, other, strict=False))


def test_seed_and_actions_since_are_the_whole_emulator():
    """Each environment, seeded as its log says and fed the log's actions, shows what it showed: exact resume."""
    protocol = Protocol("short", "for tests", 0.25, 30, True, max_frames=120)
    games = make_atari("Breakout", 3, protocol, reseed_after=50)
    step, generator = games.reset(11), torch.Generator().manual_seed(0)
    for _ in range(140):
        step = games.step(torch.randint(games.num_actions, (3,), generator=generator))
    assert all(0 < len(log) < 140 for log in games.logs)  # all were seeded anew on the way
    for game, log in enumerate(games.logs):
        again = make_atari("Breakout", 1, protocol, reseed_after=None)
        again._draw_seeds = lambda count, seed=log.seed: np.full(count, seed)
        shown = again.reset(0)
        for action in log.actions:
            shown = again.step(torch.tensor([action]))
        assert torch.equal(shown.obs[0], step.obs[game])
        again.close()
    games.close()


def test_each_environment_has_its_own_seed():
    games = make_atari("Breakout", 2)
    games.reset(0)
    seeds = [log.seed for log in games.logs]
    games.reset(1)
    assert len({*seeds, *(log.seed for log in games.logs)}) == 4
    games.close()


@pytest.mark.parametrize("actions", [[0, 99], [-1, 0], [0]])
def test_invalid_actions_are_refused_before_they_hang_the_emulator(actions):
    games = make_atari("Pong", 2)
    games.reset(0)
    with pytest.raises(ValueError, match="actions must be 2 numbers in 0"):
        games.send(torch.tensor(actions))
    games.step(torch.zeros(2, dtype=torch.int64))  # and it still plays
    games.close()


def test_a_picture_refuses_them_too():
    picture = AtariPicture("Pong", MACHADO)
    picture.reset(0)
    with pytest.raises(ValueError, match="action 200 is none of the 6"):
        picture.act(200)
    picture.close()


def test_other_autoreset_modes_are_refused():
    with pytest.raises(ValueError, match="NEXT_STEP"):
        Games(lambda: SyncVectorEnv([Catch], autoreset_mode=AutoresetMode.SAME_STEP))


def test_every_game_has_its_registered_name():
    registered = {name[4:-3] for name in gymnasium.registry if name.startswith("ALE/")}
    assert set(ROMS) == registered
    assert len(ROMS) >= 104


def test_the_57_games_are_there_with_their_scores():
    assert len(baselines()) == 57 and set(baselines()) <= set(ROMS)
    assert human_normalised("Breakout", 1.7) == 0
    assert human_normalised("Breakout", 30.5) == 1
    assert human_normalised("Breakout", 400) == pytest.approx(13.829861111)
    assert human_normalised("Tetris", 1) is None


def test_an_unknown_game_is_refused_with_close_matches():
    with pytest.raises(ValueError, match="did you mean Breakout"):
        make_atari("Braekout", 1)
    with pytest.raises(ValueError, match="MsPacman"):
        make_atari("ms_pacman", 1)
    with pytest.raises(ValueError, match="highscore list games"):
        make_atari("xxxxxxxxxx", 1)


def test_names_of_actions_and_size_of_screen():
    assert action_names("Breakout") == ["NOOP", "FIRE", "RIGHT", "LEFT"]
    assert screen_shape("Breakout") == (210, 160)


def test_games_without_send_work_alike():
    games = make_probe("catch", 3)
    step = games.reset(0)
    for t in range(1, 13):
        step = games.step(torch.ones(3, dtype=torch.int64))
        assert step.last.tolist() == [t % 6 == 5] * 3 and step.first.tolist() == [t % 6 == 0] * 3
    assert games.agent_steps == 3 * 10


@pytest.mark.parametrize("make", [
    lambda: make_atari("Breakout", 2, Protocol("short", "for tests", 0.25, 30, True, max_frames=160), reseed_after=50),
    lambda: make_atari("Qbert", 2, MACHADO),
    lambda: make_probe("catch", 4),
], ids=["breakout", "qbert", "catch"])  # fmt: skip
def test_games_go_on_from_their_state_as_if_nothing_had_happened(make, monkeypatch):
    said = []
    monkeypatch.setattr("envs.games.PATIENCE", 0.0)

    def play(games, step, generator, steps):
        shown = []
        for _ in range(steps):
            step = games.step(torch.randint(games.num_actions, (games.num_envs,), generator=generator))
            shown.append(step)
        return shown

    games, generator = make(), torch.Generator().manual_seed(0)
    step = play(games, games.reset(3), generator, 137)[-1]
    facts, tensors = games.state()
    other, twin = make(), torch.Generator().manual_seed(0)
    twin.set_state(generator.get_state())
    other.say = said.append
    again, exact = other.restore(json.loads(json.dumps(facts)), tensors)
    assert 1 <= len(said) < 30  # how long it will take: first as soon as it takes long, then ever more rarely
    assert all(told.startswith(f"playing {sum(facts['lengths'])} agent steps again") for told in said)
    assert all(told.endswith(" s left") for told in said)
    assert exact and [games.played(i) for i in range(games.num_envs)] == [
        other.played(i) for i in range(games.num_envs)
    ]
    for a, b in zip([step, *play(games, step, generator, 200)], [again, *play(other, again, twin, 200)], strict=True):
        tree_map(lambda x, y: torch.testing.assert_close(x, y, rtol=0, atol=0), a, b)
    assert games.agent_steps == other.agent_steps
    assert [log.seed for log in games.logs] == [log.seed for log in other.logs]
    if games.num_envs == 4:
        return
    with pytest.raises(ValueError, match="action 200 is none of the"):  # which would hang the emulator
        make().restore(facts, tensors | {"actions": torch.full_like(tensors["actions"], 200)})
    games = make()
    spoilt = tensors | {"actions": (tensors["actions"] == 0).to(torch.uint8)}
    shown, exact = games.restore(facts, spoilt)  # as an emulator of another version would
    assert not exact and torch.equal(shown.obs, tensors["shown.obs"])
    counted = games.agent_steps
    fresh = games.restart()
    assert fresh.first.all() and games.agent_steps == counted
    assert not {log.seed for log in games.logs} & set(facts["seeds"])
