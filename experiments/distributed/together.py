"""`train` and `resume` as torchrun starts them: data-parallel learners.

torchrun --nproc-per-node=2 -m experiments.train dqn --game Pong --num-envs 16 --replay.batch-size 64
torchrun --nproc-per-node=2 -m experiments.resume runs/...
"""

import contextlib
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from rich.console import Console

from experiments.build import Setup, device_of
from experiments.config import Experiment
from experiments.distributed.ranks import First, Other, RankInterruption
from experiments.distributed.share import Share, build_share, cut
from experiments.distributed.world import Gone, World
from experiments.log import say_what_next
from experiments.resume import Resume, device_for, go_on, recover
from experiments.run import Run
from experiments.train import Train, begin_with, check_surroundings, train_and_keep
from experiments.wandb_mirror import NoMirror


class Aside:
    """The log of a rank that is not the first: what happens to it is said, its figures are the first one's."""

    def __init__(self, rank: int):
        self.rank, self.mirror = rank, NoMirror()

    def event(self, text: str) -> None:
        print(f"rank {self.rank}: {text}", file=sys.stderr)


def run_rank(world: World, parse: Callable[[], Any], run: Callable[[Any, World, Console], tuple[Run, int]]) -> int:
    """Runs a command on this rank; returns its exit status. Only the first rank speaks, unless another one fails.

    Args:
        parse: the command's options; of a mistake in them only the first rank speaks.
        run: the command.
    """
    with contextlib.ExitStack() as hushed:
        if world.rank:
            nowhere = hushed.enter_context(open(os.devnull, "w"))
            hushed.enter_context(contextlib.redirect_stdout(nowhere))
            hushed.enter_context(contextlib.redirect_stderr(nowhere))
        options = parse()
    console = Console(quiet=world.rank > 0)
    try:
        status = say_what_next(console, *run(options, world, console))
        world.leave()
        return status
    except ValueError as error:
        if world.rank == 0:
            raise
        if not isinstance(error, Gone):
            print(f"rank {world.rank}: {error}", file=sys.stderr)
        return 2


def train(options: Train, world: World, console: Console) -> tuple[Run, int]:
    """This rank's part of a training; as `train.run_training`."""
    if world.rank == 0:
        check_surroundings(options)
    device = device_of(options.device)
    world.join(device)
    setup = build_share(options.experiment, world, device)
    console.print(shares(options.experiment, world), highlight=False)
    if world.rank == 0:
        interruption = RankInterruption()
        run, _ = train_and_keep(
            options, setup, console, follow=first(world), interruption=interruption, ranks=world.size
        )  # fmt: skip
        return run, interruption.signal or interruption.asked
    run = Run.open(Path(world.tell("")))
    if options.weights is not None:
        begin_with(setup.agent, Run.open(options.weights), run.config["weights"])
    with RankInterruption() as interruption:
        Other(run, setup, Aside(world.rank), interruption, world).train()
    return run, interruption.signal


def resume(options: Resume, world: World, console: Console) -> tuple[Run, int]:
    """This rank's part of going on with a training; as `resume.resume`."""
    begun = time.monotonic()
    run = Run.open(options.run) if world.rank else Run.reopen(options.run)
    device = device_for(options, run, world.size)
    world.join(device)
    back = recover(run, lambda: build_share(run.experiment, world, device), world.rank, world.all)
    with RankInterruption() as interruption:
        if world.rank == 0:
            go_on(options, back, run, console, begun, follow=first(world), interruption=interruption)
            return run, interruption.signal or interruption.asked
        world.tell("")
        assert isinstance(back.setup, Share)
        trainer = Other(run, back.setup, Aside(world.rank), interruption, world)
        trainer.take_up(back.state, back.segments)
        if not back.exact:
            trainer.scores.give_up()
        trainer.train(back.moment)
    return run, interruption.signal


def first(world: World) -> Callable[..., First]:
    """Makes the first rank's trainer, and tells the others where the run directory is."""

    def follow(run: Run, setup: Setup, log: Any, interruption: RankInterruption) -> First:
        world.tell(str(run.path.resolve()))
        return First(run, setup, log, interruption, world)

    return follow


def shares(experiment: Experiment, world: World) -> str:
    """How a training is cut, for people."""
    share = cut(experiment, world.size)
    batch = f" and samples {share.replay.batch_size} of a batch's sequences" if share.replay is not None else ""
    return f"{world.size} ranks: each plays {share.num_envs} of the {experiment.num_envs} games{batch}"
