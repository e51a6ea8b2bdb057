"""What a stranger may have sent: no mutation of a run directory does more than be refused."""

import hashlib
import json
import random
import shutil

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.torch import save

from agents.sequence import tree_leaves
from envs.recording import Recording
from experiments import segments
from experiments.build import build
from experiments.checkpoint import json_hash, read_checkpoint
from experiments.checks import check
from experiments.config import KINDS
from experiments.files import RunError
from experiments.measure import peak_memory
from experiments.resume import bring_back
from experiments.run import Run
from tests.test_resume import run_whole, sigterm_after, small

JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8) | st.just(10**30) | st.just("../x"),
    lambda children: st.lists(children, max_size=4) | st.dictionaries(st.text(max_size=8), children, max_size=4),
    max_leaves=6,
)


@pytest.fixture(scope="module")
def stopped(tmp_path_factory):
    """An unfinished run that stays as it is."""
    return run_whole(small("prioritized", "probe/catch"), tmp_path_factory.mktemp("fuzz"), "r", sigterm_after(300))


@pytest.fixture(scope="module")
def setup(stopped):
    """Built for that run."""
    setup = build(stopped.experiment, torch.device("cpu"))
    yield setup
    setup.games.close()


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    """A checkpoint of some hundred bytes, to be damaged many times."""
    run = Run.create(tmp_path_factory.mktemp("tiny"), small("dqn"), "r")
    tensors = {"online.weight": torch.arange(6.0).view(2, 3), "state.0": torch.ones(4, dtype=torch.uint8)}
    return run.save_checkpoint(tensors, {"agent_steps": 4, "finished": False, "resume": {"updates": 1}})


def mutate(content, rng):
    """Bytes with a few of them flipped, cut, doubled, or put somewhere else."""
    content = bytearray(content)
    for _ in range(rng.randint(1, 4)):
        if not content:
            break
        at, to = rng.randrange(len(content)), rng.randrange(len(content) + 1)
        match rng.randrange(5):
            case 0:
                content[at] ^= 1 << rng.randrange(8)
            case 1:
                content[at] = rng.choice(b'\x00\xff{}[]",:0919-e.')
            case 2:
                del content[min(at, to) : max(at, to)]
            case 3:
                content[at:at] = content[min(at, to) : max(at, to)]
            case _:
                content[at : at + 8] = rng.randrange(1 << 63).to_bytes(8, "little")
    return bytes(content)


def write(path, content):
    """To a new file: emptying one that exists makes some file systems wait for the disk."""
    path.unlink(missing_ok=True)
    path.write_bytes(content)


def put_right(path):
    """Writes the checksums anew, as somebody would who means harm."""
    state = json.loads((path / "checkpoint.json").read_text())
    state["tensors_sha256"] = hashlib.sha256((path / "tensors.safetensors").read_bytes()).hexdigest()
    state["sha256"] = json_hash({key: value for key, value in state.items() if key != "sha256"})
    write(path / "checkpoint.json", json.dumps(state).encode())


def test_thousands_of_damaged_checkpoints_are_read_or_refused(tiny, tmp_path):
    """Any of the two files, checksums wrong or put right: our error or what was written, nothing else."""
    rng, before = random.Random(0), peak_memory()
    whole = {name: (tiny / name).read_bytes() for name in ("checkpoint.json", "tensors.safetensors")}
    path, refused, read = tmp_path / "000000000004", 0, 0
    path.mkdir()
    for _ in range(2_500):
        name, other = rng.sample(list(whole), 2)
        write(path / name, mutate(whole[name], rng))
        write(path / other, whole[other])
        if rng.random() < 0.6:
            try:
                put_right(path)
            except (ValueError, TypeError, AttributeError, RecursionError):
                continue
        try:
            tensors, _ = read_checkpoint(path)
            assert all(x.nbytes <= 2 * len(whole["tensors.safetensors"]) for x in tensors.values())
            read += 1
        except RunError:
            refused += 1
    assert refused > 1_250 and read > 25, (refused, read)
    assert peak_memory() - before < 300_000_000


def places(data, path=()):
    """Every place in nested JSON."""
    yield path
    children = data.items() if isinstance(data, dict) else enumerate(data) if isinstance(data, list) else ()
    for key, value in children:
        if not (path and path[-1] in ("python", "numpy", 1)):  # hundreds of numbers each
            yield from places(value, (*path, key))


@given(st.data())
@settings(max_examples=400, suppress_health_check=list(HealthCheck), deadline=None)
def test_facts_that_a_stranger_wrote_are_refused(stopped, setup, data):
    """Checksums right, tensors right, any fact replaced by anything: an error that `recover` knows, or nothing."""
    tensors, state = read_checkpoint(stopped.checkpoints()[-1])
    state = json.loads(json.dumps(state))
    place = data.draw(st.sampled_from([p for p in places({"resume": state["resume"]}) if p]))
    holder = state
    for key in place[:-1]:
        holder = holder[key]
    holder[place[-1]] = data.draw(JSON_VALUES)
    rows, shown = setup.experience.size, tensors["games.shown.obs"].numpy()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(segments.os, "truncate", lambda path, size: None)  # the run is for the others, too
        patch.setattr(type(setup.games), "_reset", lambda self, mask=None: (shown, {}))  # emulators take their time
        patch.setattr(type(setup.games), "_play_again", lambda self, but=0: shown)
        try:
            bring_back(stopped, setup, tensors, state)
        except (ValueError, KeyError, TypeError, AttributeError):
            pass
    assert setup.experience.rows is None or all(len(ring) == rows for ring in tree_leaves(setup.experience.rows))


@given(st.data())
@settings(max_examples=400, suppress_health_check=list(HealthCheck), deadline=None)
def test_settings_that_a_stranger_wrote_are_refused(stopped, tmp_path, data):
    """Anything in config.json replaced by anything: what is wrong is told, and nothing is made of it."""
    config = json.loads((stopped.path / "config.json").read_text())
    place = data.draw(st.sampled_from([p for p in places({"experiment": config["experiment"]}) if p]))
    holder = config
    for key in place[:-1]:
        holder = holder[key]
    kinds = st.sampled_from(list(KINDS)).map(lambda kind: {"kind": kind})
    holder[place[-1]] = data.draw(JSON_VALUES | kinds)
    write(tmp_path / "config.json", json.dumps(config).encode())
    try:
        check(Run.open(tmp_path).experiment, torch.device("cpu"))
    except ValueError as error:
        assert "\n" not in str(error)


@pytest.mark.parametrize("name", ["online.head.layers.0.weight", "memory.priorities", "games.actions", "random.torch"])
@pytest.mark.parametrize("spoil", ["shape", "dtype", "missing", "more"])
def test_tensors_of_another_making_are_refused(stopped, setup, name, spoil):
    tensors, state = read_checkpoint(stopped.checkpoints()[-1])
    x = tensors.pop(name)
    if spoil == "shape":
        tensors[name] = torch.cat([x, x])
    elif spoil == "dtype":
        tensors[name] = x.to(torch.int32)
    elif spoil == "more":
        tensors |= {name: x, "online.more": x}
    with pytest.raises((ValueError, KeyError)):
        bring_back(stopped, setup, tensors, state)


@pytest.mark.parametrize("name", ["metrics.jsonl", "episodes.jsonl", "recordings/training.rec"])
def test_logs_that_lost_their_newest_rows_are_refused(stopped, setup, name):
    """As after a loss of power: what a checkpoint counts on is not there, and nothing is made up in its place."""
    tensors, state = read_checkpoint(stopped.checkpoints()[-1])
    there = (stopped.path / name).stat().st_size if (stopped.path / name).exists() else 0
    state["resume"]["positions"][name] = there + 1
    with pytest.raises(ValueError, match=f"{name} is missing or cut short"):
        bring_back(stopped, setup, tensors, state)


def test_names_in_files_lead_nowhere(stopped, tmp_path):
    """Manifests and tensor names with paths in them write and read nothing outside."""
    path = tmp_path / "r"
    shutil.copytree(stopped.path, path)
    run = Run.open(path)
    newest = run.checkpoints()[-1]
    tensors, state = read_checkpoint(newest)
    state["resume"]["rows"]["files"] = {"../../../outside": {"bytes": 1, "sha256": ""}}
    state["resume"]["positions"] = {"../../outside": 0}
    (newest / "tensors.safetensors").write_bytes(save(tensors | {"../../outside": torch.ones(1)}))
    (newest / "checkpoint.json").write_text(json.dumps(state))
    put_right(newest)
    (tmp_path / "outside").write_text("mine")
    setup = build(run.experiment, torch.device("cpu"))
    tensors, state = read_checkpoint(newest)
    with pytest.raises(ValueError):
        bring_back(run, setup, tensors, state)
    tensors.pop("../../outside")
    with pytest.raises(ValueError):
        bring_back(run, setup, tensors, state)
    run.cut(state["resume"]["positions"])
    assert (tmp_path / "outside").read_text() == "mine"
    setup.games.close()


def test_the_longest_episode_with_points_at_every_step_is_read_again():
    from envs.protocols import GYMNASIUM

    points = tuple((t, 0.10000000149011612) for t in range(GYMNASIUM.max_frames))
    whole = Recording("Pong", GYMNASIUM, 5, 0, bytes(GYMNASIUM.max_frames), points, 10_800.0)
    assert Recording.unpack(whole.pack(), lambda: b"") == whole


@given(st.randoms(use_true_random=False))
@settings(max_examples=2_000, deadline=None)
def test_damaged_recordings_are_read_or_refused(rng):
    from envs.protocols import MACHADO

    content = Recording("Pong", MACHADO, 5, 0, bytes(range(18)) * 9, ((3, 1.0),), 1.0).pack()
    try:
        Recording.unpack(mutate(content, rng), lambda: content)
    except ValueError:
        pass


@pytest.mark.parametrize("words", [
    (b'"points":[[3,1.0]]', b'"points":[[Infinity,1.0]]'), (b'"seed":5', b'"seed":1.5'),
    (b'"score":1.0', b'"score":"x"'),
])  # fmt: skip
def test_a_recording_of_numbers_that_are_none_is_refused(words):
    import zlib

    from envs.protocols import MACHADO

    content = zlib.decompress(Recording("Pong", MACHADO, 5, 0, bytes(9), ((3, 1.0),), 1.0).pack()).replace(b": ", b":")
    spoilt = content.replace(b", ", b",").replace(*words)
    assert words[1] in spoilt
    with pytest.raises(ValueError, match="not a recording"):
        Recording.unpack(zlib.compress(spoilt), lambda: b"")


def test_a_recording_that_would_not_end_is_refused():
    """A few kilobytes that unpack into gigabytes do not."""
    import zlib

    with pytest.raises(ValueError, match="not a recording"):
        Recording.unpack(zlib.compress(b"{}\n" + bytes(200_000_000), 9), lambda: b"")
