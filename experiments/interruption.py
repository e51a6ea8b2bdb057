"""How people stop a training: once to save, twice at once."""

import signal
import time
from typing import Any, Self

SAME_WISH = 1.0  # seconds: a second signal within it is not a second wish


class Interruption:
    """Turns Ctrl-C, SIGTERM and a terminal that goes away into a request to stop after this iteration.

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
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            if number != signal.SIGHUP or signal.getsignal(number) != signal.SIG_IGN:  # nohup was asked to go on
                self._previous[number] = signal.signal(number, self._ask)
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
