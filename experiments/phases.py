"""Where the time of a training goes: environment, act, replay, learn, log."""

import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

import torch

from agents.agent import Agent
from experiments.build import Setup

T = TypeVar("T")


class Phases:
    """Times the calls that the loop makes; on a GPU it waits for each, which makes a training slower than it is.

    Args:
        calls: (phase, object, name of its method); `batches` are timed one by one.

    Attributes:
        waits: whether a GPU is waited for. Where it is not, what is said of the phases means nothing.
    """

    def __init__(self, agent: Agent, device: torch.device, calls: list[tuple[str, Any, str]]):
        self.waits = device.type == "cuda"
        for phase, owner, name in calls:
            timed = self._timed_iterator if name == "batches" else self._timed
            setattr(owner, name, timed(phase, getattr(owner, name)))
        self._agent = agent
        self.begin()

    @classmethod
    def of(cls, setup: Setup) -> "Phases":
        """Those of a training in one process."""
        agent, games, experience = setup.agent, setup.games, setup.experience
        calls = [
            ("act", agent, "act"), ("learn", agent, "learn"),
            ("environment", games, "start"), ("environment", games, "send"), ("environment", games, "recv"),
            ("replay", experience, "add"), ("replay", experience, "update"), ("replay", experience, "batches"),
        ]  # fmt: skip
        return cls(agent, games.device, calls)

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
        if self.waits:
            torch.cuda.synchronize()
        self.seconds[phase] += time.perf_counter() - began
        return result

    def _timed(self, phase: str, call: Callable[..., Any]) -> Callable[..., Any]:
        return lambda *args, **more: self.time(phase, lambda: call(*args, **more))

    def _timed_iterator(self, phase: str, call: Callable[..., Iterator[Any]]) -> Callable[..., Iterator[Any]]:
        def batches(*args: Any) -> Iterator[Any]:
            source, end = call(*args), object()
            while (batch := self.time(phase, lambda: next(source, end))) is not end:
                yield batch

        return batches
