"""Weights that evaluations scored, where they are kept: scored again, watched, and gone with what is done again."""

import json
import shutil
from contextlib import closing
from dataclasses import replace

import pytest
import torch
from rich.console import Console

from experiments import checkpoint
from experiments.build import make_games
from experiments.checkpoint import read_weights, write_weights
from experiments.cli import run_command
from experiments.comparison import load
from experiments.files import RunError
from experiments.records import best_of, evaluations, in_training, kept_weights
from experiments.resume import Resume, resume
from experiments.run import Run
from experiments.scoring import load_agent, load_weights, weights_hash
from experiments.train import Train, run_training
from experiments.viewer.source import find_source
from tests.test_resume import run_whole, sigterm_after, small

CPU = torch.device("cpu")
ASKED = small("dqn", "probe/catch")
ASKED = replace(ASKED, evaluation=replace(ASKED.evaluation, period=200, keep_weights=True))


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return run_whole(ASKED, tmp_path_factory.mktemp("weights"))


def test_every_evaluation_s_weights_are_those_that_it_scored(run):
    scored = in_training(evaluations(run.path))
    kept = kept_weights(run.path)
    assert [folder.name for folder in kept] == [result["name"] for result in scored] and len(kept) == 4
    agent, _ = load_agent(run, CPU)
    for folder, result in zip(kept, scored, strict=True):
        facts = load_weights(folder, agent)
        assert (facts["frames"], facts["agent_steps"]) == (result["frames"], result["agent_steps"])
        assert weights_hash(agent) == result["fingerprint"]["checkpoint"]
    assert len({result["fingerprint"]["checkpoint"] for result in scored}) == 4


def test_they_are_scored_again_and_no_comparison_takes_them_for_the_last(run, capsys):
    shown = load([run.path]).runs[0].result
    first, *_, last = in_training(evaluations(run.path))
    for result in (first, last):
        args = ["--checkpoint", str(result["agent_steps"]), "--episodes", "2", "--epsilon", "0.5"]
        assert run_command("evaluate", [str(run.path), *args]) == 0
        (again,) = (run.path / "evaluations").glob(f"{result['name']}-*.json")
        again = json.loads(again.read_text())
        assert again["fingerprint"]["checkpoint"] == result["fingerprint"]["checkpoint"]
        assert again["checkpoint"] == str(result["agent_steps"]) and again["frames"] == result["frames"]
    assert load([run.path]).runs[0].result == shown
    for name in ("3", "newest"):
        assert run_command("evaluate", [str(run.path), "--checkpoint", name]) == 2
        assert f"keeps no such weights; try last, best, {first['agent_steps']}, " in capsys.readouterr().err


def test_they_are_watched_by_their_agent_steps(run):
    steps = [str(int(folder.name)) for folder in kept_weights(run.path)]
    source = find_source(run.path)
    found = list(source.checkpoints)
    assert found[0] == "best" and set(steps) < set(found) and found[1:] == sorted(found[1:], key=int)
    assert source.chosen == str(int(run.checkpoints()[-1].name))
    inside = find_source(kept_weights(run.path)[1])
    assert inside.chosen == steps[1] and inside.run.path == run.path
    with closing(make_games(ASKED, 1, CPU)) as games:
        agent = inside.load(steps[1], games.observation_shape, games.num_actions, CPU)
    result = in_training(evaluations(run.path))[1]
    assert weights_hash(agent) == result["fingerprint"]["checkpoint"]


def test_a_copy_under_another_name_is_watched(run, tmp_path):
    away = shutil.copytree(run.path / "best", tmp_path / "mine")
    shutil.copy(run.path / "config.json", away)
    source = find_source(away)
    with closing(make_games(ASKED, 1, CPU)) as games:
        assert source.chosen == "mine" and source.run is None
        source.load("mine", games.observation_shape, games.num_actions, CPU)


def test_those_of_a_training_that_did_not_last_go_with_it(run, tmp_path):
    parts = run_whole(ASKED, tmp_path, "parts", sigterm_after(250))
    lost = parts.path / "weights" / f"{10**6:012d}"
    (parts.path / "weights" / kept_weights(parts.path)[0].name).rename(lost)
    torn = parts.path / "best/.weights.safetensors.0123abcd"
    torn.write_bytes(b"half of them")
    resume(Resume(parts.path, device="cpu", wandb="off"), Console(quiet=True))
    assert not torn.exists()
    names = [folder.name for folder in kept_weights(run.path)]
    assert not lost.exists() and [folder.name for folder in kept_weights(parts.path)] == names[1:]
    for name in names[1:]:
        paths = [path / "weights" / name / "weights.safetensors" for path in (run.path, parts.path)]
        assert paths[0].read_bytes() == paths[1].read_bytes()


def test_without_being_asked_to_a_run_keeps_none(tmp_path):
    plain = run_whole(replace(ASKED, evaluation=replace(ASKED.evaluation, keep_weights=False)), tmp_path)
    assert kept_weights(plain.path) == [] and (plain.path / "best").exists()
    (plain.path / "best/best.json").unlink()
    agent, _ = load_agent(Run.open(plain.path), CPU)
    with pytest.raises(RunError, match="best are damaged"):
        load_weights(plain.path / "best", agent)


def test_a_training_begins_with_those_of_another(run, tmp_path):
    options = Train(ASKED, device="cpu", wandb="off", runs=tmp_path, name="b", weights=run.path)
    begun, _ = run_training(options, Console(quiet=True), sigterm_after(0))
    (one, state), (other, _) = run.load_checkpoint(), begun.load_checkpoint()
    online = [name for name in one if name.startswith("online.")]
    assert online and all(torch.equal(one[name], other[name]) for name in online)
    assert all(torch.equal(one[name], other[name.replace("online.", "target.")]) for name in online)
    assert Run.open(begun.path).config["weights"]["agent_steps"] == state["agent_steps"]


def test_a_kill_while_they_are_replaced_leaves_those_before(tmp_path, monkeypatch):
    folder = tmp_path / "best"
    for steps in (100, 200):
        write_weights(folder, {"x": torch.full((3,), steps)}, {"agent_steps": steps})
    monkeypatch.setattr(checkpoint, "write_atomically", lambda path, content: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        write_weights(folder, {"x": torch.full((3,), 300)}, {"agent_steps": 300})
    assert json.loads((folder / "best.json").read_text())["agent_steps"] == 300
    tensors, facts = read_weights(folder)
    assert facts["agent_steps"] == best_of(tmp_path) == 200 and tensors["x"].tolist() == [200] * 3
    monkeypatch.undo()
    write_weights(folder, {"x": torch.full((3,), 400)}, {"agent_steps": 400})
    assert read_weights(folder)[1]["agent_steps"] == 400
    (folder / "weights.safetensors").unlink()
    with pytest.raises(RunError, match="best are damaged"):
        read_weights(folder)
