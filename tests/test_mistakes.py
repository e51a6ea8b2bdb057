"""What people get wrong becomes one line that names the fix, before hours are spent."""

import io
import json
import shutil
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from rich.console import Console

from experiments.checkpoint import read_checkpoint
from experiments.checks import check_learner
from experiments.cli import main, parse, parse_train, run_command
from experiments.distributed.cluster import import_ray
from experiments.files import read_rows
from experiments.log import Log
from experiments.presets import PRESETS
from experiments.records import begun_with, find_runs
from experiments.resume import Resume, repeats_itself, resume
from experiments.run import Run
from experiments.suite import Suite, spec_of
from experiments.train import Train, begin_with, run_training
from experiments.wandb_mirror import NoMirror
from tests.test_resume import run_whole, sigterm_after, small

CPU = torch.device("cpu")


def said(capsys, command, *args):
    """The one line that a command is refused with."""
    assert run_command(command, list(args)) == 2
    line = capsys.readouterr().err
    assert line.count("\n") == 1
    return line


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    return run_whole(small("demo", "probe/catch"), tmp_path_factory.mktemp("runs"), "r")


def test_flags_before_the_preset(capsys):
    assert "the preset comes first" in said(capsys, "train", "--game", "Pong", "dqn")


def test_seeds_that_evaluations_have(capsys):
    assert "take a smaller one" in said(capsys, "train", "dqn", "--seed", "1M")


def test_names_that_files_cannot_have(capsys, tmp_path):
    options = "demo", "--game", "probe/catch", "--network.torso", "mlp", "--wandb", "off", "--runs"
    assert "File name too long" in said(capsys, "train", *options, str(tmp_path), "--name", "x" * 300)
    (tmp_path / "afile").write_text("")
    assert "afile" in said(capsys, "train", *options, str(tmp_path / "afile"))


@pytest.mark.parametrize(
    ("options", "told"),
    [(["--wandb-project", "team/x"], "--wandb-project 'team/x': up to 128 characters, none of them /"),
     (["--name", "taken"], "taken exists already; choose another --name"), (["--name", "a b"], "--name 'a b': use"),
     (["--weights", "no/run"], "there is no run at no/run"),
     (["--runs", "taken"], "--runs taken is a run, and no command looks for runs inside of one")],
)  # fmt: skip
def test_what_needs_no_games_is_refused_before_there_are_any(capsys, tmp_path, monkeypatch, options, told):
    monkeypatch.setattr("experiments.train.build", lambda *_: pytest.fail("games were made"))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "taken").mkdir()
    (tmp_path / "taken" / "config.json").write_text("{}")
    assert told in said(capsys, "train", "pqn", "--wandb", "offline", "--runs", str(tmp_path), *options)
    assert [path.name for path in tmp_path.iterdir()] == ["taken"]


def test_a_misspelt_run_is_not_taken_for_a_preset(capsys):
    assert said(capsys, "train", "runs/NAM").endswith(
        "there is no run at runs/NAM; `highscore list runs` shows those there are\n"
    )


def test_a_finished_run_says_how_to_train_on(capsys, finished):
    line = said(capsys, "resume", str(finished.path))
    again = line.split("highscore train ")[1].split()
    assert parse_train(again).experiment == finished.experiment and parse_train(again).weights == finished.path


def test_what_selfcheck_cannot_train(capsys):
    assert "did you mean Breakout" in said(capsys, "selfcheck", "resume", "--games", "Brekout")
    assert "--games: name one or more" in said(capsys, "selfcheck", "checkpoint", "--games")
    assert "learns from no replay" in said(capsys, "selfcheck", "resume", "--preset", "ppo")


def test_help_and_version(monkeypatch, capsys):
    def highscore(*args):
        monkeypatch.setattr("sys.argv", ["highscore", *args])
        with pytest.raises(SystemExit) as ended:
            main()
        assert not ended.value.code
        return capsys.readouterr().out

    assert highscore("help", "doctor") == highscore("doctor", "--help") != highscore("help")
    assert highscore("--version").startswith("highscore ")


def test_lists_with_spaces_or_commas(tmp_path):
    (tmp_path / "s.toml").write_text('agents = "dqn"\ngames = "Pong"\nseeds = "0"\n')
    for agents in (["dqn,c51"], ["dqn", "c51"]):
        spec = spec_of(parse(Suite, [str(tmp_path / "s.toml"), "--agents", *agents, "--seeds", "1", "3"]))
        assert (list(spec.agents), list(spec.seeds)) == (["dqn", "c51"], [1, 3])


def test_a_folder_that_may_not_be_read_hides_no_run(tmp_path, monkeypatch, finished):
    exists = Path.exists
    (tmp_path / "another's").mkdir()
    (tmp_path / "mine").symlink_to(finished.path)

    def guarded(path, **how):
        if "another's" in str(path):
            raise PermissionError(13, "Permission denied", str(path))
        return exists(path, **how)

    monkeypatch.setattr(Path, "exists", guarded)  # whoever runs the tests as root may read everything
    assert find_runs([tmp_path]) == [tmp_path / "mine"]


def test_seeds_that_begin_with_weights_of_several_seeds_are_one_agent(finished):
    from experiments.build import build

    setup = build(small("demo", "probe/catch"), CPU)
    weights = begin_with(setup.agent, finished)
    other = weights | {"tensors_sha256": "f" * 64, "run": "another seed"}
    elsewhere = {"experiment": {"game": "probe/recall"}}
    assert begun_with(elsewhere | {"weights": weights}) == begun_with(elsewhere | {"weights": other})
    assert begun_with(elsewhere | {"weights": weights})["weights"].startswith("demo on probe/catch, ")
    same = {"experiment": {"game": "probe/catch"}, "weights": weights}  # so that it is one agent on many games
    assert begun_with(same)["weights"].startswith("demo on the same game, ")


def test_ranks_begin_with_the_very_weights_that_the_first_took(finished):
    """Though the run that they are of goes on, and has newer ones by then."""
    from experiments.build import build

    older, newest = finished.checkpoints()
    agent = build(small("demo", "probe/catch"), CPU).agent
    assert begin_with(agent, finished)["agent_steps"] == int(newest.name)
    facts = begin_with(agent, finished, {"agent_steps": int(older.name)})
    assert facts["agent_steps"] == int(older.name)
    kept = read_checkpoint(older)[0]
    assert all(torch.equal(x, kept[f"online.{name}"]) for name, x in agent.online.state_dict().items())


def test_a_training_of_days_is_said_to_be_one(tmp_path, capsys):
    for frames, expected in ((200_000_000, True), (2_000_000, False)):
        x = replace(small("dqn", "probe/catch"), frames=frames)
        run_training(Train(x, device="cpu", wandb="off", runs=tmp_path, name=f"{frames}"), Console(), lambda: True)
        assert ("--frames 2M" in capsys.readouterr().out) == expected


def test_a_line_of_progress_ends_with_something(tmp_path, capsys):
    run = Run.create(tmp_path, small("demo", "probe/catch"), "r")
    log = Log(run, 1_000, NoMirror(), Console(width=80))
    log.said = -1e9
    log.log({}, 500)
    assert capsys.readouterr().out.strip().endswith("frames, 0 min left")
    run.close()


@pytest.mark.parametrize(
    ("width", "frames", "bar"), [(60, 20_000, 0), (80, 20_000, 1), (80, 2 * 10**8, 0), (120, 2 * 10**8, 1)]
)
def test_the_time_left_is_what_a_narrow_terminal_shows_to_its_end(tmp_path, width, frames, bar):
    run = Run.create(tmp_path, replace(small("demo", "probe/catch"), game="CrazyClimber"), "r")
    log = Log(run, frames, NoMirror(), Console(width=width, file=io.StringIO(), force_terminal=True))
    task, out = log.progress.tasks[0], Console(width=width, file=io.StringIO())
    task.start_time, task.finished_time = 0, 100_000.0 if frames > 10**6 else 100.0
    log.progress.update(log.task, completed=frames)
    out.print(log.progress.make_tasks_table([task]))
    line = out.file.getvalue().strip()
    assert line.endswith("eta 0:00:00") and line.startswith("CrazyClimber") and ("━" in line) == bool(bar)
    assert f"{frames:,} of {frames:,} frames" in line
    run.close()


def test_a_run_stands_for_its_settings(finished, capsys, tmp_path, monkeypatch):
    x = parse_train([str(finished.path), "--seed", "7"]).experiment
    assert x == replace(finished.experiment, seed=7)
    first = shutil.copytree(finished.path, tmp_path / "first")
    config = finished.config | {"weights": {"run": str(first), "of": "x"}}
    path = shutil.copytree(finished.path, tmp_path / "begun")
    (path / "config.json").write_text(json.dumps(config))
    assert parse_train([str(finished.path)]).weights is None
    assert parse_train([str(path), "--seed", "7"]).weights == first  # what it began with is a setting
    assert parse_train([str(path), "--weights", "runs/other"]).weights == Path("runs/other")
    first.rename(tmp_path / "gone")
    assert "which is not there: name it with --weights" in said(capsys, "train", str(path))
    assert parse_train([str(path), "--weights", "None"]).weights is None
    monkeypatch.chdir(tmp_path)
    (tmp_path / "dqn").mkdir()  # a preset's name is a preset's
    assert parse_train(["dqn"]).experiment == PRESETS["dqn"]
    (tmp_path / "empty").mkdir()
    assert "has no config.json" in said(capsys, "train", str(tmp_path / "empty"))


def test_two_evaluations_that_end_in_the_same_second_are_both_kept(finished, tmp_path, monkeypatch):
    path = Path(shutil.copytree(finished.path, tmp_path / "r"))
    before = set(path.glob("evaluations/*")) | set(path.glob("recordings/*"))
    monkeypatch.setattr("experiments.evaluate.time.strftime", lambda how: "20261130-120000")
    for episodes in ("1", "2"):
        assert run_command("evaluate", [str(path), "--episodes", episodes, "--epsilon", "1"]) == 0
    one, other = sorted(set(path.glob("evaluations/*")) - before)
    assert [len(json.loads(kept.read_text())["scores"]) for kept in (other, one)] == [1, 2]
    assert {kept.stem for kept in set(path.glob("recordings/*")) - before} == {one.stem, other.stem}


def test_what_learns_from_rollouts_is_known_by_what_it_has():
    """Not by its name: it may be anybody's."""
    own = SimpleNamespace(length=9, unroll=8, games_wait=False, targets=None)
    check_learner(replace(PRESETS["pqn"], algorithm=own))
    with pytest.raises(ValueError, match="learns from rollouts, not from a replay"):
        check_learner(replace(PRESETS["dqn"], algorithm=own))


@pytest.mark.parametrize("exact", [True, False])
def test_what_weights_and_biases_keeps_of_a_training_that_does_not_repeat_itself_is_said(tmp_path, monkeypatch, exact):
    run = run_whole(small("dqn", "probe/catch"), tmp_path, "r", sigterm_after(250))
    (run.path / "wandb").mkdir()
    monkeypatch.setattr("experiments.resume.Mirror", lambda *_: NoMirror())
    monkeypatch.setattr(
        "experiments.resume.repeats_itself", lambda back, trainer: exact and repeats_itself(back, trainer)
    )
    mirrored = run.load_checkpoint()[1]["resume"]["mirrored"]
    (run.path / "wandb" / "received").write_text(str(mirrored + 3))
    resume(Resume(run.path, device="cpu", wandb="offline"), Console(quiet=True), sigterm_after(10))
    told = [row["event"] for row in read_rows(run.path / "events.jsonl") if "Weights & Biases keeps" in row["event"]]
    assert [text.split(" of what")[0] for text in told] == [] if exact else ["Weights & Biases keeps 3 rows"]


def test_without_ray_it_says_how_to_get_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(ValueError, match=r"pip install -e '\.\[ray\]' in the clone"):
        import_ray()
