"""Players, shards and whole suites on a Ray cluster of two machines, both of them here: `make test-ray`."""

import os
import signal
import subprocess
import sys
import threading
import time
from contextlib import suppress

import psutil
import pytest
from rich.console import Console

ray = pytest.importorskip("ray", reason="Ray is not installed: `make test-ray` installs it and runs these")

from ray.cluster_utils import Cluster

from experiments.distributed.cluster import import_ray, nodes
from experiments.distributed.ray_players import RayPlayers
from experiments.files import read_rows
from experiments.run import Run
from experiments.suite import Suite, run_suite
from experiments.train import Train, run_training
from tests.test_local import ATARI
from tests.test_players import small

pytestmark = pytest.mark.ray

SETTINGS = """agents = "prioritized"
games = "probe/catch"
[settings]
protocol = "probe"
"network.torso" = "mlp"
"network.hidden" = 16
"replay.capacity" = 1200
"replay.learn-start" = 200
"evaluation.video-seconds" = 0
"""


@pytest.fixture
def cluster():
    """Two machines, of which the second may be taken away. Ray's start can fail where much else runs."""
    import_ray()
    for attempt in range(3):
        cluster = Cluster()
        try:
            cluster.add_node(num_cpus=3, include_dashboard=False)
            second = cluster.add_node(num_cpus=3)
            cluster.wait_for_nodes(120)
            os.environ["RAY_ADDRESS"] = cluster.address
            break
        except Exception:
            cluster.shutdown()
            if attempt == 2:
                raise
    yield cluster, second
    del os.environ["RAY_ADDRESS"]
    ray.shutdown()
    cluster.shutdown()
    assert not [p for p in psutil.Process().children(recursive=True) if "ray" in p.name()]


def kill_a_player():
    """One of this test's own."""
    for process in psutil.Process().children(recursive=True):
        if any("PlayerActor" in word for word in process.cmdline()):
            process.kill()
            return


def test_players_die_and_a_machine_is_lost_and_only_time_with_them(cluster, tmp_path, capfd):
    machines, second = cluster
    x = small("prioritized", distributed="ray", frames=2_400, checkpoint_period=400)
    iterations = iter(range(10**6))

    def chaos():
        now = next(iterations)
        if now in (4, 8, 20):
            kill_a_player()
        if now == 40:
            assert len(nodes(ray)) == 2
            machines.remove_node(second, allow_graceful=False)
            time.sleep(20)  # until its processes have ended and the cluster knows
        return False

    run, _ = run_training(Train(x, device="cpu", wandb="off", runs=tmp_path, name="r"), Console(), chaos)
    said = capfd.readouterr().out.replace("\n", " ")
    events = [row["event"] for row in read_rows(run.path / "events.jsonl")]
    assert sum("Another takes its place" in event for event in events) >= 2, events
    assert "a replay shard is gone" in said and "going back to" in said
    state = Run.open(run.path).load_checkpoint()[1]
    assert state["finished"] and state["agent_steps"] >= 2_400
    # Exactly the updates that the steps have paid for, and every step is in a shard once.
    assert state["updates"] == (state["agent_steps"] - 200) // 8 == state["resume"]["memory"]["updates"]
    assert sum(shard["steps_added"] for shard in state["resume"]["memory"]["shards"]) == state["agent_steps"]


HOLD = """import time, ray
ray.init(logging_level="error")
@ray.remote(num_cpus=2)
class Other:
    def there(self): return True
others = [Other.remote() for _ in range(2)]
print(ray.get([other.there.remote() for other in others]), flush=True)
time.sleep(600)
"""


def test_players_that_find_no_cpu_are_named(cluster, tmp_path, monkeypatch):
    """The cluster has six, of which somebody else takes four."""
    other = subprocess.Popen([sys.executable, "-c", HOLD], stdout=subprocess.PIPE, text=True)
    assert "True" in other.stdout.readline()
    x = small("prioritized", distributed="ray", players=4, frames=400_000)
    run, begun = tmp_path / "r", time.monotonic()

    def said():
        return any("has played nothing" in row["event"] for row in read_rows(run / "events.jsonl"))

    release = RayPlayers.release

    def released(self, told):
        monkeypatch.setattr("experiments.distributed.ray_players.SILENCE", 5.0)  # those that play have begun
        release(self, told)

    def stop():
        return said() or time.monotonic() - begun > 120

    monkeypatch.setattr(RayPlayers, "release", released)
    try:
        run_training(Train(x, device="cpu", wandb="off", runs=tmp_path, name="r"), Console(), stop)
    finally:
        other.kill()
        other.wait()
    assert said()


def test_one_command_starts_all_and_a_stopped_training_goes_on(tmp_path):
    """On this machine's own cluster, which ends with the training; the second has to find everything on the disk."""
    ours = "--distributed ray --players 2 --frames 12k --checkpoint-period 4k".split()
    quiet = ["--device", "cpu", "--wandb", "off"]
    words = [*ATARI[: ATARI.index("--distributed")], *quiet, *ours, "--runs", str(tmp_path)]
    train = [sys.executable, "-m", "experiments.cli", "train", "prioritized", *words, "--name", "r"]
    learner, path = subprocess.Popen(train), tmp_path / "r"
    until = time.monotonic() + 300
    while not list(path.glob("checkpoints/0*")) and time.monotonic() < until:
        assert learner.poll() is None
        time.sleep(0.1)
    everybody = psutil.Process(learner.pid).children(recursive=True)
    learner.send_signal(signal.SIGINT)
    assert learner.wait(120) == 128 + signal.SIGINT
    assert not psutil.wait_procs(everybody, timeout=60)[1]
    stopped = Run.open(path).load_checkpoint()[1]
    assert not stopped["finished"] and stopped["updates"] > 0
    resume = [sys.executable, "-m", "experiments.cli", "resume", str(path), *quiet]
    assert subprocess.run(resume, timeout=300).returncode == 0
    state = Run.open(path).load_checkpoint()[1]
    assert state["finished"] and state["agent_steps"] >= 3_000
    assert state["updates"] == Run.open(path).experiment.replay.planned_updates(state["agent_steps"])
    assert sum(shard["steps_added"] for shard in state["resume"]["memory"]["shards"]) == state["agent_steps"]
    assert state["resume"]["games"]["lives"] == [2, 2]


def test_learners_of_a_suite_are_actors_and_so_are_their_players(cluster, tmp_path):
    machines, _ = cluster
    spec = tmp_path / "spread.toml"
    spec.write_text(f'seeds = "0"\n{SETTINGS}frames = "2400"\nplayers = 2\nnum-envs = 4\ndistributed = "ray"\n')
    seen, parents, clusters = set(), set(), set()

    ended = threading.Event()

    def look():
        while not ended.wait(0.3):
            for process in psutil.Process().children(recursive=True):
                with suppress(psutil.Error):
                    words = " ".join(process.cmdline())
                    seen.update(kind for kind in ("PlayerActor", "ShardActor", "Runner") if f"ray::{kind}" in words)
                    if "gcs_server" in process.name():
                        clusters.add(process.pid)
                    if "experiments.cli train" in words:
                        parents.add(" ".join(process.parent().cmdline()).split(".")[0].strip())

    looking = threading.Thread(target=look)
    looking.start()
    options = Suite(str(spec), runs=tmp_path / "runs", device="cpu", ray=machines.address)
    status = run_suite(options, Console())
    ended.set()
    looking.join()
    assert status == 0 and seen == {"PlayerActor", "ShardActor", "Runner"} and parents == {"ray::Runner"}
    assert len(clusters) == 1  # which all of them joined
    (run,) = (tmp_path / "runs" / "spread").glob("prioritized*")
    state = Run.open(run).load_checkpoint()[1]
    assert state["finished"] and state["updates"] == state["resume"]["memory"]["updates"] > 0


def test_a_suite_goes_on_without_a_lost_machine(cluster, tmp_path):
    machines, second = cluster
    spec = tmp_path / "two.toml"
    spec.write_text(f'seeds = "0-1"\n{SETTINGS}frames = "8k"\n"checkpoint-period" = 400\n')
    said = []

    class Console_(Console):
        def print(self, *what, **how):
            said.append(str(what[0]))
            if sum(": begun" in line for line in said) == 2 and "removed" not in said:
                said.append("removed")
                while not list((tmp_path / "runs").glob("two/*/checkpoints/0*")):
                    time.sleep(0.2)
                machines.remove_node(second, allow_graceful=False)

    options = Suite(str(spec), jobs=2, runs=tmp_path / "runs", device="cpu", ray=machines.address)
    assert run_suite(options, Console_()) == 0, said
    assert any("its machine is gone; another goes on with it" in line for line in said), said
    runs = list((tmp_path / "runs" / "two").glob("prioritized*"))
    assert len(runs) == 2 and all(Run.open(run).load_checkpoint()[1]["finished"] for run in runs)
