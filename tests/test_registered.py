"""Environments that are registered with Gymnasium are games like any other."""

import random
import sys

import numpy as np
import pytest
import torch

from envs.library import game_of
from envs.protocols import GYMNASIUM
from envs.registered import Registered, chance, shows_pictures
from envs.screen import screen_of
from experiments.cli import run_command
from experiments.files import read_rows
from experiments.matrix import cells, make_spec
from experiments.run import Run
from experiments.suite_checks import experiment_of
from tests.own_game import Box, Corridor

OWN = "gym/tests.own_game:Corridor-v0"


def rules():
    return game_of(OWN).protocol("gymnasium")


def test_a_picture_is_what_the_agent_sees_in_grey():
    env, raw = Registered("tests.own_game:Corridor-v0", rules()), Corridor()
    obs, info = env.reset(seed=3)
    picture, _ = raw.reset(seed=3)
    assert obs.shape == (1, 84, 84) and obs.dtype == np.uint8 and info == {}
    assert set(np.unique(obs[0][:, ::14])) == {0, 60}  # 0.299 of 200; 14 pixels a place
    assert (obs[0, 0, 7::14] > 0).argmax() == raw.place == picture[0, 4::8, 0].argmax()
    assert np.array_equal(env.render()[0], picture)
    env.step(0)
    assert env.render()[0][0, 4::8, 0].argmax() == max(raw.place - 1, 0)  # 0 is the first action, called 1 there


def test_what_is_no_picture_is_looked_at_on_the_screen():
    env = Registered("CartPole-v1", rules())
    obs, _ = env.reset(seed=0)
    (screen,) = env.render()
    assert screen.shape == (400, 600, 3) and 200 < obs.mean() < 255 and obs.min() < 100  # a dark cart on white
    env.close()
    for shape, pictures in (((64, 64, 3), True), ((40, 48), True), ((8, 8, 3), False), ((3, 64, 64), False)):
        assert shows_pictures(Box(0, 255, shape, np.uint8)) == pictures
    assert not shows_pictures(Box(0, 1, (64, 64, 3), np.float32))


SMALL = ("dqn", "--replay.capacity", "10k", "--wandb", "off")  # for which every machine has room


@pytest.mark.parametrize(
    "name, words",
    [
        ("CartPole-v9", "It provides versioned environments"),
        ("Nope-v0", "Environment `Nope` doesn't exist"),
        ("nope:Nope-v0", "a module in this folder is found with PYTHONPATH=."),
        ("Pendulum-v1", "agents here choose one of 256 actions"),
        ("tests.own_game:Drawn-v0", "shows no pictures"),
        ("tests.own_game:Floats-v0", "its screen is float64 [40, 48, 3]; rgb_array is uint8 [height, width, 3]"),
    ],
)
def test_what_cannot_be_played_is_refused_in_a_line(name, words, tmp_path, capsys):
    assert run_command("train", [*SMALL, "--game", f"gym/{name}", "--runs", str(tmp_path)]) == 2
    err = capsys.readouterr().err
    assert words in err and f"gym/{name}" in err and err.count("\n") == 1 and not list(tmp_path.iterdir())


def test_what_draws_may_be_missing(monkeypatch, tmp_path, capsys):
    monkeypatch.setitem(sys.modules, "pygame", None)
    assert run_command("train", [*SMALL, "--game", "gym/CartPole-v1", "--runs", str(tmp_path)]) == 2
    err = capsys.readouterr().err
    assert 'pip install "gymnasium[classic' in err and err.count("\n") == 1 and not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "name", ["ALE/Pong-v5", "gym/ALE/Pong-v5", "gym/Pong-v4", "PongNoFrameskip-v4", "Pong-v4", "PongDeterministic-v0"]
)
def test_atari_by_another_s_name_is_not_sent_to_another_benchmark(name):
    with pytest.raises(ValueError, match=r"did you mean Pong\?"):
        game_of(name)


def test_a_name_without_its_world_is_known(capsys):
    assert run_command("train", ["dqn", "--game", "CartPole-v1"]) == 2
    assert "did you mean gym/CartPole-v1?" in capsys.readouterr().err
    assert run_command("list", ["games"]) == 0
    assert "gym/CartPole-v1" in capsys.readouterr().out


def test_a_run_of_others_that_names_a_package_does_not_import_it():
    assert game_of("gym/a.package.of.theirs:Game-v0").world == "gymnasium"


def test_an_own_game_is_trained_evaluated_and_watched(tmp_path, capsys):
    line = (
        f"dqn --game {OWN} --num-envs 2 --frames 300 --network.torso nips --network.hidden 16 --replay.capacity 400"
        " --replay.batch-size 4 --replay.learn-start 100 --evaluation.episodes 2 --evaluation.epsilon 0.5"
        f" --evaluation.video-seconds 0 --device cpu --wandb off --runs {tmp_path}"
    )
    assert run_command("train", line.split()) == 0
    (path,) = tmp_path.iterdir()
    assert path.name.startswith("dqn-gym-tests.own_game-Corridor-v0-s") and Run.open(path).experiment.game == OWN
    assert run_command("evaluate", [str(path), "--episodes", "3", "--epsilon", "0.5"]) == 0
    assert "gymnasium, epsilon 0.5, 3 episodes" in capsys.readouterr().out
    assert run_command("watch", [str(path), "--episode", "1", "--video", str(tmp_path / "v.mp4")]) == 0
    assert "score 1," in capsys.readouterr().out and (tmp_path / "v.mp4").stat().st_size > 1_000


def test_chance_that_is_not_the_environment_s_own_follows_its_seed_all_the_same():
    """Many draw from `numpy.random`, which processes that are forked inherit in the same state."""
    game = game_of("gym/tests.own_game:Chancy-v0")

    def rewards(games, seed):
        games.reset(seed)
        return torch.stack([games.step(torch.zeros(3, dtype=torch.int64)).reward for _ in range(10)])

    games = game.make(3, rules(), device="cpu", stack=1)
    first, other, again = (rewards(games, seed) for seed in (1, 2, 1))
    games.close()
    assert torch.equal(first, again) and not torch.equal(first, other)
    assert not torch.equal(first[:, 0], first[:, 1]) and not torch.equal(first[:, 1], first[:, 2])
    random.seed(0), np.random.seed(0)
    before, picture = chance(), game.picture(rules())  # beside a training, whose chance is its own
    picture.reset(1)
    shown = [picture.act(0)[-1] for _ in range(10)]
    picture.reset(1)
    assert all(np.array_equal(one[0], picture.act(0)[-1][0]) for one in shown)
    picture.close()
    assert repr(chance()) == repr(before)


def test_a_film_of_it_is_the_episode_that_was_played(tmp_path, capsys):
    game = "gym/tests.own_game:Chancy-v0"
    line = (
        f"dqn --game {game} --num-envs 2 --frames 300 --network.torso nips --network.hidden 16 --replay.capacity 400"
        " --replay.batch-size 4 --replay.learn-start 100 --evaluation.episodes 2 --evaluation.video-seconds 0"
        f" --device cpu --wandb off --runs {tmp_path} --name r"
    )
    assert run_command("train", line.split()) == 0
    scores = [row["score"] for row in read_rows(tmp_path / "r/episodes.jsonl")]
    assert len({*scores[:8]}) == 8
    capsys.readouterr()
    assert run_command("watch", [str(tmp_path / "r"), "--episode", "5", "--video", str(tmp_path / "v.mp4")]) == 0
    assert float(capsys.readouterr().out.split("score ")[1].split(",")[0]) == pytest.approx(scores[4], rel=1e-5)


@pytest.mark.parametrize("name, repeats", [("Corridor-v0", True), ("Lottery-v0", False)])
def test_a_game_that_pays_otherwise_has_not_been_brought_back(name, repeats):
    games, other = (game_of(f"gym/tests.own_game:{name}").make(2, rules(), device="cpu", stack=1) for _ in range(2))
    games.reset(0)
    for _ in range(9):
        games.step(torch.tensor([0, 1]))
    other.reset(0)
    _, exact = other.restore(*games.state())
    games.close()
    other.close()
    assert exact == repeats


def test_it_is_shown_at_its_own_pace():
    assert game_of("gym/CartPole-v1").pace() == 50  # its render_fps
    assert game_of(OWN).pace() == 30  # which has none
    assert screen_of("gym/CartPole-v1", rules()).frames_per_second == 50


def test_a_reward_that_is_no_number_is_named(tmp_path, capfd):
    games = game_of("gym/tests.own_game:Nan-v0").make(1, rules(), device="cpu", stack=1)
    games.reset(0)
    with pytest.raises(RuntimeError, match="gave the reward nan after action 0"):
        games.step(torch.zeros(1, dtype=torch.int64))
    games.close()


def test_it_can_be_a_part_of_a_suite():
    (cell,) = cells(make_spec({"agents": "dqn", "games": OWN, "seeds": "1"}))
    assert cell.name == "dqn-gym-tests.own_game-Corridor-v0-s1"
    x = experiment_of(cell)
    assert (x.game, x.protocol, x.frame_skip) == (OWN, "gymnasium", 1)


def test_a_folder_that_is_no_package_is_not_imported(tmp_path, monkeypatch):
    """Such as that of a stranger's run, which may hold anything."""
    (tmp_path / "runs_of_others").mkdir()
    (tmp_path / "runs_of_others/evil.py").write_text("raise SystemExit('it ran')")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ValueError, match="only a folder"):
        Registered("runs_of_others.evil:X-v0", rules())


def test_a_failure_that_cannot_be_sent_is_told_all_the_same():
    """By its text: the process that plays once had nothing to say, and the one that waits waited for ever."""
    games = game_of("gym/tests.own_game:Broken-v0").make(2, GYMNASIUM, device=torch.device("cpu"), stack=1)
    try:
        games.reset(0)
        with pytest.raises(RuntimeError, match=r"RuntimeError: \('the ball is lost'"):
            games.step(torch.zeros(2, dtype=torch.int64))
    finally:
        games.close()
