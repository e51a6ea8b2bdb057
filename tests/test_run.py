"""Run directories: nothing is lost, nothing is shared, nothing is unpickled."""

import json
import os
import pickle
from dataclasses import replace
from pathlib import Path
from typing import Literal

import pytest
import torch

from experiments import checkpoint
from experiments import run as run_module
from experiments.build import build_agent
from experiments.checkpoint import SCHEMA, read_checkpoint
from experiments.config import fits, from_json, to_json
from experiments.files import RunError, read_rows, write_atomically, write_json
from experiments.presets import PRESETS, changes, preset, without_effect
from experiments.records import flat
from experiments.run import Run
from experiments.stats import mean_interval

TENSORS = {"online.weight": torch.arange(6.0).view(2, 3), "target.weight": torch.zeros(1)}


def make(tmp_path, name="r"):
    return Run.create(tmp_path, preset("dqn"), name)


@pytest.mark.parametrize("name", PRESETS)
def test_every_preset_survives_json(name):
    assert from_json(json.loads(json.dumps(to_json(PRESETS[name])))) == PRESETS[name]


def test_settings_of_an_older_version_take_defaults_and_others_are_refused():
    data = to_json(preset("dqn"))
    del data["optimiser"]["anneal"]
    assert from_json(data) == preset("dqn")
    for spoilt in ({**data, "magic": 1}, {k: v for k, v in data.items() if k != "algorithm"}, {**data, "kind": "os"}):
        with pytest.raises(ValueError, match=r"do not fit this version: (magic|algorithm)|unknown kind"):
            from_json(spoilt)


@pytest.mark.parametrize("name", ["algorithm", "optimiser", "explore", "replay", "network", "evaluation", "bonus"])
@pytest.mark.parametrize("other", ["adam", None, [], {}, 7, {"kind": "Adam"}, {"kind": "Experiment"}])
def test_parts_of_another_kind_are_refused(tmp_path, name, other):
    if (name, other) in (("replay", None), ("optimiser", {"kind": "Adam"})):
        return  # which may be
    data = to_json(preset("dqn")) | {name: other}
    with pytest.raises(ValueError, match=f"of other types: {name}|unknown kind|do not fit this version: algorithm"):
        from_json(data)
    for experiment in (data, [], None, data["network"]):
        write_json(tmp_path / "config.json", {"schema": SCHEMA, "experiment": experiment})
        with pytest.raises(RunError, match="damaged, or of other code"):
            Run.open(tmp_path)


def test_a_setting_may_be_of_one_of_several_kinds_and_is_no_list():
    assert fits(2, float | None) and fits(None, float | None) and not fits("2", float | None)
    assert fits("lstm", Literal["lstm"] | None) and not fits("gru", Literal["lstm"] | None)
    with pytest.raises(TypeError, match="a number, a word or a switch"):
        fits([1], tuple[int, ...])


@pytest.mark.parametrize("key, value", [("ranks", "2"), ("ranks", True), ("device", None), ("wandb", ["offline"])])
def test_facts_of_another_kind_are_refused(tmp_path, key, value):
    run = make(tmp_path)
    write_json(run.path / "config.json", run.config | {key: value})
    with pytest.raises(RunError, match=f"its '{key}' is no"):
        Run.open(run.path)


STORED = Path(__file__).parent / "presets.json"


def settings():
    """Every setting of every preset."""
    return {name: flat(to_json(x)) for name, x in PRESETS.items()}


@pytest.mark.parametrize(
    "strange",
    [{"game": 5}, {"stack": "4"}, {"protocol": []}, {"network": None}, {"precision": "int4"}, {"frames": 1.5}],
)
def test_settings_of_other_types_are_refused_where_they_are_read(strange, tmp_path):
    """As a stranger's run may have them: a line, and not a traceback where they are first used."""
    run = Run.create(tmp_path, preset("dqn"), "r")
    run.close()
    config = run.config | {"experiment": run.config["experiment"] | strange}
    (run.path / "config.json").write_text(json.dumps(config))
    with pytest.raises(RunError, match=f"other types: {next(iter(strange))}"):
        Run.open(run.path)


def test_every_preset_is_what_was_checked_against_its_source():
    """No constant changes unseen. After a change that is meant: python -m tests.test_run, and read what it changed."""
    assert json.loads(STORED.read_text()) == json.loads(json.dumps(settings()))


def test_presets_are_what_they_cite():
    """Spot checks against algorithms' tables: a preset derived from another could change unseen."""
    x = preset("prioritized")
    assert (x.replay.priority_exponent, x.replay.importance_exponent.start, x.algorithm.double) == (0.6, 0.4, True)
    assert x.optimiser.learning_rate == 6.25e-5 and x.target_period * x.replay.learn_period == 30_000
    x = preset("dqn")
    assert (x.optimiser.learning_rate, x.optimiser.epsilon, x.explore.end, x.explore.begin) == (
        6.25e-5,
        1.5e-4,
        0.01,
        20_000,
    )
    assert x.target_period * x.replay.learn_period == 8_000 and x.protocol == "machado"
    assert preset("dqn-nature").explore.end == 0.1 and preset("dqn-nature").protocol == "nature"
    assert preset("dueling").network.head == "dueling" and preset("dueling").optimiser.clip_norm == 10


def test_a_run_whose_preset_is_not_here_may_be_trained_again():
    x = replace(PRESETS["dqn"], preset="somebody-s", target_period=5)
    assert changes(x) == {} and without_effect(x) == []


def test_two_runs_never_share_a_directory(tmp_path):
    names = {Run.create(tmp_path, preset("dqn")).name for _ in range(4)}  # within one second
    assert len(names) == 4
    run = make(tmp_path)
    with pytest.raises(RunError, match="exists already"):
        make(tmp_path)
    with pytest.raises(RunError, match="another process"):
        Run.open(run.path)._acquire()
    run.close()
    Run.open(run.path)._acquire()


@pytest.mark.parametrize("name", ["../out", "a/b", ".hidden", "a b"])
def test_names_cannot_lead_elsewhere(tmp_path, name):
    with pytest.raises(RunError, match="--name"):
        make(tmp_path / "runs", name)
    assert not list(tmp_path.glob("*"))


def test_config_says_what_was_run(tmp_path):
    run = make(tmp_path)
    again = Run.open(run.path)
    assert again.experiment == preset("dqn")
    assert {"commit", "command", "versions", "created", "machine", "wandb_id"} <= again.config.keys()
    assert again.config["versions"]["torch"] == torch.__version__


def test_half_a_run_directory_is_none(tmp_path, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(run_module, "write_json", full)
    with pytest.raises(OSError, match="No space"):
        make(tmp_path)
    assert not list(tmp_path.iterdir())


def test_a_write_that_fails_leaves_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "x.json"
    write_json(path, {"a": 1})
    monkeypatch.setattr(os, "fsync", lambda _: (_ for _ in ()).throw(OSError(28, "No space left on device")))
    with pytest.raises(OSError, match="No space"):
        write_atomically(path, b"half")
    assert json.loads(path.read_text()) == {"a": 1} and list(tmp_path.iterdir()) == [path]
    with pytest.raises(ValueError, match="JSON"):
        write_json(path, {"a": float("nan")})


def test_a_torn_last_line_is_left_out(tmp_path):
    run = make(tmp_path)
    run.append("metrics.jsonl", {"frames": 1})
    run.append("metrics.jsonl", {"frames": 2})
    with (run.path / "metrics.jsonl").open("a") as file:
        file.write('{"frames": 3, "lo')
    assert list(read_rows(run.path / "metrics.jsonl")) == [{"frames": 1}, {"frames": 2}]
    assert list(read_rows(run.path / "none.jsonl")) == []


def test_checkpoints_come_back_and_only_the_newest_two_stay(tmp_path):
    run = make(tmp_path)
    for agent_steps in (4, 8, 12):
        run.save_checkpoint({**TENSORS, "n": torch.tensor([agent_steps])}, {"agent_steps": agent_steps})
    assert [path.name for path in run.checkpoints()] == ["000000000008", "000000000012"]
    tensors, state = Run.open(run.path).load_checkpoint()
    assert state["agent_steps"] == 12 and tensors["n"].item() == 12
    assert torch.equal(tensors["online.weight"], TENSORS["online.weight"])
    run.save_checkpoint(TENSORS, {"agent_steps": 12})  # the same moment again
    assert len(run.checkpoints()) == 2
    modes = {path.stat().st_mode for path in (run.path / "evaluations", run.checkpoints()[-1])}
    assert len(modes) == 1  # whoever may read the run may read its weights


def test_a_checkpoint_that_fails_leaves_the_one_before(tmp_path, monkeypatch):
    run = make(tmp_path)
    run.save_checkpoint(TENSORS, {"agent_steps": 4})
    monkeypatch.setattr(
        checkpoint, "write_json", lambda *_: (_ for _ in ()).throw(OSError(28, "No space left on device"))
    )
    with pytest.raises(OSError, match="No space"):
        run.save_checkpoint(TENSORS, {"agent_steps": 8})
    assert [path.name for path in (run.path / "checkpoints").iterdir()] == ["000000000004"]
    run.load_checkpoint()


@pytest.mark.parametrize("killed", [False, True])
def test_a_checkpoint_that_is_replaced_is_there_until_the_new_one_is(tmp_path, monkeypatch, killed):
    """One of the same agent steps: who stops when the training has just been saved saves it once more."""
    run = make(tmp_path)
    run.save_checkpoint(TENSORS, {"agent_steps": 4})
    replace = os.replace

    def stopped(source, target):
        if ".writing-" in str(source) and Path(target).name == "000000000004":
            raise KeyboardInterrupt
        replace(source, target)

    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", stopped)
        if killed:  # nothing is tidied up
            patch.setattr(checkpoint, "put_back", lambda replaced: None)
        with pytest.raises(KeyboardInterrupt):
            run.save_checkpoint(TENSORS, {"agent_steps": 4})
    run.close()
    run = Run.reopen(run.path)
    assert [path.name for path in (run.path / "checkpoints").iterdir()] == ["000000000004"]
    run.load_checkpoint()
    run.save_checkpoint(TENSORS, {"agent_steps": 4})
    assert [path.name for path in (run.path / "checkpoints").iterdir()] == ["000000000004"]


class Bomb:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return open, (str(self.path), "w")


def bomb(path, fuse):
    content = pickle.dumps(Bomb(fuse))
    (path / "tensors.safetensors").write_bytes(content)
    return content


@pytest.mark.parametrize("vouched_for", [False, True])
def test_a_malicious_pickle_named_as_a_checkpoint_is_refused(tmp_path, vouched_for):
    import hashlib

    run, fuse = make(tmp_path), tmp_path / "exploded"
    path = run.save_checkpoint(TENSORS, {"agent_steps": 4})
    content = bomb(path, fuse)
    if vouched_for:  # even with a checksum that fits
        state = {"schema": 1, "agent_steps": 4, "tensors_sha256": hashlib.sha256(content).hexdigest()}
        write_json(path / "checkpoint.json", state | {"sha256": checkpoint.json_hash(state)})
    with pytest.raises(RunError, match="damaged"):
        read_checkpoint(path)
    assert not fuse.exists()
    pickle.loads(content).close()  # it would have gone off
    assert fuse.exists()


def flip(path):
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)


@pytest.mark.parametrize(
    "spoil",
    [
        lambda p: flip(p / "tensors.safetensors"),
        lambda p: (p / "tensors.safetensors").write_bytes(b""),
        lambda p: (p / "tensors.safetensors").unlink(),
        lambda p: (p / "checkpoint.json").write_text("{"),
        lambda p: (p / "checkpoint.json").write_text("[]"),
        lambda p: (p / "checkpoint.json").write_text('{"schema": 99}'),
        lambda p: (p / "checkpoint.json").write_text(
            (p / "checkpoint.json").read_text().replace('steps": ', 'steps": 1')
        ),
    ],
)
def test_a_damaged_checkpoint_is_passed_over_aloud(tmp_path, capsys, spoil):
    run = make(tmp_path)
    run.save_checkpoint(TENSORS, {"agent_steps": 4})
    spoil(run.save_checkpoint(TENSORS, {"agent_steps": 8}))
    assert run.load_checkpoint()[1]["agent_steps"] == 4
    assert "trying the one before" in capsys.readouterr().err
    spoil(run.checkpoints()[0])
    with pytest.raises(RunError, match="no checkpoint that can be read"):
        run.load_checkpoint()


@pytest.mark.parametrize(
    "spoil, word",
    [
        (lambda p: (p / "config.json").unlink(), "not a run directory"),
        (lambda p: (p / "config.json").write_text('{"schema": 1'), "damaged"),
        (lambda p: (p / "config.json").write_text('{"schema": 2}'), "version"),
        (lambda p: (p / "config.json").write_text('{"schema": 1}'), "damaged"),
        (lambda p: (p / "config.json").write_text('{"schema": 1, "experiment": {"kind": "os.system"}}'), "damaged"),
    ],
)
def test_what_is_no_run_directory_is_refused(tmp_path, spoil, word):
    path = make(tmp_path).path
    spoil(path)
    with pytest.raises(RunError, match=word):
        Run.open(path)
    with pytest.raises(RunError, match="there is no run"):
        Run.open(tmp_path / "nowhere")


@pytest.mark.parametrize("name", PRESETS)
def test_every_preset_fits_its_own_checkpoint(tmp_path, name):
    network = PRESETS[name].network
    few = {key: min(getattr(network, key), 16) for key in ("hidden", "dense", "memory_size")}
    x = replace(PRESETS[name], network=replace(network, **few))
    agent = build_agent(x, (4, 84, 84), 6, torch.device("cpu"))
    run = Run.create(tmp_path, x, "r")
    run.save_checkpoint(agent.tensors(), {"agent_steps": 4})
    other = build_agent(x, (4, 84, 84), 6, torch.device("cpu"))
    other.load_tensors(run.load_checkpoint()[0])
    for key, x in agent.tensors().items():
        assert torch.equal(x, other.tensors()[key])


@pytest.mark.parametrize("count", [2, 3, 5, 50])
def test_an_interval_of_a_mean_covers_as_often_as_it_says(count):
    """Of 2,000 samples of a known law about 95 % have an interval that holds its mean, however few they are of."""
    generator = torch.Generator().manual_seed(0)
    samples = torch.randn(2_000, count, generator=generator, dtype=torch.float64) * 3 + 7
    intervals = [mean_interval(sample.tolist()) for sample in samples]
    assert 0.935 < sum(low < 7 < high for low, high in intervals) / 2_000 < 0.965
    assert mean_interval([4.0] * count) == (4.0, 4.0) and mean_interval([4.0]) is None


def test_an_interval_of_a_mean_is_as_in_the_tables_of_students_t():
    # Mean 2, standard deviation 1 (squares 1, 0, 1 over 2); 4.3027 is the 97.5 % quantile with 2 degrees of freedom.
    half = 4.3027 / 3**0.5
    assert mean_interval([1.0, 2.0, 3.0]) == pytest.approx((2 - half, 2 + half), abs=1e-4)


if __name__ == "__main__":
    STORED.write_text(json.dumps(settings(), indent=1) + "\n")
