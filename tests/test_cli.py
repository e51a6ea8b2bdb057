"""What a user types, rightly and wrongly."""

import os
import re
import runpy
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from rich.console import Console

from envs.extras import need
from experiments import checks, train
from experiments import list as listing
from experiments.cli import COMMANDS, main, parse_count, parse_train, run_command
from experiments.list import parts
from experiments.log import figures
from experiments.presets import PRESETS, changes, without_effect
from experiments.speed import Speed


def refused(capsys, tmp_path, command, *args):
    """Runs a command that must be refused in one line and leave nothing behind; returns the line."""
    before = set(tmp_path.rglob("*"))
    status = run_command(command, [*args])
    out, err = capsys.readouterr()
    assert status == (75 if re.search("GB free|too full|No space", err) else 2)  # of what there is no room for now
    assert out == "" and err.count("\n") == 1 and err.startswith(f"highscore {command}: ")
    assert set(tmp_path.rglob("*")) == before
    return err


@pytest.mark.parametrize(
    "args, words",
    [
        (["dqn", "--game", "Braekout"], "did you mean Breakout"),
        (["dqnn"], "did you mean dqn"),
        (["zzz"], "there are dqn, dqn-nature"),
        (["dqn", "--frames", "0"], "--frames must be positive"),
        (["dqn", "--frames", "-5"], "--frames must be positive"),
        (["dqn", "--frames", "10k"], "before learning begins, at 80_000 frames"),
        (["demo", "--frames", "100"], "before learning begins"),
        (["dqn", "--replay.capacity", "900M"], "try --replay.capacity"),
        (["dqn", "--replay.capacity", "10"], "raise --replay.capacity"),
        (["dqn", "--num-envs", "0"], "--num-envs"),
        (["dqn", "--seed", "-1"], "--seed must be at least 0"),
        (["dqn", "--target-period", "0"], "--target-period must be at least 1"),
        (["dqn", "--algorithm.n-steps", "0"], "--algorithm.n-steps must be at least 1"),
        (["dqn", "--replay.learn-period", "0"], "--replay.learn-period must be positive"),
        (["dqn", "--algorithm.burn-in", "-1"], "--algorithm.burn-in must be at least 0"),
        (["dqn", "--bonus.weight", "1", "--bonus.train-share", "0"], "--bonus.train-share must be positive"),
        (["dqn", "--bonus.train-share", "2"], "--bonus.train-share must be from 0 to 1"),
        (["dqn", "--checkpoint-period", "0"], "--checkpoint-period must be at least 1"),
        (["dqn", "--evaluation.period", "0"], "--evaluation.period must be at least 1"),
        (["dqn", "--evaluation.episodes", "0"], "--evaluation.episodes must be at least 1"),
        (["dqn", "--network.hidden", "-5"], "--network.hidden must be at least 0"),
        (["dqn", "--network.memory-layers", "0"], "--network.memory-layers must be at least 1"),
        (["dqn", "--optimiser.clip-norm", "-1"], "--optimiser.clip-norm must be at least 0"),
        (["dqn", "--explore.start", "5"], "--explore.start must be from 0 to 1"),
        (["dqn", "--evaluation.epsilon", "7"], "--evaluation.epsilon must be from 0 to 1"),
        (["dqn", "--algorithm.discount", "1.5"], "--algorithm.discount must be from 0 to 1"),
        (["munchausen", "--algorithm.clip", "1"], "--algorithm.clip must be at most 0"),
        (["munchausen", "--algorithm.temperature", "0"], "--algorithm.temperature must be positive"),
        (["c51", "--algorithm.v-max", "-10"], "--algorithm.v-max must be positive"),
        (["c51", "--algorithm.atoms", "1"], "--algorithm.atoms must be at least 2"),
        (["iqn", "--algorithm.samples", "0"], "--algorithm.samples must be at least 1"),
        (["ppo", "--algorithm.entropy-cost", "nan"], "--algorithm.entropy-cost must be at least 0"),
        (["apex-dqn-small", "--explore.base", "2"], "--explore.base must be from 0 to 1"),
        (["dqn", "--explore.steps", "-5"], "--explore.steps must be at least 0"),
        (["dqn", "--network.memory-bias", "inf"], "--network.memory-bias must be a number"),
        (["ppo", "--algorithm.clip", "-1"], "--algorithm.clip must be positive"),
        (["dqn", "--optimiser.learning-rate", "-0.1"], "--optimiser.learning-rate must be positive"),
        (["dqn", "--replay.batch-size", "100k", "--replay.capacity", "50k"], "--replay.batch-size 100_000 is more"),
        (["ppo", "--network.head", "dueling", "--num-envs", "2"], "PPO has no such part"),
        (["ppo", "--network.noise", "0.5", "--num-envs", "2"], "PPO has no such part"),
        (["dqn", "--bonus.weight", "1", "--bonus.discount", "0.9"], "--bonus.discount"),
        (["demo", "--rollout.minibatches", "5", "--num-envs", "4"], "equal minibatches"),
        (["dqn", "--protocol", "mine"], "there are machado, nature, atari100k"),
        (["dqn", "--device", "cuda"], "use --device cpu"),
        (["dqn", "--name", "../x", "--num-envs", "2"], "--name"),
        (["dqn", "--variant", "a/b"], "--variant 'a/b': use letters"),
        (["dqn", "--variant", "_a"], "at its beginning"),
        (["dqn", "--algorithm.reward-clip", "-1"], "--algorithm.reward-clip must be at least 0"),
        (["dqn", "--optimiser.learning-rate", "nan"], "--optimiser.learning-rate must be positive"),
        (["dqn", "--optimiser.clip-norm", "nan"], "--optimiser.clip-norm must be at least 0"),
        (["dqn", "--replay.learn-period", "inf"], "--replay.learn-period must be positive"),
        (["rainbow", "--replay.priority-exponent", "-0.5"], "--replay.priority-exponent must be at least 0"),
        (["rainbow", "--replay.importance-exponent.end", "inf"], "--replay.importance-exponent.end must be at least 0"),
    ],
)
def test_training_refuses_what_can_only_end_badly(capsys, tmp_path, args, words, monkeypatch):
    monkeypatch.setattr(checks.torch.cuda, "is_available", lambda: False)
    assert words in refused(capsys, tmp_path, "train", *args, "--runs", str(tmp_path), "--wandb", "off")


def test_the_memory_refusal_names_the_numbers(capsys, tmp_path, monkeypatch):
    monkeypatch.setattr(checks, "available_memory", lambda _: 2_000_000_000)
    monkeypatch.setattr(checks, "BASE_MEMORY", 0)
    line = refused(capsys, tmp_path, "train", "dqn", "--runs", str(tmp_path))
    assert "2.2 GB compressed" in line and "2.0 GB free" in line and "--replay.capacity 741k" in line
    line = refused(capsys, tmp_path, "train", "dqn", "--replay.storage", "ram", "--runs", str(tmp_path))
    assert "7.1 GB and" in line and "--replay.capacity 225k, or --replay.storage compressed" in line
    short = replace(PRESETS["dqn"], frames=1_000_000)  # which fills a quarter of it
    cpu = torch.device("cpu")
    checks.check_memory(short, cpu)
    assert checks.replay_size(short, cpu) == "replay: 250_000 steps, 1.8 GB in the end"


def test_a_replay_on_a_disk_without_room_is_refused(capsys, tmp_path, monkeypatch):
    usage = type("Usage", (), {"free": 5_000_000_000})
    monkeypatch.setattr(checks.shutil, "disk_usage", lambda _: usage)
    line = refused(capsys, tmp_path, "train", "dqn", "--replay.storage", "disk", "--runs", str(tmp_path))
    assert "takes 7.1 GB" in line and "has 5.0 GB free" in line and "TMPDIR" in line


def test_a_full_disk_is_refused_before_anything_is_written(capsys, tmp_path, monkeypatch):
    monkeypatch.setattr(checks.shutil, "disk_usage", lambda _: type("Usage", (), {"free": 10_000_000}))
    line = refused(capsys, tmp_path, "train", "demo", "--num-envs", "4", "--runs", str(tmp_path / "a/b"))
    assert "is too full" in line and "10.0 MB" in line and "--runs" in line


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no device that is always full")
def test_a_disk_that_fills_ends_in_one_line(capsys, tmp_path, monkeypatch):
    """A real full device: what is written to it fails with ENOSPC."""
    monkeypatch.setattr(train.Run, "create", lambda *_, **__: open("/dev/full", "wb", buffering=0).write(b"x"))
    assert "No space left on device" in refused(
        capsys, tmp_path, "train", "demo", "--num-envs", "4", "--runs", str(tmp_path)
    )


def test_what_is_no_run_is_refused(capsys, tmp_path):
    assert "there is no run at" in refused(capsys, tmp_path, "watch", str(tmp_path / "none"))
    assert "not a run directory" in refused(capsys, tmp_path, "watch", str(tmp_path))
    assert "there is no folder" in refused(capsys, tmp_path, "evaluate", str(tmp_path / "none"))
    assert "a run directory has a config.json" in refused(capsys, tmp_path, "evaluate", str(tmp_path))
    assert "name runs, or a folder of them" in refused(capsys, tmp_path, "evaluate")


def test_a_memory_whose_states_have_no_room_is_told_how_to_keep_fewer(capsys, tmp_path, monkeypatch):
    monkeypatch.setattr(checks, "available_memory", lambda device: 20_000_000_000)
    words = ["--network.memory", "gtrxl", "--algorithm.unroll", "40", "--runs", str(tmp_path)]
    line = refused(capsys, tmp_path, "train", "dqn", "--frames", "4M", *words)
    assert "of which 262.2 GB are the memory's states" in line and "--replay.storage" not in line
    assert "try --replay.stride 40, which keeps one state in 40, or --replay.capacity" in line


def test_bad_evaluations_are_refused(capsys, tmp_path):
    assert "--episodes" in refused(capsys, tmp_path, "evaluate", str(tmp_path), "--episodes", "0")
    assert "--minutes must be positive" in refused(capsys, tmp_path, "demo", "--minutes", "0")
    assert "probability" in refused(capsys, tmp_path, "evaluate", str(tmp_path), "--epsilon", "2")
    assert ".mp4" in refused(capsys, tmp_path, "watch", str(tmp_path), "--video", "x.txt")


@pytest.mark.parametrize("args", [["dqn", "--gmae", "Pong"], ["dqn", "--algorithm.n-step", "3"]])
def test_an_unknown_flag_names_its_neighbours(capsys, args):
    with pytest.raises(SystemExit) as stop:
        parse_train(args)
    assert stop.value.code == 2
    err = capsys.readouterr().err
    assert "--game" in err if "--gmae" in args else "--algorithm.n-steps" in err


def test_an_unknown_command_names_its_neighbour(capsys, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["highscore", "trian"])
    with pytest.raises(SystemExit) as stop:
        main()
    assert stop.value.code == 2 and "did you mean train" in capsys.readouterr().err


def test_overrides_reach_every_corner():
    line = (
        "dqn --game MsPacman --frames 2M --seed 3 --algorithm.n-steps 3 --algorithm.double True --wandb off"
        " --replay.capacity 100k --optimiser.learning-rate 1e-3 --explore.end 0.1 --network.head dueling"
        " --evaluation.period 50k"
    )
    options = parse_train(line.split())
    x = options.experiment
    assert (x.game, x.frames, x.seed, x.algorithm.n_steps, x.algorithm.double) == ("MsPacman", 2_000_000, 3, 3, True)
    assert (x.replay.capacity, x.optimiser.learning_rate, x.explore.end) == (100_000, 1e-3, 0.1)
    assert (x.network.head, x.evaluation.period, options.wandb) == ("dueling", 50_000, "off")
    assert changes(x)["algorithm.n_steps"] == [1, 3] and changes(x)["network.head"] == ["linear", "dueling"]
    assert changes(parse_train("dqn --game Pong --seed 9 --num-envs 64".split()).experiment) == {"num_envs": [8, 64]}
    assert parse_train(["demo", "--rollout.epochs", "1"]).experiment.rollout.epochs == 1


def test_yes_and_no_are_said_with_a_value_or_without(capsys):
    """Without one by people, with one by the agents of sweeps."""
    options = parse_train(["dqn", "--profile", "--compile", "--deterministic", "False", "--algorithm.double", "true"])
    x = options.experiment
    assert (options.profile, x.compile, x.deterministic, x.algorithm.double) == (True, True, False, True)
    with pytest.raises(SystemExit, match="2"):
        parse_train(["dqn", "--compile", "perhaps"])
    assert "'perhaps' is not True or False" in capsys.readouterr().err


@pytest.mark.parametrize(
    "text, number",
    [("200", 200), ("2M", 2_000_000), ("100k", 100_000), ("0.5m", 500_000), ("1_000", 1_000), ("1e6", 10**6)],
)
def test_counts(text, number):
    assert parse_count(text) == number


def test_a_person_sees_how_fast_it_trains():
    row = {"charts/FPS": 812.4, "charts/episodic_return": 3.0, "losses/loss": None}
    assert figures(row) == "frames/s 812  score 3.0"


@pytest.mark.parametrize("text", ["", "k", "1.5", "many", "0.0001k", "inf", "nan"])
def test_what_is_no_count(text):
    with pytest.raises(ValueError):
        parse_count(text)


@pytest.mark.parametrize("command", [[], *([name] for name in COMMANDS)])
def test_help_teaches(command, capsys, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["highscore", *command, "--help"])
    with pytest.raises(SystemExit) as stop:
        main()
    out, err = capsys.readouterr()
    assert stop.value.code == 0 and err == ""
    assert len(out) > 200


@pytest.mark.filterwarnings("ignore:.*found in sys.modules")
def test_commands_are_modules_too(monkeypatch, capsys):
    for name in ("train", "selfcheck"):
        monkeypatch.setattr("sys.argv", [name, "--help"])
        with pytest.raises(SystemExit) as ended:
            runpy.run_module(f"experiments.{name}", run_name="__main__")
        assert not ended.value.code and f"highscore {name}" in capsys.readouterr().out


def test_listings(capsys, tmp_path):
    os.makedirs(tmp_path / "suite/broken")
    (tmp_path / "suite/broken/config.json").write_text("{")
    for args, words in (
        (["games"], "MsPacman"),
        (["presets", "--measure", "False"], "dqn-nature"),
        (["runs", "--runs", str(tmp_path)], "suite/broken"),
    ):
        assert run_command("list", args) == 0
        assert words in capsys.readouterr().out
    for args, words in (
        (["runs", "--runs", str(tmp_path / "none")], "there is no folder"),
        (["episodes"], "highscore list episodes RUN"),
    ):
        assert run_command("list", args) == 2
        assert words in capsys.readouterr().err


def test_an_early_ctrl_c_is_one_line_also_where_a_package_would_swallow_it(tmp_path, monkeypatch, capsys):
    (tmp_path / "greedy.py").write_text(
        "import os, signal\ntry:\n    os.kill(os.getpid(), signal.SIGINT)\n    [0] * 1000\nexcept:\n    pass\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr("experiments.doctor.main", lambda args: need("greedy", "games"))
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        assert run_command("doctor", []) == 130
    finally:
        signal.signal(signal.SIGINT, before)
    assert capsys.readouterr().err == "highscore doctor: stopped\n"
    with pytest.raises(ValueError, match=r"pip install -e '\.\[games\]' in the clone"):
        need("no_such_package", "games")


def test_what_reads_the_output_may_hear_enough():
    command = f"{sys.executable} -m experiments.cli list games | head -1"
    run = subprocess.run(["sh", "-c", command], capture_output=True, text=True)
    assert run.stderr == "" and run.stdout


def test_help_names_its_own_command_and_what_can_be_listed(capsys):
    for command, words in (("evaluate", "highscore evaluate"), ("list", "{games,presets,runs,episodes,published}")):
        with pytest.raises(SystemExit):
            run_command(command, ["--help"])
        assert words in capsys.readouterr().out
    with pytest.raises(SystemExit):
        run_command("evaluate", ["x", "--episods", "3"])
    assert "highscore evaluate --help" in capsys.readouterr().err


@pytest.mark.parametrize(
    "line, idle",
    [
        ("dqn --network.memory-size 64 --network.history False", ["network.memory_size", "network.history"]),
        ("drqn --network.memory gtrxl --network.memory-bias 2", ["network.memory_bias"]),
        ("dqn --replay.importance-exponent.end 0.5", ["replay.importance_exponent.end"]),
        ("ppo --bonus.discount 0.9", ["bonus.discount"]),
        ("apex-dqn-small --players 8", ["players"]),
        ("ppo --target-period 500 --explore.start 0.5", ["explore.start", "target_period"]),
        ("impala --evaluation.epsilon 0.5", []),  # it is a part of the fingerprint
        ("dqn --algorithm.burn-in 20", ["algorithm.burn_in"]),
        ("prioritized --replay.initial-priority player", ["replay.initial_priority"]),
        ("ppo-doom-gru --network.memory none", []),  # what the preset had for its memory is not spoken of
        ("dqn --network.memory gru --network.memory-size 64 --algorithm.unroll 10", []),
        ("dqn --replay.priority-exponent 0.5 --replay.importance-exponent.end 0.5", []),
        ("rainbow --replay.priority-exponent 0", []),
        ("rainbow --algorithm.priority loss", []),
        ("c51 --algorithm.priority loss", ["algorithm.priority"]),
        ("ppo --bonus.weight 1 --bonus.discount 0.9", []),
        ("apex-dqn-small --distributed local --players 8", []),
    ],
)
def test_changes_that_do_nothing_are_known(line, idle):
    assert [said.partition(" (it is for ")[0] for said in without_effect(parse_train(line.split()).experiment)] == idle


def test_presets_on_a_residual_network_say_so():
    for name, x in PRESETS.items():
        assert any("IMPALA x" in part for part in parts(x)) == x.network.torso.startswith("impala"), name
    assert "small IMPALA x1" in parts(PRESETS["laptop"])


def test_presets_are_listed_as_soon_as_they_are_timed_within_80_columns(monkeypatch, capsys):
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setattr(listing, "PRESETS", {name: PRESETS[name] for name in ("rainbow", "ppo-doom")})
    monkeypatch.setattr(listing, "emulation", lambda x: 0.1)
    timed = []

    def speed_of(x, device, emulate):
        timed.append(x.preset)
        if x.preset == "ppo-doom":
            raise ValueError("no vizdoom; this would bring it")
        return Speed(0.5, emulate * x.num_envs, 0.3, x.num_envs, 4), 7_140_000  # 32 frames in 1.3 s

    monkeypatch.setattr(listing, "speed_of", speed_of)
    next(listing.presets(True, Console()))
    assert timed == ["rainbow"]
    assert run_command("list", ["presets"]) == 0
    said = capsys.readouterr().out
    assert said.count("parameters") == 1 and all(len(line) <= 80 for line in said.splitlines())
    rainbow, doom = (" ".join(part.split()) for part in said.split("ppo-doom"))
    made, published = "C51, double, dueling, 3 steps, noisy", "Hessel et al. 2018; 8 games, nature"
    for words in (made, published, "6.8 M", "7.1 GB", "25"):
        assert words in rainbow
    assert "not timed: no vizdoom; this would bring it" in doom


@pytest.mark.parametrize("command", ["watch", "compare", "report", "benchmark", "sync"])
def test_files_that_need_not_be_given_are_called_paths(capsys, command):
    with pytest.raises(SystemExit):
        run_command(command, ["--help"])
    said = capsys.readouterr().out
    assert re.search(r"--(video|csv|out|into) PATH", said) and "None" not in said
