"""Scores: of the protocol, the weights and the chances that they say."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from envs.protocols import MACHADO, PROTOCOLS
from envs.scores import human_normalised
from experiments.build import build_agent, make_games
from experiments.cli import run_command
from experiments.config import Evaluation
from experiments.run import Run
from experiments.scoring import keep_best, load_agent, score_agent, weights_hash
from tests.test_resume import run_whole, small

CPU = torch.device("cpu")


def agent_for(x):
    games = make_games(x, 1, CPU)
    agent = build_agent(x, games.observation_shape, games.num_actions, CPU)
    games.close()
    return agent


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    x = small("prioritized", "probe/catch")
    return run_whole(replace(x, evaluation=Evaluation(800, 3, 0.05, 0)), tmp_path_factory.mktemp("runs"))


def test_the_protocol_that_is_played_is_the_one_that_was_asked_for(monkeypatch):
    monkeypatch.setitem(PROTOCOLS, "short", replace(MACHADO, name="short", max_frames=400))
    x = small("dqn", "Pong")

    def given(episodes):
        return (e._replace(score=s) for e, s in zip(episodes, (0.0, 1.0, 8.0), strict=True))

    result, recordings = score_agent(agent_for(x), x, 3, epsilon=0.0, seed=0, device=CPU, protocol="short", watch=given)
    assert [len(recording.actions) for recording in recordings] == [100] * 3
    assert result["protocol"] == "short" and result["fingerprint"]["frame_cap"] == 400
    assert (result["mean"], result["median"]) == (3, 1)
    assert result["human_normalised_mean"] == human_normalised("Pong", 3.0)


def test_an_agent_is_scored_without_its_noise():
    x, modes = small("rainbow", "probe/catch"), []
    agent = agent_for(x)
    agent.online.register_forward_hook(lambda network, *_: modes.append(network.training))
    score_agent(agent, x, 2, epsilon=0.0, seed=1, device=CPU)
    assert modes and not any(modes) and agent.online.training


def test_evaluations_in_a_training_have_a_seed_of_their_own_and_their_epsilon(finished):
    found = [json.loads(p.read_text()) for p in finished.path.glob("evaluations/*.json") if p.stem.isdecimal()]
    assert found and {(x["seed"], x["epsilon"]) for x in found} == {(finished.experiment.seed + 1_000_000, 0.05)}


def test_all_runs_of_a_folder_are_evaluated_alike_and_one_that_cannot_be_keeps_no_other(finished, tmp_path, capsys):
    shutil.copytree(finished.path, tmp_path / "b")
    for name in ("a", "c"):
        Run.create(tmp_path, finished.experiment, name).close()
    living = Run.reopen(tmp_path / "c")
    assert run_command("evaluate", [str(tmp_path), "--episodes", "1", "--seed", "7"]) == 2
    out, err = capsys.readouterr()
    assert out.count("kept in") == 1 and len(list(tmp_path.glob("b/evaluations/*-s7-*.json"))) == 1
    assert f"{tmp_path}/a ended before its first checkpoint; train it anew: highscore train {tmp_path}/a" in err
    assert f"{tmp_path}/c has no checkpoint yet; it needs a little more training" in err and err.count("\n") == 2
    living.close()


def test_a_run_that_cannot_be_written_to_keeps_no_other_from_being_scored(finished, tmp_path, capsys):
    for name in ("a", "b"):
        shutil.copytree(finished.path, tmp_path / name)
    shutil.rmtree(tmp_path / "a/evaluations")
    (tmp_path / "a/evaluations").write_text("")
    assert run_command("evaluate", [str(tmp_path), "--episodes", "1"]) == 2
    out, err = capsys.readouterr()
    assert f"kept in {tmp_path}/b" in out and f"{tmp_path}/a/evaluations cannot keep an evaluation: File exists" in err


def test_the_best_weights_play_when_they_are_asked_for(finished, tmp_path):
    run = Run.open(Path(shutil.copytree(finished.path, tmp_path / "r")))
    agent, _ = load_agent(run, CPU)
    with torch.no_grad():
        next(agent.online.parameters()).add_(1)
    assert keep_best(run, agent, {"frames": 4, "agent_steps": 1, "mean": 99.0})
    assert run_command("evaluate", [str(run.path), "--episodes", "1", "--checkpoint", "best"]) == 0
    (path,) = run.path.glob("evaluations/*-best-*.json")
    assert json.loads(path.read_text())["fingerprint"]["checkpoint"] == weights_hash(agent)
