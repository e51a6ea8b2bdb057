"""A mirror of a run in Weights & Biases, which training never waits for.

    Log.log -> bounded queue -> thread -> pipe -> this file as a process of its own -> wandb

wandb can block for ever when its service hangs, and raise in the caller when it dies (both measured).
Behind a process the worst it can do is to stop listening: rows are then dropped here, and the run
directory still holds them all.
"""

import contextlib
import json
import os
import queue
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil

from experiments.children import ours
from experiments.files import write_atomically
from experiments.interruption import ASKS
from experiments.run import Run
from experiments.sync import messages

QUEUE_LIMIT = 2_000  # rows; at the usual pace more than an hour
CLOSE_LIMIT = 60.0  # seconds that the end of a run waits for wandb
OFFLINE_HINT = "the run directory has everything, and `highscore sync RUN` uploads it"


class NoMirror:
    """Mirrors nothing."""

    sent = 0

    def log(self, row: dict[str, Any]) -> None:
        self.sent += 1

    def video(self, path: Path, frames: int) -> None:
        self.sent += 1

    def checkpoint(self, path: Path, alias: str = "latest") -> None: ...

    def summary(self, figures: dict[str, Any]) -> None: ...

    def close(self) -> None: ...


class Mirror:
    """Sends what a run logs to wandb, or drops it; says so once.

    Rows and videos are numbered; a resumed run counts on from its checkpoint, and what wandb had already
    is not sent twice.

    Args:
        mode: auto, online or offline; auto is online with a key and offline without.
        say: prints a line for people.
        close_limit: seconds that `close` waits.
    """

    def __init__(self, run: Run, mode: str, project: str, say: Callable[[str], None], close_limit: float = CLOSE_LIMIT):
        self.say, self.close_limit, self.said = say, close_limit, False
        self.sent = 0
        self.queue: queue.Queue[dict[str, Any] | None] = queue.Queue(QUEUE_LIMIT)
        inside = str(run.path.resolve() / "wandb")  # else wandb keeps artifacts twice, in the home directory
        environment = os.environ | {
            "WANDB_DIR": str(run.path.resolve()), "WANDB_DATA_DIR": inside, "WANDB_CACHE_DIR": inside,
            "WANDB_SILENT": "true",
        }  # fmt: skip
        self.process = subprocess.Popen(
            ours("wandb_mirror"), stdin=subprocess.PIPE, stdout=subprocess.DEVNULL,
            env=environment, start_new_session=True, text=True,  # a session of its own: Ctrl-C is not for it
        )  # fmt: skip
        self.queue.put({"begin": describe(run, mode, project)})
        self.thread = threading.Thread(target=self._send, daemon=True)
        self.thread.start()

    def log(self, row: dict[str, Any]) -> None:
        """Mirrors a row of metrics."""
        self.sent += 1
        self._put({"log": row, "number": self.sent})

    def video(self, path: Path, frames: int) -> None:
        """Mirrors a video file, made at a number of emulator frames."""
        self.sent += 1
        self._put({"video": str(path), "frames": frames, "number": self.sent})

    def checkpoint(self, path: Path, alias: str = "latest") -> None:
        """Mirrors a checkpoint directory as a version of the run's artifact, which can be asked for by its alias."""
        self._put({"checkpoint": str(path), "alias": alias})

    def summary(self, figures: dict[str, Any]) -> None:
        """Mirrors the figures that the table of runs shows."""
        self._put({"summary": figures})

    def close(self) -> None:
        """Waits for wandb to finish, but not for ever."""
        until = time.monotonic() + self.close_limit
        with contextlib.suppress(queue.Full):
            self.queue.put(None, timeout=self.close_limit)
        self.thread.join(max(until - time.monotonic(), 0))
        try:
            self.process.wait(max(until - time.monotonic(), 0))
        except subprocess.TimeoutExpired:
            self._give_up("does not answer")
            with contextlib.suppress(psutil.Error):
                parent = psutil.Process(self.process.pid)
                for process in (*parent.children(recursive=True), parent):  # wandb's service, too
                    process.kill()
            self.process.wait()
        if self.process.returncode:
            self._give_up("failed")

    def _put(self, message: dict[str, Any]) -> None:
        try:
            self.queue.put_nowait(message)
        except queue.Full:
            self._give_up("does not keep up")

    def _send(self) -> None:
        pipe = self.process.stdin
        assert pipe is not None
        try:
            for message in iter(self.queue.get, None):
                pipe.write(json.dumps(message) + "\n")
                pipe.flush()
        except OSError:
            self._give_up("stopped")
            for _ in iter(self.queue.get, None):
                pass  # nobody listens any more
        with contextlib.suppress(OSError):
            pipe.close()

    def _give_up(self, what: str) -> None:
        if not self.said:
            self.said = True
            self.say(f"Weights & Biases {what}; training goes on without it: {OFFLINE_HINT}")


def sent_before(run: Run) -> int:
    """How many rows of a run Weights & Biases was sent by the processes that trained it before this one."""
    try:
        return int((run.path / "wandb" / "received").read_text())
    except (OSError, ValueError):
        return 0


def check_project(name: str) -> None:
    """Refuses, before a training, what Weights & Biases would refuse after.

    Raises:
        ValueError: naming what it may not have.
    """
    if not 0 < len(name) <= 128 or set(name) & set("/\\#?%:"):
        raise ValueError(
            f"--wandb-project {name!r}: up to 128 characters, none of them / \\ # ? % or : (WANDB_ENTITY names a team)"
        )


def describe(run: Run, mode: str, project: str) -> dict[str, Any]:
    """What wandb is told about a run: names that group seeds, and the whole configuration."""
    x = run.experiment
    filed = run.config.get("wandb", {"group": f"{x.agent}/{x.game}", "tags": []})
    tags = [tag[:64] for tag in (x.preset, x.game, x.protocol, *filed["tags"])]  # longer ones are refused
    return {
        "mode": mode,
        "init": {
            "project": project, "id": run.config["wandb_id"], "name": f"{x.agent}-{x.game}-s{x.seed}",
            "group": filed["group"], "job_type": "train", "tags": tags,
            "config": run.config | {"agent": x.agent, "game": x.game, "seed": x.seed, "group": filed["group"]},
        },
    }  # fmt: skip


def begin(mode: Any, init: dict[str, Any], fall_back: bool = True, trainer: int = 0) -> Any:
    """A wandb run; offline if it cannot be online, which it says, unless it is not to fall back.

    Args:
        fall_back: and at the end of a training, whose last checkpoint may be large, give up after a minute.
        trainer: the process whose use of the machine wandb shows; 0: none.
    """
    import wandb

    settings = wandb.Settings(
        silent=True, console="off", init_timeout=20, finish_timeout=CLOSE_LIMIT - 10 if fall_back else 0,
        x_stats_pid=trainer or os.getpid(), x_disable_stats=not trainer,
    )  # fmt: skip
    if not fall_back:
        return wandb.init(**init, mode=mode, resume="allow", settings=settings)
    try:
        if mode == "auto":
            mode = "online" if wandb.login(prompt=False) else "offline"
        return wandb.init(**init, mode=mode, resume="allow", settings=settings)
    except wandb.Error as error:
        reason = str(error).splitlines()[0]
        print(f"Weights & Biases is out of reach ({reason}); logging offline, {OFFLINE_HINT}", file=sys.stderr)
        return wandb.init(**init, mode="offline", settings=settings)


def prepare(run: Any) -> None:
    """Says what a run's figures are drawn over, and which of them the table of runs shows."""
    run.define_metric("frames")
    run.define_metric("*", step_metric="frames")
    run.define_metric("eval/mean", step_metric="frames", summary="last,max")


def send(run: Any, message: dict[str, Any]) -> None:
    """Does what one message says."""
    import wandb

    if "log" in message:
        run.log(message["log"], step=message["number"], commit=True)
    elif "video" in message:
        video = wandb.Video(message["video"], format="mp4")
        run.log({"eval/video": video, "frames": message["frames"]}, step=message["number"], commit=True)
    elif "summary" in message:
        run.summary.update(message["summary"])
    elif "checkpoint" in message:
        artifact = wandb.Artifact(f"checkpoint-{run.id}", type="checkpoint")
        artifact.add_dir(message["checkpoint"])
        run.log_artifact(artifact, aliases=[message["alias"]])


def main() -> None:
    """Reads messages, a JSON line each, until the pipe closes: at the run's end, however it ends."""
    for number in ASKS:  # of a job, whose every process hears them; it ends with the training
        signal.signal(number, signal.SIG_IGN)
    first = json.loads(sys.stdin.readline())["begin"]
    run = begin(first["mode"], first["init"], trainer=os.getppid())
    prepare(run)
    path = Path(os.environ["WANDB_DIR"])
    received = path / "wandb" / "received"  # the number of the last row that wandb has, offline or online
    last = int(received.read_text()) if received.exists() else 0
    if not run.offline:
        last = max(run.starting_step - 1, 0)  # what was only logged offline, the server does not have
    videos = first["init"]["config"]["experiment"]["evaluation"]["video_seconds"] > 0
    for line in sys.stdin:
        message = json.loads(line)
        number = message.get("number", 0)
        if not number:
            send(run, message)
        elif number > last:  # a resumed run repeats what it did since its checkpoint
            if not run.offline and number > last + 1:
                for missed in messages(path, videos):
                    if last < missed.get("number", 0) < number:
                        send(run, missed)
            send(run, message)
            last = number
            write_atomically(received, str(number).encode())
    run.finish()


if __name__ == "__main__":
    main()
