"""The mirror, against the real wandb: what it holds, and that training never waits for it."""

import contextlib
import io
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import psutil
import pytest
import torch
import yaml
from rich.console import Console

from experiments import sync, wandb_mirror
from experiments.cli import parse_train, run_command
from experiments.files import read_rows
from experiments.presets import preset
from experiments.resume import Resume, go_on, resume
from experiments.run import Run
from experiments.train import Train, run_training
from experiments.wandb_mirror import Mirror, describe
from experiments.wandb_workspace import workspace
from tests.test_resume import sigterm_after, small

WANDB = Path(sys.executable).parent / "wandb"


@pytest.fixture(autouse=True)
def no_account(monkeypatch, tmp_path):
    for name in [name for name in os.environ if name.startswith("WANDB_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))  # no key there
    (tmp_path / "home").mkdir()


class Heard(list):
    """Collects what is said to people."""

    def __call__(self, text):
        self.append(text)


def start(tmp_path, **more):
    run, heard = Run.create(tmp_path / "runs", preset("dqn"), "r"), Heard()
    return run, heard, Mirror(run, "auto", "highscore", heard, **more)


def service(mirror, limit=60):
    """wandb's own service process, once it runs."""
    until = time.monotonic() + limit
    while time.monotonic() < until:
        for child in psutil.Process(mirror.process.pid).children(recursive=True):
            with contextlib.suppress(psutil.Error):  # some are gone before they are asked
                if "wandb-core" in " ".join(child.cmdline()):
                    return child
        time.sleep(0.1)
    raise AssertionError("wandb's service never started")


def begun(run, limit=60):
    """Waits until wandb writes the run's file."""
    until = time.monotonic() + limit
    while not list(run.path.glob("wandb/offline-run-*/*.wandb")) and time.monotonic() < until:
        time.sleep(0.1)


def test_an_offline_run_holds_the_metrics(tmp_path):
    run, heard, mirror = start(tmp_path)
    for i in range(5):
        mirror.log({"frames": 10_000 * i, "agent_steps": 2_500 * i, "charts/episodic_return": i / 2, "eval/mean": None})
    checkpoint = run.save_checkpoint({"x": torch.ones(1)}, {"agent_steps": 4})
    mirror.checkpoint(checkpoint)
    mirror.close()
    run.close()
    assert heard == []
    (folder,) = run.path.glob("wandb/offline-run-*")
    assert folder.name.endswith(run.config["wandb_id"])
    found = records(run)
    text = json.dumps(found)
    for words in ("dqn-Breakout-s1", "dqn/Breakout", "machado", f"checkpoint-{run.config['wandb_id']}", "learn_period"):
        assert words in text, words
    steps = [record["metric"]["step_metric"] for record in found if "step_metric" in record.get("metric", {})]
    assert steps == ["frames", "frames"]  # of everything, and of the evaluation, whose best is shown, too
    assert history(found, "charts/episodic_return") == [0, 0.5, 1, 1.5, 2]
    assert history(found, "frames") == [0, 10_000, 20_000, 30_000, 40_000]
    assert not list((tmp_path / "home").rglob("*artifact*"))  # nothing doubles in the home directory


def test_a_server_that_comes_later_is_told_what_was_logged_without_it(tmp_path, monkeypatch):
    run, sent = Run.create(tmp_path / "runs", preset("dqn"), "r"), []
    for i in range(1, 9):
        run.append("metrics.jsonl", {"frames": 10_000 * i, "agent_steps": 2_500 * i})
    (run.path / "wandb").mkdir()
    monkeypatch.setenv("WANDB_DIR", str(run.path))
    monkeypatch.setattr(wandb_mirror, "send", lambda _, message: sent.append(message["number"]))
    monkeypatch.setattr(wandb_mirror, "prepare", lambda _: None)
    monkeypatch.setattr(signal, "signal", lambda *_: None)

    def mirror(offline, starting_step, numbers):
        sent.clear()
        server = SimpleNamespace(offline=offline, starting_step=starting_step, finish=lambda: None)
        monkeypatch.setattr(wandb_mirror, "begin", lambda *_, **__: server)
        lines = [{"begin": describe(run, "auto", "p")}, *({"log": {}, "number": n} for n in numbers)]
        monkeypatch.setattr(sys, "stdin", io.StringIO("".join(json.dumps(line) + "\n" for line in lines)))
        wandb_mirror.main()
        return list(sent)

    assert mirror(True, 0, [1, 2, 3, 4, 5]) == [1, 2, 3, 4, 5]
    assert mirror(True, 0, [4, 5, 6]) == [6]  # a resumed run repeats some
    assert mirror(False, 0, [6, 7]) == [1, 2, 3, 4, 5, 6, 7]
    assert mirror(False, 8, [6, 7, 8]) == [8]
    run.close()


def records(run):
    """What the run's only file holds."""
    (file,) = run.path.glob("wandb/offline-run-*/*.wandb")
    return inspect(file)


def inspect(file):
    """What a file of wandb's holds, as `wandb leet inspect` reads it."""
    shown = subprocess.run([WANDB, "leet", "inspect", "--json", file], capture_output=True, text=True, timeout=60)
    assert shown.returncode == 0, shown.stderr
    return [json.loads(line) for line in shown.stdout.splitlines()]


def history(found, key):
    """Values of one key in the order logged."""
    return [record["history"]["item"][key] for record in found if record["type"] == "history"]


@pytest.mark.parametrize("blow", [signal.SIGSTOP, signal.SIGKILL])
def test_training_goes_on_when_the_service_hangs_or_dies(tmp_path, blow):
    run, heard, mirror = start(tmp_path, close_limit=2)
    victim = service(mirror)
    begun(run)
    mirror.log({"frames": 0})
    time.sleep(1)
    victim.send_signal(blow)
    began = time.monotonic()
    for i in range(20_000):
        mirror.log({"frames": i, "charts/episodic_return": 1.0})
    took = time.monotonic() - began
    began = time.monotonic()
    mirror.close()
    run.close()
    assert took < 60  # a pipe that nobody reads would hold it up for ever
    assert time.monotonic() - began < 30
    assert len(heard) == 1 and "training goes on without it" in heard[0]
    assert not victim.is_running() or victim.status() == psutil.STATUS_ZOMBIE


def test_ctrl_c_is_not_for_the_mirror_and_a_killed_training_leaves_a_finished_run(tmp_path):
    """When training is killed outright, its pipe closes, and wandb's run ends in order."""
    code = (
        "import time; from pathlib import Path; from experiments.presets import preset;"
        "from experiments.run import Run;"
        "from experiments.wandb_mirror import Mirror;"
        f"run = Run.create(Path({str(tmp_path)!r}), preset('dqn'), 'r'); m = Mirror(run, 'offline', 'p', print);"
        "m.log({'frames': 7}); print(m.process.pid, flush=True); time.sleep(100)"
    )
    trainer = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    mirror = psutil.Process(int(trainer.stdout.readline()))
    run = Run.open(tmp_path / "r")
    begun(run)
    trainer.kill()
    trainer.wait()
    mirror.wait(timeout=60)
    found = records(run)
    assert history(found, "frames") == [7]
    assert any(record["type"] == "exit" for record in found)


def test_a_run_that_was_resumed_is_one_run_and_is_synced_as_one(tmp_path):
    """It goes a checkpoint back, and so repeats rows that wandb has already: they are not sent again. Of its two
    fragments `highscore sync` makes one whole run, from the directory, in the mirror's own order."""
    options = {"device": "cpu", "wandb": "offline"}
    x = small("prioritized", "probe/catch")
    x = replace(x, frames=750, evaluation=replace(x.evaluation, video_seconds=1))
    train = Train(x, runs=tmp_path, name="r", wandb_group="suite/dqn/Breakout", wandb_tags=("suite",), **options)
    run, _ = run_training(train, Console(quiet=True), sigterm_after(430))
    shutil.rmtree(run.checkpoints()[-1])
    resume(Resume(run.path, **options), Console(quiet=True))
    fragments = sorted(run.path.glob("wandb/offline-run-*/*.wandb"))
    assert list(run.path.glob("wandb/offline-run-*/files/media/videos/**/*.mp4"))
    assert len(fragments) == 2 and len({file.name for file in fragments}) == 1  # named after the one run
    assert run_command("sync", [str(run.path), "--into", str(tmp_path / "whole")]) == 0
    (file,) = (tmp_path / "whole").glob("wandb/offline-run-*/*.wandb")
    assert file.name == fragments[0].name
    whole, parts = inspect(file), [record for fragment in fragments for record in inspect(fragment)]

    def numbered(found):
        return [
            (r["history"]["step"]["num"], r["history"]["item"]["frames"], r["history"]["item"].get("eval/mean"))
            for r in found if r["type"] == "history"
        ]  # fmt: skip

    rows = list(read_rows(run.path / "metrics.jsonl"))
    films = len(list((run.path / "evaluations").glob("*.json")))
    assert [step for step, *_ in numbered(parts)] == list(range(1, len(rows) + films + 1))
    assert numbered(whole) == numbered(parts)
    assert [item[1:] for item in numbered(whole) if item[2] is not None] == [
        (row["frames"], row["eval/mean"]) for row in rows if "eval/mean" in row
    ]
    text = json.dumps(whole)
    for words in ("suite/dqn/Breakout", "eval/video", "best", "latest", "human_normalised", "eval/fingerprint"):
        assert words in text, words
    assert len(list((tmp_path / "whole").glob("wandb/offline-run-*/files/media/videos/**/*.mp4"))) == films


def test_syncing_without_a_key_says_what_to_do(tmp_path, capsys):
    run = Run.create(tmp_path, preset("dqn"), "r")
    run.close()
    assert run_command("sync", [str(run.path)]) == 2
    err = capsys.readouterr().err
    assert "wandb login" in err and len(err.strip().splitlines()) == 1


def test_a_run_that_cannot_be_read_keeps_no_other_from_being_synced(tmp_path, capsys, monkeypatch):
    for name in ("a", "b"):
        Run.create(tmp_path / "runs", preset("dqn"), name).close()
    (tmp_path / "runs/a/config.json").write_text("{")
    real = sync.sync
    monkeypatch.setattr(sync, "sync", lambda path, *how: (0, "p") if path.name == "b" else real(path, *how))
    assert run_command("sync", [str(tmp_path / "runs"), "--into", str(tmp_path / "into")]) == 2
    out, err = capsys.readouterr()
    assert "runs/b: 0 new rows" in out and err.count("\n") == 1 and "config.json" in err and "damaged" in err


@pytest.mark.parametrize(
    "begun, asked, mode", [("off", "same", None), ("offline", "same", "offline"), ("off", "auto", "auto")]
)
def test_a_resumed_run_is_mirrored_as_it_was_begun(tmp_path, monkeypatch, begun, asked, mode):
    filed = {"mode": begun, "project": "other", "group": "", "tags": ()}
    run = Run.create(tmp_path, preset("dqn"), "r", wandb=filed)
    assert describe(run, begun, run.wandb["project"])["init"]["project"] == "other"
    made = []
    monkeypatch.setattr("experiments.resume.Mirror", lambda run, mode, project, say: made.append((mode, project)))
    monkeypatch.setattr("experiments.resume.Log", lambda *_: pytest.fail("far enough", pytrace=False))
    back = SimpleNamespace(setup=None)
    with pytest.raises(pytest.fail.Exception):
        go_on(Resume(run.path, wandb=asked), back, run, Console(quiet=True), 0.0)
    assert made == ([] if mode is None else [(mode, "other")])


def test_the_sweep_file_makes_commands_that_run(monkeypatch, tmp_path):
    """As wandb's own agent puts them together."""
    from wandb.sdk.launch.sweeps.utils import create_sweep_command_args

    sweep = yaml.safe_load((Path(__file__).parent.parent / "experiments/recipes/sweep.yaml").read_text())
    drawn = {"optimiser.learning-rate": 3.2e-05, "algorithm.n-steps": 5}
    chosen = {key: {"value": drawn.get(key, how.get("value"))} for key, how in sweep["parameters"].items()}
    flags = create_sweep_command_args({"args": chosen})["args"]
    words = [word for part in sweep["command"] for word in (flags if part == "${args}" else [part])]
    assert words[:2] == ["highscore", "train"]
    options = parse_train(words[2:])
    x = options.experiment
    assert (x.optimiser.learning_rate, x.algorithm.n_steps, x.frames, x.game) == (3.2e-05, 5, 2_000_000, "Breakout")
    monkeypatch.setenv("WANDB_SWEEP_ID", "s1")
    monkeypatch.setenv("WANDB_RUN_ID", "given1")
    run = Run.create(tmp_path, x, "r")
    assert describe(run, "online", "p")["init"]["id"] == "given1"
    monkeypatch.delenv("WANDB_SWEEP_ID")
    assert Run.create(tmp_path, x, "other").config["wandb_id"] != "given1"


def test_the_workspace_can_be_made():
    """Saving it needs an account; what is saved is made here."""
    pytest.importorskip("wandb_workspaces")
    made = workspace("nobody", "highscore", "Highscore")
    assert [section.name for section in made.sections] == ["Scores", "Films", "Learning", "Machine"]
    assert made.sections[0].panels[0].y == ["eval/mean"] and made.sections[0].panels[0].groupby == "group"
