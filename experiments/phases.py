"""Where the time of a training goes: environment, act, replay, learn, log."""

import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

import torch

from experiments.build import Setup

T = TypeVar("T")


class Phases:
    """Times the calls that the loop makes; on a GPU it waits for each, so use it to compare, not to brag.

    Attributes:
        updates: since `begin`.
    """

    def __init__(self, setup: Setup):
        self.cuda = setup.games.device.type == "cuda"
        agent, games, memory = setup.agent, setup.games, setup.memory
        agent.act = self._timed("act", agent.act)  # type: ignore[method-assign]
        agent.learn = self._timed("learn", agent.learn)  # type: ignore[method-assign]
        games.send = self._timed("environment", games.send)  # type: ignore[method-assign]
        games.recv = self._timed("environment", games.recv)  # type: ignore[method-assign]
        memory.add = self._timed("replay", memory.add)  # type: ignore[method-assign]
        memory.update = self._timed("replay", memory.update)  # type: ignore[method-assign]
        memory.batches = self._timed_iterator("replay", memory.batches)  # type: ignore[method-assign]
        self._agent = agent
        self.begin()

    def begin(self) -> None:
        """Counts anew from here."""
        self.seconds: dict[str, float] = defaultdict(float)
        self.began, self.updates_before = time.perf_counter(), self._agent.updates

    def shares(self) -> dict[str, float]:
        """The share of each phase in the time since `begin`; what is left is the loop's own."""
        whole = time.perf_counter() - self.began
        return {name: seconds / whole for name, seconds in self.seconds.items()}

    @property
    def updates_per_second(self) -> float:
        return (self._agent.updates - self.updates_before) / (time.perf_counter() - self.began)

    def time(self, phase: str, call: Callable[[], T]) -> T:
        """The result of a call whose time counts as that phase's."""
        began = time.perf_counter()
        result = call()
        if self.cuda:
            torch.cuda.synchronize()
        self.seconds[phase] += time.perf_counter() - began
        return result

    def _timed(self, phase: str, call: Callable[..., Any]) -> Callable[..., Any]:
        return lambda *args, **more: self.time(phase, lambda: call(*args, **more))

    def _timed_iterator(self, phase: str, call: Callable[[], Iterator[Any]]) -> Callable[[], Iterator[Any]]:
        def batches() -> Iterator[Any]:
            source, end = call(), object()
            while (batch := self.time(phase, lambda: next(source, end))) is not end:
                yield batch

        return batches
