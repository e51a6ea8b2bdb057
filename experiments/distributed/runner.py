"""Commands that run somewhere in a Ray cluster."""

import os
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from experiments.children import ours
from experiments.distributed.cluster import connect, import_ray
from experiments.distributed.orphans import end_with_parent
from experiments.scheduler import LOST


class Runner:
    """An actor that runs one command of ours on its machine."""

    def __init__(self) -> None:
        self.process: Any = None
        self.told = 0  # the signal that came before the process was there

    def is_here(self) -> None:
        """Answers once there is a place for it."""

    def run(self, words: list[str], log: Path, env: dict[str, str]) -> int:
        """Runs it to its end, with what it says in a file; returns its status."""
        end = end_with_parent()  # if this machine leaves the cluster, the command saves and ends
        if self.told:
            return 128 + self.told
        here = {"RAY_ADDRESS": import_ray().get_runtime_context().gcs_address}  # for its players, if it has any
        with log.open("ab") as file:
            self.process = subprocess.Popen(
                ours("cli", *words), stdout=file, stderr=file, stdin=subprocess.DEVNULL,
                env=os.environ | here | env, start_new_session=True, preexec_fn=lambda: end(signal.SIGTERM),
            )  # fmt: skip
        if self.told:
            self.process.send_signal(self.told)
        return self.process.wait()

    def tell(self, number: int) -> None:
        """Sends it a signal."""
        if self.process is None:
            self.told = number
        elif self.process.poll() is None:
            self.process.send_signal(number)


class Remote:
    """A command on the cluster, as `subprocess.Popen` would show it."""

    def __init__(self, ray: Any, actor: Any, status: Any, log: Path):
        self.ray, self.actor, self.status, self.log = ray, actor, status, log
        self.placed = actor.is_here.remote()
        self.given_up = 0  # the signal that came while it waited for a machine

    def poll(self) -> int | None:
        """Its status, or None: it runs, or waits for a machine; LOST if its machine is gone."""
        if self.given_up:
            return 128 + self.given_up
        return self.wait() if self.ray.wait([self.status], timeout=0)[0] else None

    def wait(self) -> int:
        """Waits for its end; as `poll`."""
        if self.given_up:
            return 128 + self.given_up
        try:
            return self.ray.get(self.status)
        except self.ray.exceptions.RayTaskError as error:  # it could not be started there
            with self.log.open("ab") as file:
                file.write(f"{error}\nit could not be started on its machine: {error.cause}\n".encode())
            return 1
        except self.ray.exceptions.RayError:
            return LOST

    def send_signal(self, number: int) -> None:
        """Sends it a signal; what waits for a machine, which may be for ever, waits no longer."""
        if self.ray.wait([self.placed], timeout=0)[0]:
            self.actor.tell.remote(number)
        else:
            self.given_up = number
            self.ray.kill(self.actor)


class Cluster(NamedTuple):
    """Where runs of a suite can be."""

    start: Callable[..., Remote]  # a command, as a Launch has it
    memory: int  # of its largest machine, in bytes
    cpus: list[int]  # of each machine
    address: str


def cluster_at(address: str, memory_of: Callable[[str], int], gpus: float, beside: int) -> Cluster:
    """A cluster, and what starts commands there.

    Args:
        memory_of: bytes that a run of some name takes; Ray places it where there are so many.
        gpus: of each run.
        beside: processes that play beside each run.

    Raises:
        ValueError: no cluster answers there.
    """
    ray = import_ray()
    if not ray.is_initialized():
        os.environ["RAY_ADDRESS"] = address
        connect(1)
    kind = ray.remote(Runner)
    machines = [node["Resources"] for node in ray.nodes() if node["Alive"]]

    def start(words: list[str], log: Path, env: dict[str, str]) -> Remote:
        cpus = int(env.get("OMP_NUM_THREADS", 1)) + beside
        needs = {"num_cpus": cpus, "num_gpus": gpus, "memory": memory_of(log.stem), "max_concurrency": 2}
        actor = kind.options(scheduling_strategy="SPREAD", **needs).remote()
        return Remote(ray, actor, actor.run.remote(words, log.resolve(), env), log)

    memory = max(int(machine.get("memory", 0)) for machine in machines)
    address = ray.get_runtime_context().gcs_address
    return Cluster(start, memory, [int(machine.get("CPU", 0)) for machine in machines], address)


def threads_on(cpus: list[int], jobs: int, beside: int, away: int) -> int:
    """Threads of each of so many runs at once on machines with so many CPUs.

    Args:
        beside: processes that play beside each run, on its machine.
        away: players of each run that take a CPU of any machine.

    Raises:
        ValueError: there are too few, so that some could never play.
    """
    if max(cpus) <= beside or (away and sum(cpus) < jobs * (1 + away)):
        raise ValueError(
            f"{jobs} runs at once, each with {beside + away} players, take {jobs * (1 + beside + away)} CPUs, and the"
            f" Ray cluster's machines have {', '.join(map(str, cpus))}: lower --jobs or --players"
        )

    def fits(threads: int) -> bool:
        places = sum(have // (threads + beside) for have in cpus)
        return places >= jobs and jobs * (threads + beside + away) <= sum(cpus)

    threads = 1
    while fits(threads + 1):
        threads += 1
    return threads
