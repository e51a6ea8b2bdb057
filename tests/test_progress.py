"""How far runs came and what became of them, on the dashboard as in `highscore list runs`."""

import json
from dataclasses import replace

import pytest

from experiments import trainer
from experiments.cli import run_command
from experiments.comparison import load
from experiments.dashboard.index import Index
from experiments.files import write_json
from experiments.list import runs
from experiments.progress import status
from tests.test_compare import make
from tests.test_resume import run_whole, sigterm_after, small


def test_who_was_killed_after_a_checkpoint_was_not_told_to_stop(tmp_path, monkeypatch):
    x = replace(small("dqn", "probe/catch"), frames=600, checkpoint_period=150)
    with monkeypatch.context() as patch:
        save = trainer.Trainer.save
        patch.setattr(trainer.Trainer, "save", lambda self, moment: [save(self, moment), exit("killed")])
        with pytest.raises(SystemExit):
            run_whole(x, tmp_path)
    run_whole(x, tmp_path, "told", sigterm_after(100))
    assert status(tmp_path / "whole") == "crashed" and status(tmp_path / "told") == "stopped"
    assert not json.loads((tmp_path / "whole/summary.json").read_text())["stopped"]


def test_an_older_run_tells_by_what_it_played_after_its_last_checkpoint(tmp_path):
    (tmp_path / "checkpoints/000000000100").mkdir(parents=True)
    write_json(tmp_path / "summary.json", {"agent_steps": 100, "frames": 400, "finished": False})
    assert status(tmp_path) == "stopped"
    for frames, told in ((400, "stopped"), (404, "crashed")):
        (tmp_path / "episodes.jsonl").write_text(json.dumps({"frames": frames}) + "\n")
        assert status(tmp_path) == told


def test_what_was_played_before_the_first_row_counts(tmp_path, capsys):
    path = make(tmp_path, "dqn", "Pong", 1, [])
    write_json(path / "summary.json", {"frames": 4_000, "agent_steps": 1_000, "finished": False})
    for rows, frames in (("", 4_000), ('{"frames": 3000}\n', 4_000), ('{"frames": 10000}\n', 10_000)):
        (path / "metrics.jsonl").write_text(rows)
        assert Index(tmp_path).runs(-1)["runs"][0]["frames"] == frames
        assert run_command("list", ["runs", str(tmp_path)]) == 0
        assert f"{frames // 1000}k of 0" in capsys.readouterr().out


def test_the_list_shows_the_evaluation_that_compare_takes(tmp_path, capsys):
    path = make(tmp_path, "dqn", "Pong", 1, [-20.0, 3.0])
    own = json.loads((path / "evaluations/000000500000.json").read_text())
    write_json(path / "summary.json", {"frames": 2_000_000, "evaluation": own, "finished": True})
    more = own | {"episodes": 100, "mean": 9.5, "fingerprint": own["fingerprint"] | {"episodes": 100}}
    write_json(path / "evaluations/later.json", more)
    assert run_command("list", ["runs", str(tmp_path)]) == 0
    *_, header, line = capsys.readouterr().out.splitlines()
    assert header.split() == ["run", "status", "frames", "training", "evaluation", "episodes", "protocol"]
    assert line.split() == [path.name, "finished", "2M", "of", "2M", "9.5", "100", "machado"]
    assert load([path]).runs[0].result["mean"] == 9.5


def test_a_narrow_terminal_does_without_the_least_columns_and_says_so(tmp_path):
    make(tmp_path, "dqn", "MontezumaRevenge", 1, [1.0])
    wide, narrow = (runs(tmp_path, 0, room) for room in (None, 60))
    shown = [column.header for column in narrow.columns]
    assert shown == ["run", "status", "frames", "evaluation"] and len(wide.columns) == 7 and wide.caption is None
    assert narrow.caption == "a wider terminal shows protocol, training, episodes, too"
