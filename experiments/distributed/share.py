"""One rank's share of a training: some of its games, and of each batch.

An experiment's settings are those of the whole, on however many ranks: W ranks play num_envs / W games each, remember
capacity / W steps each and sample batch_size / W sequences each (or cut their rollouts into as many minibatches), so
that the mean of their gradients is that of a whole batch. Agent steps are those of all ranks, counted by all of them
from the same numbers: so they explore alike, make the same number of updates, and stop together. What is not the same
as on one rank: each samples from its own steps, and importance weights and advantages are normalised by its own share
of a batch.
"""

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from agents.replay import Replay
from agents.rollout import Rollout
from agents.sequence import Sequence
from envs.games import Games
from envs.played import Played
from envs.timestep import TimeStep
from experiments.build import Setup, build_agent, build_experience, compile_agent, make_games, seed_everything
from experiments.checks import check, with_room
from experiments.config import Experiment
from experiments.distributed.world import World
from experiments.loop import Moment, train


class GamesShare(Games):
    """One rank's games, which knows what all ranks' games show.

    The games are numbered over all ranks: rank r has r N to (r + 1) N - 1.

    Attributes:
        agent_steps: played by all ranks.
        whole: what their games show, without the frames: fields [W N].
        asked_here: asked once an iteration whether this rank should stop.
        asked: whether any rank answered that it should.
    """

    def __init__(self, games: Games, world: World):
        vars(self).update(vars(games))  # the same emulators
        self.world = world
        self.asked_here: Callable[[], bool] = lambda: False
        self.asked = False

    def begin(self, seeds: list[int]) -> TimeStep:
        step = super().begin(seeds)
        facts = torch.zeros(4, self.world.size * self.num_envs)
        facts[1] = 1.0  # every game begins
        self._show(facts)
        return step

    def send(self, action: Tensor) -> None:
        played = self.agent_steps + int((~self.whole.last).sum())
        super().send(action)
        self.agent_steps = played

    def recv(self) -> TimeStep:
        step = super().recv()
        self.exchange(self.on_host)
        return step

    def exchange(self, step: TimeStep) -> None:
        """Learns what all ranks' games show; called by all of them."""
        facts = torch.stack([x.cpu().float() for x in (step.reward, step.first, step.last, step.terminal)])
        asked = torch.tensor([float(self.asked_here())])
        every = self.world.all_gather(torch.cat([facts.flatten(), asked]))  # [W, 4 N + 1]
        self.asked = bool(every[:, -1].any())
        self._show(every[:, :-1].unflatten(1, (4, -1)).transpose(0, 1).flatten(1))

    def _show(self, facts: Tensor) -> None:
        """Takes in reward, first, last and terminal of all games, [4, W N]."""
        none, (reward, *flags) = torch.empty(0), facts
        self.whole = TimeStep(none, none, reward, *(x.bool() for x in flags))

    def played(self, game: int) -> Played:
        """The episode that any rank's game plays. All ranks call it; only the owner and the first learn of it."""
        owner, rank = game // self.num_envs, self.world.rank
        if rank == owner:
            played = super().played(game % self.num_envs)
            if rank:
                facts = played._asdict() | {"actions": played.actions.hex()}
                self.world.send(json.dumps(facts).encode(), 0)
            return played
        if rank:
            return Played(0, 0, b"", [])
        told = json.loads(self.world.receive(owner))
        return Played(**told | {"actions": bytes.fromhex(told["actions"])})


class ReplayShare(Replay):
    """One rank's part of a replay, in which the steps of all ranks pay for updates.

    Args:
        agent_steps: played by all ranks so far.
    """

    def __init__(self, replay: Replay, agent_steps: Callable[[], int]):
        vars(self).update(vars(replay))
        self.agent_steps = agent_steps

    def batches(self, room: Callable[[], int] = lambda: 1) -> Iterator[tuple[Sequence, int]]:
        self.steps_added = self.agent_steps()  # rows whose action meant nothing are other rows on other ranks
        return super().batches(room)


@dataclass
class Share(Setup):
    """What a rank needs, ready to start."""

    world: World

    def moments(self, x: Experiment, begin: Moment | None) -> Iterator[Moment]:
        """This rank's part of the training; every moment tells of all ranks' games."""
        assert isinstance(self.games, GamesShare)
        if begin is not None:
            self.games.exchange(begin.step)
        explore, seed = exploration(x, self.world), seed_of(x.seed, self.world.rank)
        agent_steps = x.agent_steps
        for moment in train(self.agent, self.games, self.experience, explore, agent_steps, seed, begin):
            yield moment._replace(on_host=self.games.whole)

    def segments(self, folder: Path) -> Any:
        """The rows of this rank's replay on disk."""
        return super().segments(folder / str(self.world.rank) if self.world.rank else folder)


def build_share(experiment: Experiment, world: World, device: torch.device) -> Share:
    """Builds this rank's share; seeds torch, NumPy and Python.

    Raises:
        ValueError: settings that cannot work, or that cannot be cut so; the same on every rank.
    """
    share = stored(experiment, cut(experiment, world.size), device)
    seed, steps = seed_of(experiment.seed, world.rank), experiment.agent_steps
    seed_everything(experiment)  # the same parameters on every rank
    games = GamesShare(make_games(share, share.num_envs, device), world)
    agent = build_agent(share, games.observation_shape, games.num_actions, device)
    agent.average = world.average
    if share.compile:
        compile_agent(agent)
    experience: Replay | Rollout = build_experience(replace(share, seed=seed), agent.online)
    if isinstance(experience, Replay):
        experience = ReplayShare(experience, lambda: games.agent_steps)
    fall, begin = experience.annealing(steps)
    agent.plan(fall, begin if isinstance(experience, Replay) else begin * world.size)
    if world.rank:
        seed_everything(replace(experiment, seed=seed))  # but games, exploration and noise of its own
    return Share(games, agent, experience, world)


def stored(experiment: Experiment, share: Experiment, device: torch.device) -> Experiment:
    """A share whose frames are where all ranks' have room: those of one machine share its memory, and have a GPU each.

    Raises:
        ValueError: settings that cannot work, or less memory than it takes.
    """
    whole, replay = experiment, share.replay
    if replay is not None and device.type != "cpu":
        if replay.storage == "auto":
            replay = replace(replay, storage="cuda")
        whole = replace(experiment, replay=replay)
    check(whole, device)
    if replay is None:
        return share
    found = with_room(whole, device).replay
    assert found is not None
    return replace(share, replay=replace(replay, storage=found.storage))


def cut(experiment: Experiment, size: int) -> Experiment:
    """The settings of one share out of W; periods, schedules and the total stay those of the whole.

    Raises:
        ValueError: what cannot be cut into equal shares.
    """
    numbers = [("--num-envs", experiment.num_envs)]
    if experiment.replay is not None:
        numbers.append(("--replay.batch-size", experiment.replay.batch_size))
    for flag, number in numbers:
        if number % size:
            raise ValueError(
                f"{flag} is {number}, which {size} ranks cannot share equally; try {flag} {-(-number // size) * size}"
            )
    if experiment.distributed != "none":
        raise ValueError(f"--distributed {experiment.distributed}: torchrun's ranks play themselves")
    if experiment.bonus.weight:
        raise ValueError("--bonus.weight: its statistics are of all that is seen, so it needs a single process")
    replay = experiment.replay
    if replay is not None:
        replay = replace(replay, capacity=replay.capacity // size, batch_size=replay.batch_size // size)
    return replace(experiment, num_envs=experiment.num_envs // size, replay=replay)


def seed_of(seed: int, rank: int) -> int:
    """The seed of one rank's games, exploration and sampling; the first rank has the experiment's own."""
    return int(np.random.SeedSequence([seed, rank]).generate_state(1)[0] >> 1) if rank else seed


def exploration(experiment: Experiment, world: World) -> Callable[[int], Any]:
    """Agent steps to this rank's exploration rates: its games' rungs, where there is a ladder."""
    share = experiment.num_envs // world.size

    def rates(agent_steps: int) -> Any:
        rate = experiment.explore(agent_steps)
        return rate[world.rank * share :][:share] if isinstance(rate, Tensor) else rate

    return rates
