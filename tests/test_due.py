"""Evaluations that a stop or a kill came between are made up for, once, and none of a lost training stays."""

import json
import os
import signal
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
from rich.console import Console

from experiments import snapshot, trainer, video
from experiments.build import build
from experiments.checkpoint import write_weights
from experiments.distributed.ranks import First, Other, RankInterruption
from experiments.files import read_rows, write_json
from experiments.loop import Moment
from experiments.resume import Resume, resume
from experiments.run import Run
from experiments.scoring import score_agent
from experiments.selfcheck import differences
from experiments.sync import messages
from tests.test_resume import run_whole, small


def test_no_evaluation_begins_once_a_stop_was_asked_for():
    """It would be played to its end. The checkpoint says that it is due."""
    asked = object.__new__(trainer.Trainer)
    asked.interruption, asked.evaluation_due = SimpleNamespace(signal=signal.SIGTERM), False
    asked.evaluate()
    assert asked.evaluation_due


def test_no_evaluation_of_ranks_begins_once_the_first_was_asked():
    """And none of them plays on."""
    told, ranks = [], [object.__new__(kind) for kind in (First, Other)]
    for rank in ranks:
        rank.interruption = rank.stopping = RankInterruption()
        rank.evaluation_due = False
        rank.world = SimpleNamespace(tell=lambda text: told.append(text) or told[0])
    ranks[0].interruption.asked = signal.SIGTERM
    for rank in ranks:
        rank.evaluate()
        assert rank.evaluation_due and rank.stopping.signal


def test_a_training_that_is_killed_in_its_last_evaluation_goes_on_with_that(tmp_path, monkeypatch):
    """Its last checkpoint was saved before: as if no evaluation were to come, it would be finished without a score."""
    x = replace(small("dqn", "probe/catch"), frames=600, checkpoint_period=600)
    with monkeypatch.context() as patch:
        killed = lambda *args, **how: exit("killed") if args[0].updates > 60 else score_agent(*args, **how)
        patch.setattr(trainer, "score_agent", killed)
        with pytest.raises(SystemExit):
            run_whole(x, tmp_path)
    run = Run.open(tmp_path / "whole")
    assert run.load_checkpoint()[1]["frames"] >= 600 and not run.load_checkpoint()[1]["finished"]
    assert not json.loads((run.path / "summary.json").read_text())["finished"] and (run.path / "replay").exists()
    resume(Resume(run.path, device="cpu", wandb="off"), Console(quiet=True))
    summary = json.loads((run.path / "summary.json").read_text())
    assert summary["finished"] and summary["evaluation"]["frames"] == summary["frames"] >= 600
    assert not (run.path / "replay").exists()
    assert differences(run_whole(x, tmp_path, "other").path, run.path) == []


def test_an_evaluation_that_is_stopped_again_as_it_is_made_up_for_is_still_due(tmp_path, monkeypatch):
    x = small("dqn", "probe/catch")
    whole, calls = run_whole(x, tmp_path), []

    def interrupted(*args, **how):
        calls.append(None)
        if len(calls) < 3:
            os.kill(os.getpid(), signal.SIGINT)
        return score_agent(*args, **how)

    monkeypatch.setattr(trainer, "score_agent", interrupted)
    parts = run_whole(x, tmp_path, "parts")
    for _ in range(2):
        resume(Resume(parts.path, device="cpu", wandb="off"), Console(quiet=True))
    assert differences(whole.path, parts.path) == []
    assert sorted(p.name for p in whole.path.glob("evaluations/*")) == sorted(
        p.name for p in parts.path.glob("evaluations/*")
    )


def test_evaluations_in_a_training_that_did_not_last_are_forgotten(tmp_path):
    run = Run.create(tmp_path, small("dqn"), "r")
    for name in ("000000000100", "000000000200", "000000000300", "000000000300-machado-x-s0"):
        write_json(run.path / "evaluations" / f"{name}.json", {})
        (run.path / "recordings" / f"{name}.rec").write_bytes(b"")
    write_weights(run.path / "best", {}, {"agent_steps": 200})
    run.forget_after(run.path / "checkpoints/000000000200")
    assert (run.path / "best").exists()
    write_weights(run.path / "best", {}, {"agent_steps": 300})
    run.forget_after(run.path / "checkpoints/000000000200")
    assert not (run.path / "best").exists()
    left = ["000000000100", "000000000200", "000000000300-machado-x-s0"]
    assert sorted(p.stem for p in run.path.glob("evaluations/*")) == left
    assert sorted(p.stem for p in run.path.glob("recordings/*.rec")) == left


def test_an_evaluation_that_is_stopped_while_its_film_is_made_is_not_logged_twice(tmp_path, monkeypatch):
    x = small("dqn", "probe/catch")
    x = replace(x, frames=400, evaluation=replace(x.evaluation, period=200, video_seconds=1))
    made = []

    def film(_, path, seconds):
        made.append(path)
        if len(made) == 1:
            os.kill(os.getpid(), signal.SIGINT)

    monkeypatch.setattr(video, "video_of", film)
    run = run_whole(x, tmp_path)
    assert not any("eval/mean" in row for row in read_rows(run.path / "metrics.jsonl"))
    resume(Resume(run.path, device="cpu", wandb="off"), Console(quiet=True))
    assert len(made) == 3 and made[0] == made[1]
    assert [row["frames"] for row in read_rows(run.path / "metrics.jsonl") if "eval/mean" in row] == [200, 400]


def test_no_training_ends_for_want_of_a_film(tmp_path, monkeypatch):
    def fails(*args):
        raise ValueError("played again, the episode scored 3, not 4")

    monkeypatch.setattr("experiments.video.video_of", fails)
    x = small("dqn", "probe/catch")
    x = replace(x, evaluation=replace(x.evaluation, video_seconds=5))
    run = run_whole(x, tmp_path)
    assert json.loads((run.path / "summary.json").read_text())["finished"]
    assert "no film" in (run.path / "events.jsonl").read_text() and not list(run.path.glob("recordings/*.mp4"))
    numbered = [message for message in messages(run.path, with_videos=True) if "number" in message]  # as `sync` does
    mirrored, films = run.load_checkpoint()[1]["resume"]["mirrored"], len(list(run.path.glob("evaluations/*.json")))
    assert mirrored == len(numbered) + films == numbered[-1]["number"] + 1


def test_episodes_that_are_given_up_are_cut_short_and_not_over():
    x, rows = small("ppo", "probe/catch"), []
    setup = build(x, torch.device("cpu"))
    step = setup.games.reset(0)
    keeping = SimpleNamespace(add=lambda step, *row: rows.append(step))
    given_up = SimpleNamespace(agent=setup.agent, games=setup.games, experience=keeping)
    after = snapshot.begin_new_episodes(given_up, Moment(0, step, setup.agent.initial_state(x.num_envs), {}))
    assert rows[0].last.all() and not rows[0].terminal.any() and torch.equal(rows[0].obs, step.obs)
    assert after.step.first.all()
