"""Commands that run somewhere in a Ray cluster."""

import os
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

from experiments.children import ours
from experiments.distributed.cluster import connect, import_ray
from experiments.distributed.orphans import end_with_parent
from experiments.scheduler import LOST


class Runner:
    """An actor that runs one command of ours on its machine."""

    def __init__(self) -> None:
        self.process: Any = None
        self.told = 0  # the signal that came before the process was there

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

    def poll(self) -> int | None:
        """Its status, or None: it runs, or waits for a machine; LOST if its machine is gone."""
        return self.wait() if self.ray.wait([self.status], timeout=0)[0] else None

    def wait(self) -> int:
        """Waits for its end; as `poll`."""
        try:
            return self.ray.get(self.status)
        except self.ray.exceptions.RayTaskError as error:  # it could not be started there
            with self.log.open("ab") as file:
                file.write(f"{error}\nit could not be started on its machine: {error.cause}\n".encode())
            return 1
        except self.ray.exceptions.RayError:
            return LOST

    def send_signal(self, number: int) -> None:
        self.actor.tell.remote(number)


def starter(address: str, memory_of: Callable[[str], int], gpus: float) -> tuple[Callable[..., Remote], int]:
    """What starts commands on a cluster, and the memory of its largest machine in bytes.

    Args:
        memory_of: bytes that a run of some name takes; Ray places it where there are so many.
        gpus: of each run.

    Raises:
        ValueError: no cluster answers there.
    """
    ray = import_ray()
    if not ray.is_initialized():
        os.environ["RAY_ADDRESS"] = address
        connect(1)
    kind = ray.remote(Runner)
    machines = [node["Resources"].get("memory", 0) for node in ray.nodes() if node["Alive"]]

    def start(words: list[str], log: Path, env: dict[str, str]) -> Remote:
        needs = {"num_cpus": 1, "num_gpus": gpus, "memory": memory_of(log.stem), "max_concurrency": 2}
        actor = kind.options(scheduling_strategy="SPREAD", **needs).remote()
        return Remote(ray, actor, actor.run.remote(words, log.resolve(), env), log)

    return start, int(max(machines))
