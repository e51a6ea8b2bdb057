"""What this process may use: of GPUs, cores and memory, in containers and in clusters' jobs."""

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from experiments import checks, doctor, limits
from experiments.build import device_of
from experiments.checks import check_memory, replay_size, with_room
from experiments.children import ours
from experiments.limits import control_groups, cores, gpu_fault, left_in, quota_of
from experiments.presets import PRESETS, preset
from experiments.tuning import stay_within_quota
from experiments.usage import multiplies_bf16


def write(path, **files):
    path.mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        (path / name.replace("__", ".")).write_text(f"{text}\n")
    return path


def test_a_cluster_s_job_has_the_least_that_a_group_above_it_leaves(tmp_path):
    mounted, mine = write(tmp_path / "cgroup"), tmp_path / "self"
    mine.write_text("1:name=systemd:/x\n0::/job/step\n")
    used = {"memory__current": 9_000, "memory__stat": "anon 2000\nactive_file 3000\ninactive_file 4000"}
    job = write(mounted / "job", memory__max=10_000, **used, cpu__max="250000 100000")
    step = write(mounted / "job/step", memory__max="max", **used, cpu__max="max 100000")
    assert control_groups("memory", mounted, mine) == [step, job, mounted] == control_groups("cpu", mounted, mine)
    assert [left_in(one) for one in (step, job, mounted)] == [None, 8_000, None]  # files give way
    assert [quota_of(one) for one in (step, job, mounted)] == [None, 2.5, None]
    assert control_groups("memory", mounted, tmp_path / "none") == [mounted]


def test_control_groups_of_the_first_version_bound_it_too(tmp_path):
    mine = tmp_path / "self"
    mine.write_text("4:cpu,cpuacct:/docker/x\n3:memory:/docker/x\n0::/\n")
    stat = "active_file 1\ninactive_file 2\ntotal_active_file 300\ntotal_inactive_file 400"
    above = {"memory__limit_in_bytes": 2**63 - 4096, "memory__usage_in_bytes": 0, "memory__stat": stat}
    memory = write(tmp_path / "memory", **above)
    inner = write(memory / "docker/x", **above | {"memory__limit_in_bytes": 5_000, "memory__usage_in_bytes": 1_000})
    cpu = write(tmp_path / "cpu/docker/x", cpu__cfs_quota_us=150_000, cpu__cfs_period_us=100_000)
    free = write(tmp_path / "cpu", cpu__cfs_quota_us=-1, cpu__cfs_period_us=100_000)
    assert control_groups("memory", tmp_path, mine) == [inner, memory / "docker", memory, tmp_path]
    assert left_in(inner) == 4_700 and left_in(memory) > 1 << 60
    assert control_groups("cpu", tmp_path, mine) == [cpu, tmp_path / "cpu/docker", free, tmp_path]
    assert quota_of(cpu) == 1.5 and quota_of(free) is None


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="this system binds no process to cores")
def test_cores_are_those_that_this_process_may_use():
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(before)})
    try:
        assert cores() == 1
    finally:
        os.sched_setaffinity(0, before)
    assert cores() == len(before)


def test_a_quota_bounds_cores_and_threads(tmp_path, monkeypatch):
    group = write(tmp_path, cpu__max="100000 100000")
    monkeypatch.setattr(limits, "control_groups", lambda controller: [group] if controller == "cpu" else [])
    monkeypatch.setattr(limits.os, "cpu_count", lambda: 64)
    monkeypatch.setattr(limits.os, "sched_getaffinity", lambda _: set(range(64)), raising=False)
    assert cores() == 1
    set_to = []
    monkeypatch.setattr(torch, "get_num_threads", lambda: 64)
    monkeypatch.setattr(torch, "set_num_threads", set_to.append)
    stay_within_quota()
    assert not set_to  # tests say themselves how many: OMP_NUM_THREADS
    monkeypatch.delenv("OMP_NUM_THREADS")
    stay_within_quota()
    write(tmp_path, cpu__max="6400000 100000")
    stay_within_quota()
    assert set_to == [1] and cores() == 64
    write(tmp_path, cpu__max="50000 100000")
    assert cores() == 1


def gpu(monkeypatch, works):
    """A machine on which torch sees two GPUs, whose kernels fail unless they work; returns those that were tried."""
    tried = []

    def zeros(*_, device):
        tried.append(device)
        if not works:
            raise RuntimeError("CUDA error: no kernel image is available for execution on the device\nmore")
        return torch.ones(1)

    monkeypatch.setattr(limits.torch, "zeros", zeros)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda *_: "Old GPU")
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    gpu_fault.cache_clear()
    return tried


@pytest.fixture
def afresh():
    gpu_fault.cache_clear()
    yield
    gpu_fault.cache_clear()


def test_a_gpu_is_taken_if_it_works(monkeypatch, afresh):
    tried = gpu(monkeypatch, works=True)
    assert device_of("auto") == device_of("cuda") == torch.device("cuda") and device_of("cpu") == torch.device("cpu")
    monkeypatch.setenv("LOCAL_RANK", "1")
    gpu_fault.cache_clear()
    assert device_of("auto") == torch.device("cuda") and tried == ["cuda:0", "cuda:1"]


def test_a_gpu_that_this_torch_has_no_kernels_for_is_named_and_not_taken(monkeypatch, afresh):
    gpu(monkeypatch, works=False)
    assert device_of("auto") == torch.device("cpu")
    assert gpu_fault() == (
        "Old GPU cannot be used: CUDA error: no kernel image is available for execution on the device"
    )
    with pytest.raises(ValueError, match=r"--device cuda: Old GPU cannot be used.*; try again, or use --device cpu"):
        device_of("cuda")
    found = {finding.what: finding for finding in doctor.machine()}
    assert not found["GPU"].well and "no kernel image" in found["GPU"].value


def test_a_gpu_that_torch_does_not_see_is_named(monkeypatch, afresh, tmp_path):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    tool = tmp_path / "nvidia-smi"
    tool.write_text("#!/bin/sh\nexit 9\n")
    tool.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    assert gpu_fault() == ""  # the tool alone is no GPU
    with pytest.raises(ValueError, match="torch sees no CUDA device here"):
        device_of("cuda")
    tool.write_text("#!/bin/sh\nexit 0\n")
    gpu_fault.cache_clear()
    monkeypatch.setattr(torch.version, "cuda", "13.0")
    assert "too old for CUDA 13.0" in gpu_fault()
    gpu_fault.cache_clear()
    monkeypatch.setattr(torch.version, "cuda", None)
    assert "built without CUDA" in gpu_fault() and device_of("auto") == torch.device("cpu")


def test_a_replay_leaves_a_gpu_room_for_the_rest_and_another_place_is_named(monkeypatch):
    x, cuda = preset("dqn"), torch.device("cuda")
    monkeypatch.setattr(checks, "available_memory", lambda _: 7_500_000_000)
    with pytest.raises(ValueError, match=r"try --replay.capacity 7..k, or --replay.storage ram, or"):
        check_memory(x, cuda)
    monkeypatch.setattr(checks, "available_memory", lambda _: 8_500_000_000)
    check_memory(x, cuda)


@pytest.mark.parametrize(
    ("free", "there", "storage"),
    [((9.0, 0.0), "cpu", "auto"), ((8.8, 0.0), "cpu", "compressed"), ((1.0, 0.0), "cpu", "compressed"),
     ((9.0, 9.0), "cuda", "auto"), ((9.0, 8.8), "cuda", "ram"), ((8.8, 8.8), "cuda", "compressed")],
)  # fmt: skip
def test_a_replay_s_frames_are_kept_where_there_is_room(monkeypatch, free, there, storage):
    """In GB: a million frames take 7.1, the rest 0.9 at most, and a tenth stays free."""
    room = dict(zip(("cpu", "cuda"), free, strict=True))
    monkeypatch.setattr(checks, "available_memory", lambda device: int(1e9 * room[device.type]))
    x, device = preset("dqn"), torch.device(there)
    found = with_room(x, device)
    assert found == replace(x, replay=replace(x.replay, storage=storage))
    assert ("compressed" in replay_size(found, device)) == (storage == "compressed")
    said = replace(x, replay=replace(x.replay, storage="ram"))
    assert with_room(said, device) == said and with_room(preset("ppo"), device) == preset("ppo")


def test_no_preset_is_refused(monkeypatch):
    monkeypatch.setattr(checks, "available_memory", lambda _: 1 << 40)
    for x in PRESETS.values():
        checks.check(x, torch.device("cpu"))


def test_what_does_not_shrink_is_not_compressed_where_nothing_has_room(monkeypatch):
    monkeypatch.setattr(checks, "available_memory", lambda _: 1_000)
    x = replace(preset("dqn"), game="doom/basic", protocol="vizdoom")
    assert with_room(x, torch.device("cpu")).replay.storage == "auto"


@pytest.mark.skipif(not Path("/proc/cpuinfo").exists(), reason="this system does not list what its processor can")
def test_the_processor_is_asked_whether_it_multiplies_16_bit_numbers():
    flags = Path("/proc/cpuinfo").read_text().split()
    cpu = torch.device("cpu")
    assert multiplies_bf16(cpu) == any(flag in flags for flag in ("avx512_bf16", "amx_bf16", "bf16"))


def test_a_folder_of_one_s_own_does_not_take_the_place_of_ours(tmp_path):
    write(tmp_path / "experiments", __init__="", cli__py="raise SystemExit('theirs')")
    write(tmp_path / "envs", __init__="")
    asked = dict(cwd=tmp_path, env=os.environ | {"PYTHONPATH": ""}, capture_output=True, text=True)
    assert "highscore COMMAND" in subprocess.run(ours("cli", "--help"), **asked).stdout
    without = [sys.executable, "-m", "experiments.cli", "--help"]
    assert "theirs" in subprocess.run(without, **asked).stderr  # so that it would


def test_a_replay_leaves_room_for_what_trains(monkeypatch):
    """7.1 of 9 GB are free for it, and not of 7.3: torch and the emulators take some, of which a part is taken."""
    x = replace(PRESETS["dqn"], replay=replace(PRESETS["dqn"].replay, storage="ram"))
    monkeypatch.setattr(checks, "BASE_MEMORY", checks.psutil.Process().memory_info().rss + 500_000_000)
    monkeypatch.setattr(checks, "available_memory", lambda device: 9 * 10**9)
    checks.check_memory(x, torch.device("cpu"))
    monkeypatch.setattr(checks, "available_memory", lambda device: 73 * 10**8)
    with pytest.raises(checks.NoRoom, match=r"7\.1 GB, the rest of the training 0\.5, and the cpu has 7\.3 GB free"):
        checks.check_memory(x, torch.device("cpu"))


@pytest.mark.parametrize("storage", ["ram", "cuda"])
def test_where_the_training_itself_has_no_room_no_other_replay_is_advised(monkeypatch, storage):
    x = replace(PRESETS["dqn"], replay=replace(PRESETS["dqn"].replay, storage=storage), distributed="local", players=4)
    device = torch.device("cuda" if storage == "cuda" else "cpu")
    monkeypatch.setattr(checks, "BASE_MEMORY", checks.psutil.Process().memory_info().rss + 500_000_000)
    monkeypatch.setattr(checks, "available_memory", lambda device: 100_000_000)
    with pytest.raises(checks.NoRoom) as refused:
        checks.check_memory(x, device)
    assert "--replay" not in str(refused.value)
    assert ("players" in str(refused.value)) == (storage == "ram")  # players take none of a GPU's


def test_no_capacity_is_advised_that_a_replay_would_refuse(monkeypatch):
    x = replace(PRESETS["dqn"], replay=replace(PRESETS["dqn"].replay, storage="ram"))
    spare = checks.base_memory(x, "cpu") - checks.psutil.Process().memory_info().rss
    monkeypatch.setattr(checks, "available_memory", lambda device: max(spare, 0) + 1_000_000)  # 140 steps
    with pytest.raises(checks.NoRoom, match=r"--replay\.storage compressed") as refused:
        checks.check_memory(x, torch.device("cpu"))
    assert "--replay.capacity" not in str(refused.value)
