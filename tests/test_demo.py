"""The first thing that a new user runs."""

from dataclasses import replace

import pytest

from experiments import demo
from experiments.cli import run_command
from experiments.files import read_json
from tests.test_resume import sigterm_after, small


@pytest.fixture
def cut(monkeypatch):
    """Its preset, cut to some seconds."""
    x = small("demo")
    x = replace(x, frames=400, evaluation=replace(x.evaluation, episodes=2, video_seconds=1))
    monkeypatch.setattr(demo, "preset", lambda name: x)


def test_it_shows_the_difference_that_training_made(cut, tmp_path, capsys):
    status = run_command("demo", ["--runs", str(tmp_path), "--wandb", "off"])
    said, (run,) = capsys.readouterr().out, tmp_path.iterdir()
    found = read_json(run / "demo.json")
    assert status == (found["after"]["mean_interval"][0] <= found["before"]["mean_interval"][1])
    assert f"{found['before']['mean']:,.0f}" in said and f"highscore watch {run} --seed 7" in said
    assert {"untrained.mp4", f"{found['after']['agent_steps']:012d}.mp4"} <= {p.name for p in run.rglob("*.mp4")}


def test_stopped_it_says_how_to_go_on(cut, tmp_path, capsys, monkeypatch):
    whole = demo.run_training
    monkeypatch.setattr(demo, "run_training", lambda x, console, stop: whole(x, console, sigterm_after(10)))
    assert run_command("demo", ["--runs", str(tmp_path), "--wandb", "off"]) == 128 + 15
    (run,) = tmp_path.iterdir()
    assert f"Stopped and saved. To go on: highscore resume {run}" in " ".join(capsys.readouterr().out.split())
