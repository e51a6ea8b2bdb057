"""What the suite knows of its machine: whether it is well, and who else keeps it busy."""

import os

import pytest

from experiments import doctor, usage
from experiments.checks import control_groups, left_in
from experiments.cli import run_command
from experiments.usage import cores, crowded


def test_doctor_finds_a_healthy_machine_well_and_says_what_is_broken(capsys, monkeypatch):
    assert run_command("doctor", []) == 0
    out = capsys.readouterr().out
    assert "All is well" in out and "updates/s" in out and "agent steps/s" in out
    monkeypatch.setattr(doctor, "learning", lambda: iter(()))
    monkeypatch.setattr(doctor, "ROMS", {})
    assert run_command("doctor", []) == 1
    assert "Something is wrong with: ROMs." in capsys.readouterr().out


def test_who_else_keeps_the_cores_busy_is_who_does_so_now(monkeypatch):
    def told(all_percent, own_percent, last_minute):
        monkeypatch.setattr(usage.psutil, "cpu_percent", lambda: all_percent)
        monkeypatch.setattr(usage.psutil, "cpu_count", lambda: 2)
        monkeypatch.setattr(usage.psutil, "getloadavg", lambda: (last_minute, 0.0, 0.0))
        monkeypatch.setattr(usage._process, "cpu_percent", lambda: own_percent)
        return usage.others()

    assert told(100.0, 100.0, 2.0) == pytest.approx(1.0)  # of two cores, one is ours
    assert told(55.0, 110.0, 2.4) == pytest.approx(0.0)  # an installation has just ended
    assert told(100.0, 100.0, 0.2) == pytest.approx(0.2)  # something short
    assert told(40.0, 90.0, 2.0) == 0.0


def test_people_are_told_when_threads_would_wait_for_each_other():
    assert crowded(load=0.2, cores=2, threads=2) == crowded(load=2.0, cores=2, threads=1) == ""
    assert crowded(load=4.0, cores=16, threads=8) == ""
    assert "OMP_NUM_THREADS=1 " in crowded(load=1.0, cores=2, threads=2)
    assert "OMP_NUM_THREADS=1 " in crowded(load=5.0, cores=2, threads=2)
    assert "OMP_NUM_THREADS=12 " in crowded(load=4.0, cores=16, threads=16)


def test_a_cluster_s_job_has_the_least_that_a_group_above_it_leaves(tmp_path):
    def group(path, limit, current, stat):
        path.mkdir(exist_ok=True)
        for name, text in (("max", limit), ("current", current), ("stat", stat)):
            (path / f"memory.{name}").write_text(f"{text}\n")
        return path

    mounted, mine = tmp_path / "cgroup", tmp_path / "self"
    mine.write_text("1:name=systemd:/x\n0::/job/step\n")
    mounted.mkdir()
    job = group(mounted / "job", 10_000, 9_000, "anon 2000\nactive_file 3000\ninactive_file 4000")
    step = group(mounted / "job/step", "max", 9_000, "anon 2000\nactive_file 3000\ninactive_file 4000")
    assert control_groups(mounted, mine) == [step, job, mounted]
    assert [left_in(one) for one in (step, job, mounted)] == [None, 8_000, None]  # files give way
    assert control_groups(mounted, tmp_path / "none") == [mounted]


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="this system binds no process to cores")
def test_cores_are_those_that_this_process_may_use():
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(before)})
    try:
        assert cores() == 1
    finally:
        os.sched_setaffinity(0, before)
    assert cores() == len(before)
