"""A trace of a training's first updates, for people to look at."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch.profiler import ProfilerActivity, profile

from agents.agent import Agent

ITERATIONS = 20  # at least; on policy, until there was an update


class Trace:
    """Asked after every iteration: records some, once the agent learns, and writes them down.

    Args:
        path: of the trace, in Chrome's format, which Perfetto and chrome://tracing open.
        say: told when it is written.
    """

    def __init__(self, agent: Agent, path: Path, say: Callable[[str], None]):
        self.agent, self.path, self.say = agent, path, say
        self.profiler: Any = None
        self.iterations, self.first_update, self.written = 0, 0, False

    def __call__(self) -> None:
        if self.written or not self.agent.updates:
            return
        if self.profiler is None:
            activities = [ProfilerActivity.CPU] + [ProfilerActivity.CUDA] * torch.cuda.is_available()
            self.profiler, self.first_update = profile(activities=activities), self.agent.updates
            self.profiler.start()
            return
        self.iterations += 1
        if self.iterations >= ITERATIONS and self.agent.updates > self.first_update:
            self.profiler.stop()
            self.profiler.export_chrome_trace(str(self.path))
            self.written, self.profiler = True, None
            self.say(f"{self.path}: a trace of {self.iterations} iterations; open it in ui.perfetto.dev")
