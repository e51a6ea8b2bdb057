"""How fast a preset can train on this machine: acting, emulating and learning timed apart, at its own sizes."""

import time
from collections.abc import Callable
from typing import Any, NamedTuple

import torch

from agents.sequence import Sequence
from envs.atari import FRAME_SKIP, make_atari
from envs.timestep import TimeStep
from experiments.build import build_agent
from experiments.config import Experiment

OBSERVATION = (4, 84, 84)


class Speed(NamedTuple):
    """Seconds of one iteration of the loop, which plays one agent step in every game."""

    act: float
    emulate: float
    learn: float
    num_envs: int

    @property
    def frames_per_second(self) -> float:
        """Emulator frames a second: games are emulated while the agent learns."""
        return FRAME_SKIP * self.num_envs / (self.act + max(self.emulate, self.learn))


def emulation() -> float:
    """Seconds that one agent step of one game takes, 8 side by side (Pong)."""
    games = make_atari("Pong", 8)
    games.reset(0)
    actions = torch.zeros(8, dtype=torch.int64)
    seconds = timed(lambda: games.step(actions), 1.0)
    games.close()
    return seconds / 8


def speed_of(x: Experiment, device: torch.device, emulate: float, num_actions: int = 18) -> tuple[Speed, int]:
    """Times a preset on random frames; returns that, and how many parameters it learns.

    Args:
        emulate: seconds of an agent step, from `emulation`.
    """
    agent = build_agent(x, OBSERVATION, num_actions, device)
    step = random_steps((x.num_envs,), device)
    state = agent.initial_state(x.num_envs)
    if x.replay is not None:
        batch, length, updates = x.replay.batch_size, x.algorithm.length, x.num_envs / x.replay.learn_period
        note: Any = ()
    else:
        assert x.rollout is not None
        steps = x.num_envs * (x.algorithm.length - 1)
        batch, length, updates = steps // x.rollout.minibatches, 1, x.num_envs / steps * x.rollout.epochs
        updates *= x.rollout.minibatches
        note = torch.zeros(1, batch, device=device)
    action = torch.zeros(length, batch, dtype=torch.int64, device=device)
    ones = torch.ones(batch, device=device)
    seq = Sequence(random_steps((length, batch), device), action, note, agent.initial_state(batch), ones, action[0])

    def learn() -> None:
        agent.learn(seq)[1]["losses/loss"].item()  # waits for the device

    speed = Speed(
        timed(lambda: agent.act(step, state, 0.1)[0].cpu(), 0.2), emulate * x.num_envs, updates * timed(learn, 0.5),
        x.num_envs,
    )  # fmt: skip
    return speed, sum(p.numel() for p in agent.online.parameters())


def random_steps(shape: tuple[int, ...], device: torch.device) -> TimeStep:
    """TimeSteps of noise in the middle of an episode."""
    flags = torch.zeros(shape, dtype=torch.bool, device=device)
    obs = torch.randint(0, 256, (*shape, *OBSERVATION), dtype=torch.uint8, device=device)
    return TimeStep(obs, flags.long(), flags.float(), flags, flags, flags)


def timed(call: Callable[[], Any], seconds: float) -> float:
    """Seconds that a call takes: the mean over about so many seconds, after one to warm up, if that was quick."""
    began = time.perf_counter()
    call()
    if (first := time.perf_counter() - began) > 4 * seconds:
        return first
    began, calls = time.perf_counter(), 0
    while time.perf_counter() - began < seconds:
        call()
        calls += 1
    return (time.perf_counter() - began) / calls
