"""Environments that are registered with Gymnasium are games like any other."""

import sys

import numpy as np
import pytest

from envs.library import game_of
from envs.registered import Registered, shows_pictures
from experiments.cli import run_command
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


@pytest.mark.parametrize(
    "name, words",
    [
        ("CartPole-v9", "It provides versioned environments"),
        ("Nope-v0", "Environment `Nope` doesn't exist"),
        ("nope:Nope-v0", "a module in this folder is found with PYTHONPATH=."),
        ("Pendulum-v1", "agents here choose one of 256 actions"),
        ("tests.own_game:Drawn-v0", "shows no pictures"),
    ],
)
def test_what_cannot_be_played_is_refused_in_a_line(name, words, tmp_path, capsys):
    assert run_command("train", ["dqn", "--game", f"gym/{name}", "--runs", str(tmp_path), "--wandb", "off"]) == 2
    err = capsys.readouterr().err
    assert words in err and f"gym/{name}" in err and err.count("\n") == 1 and not list(tmp_path.iterdir())


def test_what_draws_may_be_missing(monkeypatch, tmp_path, capsys):
    monkeypatch.setitem(sys.modules, "pygame", None)
    assert run_command("train", ["dqn", "--game", "gym/CartPole-v1", "--runs", str(tmp_path), "--wandb", "off"]) == 2
    err = capsys.readouterr().err
    assert 'pip install "gymnasium[classic' in err and err.count("\n") == 1 and not list(tmp_path.iterdir())


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
