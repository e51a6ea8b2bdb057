"""How fast a preset can train on this machine: acting, emulating and learning timed apart, at its own sizes."""

import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any, NamedTuple

import torch

from agents.agent import Agent
from agents.captured import WARM_UP
from agents.replay import Replay
from agents.sequence import Sequence
from envs.library import game_of
from envs.timestep import TimeStep
from experiments.build import build_agent, build_experience, make_fast, make_games
from experiments.config import Experiment
from networks.memory import State


class Speed(NamedTuple):
    """Seconds of one iteration of the loop, which plays one agent step in every game."""

    act: float
    emulate: float
    learn: float
    num_envs: int
    frame_skip: int
    hides: bool = True  # whether games are emulated while the agent learns: not where it learns from rollouts

    @property
    def frames_per_second(self) -> float:
        """Emulator frames a second."""
        rest = max(self.emulate, self.learn) if self.hides else self.emulate + self.learn
        return self.frame_skip * self.num_envs / (self.act + rest)


def emulation(x: Experiment, num_envs: int = 8) -> float:
    """Seconds that one agent step of one game takes, several side by side, played at random.

    Without actions Breakout's ball would never be served and no episode would end; but where one restarts, with up to
    29 no-ops, the other games wait.

    Raises:
        ValueError: its game needs a package that is not installed.
    """
    games = make_games(x, num_envs, torch.device("cpu"))
    games.reset(0)
    draw = torch.Generator().manual_seed(0)
    seconds = timed(lambda: games.step(torch.randint(games.num_actions, (num_envs,), generator=draw)), 2.0)
    games.close()
    return seconds / num_envs


class Rehearsal(NamedTuple):
    """An agent, what it acts on and what it learns from, at an experiment's sizes."""

    agent: Agent
    step: TimeStep  # [N], of noise
    state: State
    seq: Sequence  # what `block` updates learn from
    block: int
    updates: float  # of one iteration of the loop


def rehearse(x: Experiment, device: torch.device, fast: bool = False) -> Rehearsal:
    """Builds it on random frames.

    Args:
        fast: compiled or captured, as a training of it would be.
    """
    game = game_of(x.game)
    shape = (x.stack, *game.frame_shape)
    agent = build_agent(x, shape, len(game.actions()), device)
    if fast:
        make_fast(agent, x, device)
    length, n = agent.algorithm.length, x.num_envs
    if x.replay is not None:
        x = replace(x, replay=replace(x.replay, capacity=n * max(4 * (length + 8), x.replay.stride * 4), learn_start=1))
    experience, state = build_experience(x, agent.online), agent.initial_state(n)
    step = random_steps(n, shape, device)
    for _ in range(2 * length if x.replay else length):
        action, note, _ = agent.act(step, state, 0.1)
        experience.add(step, action, note, state)
    many = 1_000_000_000  # agent steps, next to which the start of learning is nothing
    updates = experience.planned_updates(many) / many * n
    if isinstance(experience, Replay):
        block = max(min(round(updates), agent.room()), 1)  # updates that one iteration makes at once
        seq = experience.sample(block * experience.config.batch_size)
    else:
        seq, block = next(experience.batches(agent.room))
    return Rehearsal(agent, step, state, seq, block, updates)


def speed_of(x: Experiment, device: torch.device, emulate: float, seconds: float = 0.5) -> tuple[Speed, int]:
    """Times a preset on random frames; returns that, and how many parameters it learns.

    Args:
        emulate: seconds of an agent step, from `emulation`.
        seconds: to time its updates for.
    """
    agent, step, state, seq, block, updates = rehearse(x, device, fast=True)

    def learn() -> None:
        _, metrics = agent.learn(seq, block)
        metrics["losses/loss"].item()  # waits for the device

    for _ in range(WARM_UP + 1 if device.type == "cuda" else int(x.compile)):  # the first calls compile and record
        learn()
        agent.act(step, state, 0.1)
    act = timed(lambda: agent.act(step, state, 0.1)[0].cpu(), 0.2)
    skip = game_of(x.game).frame_skip
    hides = x.replay is not None
    speed = Speed(act, emulate * x.num_envs, updates / block * timed(learn, seconds), x.num_envs, skip, hides)
    return speed, sum(p.numel() for p in agent.online.parameters())


def random_steps(num_envs: int, shape: tuple[int, ...], device: torch.device) -> TimeStep:
    """A TimeStep [N] of noise in the middle of an episode."""
    flags = torch.zeros(num_envs, dtype=torch.bool, device=device)
    obs = torch.randint(0, 256, (num_envs, *shape), dtype=torch.uint8, device=device)
    return TimeStep(obs, flags.long(), flags.float(), flags, flags, flags)


def timed(call: Callable[[], Any], seconds: float) -> float:
    """Seconds that a call takes: the mean over about so many seconds, after half as many to warm up.

    If the very first takes more than four times as long, it is all that is measured.
    """
    began = time.perf_counter()
    call()
    if (first := time.perf_counter() - began) > 4 * seconds:
        return first
    while time.perf_counter() - began < seconds / 2:
        call()
    began, calls = time.perf_counter(), 0
    while time.perf_counter() - began < seconds:
        call()
        calls += 1
    return (time.perf_counter() - began) / calls
