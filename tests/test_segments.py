"""A replay's rows on disk: what comes back is what was there, and damage is seen."""

import hashlib
import io
import json
import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from agents.replay import Replay, ReplayConfig
from agents.sequence import tree_leaves
from experiments import segments
from experiments.segments import DamagedRows, Segments
from tests.test_replay import fake_step

CONFIG = ReplayConfig(capacity=90, batch_size=8, priority_exponent=0.6)


@pytest.fixture(autouse=True)
def small_files(monkeypatch):
    monkeypatch.setattr(segments, "ROWS", 7)
    monkeypatch.setattr(segments, "CHUNK", 3)


def play(replay, rng, steps, step=None):
    for _ in range(steps):
        step = fake_step(replay.num_envs, rng, after=step)
        replay.add(step, torch.from_numpy(rng.integers(0, 4, 3)), torch.from_numpy(rng.random(3)))
    return step


def again(replay, store, manifest):
    """A new replay from what is on disk and in a checkpoint."""
    facts, tensors = replay.state()
    other = Replay(replay.config, 3, 3)
    rng = np.random.default_rng(9)
    example = (fake_step(3, rng), torch.zeros(3).long(), torch.zeros(3).double(), ())
    other.restore(json.loads(json.dumps(facts)), tensors, example)
    store.read(other, json.loads(json.dumps(manifest)))
    return other


def assert_equal(one, other):
    for a, b in zip(tree_leaves(one.rows), tree_leaves(other.rows), strict=True):
        assert torch.equal(a[torch.arange(len(a))], b[torch.arange(len(b))])
    assert (one.tree.nodes == other.tree.nodes).all()
    assert one.state()[0] == other.state()[0]
    for _ in range(3):
        a, b = one.sample(8), other.sample(8)
        assert all(torch.equal(x, y) for x, y in zip(tree_leaves(tuple(a)), tree_leaves(tuple(b)), strict=True))


@pytest.mark.parametrize(("pace", "storage"), [(1, "auto"), (4, "compressed"), (13, "disk"), (40, "auto")])
def test_what_comes_back_is_what_was_there(tmp_path, pace, storage):
    """At every checkpoint, before and after the ring has wrapped, whatever was written after it."""
    replay, store = Replay(replace(CONFIG, storage=storage), 3, 3), Segments(tmp_path / "replay")
    rng, step, before = np.random.default_rng(0), None, None
    for _ in range(120 // pace):
        step = play(replay, rng, pace, step)
        manifest = store.write(replay)
        store.forget([before or {"oldest": 0}])
        before = manifest
        if replay.rows_added > 5:
            assert_equal(replay, again(replay, Segments(tmp_path / "replay"), manifest))


def test_rows_after_the_manifest_are_forgotten(tmp_path):
    replay, store, rng = Replay(CONFIG, 3, 3), Segments(tmp_path / "replay"), np.random.default_rng(0)
    step = play(replay, rng, 17)
    manifest, state, rows = store.write(replay), replay.state(), [x.clone() for x in tree_leaves(replay.rows)]
    play(replay, rng, 9, step)
    store.write(replay)  # a checkpoint that was never committed
    other = Replay(CONFIG, 3, 3)
    other.restore(*state, (fake_step(3, rng), torch.zeros(3).long(), torch.zeros(3).double(), ()))
    fresh = Segments(tmp_path / "replay")
    fresh.read(other, manifest)
    assert all(torch.equal(a, b) for a, b in zip(tree_leaves(other.rows), rows, strict=True))
    assert fresh.write(other) == manifest


def test_only_new_rows_are_written_and_old_files_go(tmp_path):
    replay, store, rng, step = Replay(CONFIG, 3, 3), Segments(tmp_path / "replay"), np.random.default_rng(0), None
    for _ in range(30):
        step = play(replay, rng, 5, step)
        times = {path: path.stat().st_mtime_ns for path in (tmp_path / "replay").iterdir()}
        manifest = store.write(replay)
        touched = [path for path, then in times.items() if path.stat().st_mtime_ns != then]
        assert len(touched) <= 1  # the file that was not full yet
        store.forget([manifest])
    assert len(list((tmp_path / "replay").iterdir())) <= 30 // 7 + 2


def damage(path, how):
    if how == "flip":
        content = bytearray(path.read_bytes())
        content[len(content) // 2] ^= 1
        path.write_bytes(content)
    elif how == "cut":
        os.truncate(path, path.stat().st_size - 1)
    else:
        path.unlink()


def test_every_flipped_byte_is_seen(tmp_path):
    """In the numbers before a block as well as in it; unless the rows are the same all the same."""
    replay, store = Replay(CONFIG, 3, 3), Segments(tmp_path / "replay")
    play(replay, np.random.default_rng(0), 5)
    manifest, path = store.write(replay), store.path(0)
    whole, unharmed = path.read_bytes(), 0
    for at in range(len(whole)):
        path.write_bytes(whole[:at] + bytes([whole[at] ^ 0x41]) + whole[at + 1 :])
        try:
            other = again(replay, Segments(tmp_path / "replay"), manifest)
        except DamagedRows as error:
            assert "is not what was written" in str(error)
        else:
            assert_equal(replay, other)
            unharmed += 1
    assert unharmed < len(whole) / 20 and path.stat().st_size == len(whole)


def test_a_manifest_does_not_say_when_rows_were_written(tmp_path):
    """Else a training that was stopped and resumed ends with another checkpoint than one that never was."""
    found = []
    for pace in (1, 4, 20):
        replay, store, rng, step = Replay(CONFIG, 3, 3), Segments(tmp_path / f"{pace}"), np.random.default_rng(0), None
        for _ in range(20 // pace):
            step = play(replay, rng, pace, step)
            found.append(store.write(replay))
        assert found[-1] == found[19]


def test_rows_of_an_older_version_are_read_and_gone_on_from(tmp_path):
    """They stand there row by row, not compressed, and manifests do not say so."""
    replay, store, rng = Replay(CONFIG, 3, 3), Segments(tmp_path / "replay"), np.random.default_rng(0)
    step, old = play(replay, rng, 10), {}
    leaves = tree_leaves(replay.rows)
    for number, rows in enumerate([range(7), range(7, 10)]):
        content = b"".join(ring[row].numpy().tobytes() for row in rows for ring in leaves)
        store.path(number).write_bytes(content)
        old[str(number)] = {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}
    manifest = {"oldest": 0, "rows_added": 10, "files": old}
    assert_equal(replay, again(replay, store, manifest))
    for pace in (3, 2, 25):
        step = play(replay, rng, pace, step)
        manifest = store.write(replay)
        store = Segments(tmp_path / "replay")
        assert_equal(replay, again(replay, store, manifest))


def test_what_stands_still_takes_next_to_no_room(tmp_path):
    replay, store, rng = Replay(CONFIG, 3, 3), Segments(tmp_path / "replay"), np.random.default_rng(0)
    step = fake_step(3, rng)
    for _ in range(14):
        replay.add(step, torch.zeros(3).long(), torch.zeros(3).double())
    rows = sum(ring[0].nbytes for ring in tree_leaves(replay.rows))
    store.write(replay)
    assert all(path.stat().st_size < 7 * rows / 2 for path in store.folder.iterdir())


@pytest.mark.parametrize("how", ["flip", "cut", "gone"])
@pytest.mark.parametrize("which", [0, -1])
def test_damage_is_seen(tmp_path, how, which):
    replay, store = Replay(CONFIG, 3, 3), Segments(tmp_path / "replay")
    play(replay, np.random.default_rng(0), 25)
    manifest = store.write(replay)
    damage(sorted((tmp_path / "replay").iterdir())[which], how)
    with pytest.raises(DamagedRows):
        again(replay, Segments(tmp_path / "replay"), manifest)


def test_a_full_disk_leaves_what_was_there(tmp_path, monkeypatch):
    replay, store, rng = Replay(CONFIG, 3, 3), Segments(tmp_path / "replay"), np.random.default_rng(0)
    step = play(replay, rng, 10)
    manifest, sizes = store.write(replay), {p: p.stat().st_size for p in (tmp_path / "replay").iterdir()}
    play(replay, rng, 3, step)
    monkeypatch.setattr(os, "fsync", lambda _: (_ for _ in ()).throw(OSError(28, "No space left on device")))
    with pytest.raises(OSError, match="No space"):
        store.write(replay)
    assert {p: p.stat().st_size for p in (tmp_path / "replay").iterdir()} == sizes
    monkeypatch.undo()
    monkeypatch.setattr(segments, "ROWS", 7)
    assert store.write(replay)["files"]["0"] == manifest["files"]["0"]  # and it goes on from there
    assert_equal(replay, again(replay, Segments(tmp_path / "replay"), store.write(replay)))


def test_what_a_failed_write_leaves_in_a_buffer_does_not_come_later(tmp_path, monkeypatch):
    """The disk is full where a file is flushed, when all of it is written and some of it still in Python's buffer."""
    replay, store, rng = Replay(CONFIG, 3, 3), Segments(tmp_path / "replay"), np.random.default_rng(0)
    step = play(replay, rng, 3)
    store.write(replay)
    step = play(replay, rng, 1, step)  # a row is smaller than the buffer
    sizes = {p: p.stat().st_size for p in (tmp_path / "replay").iterdir()}

    class Full(io.BufferedWriter):
        def flush(self):
            if not self.closed and self.raw.tell() < 10**9 and full:
                full.pop()
                raise OSError(28, "No space left on device")
            super().flush()

    opened, full = Path.open, [True]
    monkeypatch.setattr(
        Path, "open", lambda path, mode: Full(io.FileIO(path, "a")) if mode == "ab" else opened(path, mode)
    )
    with pytest.raises(OSError, match="No space"):
        store.write(replay)
    monkeypatch.setattr(Path, "open", opened)
    assert {p: p.stat().st_size for p in (tmp_path / "replay").iterdir()} == sizes
    play(replay, rng, 2, step)
    assert_equal(replay, again(replay, Segments(tmp_path / "replay"), store.write(replay)))


def test_what_an_older_failure_left_is_cut_off(tmp_path):
    replay, store, rng = Replay(CONFIG, 3, 3), Segments(tmp_path / "replay"), np.random.default_rng(0)
    step = play(replay, rng, 3)
    store.write(replay)
    with store.path(0).open("ab") as file:
        file.write(b"left")
    play(replay, rng, 2, step)
    assert_equal(replay, again(replay, Segments(tmp_path / "replay"), store.write(replay)))
