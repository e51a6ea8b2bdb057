"""How people stop a training: once to save, twice at once."""

import signal
import time
from typing import Any, Self

SAME_WISH = 1.0  # seconds: a second signal within it is not a second wish
ASKS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2)  # USR: of clusters, before an end


def heard() -> list[int]:
    """Signals that ask this process to stop: without SIGHUP where nohup asked it to go on."""
    return [n for n in ASKS if n != signal.SIGHUP or signal.getsignal(n) != signal.SIG_IGN]


class Interruption:
    """Turns Ctrl-C, a terminal that goes away and the like into a request to stop after this iteration.

    A second one stops at once, and so does the first while something that may be abandoned goes on. What comes within
    a second of the first says the same: Slurm and systemd signal every process of a job, and who started this one
    passes theirs on.
    """

    def __init__(self) -> None:
        self.asked = 0  # the signal that did, or 0
        self.may_abandon = False
        self._since = 0.0  # when it was asked first, by the monotonic clock
        self._previous: dict[int, Any] = {}

    def __enter__(self) -> Self:
        self._previous = {number: signal.signal(number, self._ask) for number in heard()}
        return self

    def __exit__(self, *_: Any) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)

    def _ask(self, number: int, _: Any) -> None:
        again, now = self.asked, time.monotonic()
        if again and now < self._since + SAME_WISH:
            return
        self.asked, self._since = number, self._since if again else now
        if again or self.may_abandon:
            raise KeyboardInterrupt

    @property
    def signal(self) -> int:
        """The signal to stop for now, or 0."""
        return self.asked
