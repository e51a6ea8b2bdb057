"""Recorded episodes as films, made when somebody asks; and live pages of agents that play.

Both are other processes of the suite: rendering needs the emulators, and this one stays small.
"""

import asyncio
import os
import re
import subprocess
import tempfile
import threading
import time
from pathlib import Path

from experiments.children import ours
from experiments.records import checkpoints

KEPT = 40  # films
SECONDS = 120  # of play in a film, which takes a quarter of that to make; an episode may last for half an hour
LIVE = 4  # pages at once
PATIENCE = 300.0  # seconds for a film
LIVE_PATIENCE = 60.0  # seconds until a live page has an address
ADDRESS = re.compile(r"http://(?:localhost|127\.0\.0\.1):\d+\S*")


class FilmError(ValueError):
    """There is no film, and why."""


class Films:
    """Makes films one at a time, keeps the newest few until the dashboard ends, and starts live pages."""

    def __init__(self) -> None:
        self.folder = tempfile.TemporaryDirectory(prefix="highscore-films-")
        self.filming, self.starting = asyncio.Lock(), threading.Lock()
        self.film: subprocess.Popen[str] | None = None  # that makes the newest one
        self.live: dict[tuple[str, str], tuple[subprocess.Popen[str], str]] = {}
        self.closed = False

    async def episode(self, run: Path, name: str, episode: str) -> Path:
        """The film of a recorded episode; who is cancelled leaves the queue, or ends what makes it.

        Args:
            name: tells this episode from all others, and names the file.

        Raises:
            FilmError: it cannot be played again; with the reason.
        """
        path = Path(self.folder.name) / f"{name}.mp4"
        if path.exists():  # though another is being made
            return path
        async with self.filming:
            if path.exists():
                return path
            if self.closed:
                raise FilmError("the dashboard ends")
            command = ours("cli", "watch", str(run), "--episode", episode)
            film = self.film = subprocess.Popen(
                [*command, "--video", str(path), "--seconds", str(SECONDS)], text=True,
                stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
            )  # fmt: skip
            try:
                output, errors = await asyncio.to_thread(film.communicate, timeout=PATIENCE)
            except subprocess.TimeoutExpired:
                raise FilmError(f"it takes longer than {PATIENCE:.0f} s") from None
            finally:
                if film.poll() is None:  # not awaited: it must come to this even if everything ends
                    asyncio.get_running_loop().run_in_executor(None, end, [film])
            if film.returncode or not path.exists():
                said = (errors or output).strip().splitlines()
                raise FilmError(said[-1] if said else "it could not be played again")
            films = sorted(Path(self.folder.name).glob("*.mp4"), key=lambda p: p.stat().st_mtime)
            for old in films[:-KEPT]:
                old.unlink(missing_ok=True)
        return path

    def watch(self, run: Path, name: str, episode: str = "") -> str:
        """The address of a live page where a run's newest agent plays, or one of its recorded episodes plays again.

        The oldest page ends when there are too many.

        Args:
            name: tells this episode from all others, or the run.

        Raises:
            FilmError: it did not start; with the reason.
        """
        with self.starting:
            newest = max((path.name for path in checkpoints(run)), default="")  # a page keeps those that it began with
            key = name, newest
            known = self.live.get(key)
            if known and known[1] and known[0].poll() is None:
                return known[1]
            if self.closed:
                raise FilmError("the dashboard ends")
            self.live = {other: page for other, page in self.live.items() if page[0].poll() is None}
            while len(self.live) >= LIVE:
                end([self.live.pop(next(iter(self.live)))[0]])
            command = ours("cli", "watch", str(run), "--patience", "5")
            process = subprocess.Popen(
                command + (["--episode", episode] if episode else []), text=True, bufsize=1,
                stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                env=os.environ | {"BROWSER": "true", "PYTHONUNBUFFERED": "1"},  # the dashboard's own page opens it
            )  # fmt: skip
            self.live[key] = process, ""
            if self.closed:  # in this moment, so that `close` may have missed it
                end([process])
            address, said = self._address(process)
            if not address:
                del self.live[key]
                end([process])
                raise FilmError(said)
            self.live[key] = process, address
            return address

    @staticmethod
    def _address(process: "subprocess.Popen[str]") -> tuple[str, str]:
        """(address, last line) of a live page's output; an address of "" if it ends without one."""
        said, found = "it said nothing", threading.Event()
        address = ""

        def read() -> None:
            nonlocal said, address
            assert process.stdout is not None
            for line in process.stdout:
                said = line.strip() or said
                if (match := ADDRESS.search(line)) and not address:
                    address = match.group()
                    found.set()
            found.set()

        threading.Thread(target=read, daemon=True).start()
        found.wait(LIVE_PATIENCE)
        return address, said

    def close(self) -> None:
        """Ends the live pages and the film that is being made, lets none begin, and forgets the films."""
        self.closed = True
        end([process for process, _ in list(self.live.values())] + ([self.film] if self.film else []))
        self.folder.cleanup()


def end(processes: "list[subprocess.Popen[str]]") -> None:
    """Ends live pages and films: in order, or after five seconds by force."""
    for process in processes:
        process.terminate()
    until = time.monotonic() + 5
    for process in processes:
        try:
            process.wait(max(0.0, until - time.monotonic()))
        except subprocess.TimeoutExpired:
            process.kill()
