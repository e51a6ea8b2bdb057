"""The probe games ask for what they say, and no more."""

import pytest
import torch

from envs.probe import RepeatPrevious, TMaze, make_probe


def test_the_t_maze_is_won_by_who_remembers_the_sign():
    seen = set()
    for seed in range(20):
        maze = TMaze(length=5)
        obs, _ = maze.reset(seed=seed)
        south = bool(obs[0, 0, 1])
        assert obs[0, 0, :2].sum() == 255  # one of the two signs
        total = 0.0
        for _ in range(5):
            obs, reward, over, cut, _ = maze.step(1)
            total += reward
            assert not obs[0, 0, :2].any() and not over and not cut  # the sign is gone
        assert obs[0, 0, 3] == 255
        wrong_first = seed % 2
        obs, reward, over, _, _ = maze.step(2 if south ^ bool(wrong_first) else 0)
        assert over and total + reward == (-0.1 if wrong_first else 4)
        seen.add(south)
    assert seen == {False, True}


def test_dawdling_in_the_t_maze_costs_and_ends():
    maze = TMaze(length=3)
    maze.reset(seed=0)
    rewards, cut = [], False
    while not cut:
        _, reward, over, cut, _ = maze.step(0)
        rewards.append(reward)
        assert not over
    assert rewards == [-0.1] * 30


def test_repeat_previous_is_perfect_for_who_remembers_and_minus_a_half_for_who_guesses():
    game = RepeatPrevious()
    obs, _ = game.reset(seed=3)
    shown, total, over = [], 0.0, False
    while not over:
        shown.append(int(obs[0, 0].argmax()))
        obs, reward, over, _, _ = game.step(shown[-5] if len(shown) > 4 else 0)
        total += reward
    assert total == pytest.approx(1) and len(shown) == 48
    games, scores = make_probe("repeat-previous", 64), torch.zeros(64)
    games.reset(0)
    generator = torch.Generator().manual_seed(0)
    for _ in range(48):
        scores += games.step(torch.randint(4, (64,), generator=generator)).reward
    assert scores.mean().item() == pytest.approx(-0.5, abs=0.05)


def test_environments_seeded_anew_have_seeds_that_none_had():
    games = make_probe("catch", 3)
    games.reseed_after = 20
    games.reset(0)
    seen = [[log.seed for log in games.logs]]
    for _ in range(100):
        games.step(torch.ones(3, dtype=torch.int64))
        now = [log.seed for log in games.logs]
        seen += [now] if now != seen[-1] else []
    seeds = [seed for now in seen for seed in now]
    assert len(seen) > 3 and len(set(seeds)) == len(seeds)
