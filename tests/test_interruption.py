"""How a training is stopped: once to save, twice at once, and what counts as twice."""

import signal

import pytest

from experiments import interruption
from experiments.interruption import SAME_WISH, Interruption


def test_signals_that_come_together_are_one_wish(monkeypatch):
    """As of a cluster that signals all processes of a job, and of a suite that passes its own on to its trainings."""
    now = 100.0
    monkeypatch.setattr(interruption.time, "monotonic", lambda: now)
    with Interruption() as asked:
        for number in (signal.SIGTERM, signal.SIGTERM, signal.SIGHUP, signal.SIGINT):
            signal.raise_signal(number)
        assert asked.signal == signal.SIGTERM
        now += SAME_WISH
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
        assert asked.signal == signal.SIGINT


def test_what_may_be_abandoned_is_abandoned_once(monkeypatch):
    with Interruption() as asked:
        asked.may_abandon = True
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
        signal.raise_signal(signal.SIGTERM)  # it says the same
        assert asked.signal == signal.SIGINT
