"""What `highscore list` shows: the folder that was named, numbers that mean something, and no clock unasked."""

import json

import pytest
from rich.console import Console

from experiments import list as listing
from experiments.cli import run_command
from experiments.files import write_json
from experiments.presets import PRESETS
from experiments.published import published_agents
from tests.test_compare import make


def test_published_agents_are_listed_by_how_they_were_measured(capsys):
    assert run_command("list", ["published"]) == 0
    out = capsys.readouterr().out
    assert all(name in out for name in published_agents()) and out.count("Atari 100k: no sticky") < 6


def test_names_of_episodes_are_whole_for_watch_wants_them(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("COLUMNS", "60")
    path = make(tmp_path, "dqn", "Pong", 1, [1.0])
    long = path / "evaluations" / f"{250_000:012d}-machado-best-s0-e0.001-20261130-120000.json"
    write_json(long, json.loads((path / "evaluations" / f"{250_000:012d}.json").read_text()) | {"recordings": [[0, 9]]})
    assert run_command("list", ["episodes", str(path)]) == 0
    rows = [line.split("│") for line in capsys.readouterr().out.splitlines()]
    assert f"{long.stem}/1 to /1" in [row[1].strip() for row in rows if len(row) > 1]
    assert run_command("list", ["episodes", str(path), "--last", "-1"]) == 2


def test_runs_are_listed_where_the_folder_says(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("COLUMNS", "120")
    monkeypatch.chdir(tmp_path)
    make(tmp_path / "runs", "dqn", "Pong", 1, [1.0])
    path = make(tmp_path / "others", "c51", "Breakout", 1, [1.0])
    config = json.loads((path / "config.json").read_text())
    config["experiment"]["frames"] = 3_000
    write_json(path / "config.json", config)
    write_json(path / "summary.json", {"frames": 3_000})
    assert run_command("list", ["runs", "others"]) == 0
    out = capsys.readouterr().out
    assert "c51-Breakout" in out and "dqn-Pong" not in out and "3k of 3k" in out
    assert run_command("list", ["runs"]) == 0
    assert "0 of 1M" in capsys.readouterr().out


def test_the_latest_runs_are_listed_with_their_whole_names(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("COLUMNS", "20")
    paths = {}
    for seed, time in ((1, "2026-01-02"), (2, "2026-01-03"), (3, "2025-12-31")):
        path = paths[seed] = make(tmp_path, "dqn", "MontezumaRevenge", seed, [1.0])
        write_json(path / "config.json", json.loads((path / "config.json").read_text()) | {"created": time})
    (tmp_path / "damaged").mkdir()
    (tmp_path / "damaged" / "config.json").write_text("{")
    for args, told in (([], [None, 1, 2, 3]), (["--last", "2"], [1, 2]), (["--last", "9"], [None, 3, 1, 2])):
        assert run_command("list", ["runs", str(tmp_path), *args]) == 0
        names = [line.split()[0] for line in capsys.readouterr().out.partition("\nrun ")[2].splitlines()[1:]]
        assert names == [paths[seed].name if seed else "damaged" for seed in told]


@pytest.mark.parametrize(
    "args, words",
    [
        (["runs", "nowhere"], "there is no folder nowhere"),
        (["runs", "a", "--runs", "b"], "name one folder"),
        (["games", "Pong"], "games are listed whole: leave out Pong"),
        (["presets", "dqn"], "presets are listed whole: leave out dqn"),
        (["games", "--last", "3"], "games are listed whole: leave out --last 3"),
    ],
)
def test_a_word_too_many_is_refused_in_a_line(tmp_path, monkeypatch, capsys, args, words):
    monkeypatch.chdir(tmp_path)
    assert run_command("list", args) == 2
    out, err = capsys.readouterr()
    assert out == "" and words in err and err.count("\n") == 1


def test_presets_are_counted_whether_they_are_timed_or_not(monkeypatch, capsys):
    monkeypatch.setenv("COLUMNS", "60")
    names = ("dqn", "ppo-crafter")
    monkeypatch.setattr(listing, "PRESETS", {name: PRESETS[name] for name in names})

    def timed(*args):
        raise AssertionError("nobody asked for that")

    monkeypatch.setattr(listing, "emulation", timed)
    monkeypatch.setattr(listing, "speed_of", timed)
    assert run_command("list", ["presets", "--measure", "False"]) == 0
    said = capsys.readouterr().out
    assert "1.7 M" in said and "7.1 GB" in said and "frames/s" not in said  # 1,686,180 weights and biases
    assert all(len(line) <= 60 for line in said.splitlines())

    def parameters(x):
        raise ValueError("no such package")

    monkeypatch.setattr(listing, "parameters", parameters)
    (table, _) = listing.presets(False, Console())
    Console(width=100).print(table)
    assert "not counted: no such package" in capsys.readouterr().out
