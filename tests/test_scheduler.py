"""What a scheduler does with runs that fail, find no room, are stopped, or are at work elsewhere."""

import signal
import subprocess
import time
from types import SimpleNamespace

import pytest
import torch

from experiments.checks import PLAYER_MEMORY
from experiments.distributed.runner import Remote, Runner
from experiments.files import NO_ROOM, RunError
from experiments.limits import TAKEN, gpu_memory
from experiments.matrix import cells, make_spec
from experiments.presets import PRESETS
from experiments.records import remove_idle
from experiments.run import Run
from experiments.scheduler import Job, Launch, Listed, Room, Scheduler, check_fit
from experiments.suite import Suite, plan, share_of_threads
from experiments.suite_board import say_the_end
from experiments.suite_checks import check_cells

DONE = """echo '{"finished": true}' > summary.json"""


class Children(Scheduler):
    """Runs shell commands in the place of trainings."""

    def _begin(self, cell, work):
        path = self.launch.folder / cell.name
        path.mkdir(exist_ok=True)
        (self.launch.folder / "logs").mkdir(exist_ok=True)
        with self.log(cell).open("wb") as log:
            process = subprocess.Popen(["sh", "-c", cell.preset], cwd=path, stdout=log, stderr=log)
        self.running[cell.name] = Job(cell, process, time.monotonic(), 0)


def test_a_failed_run_does_not_stop_the_rest_and_memory_bounds_the_jobs(tmp_path):
    fails = ("echo begin; echo the reason >&2; exit 3", "echo bye")
    spec = make_spec({"agents": [f"sleep 0.2; {DONE}", *fails], "games": ["a", "b"], "seeds": "0"})
    planned = [cell._replace(name=f"{i}") for i, cell in enumerate(cells(spec))]
    most, said = [], []
    scheduler = Children(Launch(tmp_path, (), lambda cell: [], 0), 4, lambda cell: Room(4), Room(10), said.append)
    scheduler.run(Listed([*planned]), lambda s, work: most.append(len(s.running)))
    reasons = ["the reason", "it ended well, but its summary.json does not say that it is finished; its last line: bye"]
    assert len(scheduler.done) == 2 and [scheduler.failed[name] for name in "1245"] == reasons * 2
    assert scheduler._reason(planned[2], -63) == "killed by signal 63; its last line: bye"  # which has no name
    killed = "killed by SIGKILL: from outside, or by the system for want of memory"
    assert scheduler._reason(planned[2], -signal.SIGKILL) == killed
    assert scheduler._reason(planned[2], -signal.SIGSEGV) == "killed by SIGSEGV; its last line: bye"
    assert max(most) == 2  # two of 4 bytes fit into 10


def sleepers(tmp_path, *agents, jobs=2):
    """(scheduler, work) of shell commands, named by their order."""
    planned = [
        cell._replace(name=f"{i}")
        for i, cell in enumerate(cells(make_spec({"agents": [*agents], "games": ["a"], "seeds": "0"})))
    ]
    return Children(Launch(tmp_path, (), lambda cell: [], 0), jobs, lambda cell: Room(4), Room(100), print), planned


def test_a_run_that_finds_no_room_waits_until_another_has_ended(tmp_path, monkeypatch):
    monkeypatch.setattr("experiments.scheduler.REFUSALS", 1)  # beside others it may be refused more often
    monkeypatch.setattr("experiments.scheduler.PAUSE", 0.05)
    monkeypatch.setattr("experiments.scheduler.POLL", 0.01)
    needs = f"test -e ../room || {{ echo 'no room'; exit {NO_ROOM}; }}; {DONE}"
    scheduler, planned = sleepers(tmp_path, f"sleep 0.7; touch ../room; {DONE}", needs, f"{needs} ")
    most = []
    scheduler.run(Listed(planned), lambda s, work: most.append(len(s.running)))
    assert len(scheduler.done) == 3 and not scheduler.failed and max(most) == 2


def test_a_run_that_never_finds_room_fails_in_the_end(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("experiments.scheduler.PAUSE", 0.0)
    monkeypatch.setattr("experiments.scheduler.POLL", 0.01)
    monkeypatch.setattr("experiments.scheduler.REFUSALS", 2)
    scheduler, planned = sleepers(tmp_path, f"echo 'no room'; exit {NO_ROOM}", DONE, jobs=1)
    scheduler.run(Listed(planned), lambda s, work: None)
    assert scheduler.failed == {"0": "no room"} and len(scheduler.done) == 1
    assert capsys.readouterr().out.count("0: no room. It waits") == 2


def test_a_gpu_s_memory_bounds_the_jobs_where_the_replay_is_there(monkeypatch):
    monkeypatch.setattr("experiments.checks.available_memory", lambda device: 24 * 10**9)
    agents = {"agents": ["dqn", "dqn-host", "ppo"], "games": "Pong", "seeds": "0", "variants": {
        "dqn-host": {"preset": "dqn", "replay.storage": "ram"}}}  # fmt: skip
    planned = cells(make_spec(agents))
    needed = check_cells(planned, torch.device("cuda"))
    there, here, ppo = (needed[cell.name] for cell in planned)
    assert there.gpu == here.host > 7e9 and there.host == here.gpu == ppo.host == ppo.gpu < 1e9
    assert there.within(Room(10**9, 10**10)) and not here.within(Room(10**9, 10**10))
    with pytest.raises(RunError, match="of the GPU's memory and 4"):
        check_fit(planned, lambda cell: needed[cell.name], Room(2 * 10**10, 4 * 10**9))
    assert all(x.gpu == 0 for x in check_cells(planned, torch.device("cpu")).values())


def test_several_gpus_share_the_runs(tmp_path, monkeypatch):
    """Each begins where the fewest run, of those where there is room, and sees that one only."""
    monkeypatch.setattr("experiments.scheduler.POLL", 0.01)
    planned = cells(make_spec({"agents": "dqn", "games": "Pong", "seeds": "0-6"}))
    began, there, most = [], dict[str, int](), []

    def start(words, log, env):
        name, gpu = words[words.index("--name") + 1], env["CUDA_VISIBLE_DEVICES"]
        began.append(gpu)
        there[gpu] = there.get(gpu, 0) + 1
        most.append(dict(there))
        (tmp_path / name).mkdir()
        (tmp_path / name / "summary.json").write_text('{"finished": true}')
        left = iter(range(3))  # it ends when it is asked for the fourth time

        def poll():
            if next(left, None) is not None:
                return None
            there[gpu] -= 1
            return 0

        return SimpleNamespace(poll=poll, wait=lambda: 0)

    launch = Launch(tmp_path, (), lambda cell: [], 0, start, {"2": 25, "GPU-5f": 41})
    scheduler = Scheduler(launch, 5, lambda cell: Room(1, 10), Room(100, 41), print)
    scheduler.run(Listed(planned), lambda s, work: None)
    assert len(scheduler.done) == 7 and began[:5] == ["GPU-5f", "2", "GPU-5f", "2", "GPU-5f"]
    assert max(on["2"] for on in most if "2" in on) == 2 and max(on["GPU-5f"] for on in most) == 3


@pytest.mark.parametrize(
    "visible, names", [(None, "012"), ("", "012"), ("3, 1", "31"), ("MIG-a,MIG-b,1,0", "MIG-a MIG-b 1")]
)
def test_gpus_are_called_as_the_driver_calls_them(monkeypatch, visible, names):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: min(3, len((visible or "0,1,2").split(","))))
    monkeypatch.setattr("experiments.limits.compute_on", lambda gpu: None)
    monkeypatch.setattr("experiments.limits.available_memory", lambda device: 10 - device.index)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    if visible is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    called = names.split() if " " in names else [*names]
    assert gpu_memory() == {name: 10 - i for i, name in enumerate(called)}

    def taken(device):
        if device.index == 1:
            raise RuntimeError("CUDA error: out of memory")
        return 10 - device.index

    monkeypatch.setattr("experiments.limits.available_memory", taken)
    assert gpu_memory() == {name: 10 - i if i != 1 else 0 for i, name in enumerate(called)}

    def strange(gpu):
        raise RuntimeError("CUDA error: no kernel image is available for execution on the device")

    monkeypatch.setattr("experiments.limits.compute_on", strange)
    assert not any(gpu_memory().values())  # then a suite is planned as on a machine with one that cannot be used


def test_where_a_run_was_refused_it_begins_only_if_it_must(tmp_path, monkeypatch):
    """Somebody else may have taken what was free when the suite was planned."""
    monkeypatch.setattr("experiments.scheduler.POLL", 0.01)
    monkeypatch.setattr("experiments.scheduler.PAUSE", 0.0)
    began = []

    def start(words, log, env):
        began.append(env["CUDA_VISIBLE_DEVICES"])
        if began[-1] == "1":
            (tmp_path / words[words.index("--name") + 1]).mkdir()
            (tmp_path / words[words.index("--name") + 1] / "summary.json").write_text('{"finished": true}')
        return SimpleNamespace(poll=lambda: 0 if began[-1] == "1" else NO_ROOM, wait=lambda: 0)

    launch = Launch(tmp_path, (), lambda cell: [], 0, start, {"0": 50, "1": 50})
    scheduler = Scheduler(launch, 1, lambda cell: Room(1, 10), Room(100, 50), print)
    (tmp_path / "logs").mkdir()
    scheduler.run(Listed(cells(make_spec({"agents": "dqn", "games": "Pong", "seeds": "0"}))), lambda s, work: None)
    assert began == ["0", "1"] and len(scheduler.done) == 1


def test_of_several_gpus_the_one_with_the_most_room_is_planned_for(tmp_path, monkeypatch):
    there = {"0": 0, "1": 2 * 10**9, "2": 80 * 10**9}
    free = lambda device: 10**11 if device.index is None else [*there.values()][device.index]
    monkeypatch.setattr("experiments.limits.gpu_memory", lambda: there)
    for module in ("checks", "limits"):
        monkeypatch.setattr(f"experiments.{module}.available_memory", free)
    (tmp_path / "s.toml").write_text('agents = "dqn"\ngames = "Pong"\nseeds = "0"')
    for storage in ("auto", "cuda"):
        suite = Suite(str(tmp_path / "s.toml"), runs=tmp_path, set=(f"replay.storage={storage}",))
        planned = plan(suite)
        assert planned.memory_of(planned.cells[0]).gpu > 7e9 and planned.memory.gpu == int(TAKEN * 80 * 10**9)
        assert set(planned.gpus) == {"1", "2"} and planned.device == "auto"


def test_players_of_this_machine_take_memory_and_cores_of_it(monkeypatch):
    monkeypatch.setattr("experiments.checks.available_memory", lambda device: 24 * 10**9)
    monkeypatch.setattr("experiments.limits.cores", lambda: 16)
    spec = {"agents": "dqn", "games": "Pong", "seeds": "0", "settings": {"frames": "1M"}}
    own = {"distributed": "local", "players": "4"}
    (alone,), (many,) = (cells(make_spec(spec | {"settings": spec["settings"] | more})) for more in ({}, own))
    cpu = torch.device("cpu")
    taken, more = check_cells([alone], cpu)[alone.name].host, check_cells([many], cpu)[many.name].host
    assert more == taken + 4 * PLAYER_MEMORY
    assert [share_of_threads(2, beside) for beside in (0, 4, 9)] == [8, 4, 1]


def test_a_suite_for_a_cluster_asks_nothing_of_this_machine(monkeypatch):
    monkeypatch.setattr("experiments.checks.available_memory", lambda device: 0)
    planned = cells(make_spec({"agents": "dqn", "games": "Pong"}))
    with pytest.raises(ValueError, match="GB free"):
        check_cells(planned, torch.device("cpu"))
    assert check_cells(planned, torch.device("cuda"), here=False)[planned[0].name].gpu > 7e9


def test_a_command_that_a_cluster_s_machine_cannot_start_says_why(tmp_path):
    class Failed(Exception):
        cause = FileNotFoundError(2, "No such file", "/not/shared")

    def get(status):
        raise Failed("in the actor")

    errors = SimpleNamespace(RayTaskError=Failed, RayError=Exception)
    ray = SimpleNamespace(exceptions=errors, get=get, wait=lambda *_, **__: ([1], []))
    actor = SimpleNamespace(is_here=SimpleNamespace(remote=lambda: None))
    assert Remote(ray, actor, None, tmp_path / "log").poll() == 1
    assert "/not/shared" in (tmp_path / "log").read_text().splitlines()[-1]


class Process:
    """A command that soon fails, unless it is told to stop."""

    def __init__(self):
        self.told, self.statuses = [], iter([None])

    def poll(self):
        return -signal.SIGTERM if self.told else next(self.statuses, 1)

    def send_signal(self, number):
        self.told.append(number)


def test_a_run_that_has_no_machine_of_a_cluster_yet_waits_no_longer_when_it_is_stopped(tmp_path):
    """It might for ever: others may have taken all. What has one is told, and is heard when it ends."""
    told, killed, there = [], [], set()
    actor = SimpleNamespace(
        is_here=SimpleNamespace(remote=lambda: "here"), tell=SimpleNamespace(remote=told.append),
    )  # fmt: skip
    ray = SimpleNamespace(
        wait=lambda refs, timeout: (refs if refs[0] in there else [], []), kill=killed.append, get=lambda status: 143,
        exceptions=SimpleNamespace(RayTaskError=KeyError, RayError=OSError),
    )  # fmt: skip
    waits = Remote(ray, actor, "status", tmp_path / "log")
    assert waits.poll() is None
    waits.send_signal(signal.SIGTERM)
    assert waits.poll() == waits.wait() == 128 + signal.SIGTERM and killed == [actor] and not told
    there.add("here")
    plays = Remote(ray, actor, "status", tmp_path / "log")
    plays.send_signal(signal.SIGTERM)
    assert plays.poll() is None and told == [signal.SIGTERM] and len(killed) == 1
    there.add("status")
    assert plays.poll() == 143


def test_a_hopeless_run_is_told_once(tmp_path, monkeypatch):
    """A second signal would end it at once, in the middle of what it saves."""
    monkeypatch.setattr("experiments.scheduler.POLL", 0.02)
    work = Listed([cells(make_spec({"agents": "a", "games": "b", "seeds": "0"}))[0]._replace(name="0")])
    work.hopeless = lambda: {"0", "1"}
    left = iter(range(20))  # it takes its time
    process = Process()
    process.poll = lambda: None if next(left, None) is not None else 143
    launch = Launch(tmp_path, (), lambda cell: [], 0, lambda *_: process)
    Scheduler(launch, 1, lambda cell: Room(4), Room(100), print).run(work, lambda s, work: None)
    assert process.told == [signal.SIGTERM]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGHUP, signal.SIGUSR1])
def test_a_run_that_is_being_begun_when_a_suite_is_stopped_is_told(tmp_path, monkeypatch, number):
    before = signal.signal(signal.SIGHUP, signal.SIG_DFL)  # these tests may run under nohup
    monkeypatch.setattr("experiments.scheduler.POLL", 0)
    process = Process()
    launch = Launch(tmp_path, (), lambda cell: [], 0, lambda *_: signal.raise_signal(number) or process)
    scheduler = Scheduler(launch, 1, lambda cell: Room(4), Room(100), print)
    scheduler.run(Listed(cells(make_spec({"agents": "dqn", "games": "Pong", "seeds": "0-1"}))), lambda s, work: None)
    signal.signal(signal.SIGHUP, before)
    assert process.told == [signal.SIGTERM] and scheduler.stopped == {"dqn-Pong-s0"} and not scheduler.failed


def test_runs_that_another_process_left_wait_for_their_turn(tmp_path):
    """As when the same suite is stopped in one terminal, and goes on in another."""
    planned = cells(make_spec({"agents": [f"sleep 0.2; {DONE}"], "games": ["a", "b", "c"], "seeds": "0"}))
    planned = [cell._replace(name=cell.game) for cell in planned]
    most, scheduler = [], Children(Launch(tmp_path, (), lambda cell: [], 0), 1, lambda cell: Room(4), Room(100), print)
    scheduler.elsewhere = planned[1:]
    scheduler.run(Listed(planned[:1]), lambda s, work: most.append(len(s.running)))
    assert len(scheduler.done) == 3 and max(most) == 1


def test_a_command_on_a_cluster_that_is_stopped_before_it_is_there_does_not_begin(tmp_path):
    runner = Runner()
    runner.tell(signal.SIGTERM)
    assert runner.run(["doctor"], tmp_path / "log", {}) == 128 + signal.SIGTERM and not (tmp_path / "log").exists()


def test_a_run_that_somebody_else_stopped_is_told_and_is_no_success(tmp_path):
    planned = [cell._replace(name=f"{i}") for i, cell in enumerate(cells(make_spec(
        {"agents": [DONE, "exit 143"], "games": "a", "seeds": "0"})))]  # fmt: skip
    scheduler, said = Children(Launch(tmp_path, (), lambda cell: [], 0), 1, lambda cell: Room(4), Room(100), print), []
    scheduler.run(Listed(planned), lambda s, work: None)
    assert say_the_end(scheduler, tmp_path, 2, said.append) == 1
    assert said[:2] == ["1 of 2 finished, 0 failed", "  stopped by others: 1; the same command goes on with them"]
    assert say_the_end(scheduler, tmp_path, 2, said.append, pruned=True) == 0  # a search stops what is hopeless


def test_a_run_that_lives_is_not_removed(tmp_path):
    """Though it was not alive when it was asked whether it is."""
    run = Run.create(tmp_path, PRESETS["dqn"], "0")
    assert not remove_idle(run.path) and (run.path / "config.json").exists()
    run.close()
    assert remove_idle(run.path) and not run.path.exists() and remove_idle(run.path)


def test_a_run_that_another_suite_began_in_the_same_moment_is_waited_for(tmp_path):
    script = f"test -e once && {DONE} || {{ touch once; exit 2; }}"
    (cell,) = cells(make_spec({"agents": [script], "games": "a", "seeds": "0"}))
    theirs, said = Run.create(tmp_path, PRESETS["dqn"], "0"), []
    scheduler = Children(Launch(tmp_path, (), lambda cell: [], 0), 1, lambda cell: Room(4), Room(100), said.append)
    scheduler.run(Listed([cell._replace(name="0")]), lambda s, work: theirs.close() if s.elsewhere else None)
    assert len(scheduler.done) == 1 and not scheduler.failed
    assert said[0] == "0: another process is at it; waiting"
