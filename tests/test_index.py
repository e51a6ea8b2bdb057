"""What the dashboard knows of runs: damage that passes, names that are no text, evaluations that count."""

import json

import pytest

from experiments.comparison import load
from experiments.dashboard.index import Index
from experiments.files import RunError
from experiments.records import read_record
from experiments.run import Run
from tests.test_compare import make


@pytest.fixture
def index(tmp_path, monkeypatch):
    """Of one run, which has been evaluated 200 times."""
    monkeypatch.setattr("experiments.dashboard.index.REFRESH", 0)
    monkeypatch.setattr("experiments.dashboard.index.SCAN", 0)
    make(tmp_path, "dqn", "Pong", 1, [float(i) for i in range(200)])
    return Index(tmp_path)


def test_damage_that_passes_is_told_once_and_forgotten(index, monkeypatch, capsys):
    def status(path):
        raise OSError(24, "Too many open files")

    with monkeypatch.context() as patches:
        patches.setattr("experiments.dashboard.index.status", status)
        for _ in range(2):
            assert index.runs(-1)["runs"][0]["status"] == "damaged"
    assert capsys.readouterr().err.count("OSError: [Errno 24]") == 1
    assert index.runs(-1)["runs"][0]["status"] == "crashed"  # as this one was before


def test_a_run_that_goes_on_is_seen_before_it_writes(index):
    (path,) = (file.parent for file in index.root.glob("*/config.json"))
    assert index.runs(-1)["runs"][0]["status"] == "crashed"
    run = Run.reopen(path)
    assert index.runs(-1)["runs"][0]["status"] in ("running", "silent")
    run.close()


def test_a_date_that_is_no_text_hides_no_run(index):
    (path,) = (file.parent for file in index.root.glob("*/config.json"))
    config = json.loads((path / "config.json").read_text())
    (path / "config.json").write_text(json.dumps(config | {"created": "\ud800"}))
    make(index.root, "c51", "Pong", 1, [3.0])
    assert {run["preset"] for run in index.runs(-1)["runs"]} == {"dqn", "c51"}


def test_a_variant_that_is_no_text_is_damage(index):
    (path,) = (file.parent for file in index.root.glob("*/config.json"))
    config = json.loads((path / "config.json").read_text())
    config["experiment"]["variant"] = ["no-double"]
    (path / "config.json").write_text(json.dumps(config))
    with pytest.raises(RunError, match="preset, variant, game and protocol are names"):
        read_record(path)


def test_only_evaluations_that_may_count_are_read(index, monkeypatch):
    read, loads = [], json.loads
    monkeypatch.setattr("json.loads", lambda text, **more: read.append(text) or loads(text, **more))
    (run,) = index.runs(-1)["runs"]
    assert run["evaluation"] == 199 and len([text for text in read if '"mean"' in str(text)]) == 1


def test_evaluations_that_are_damaged_or_do_not_say_their_steps_hide_none(index):
    folder = next(index.root.glob("*/evaluations"))
    files = sorted(folder.iterdir())

    def measured():
        (run,) = index.runs(-1)["runs"]
        assert run["evaluation"] == load([folder.parent]).runs[0].result["mean"]
        return run["evaluation"]

    files[-1].write_text("{")
    files[-2].write_text(files[-2].read_text().replace('"machado"', "3"))
    files[0].rename(folder / "first.json")
    assert measured() == 197
    result = json.loads(files[-3].read_text())
    (folder / "later.json").write_text(json.dumps(result | {"agent_steps": result["agent_steps"] + 1, "mean": 7.0}))
    assert measured() == 7
    (folder / f"{result['agent_steps'] + 9}-best.json").write_text(
        json.dumps(result | {"agent_steps": result["agent_steps"] + 9, "checkpoint": "best"})
    )
    assert index.runs(-1)["runs"][0]["evaluation"] is None  # as compare has it: the last weights have none
