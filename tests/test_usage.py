"""What the suite knows of its machine: whether it is well, and who else keeps it busy."""

import pytest

from experiments import doctor, speed, usage
from experiments.cli import run_command
from experiments.usage import crowded


def test_doctor_finds_a_healthy_machine_well_and_says_what_is_broken(capsys, monkeypatch):
    timed = speed.timed
    for module in (doctor, speed):
        monkeypatch.setattr(module, "timed", lambda call, seconds: timed(call, seconds / 10))
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
