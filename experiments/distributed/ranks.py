"""Trainers of a training on several ranks: the first keeps everything, the others do their share."""

import errno
import json
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load

from envs.played import Played
from experiments import snapshot
from experiments.build import Setup
from experiments.checkpoint import packed
from experiments.distributed.share import GamesShare
from experiments.distributed.world import Gone, World
from experiments.files import DISK_FULL, RunError
from experiments.interruption import Interruption
from experiments.loop import Episode, Moment, Scores
from experiments.run import Run
from experiments.scoring import weights_hash
from experiments.trainer import Trainer


class RankInterruption(Interruption):
    """Stops once all ranks know of it, after the same iteration.

    Attributes:
        known: that some rank was asked.
    """

    known = False

    @property
    def signal(self) -> int:
        return (self.asked or signal.SIGTERM) if self.known else 0


class Rank(Trainer):
    """What all ranks do alike: they count the same scores, and keep their own replay's rows."""

    def __init__(self, run: Run, setup: Setup, log: Any, interruption: RankInterruption, world: World):
        super().__init__(run, setup, log, interruption)
        assert isinstance(setup.games, GamesShare)
        self.world, self.games, self.stopping = world, setup.games, interruption
        self.games.asked_here = lambda: bool(interruption.asked)

    def follow(self, moment: Moment) -> None:
        """Takes in one iteration of the loop."""
        self.stopping.known = self.games.asked
        super().follow(moment)


class First(Rank):
    """Rank 0: logs, evaluates and saves what all of them do."""

    def train(self, begin: Moment | None = None, stop: Callable[[], bool] = lambda: False) -> None:
        """As a single process does.

        Raises:
            Gone: another rank was killed.
        """
        try:
            super().train(begin, stop)
        except Gone as error:
            saved = self.run.checkpoints()
            how = f"to go on: {self.run.resume_command}" if saved else "nothing was saved yet"
            raise Gone(f"{error}; {how}") from None

    def evaluate(self) -> None:
        """Scores the agent, unless it is told to stop; then all ranks stop before they play on."""
        if self.interruption.asked:
            self.evaluation_due = True
        else:
            super().evaluate()
        self.stopping.known |= bool(self.world.tell("it is due" * self.evaluation_due))

    def save(self, moment: Moment) -> Path:
        """Writes a checkpoint of all ranks."""
        self.others = [(self.world.receive(rank), self.world.receive(rank)) for rank in range(1, self.world.size)]
        try:
            return super().save(moment)
        finally:
            self.world.tell("saved, or not")

    def snapshot(self, moment: Moment) -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
        """(tensors, facts) of all ranks, as `snapshot.joined` lays them out.

        Raises:
            OSError: another rank's disk is full.
            RunError: the ranks' weights have come apart.
        """
        own, parts = weights_hash(self.setup.agent), []
        for rank, (told, content) in enumerate(self.others, 1):
            facts = json.loads(told)
            if "full" in facts:
                raise OSError(errno.ENOSPC, f"rank {rank}: {facts['full']}")
            if facts.pop("weights") != own:
                raise RunError(f"rank {rank} has other weights than rank 0; to go on: {self.run.resume_command}")
            parts.append((load(content), facts))
        return snapshot.joined(super().snapshot(moment), parts)


class Other(Rank):
    """A rank that only does its share."""

    def keep(self, episode: Episode, played: Played) -> None:
        """The first rank does."""

    def check(self) -> None:
        """A loss that is no number is one on the first rank, too, an update later."""

    def report(self) -> None:
        """Writes rows, so that a checkpoint has little left to write."""
        self.or_say_full(self.write_rows)

    def evaluate(self) -> None:
        """The first rank does; this one waits for it."""
        self.evaluation_due = bool(self.world.tell(""))
        self.stopping.known |= self.evaluation_due

    def save(self, moment: Moment) -> Path:
        """Gives the first rank what only this one has."""
        tensors, facts = dict[str, torch.Tensor](), dict[str, Any]()
        try:
            tensors, facts = self.snapshot(moment)
            tensors = snapshot.own(tensors)
            facts["weights"] = weights_hash(self.setup.agent)
        except OSError as error:
            if error.errno not in DISK_FULL:
                raise
            facts = {"full": error.strerror}
        self.world.send(json.dumps(facts).encode(), 0)
        self.world.send(packed(tensors), 0)
        self.world.tell("")
        if self.frames() < self.experiment.frames and self.run.checkpoints():
            self.forget_rows(lambda facts: facts["ranks"][self.world.rank - 1]["rows"])
        return self.run.path

    def conclude(self, moment: Moment) -> None:
        """Saves for the last time."""
        self.save(moment)

    def take_up(self, state: dict[str, Any], segments: Any) -> None:
        """Takes counters back to where a checkpoint was written; the logs are the first rank's."""
        self.scores = Scores.from_facts(state["resume"]["scores"], self.experiment.num_envs)
        self.agent_steps, self.segments = state["agent_steps"], segments
        self.evaluation_due = state["resume"]["evaluation_due"]
