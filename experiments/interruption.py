"""How people stop a training: once to save, twice at once."""

import signal
from typing import Any, Self


class Interruption:
    """Turns Ctrl-C, SIGTERM and a terminal that goes away into a request to stop after this iteration.

    A second one stops at once, and so does the first while something that may be abandoned goes on.
    """

    def __init__(self) -> None:
        self.asked = 0  # the signal that did, or 0
        self.may_abandon = False
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
        again, self.asked = self.asked, number
        if again or self.may_abandon:
            raise KeyboardInterrupt

    @property
    def signal(self) -> int:
        """The signal to stop for now, or 0."""
        return self.asked
