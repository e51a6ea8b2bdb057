"""highscore train: trains an agent on a game."""

import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any, Literal

import torch
import tyro
from rich.console import Console

from agents.agent import Agent, load_network
from agents.sequence import below
from experiments.build import Setup, device_of
from experiments.checkpoint import read_checkpoint
from experiments.checks import check_disk, replay_size
from experiments.config import Experiment
from experiments.distributed.cluster import Lost
from experiments.distributed.setup import DistributedSetup, build
from experiments.distributed.world import World
from experiments.files import RunError
from experiments.interruption import Interruption
from experiments.limits import cores, gpu_fault
from experiments.log import Log, say_what_next, terminal
from experiments.options import OptionalPath
from experiments.presets import changes, without_effect
from experiments.resume import Resume, go_back
from experiments.run import Run, check_name
from experiments.trace import Trace
from experiments.trainer import Trainer
from experiments.usage import crowded, multiplies_bf16, others
from experiments.wandb_mirror import Mirror, NoMirror, check_project

LONG = 50_000_000  # emulator frames


@dataclass(frozen=True)
class Train:
    """Trains an agent and keeps everything about it in a new run directory.

    Most trainings need no more than --game, --frames and --seed.
    """

    experiment: Annotated[Experiment, tyro.conf.arg(name="")]
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """auto takes a GPU if there is one"""
    wandb: Literal["auto", "online", "offline", "off"] = "auto"
    """Weights & Biases: auto is online with a key and offline without; upload later with `highscore sync`"""
    wandb_project: str = "highscore"
    """where Weights & Biases files the run"""
    wandb_group: str = ""
    """what Weights & Biases shows together; empty: variant or preset/game, so that seeds stand together"""
    wandb_tags: tuple[str, ...] = ()
    """words to find the run by, besides preset, game and protocol"""
    runs: Path = Path("runs")
    """where run directories are made"""
    name: str = ""
    """name of the run directory; empty: variant or preset, game, seed and time"""
    weights: OptionalPath = None
    """a run whose newest weights to begin with; experience, exploration and counters begin anew"""
    profile: bool = False
    """write trace.json into the run directory: where the time of some iterations went, once the agent learns"""


def begin_with(agent: Agent, run: Run, same: dict[str, Any] | None = None) -> dict[str, Any]:
    """Copies the newest weights of a run into an agent and its target network; returns which they are.

    Args:
        same: what this returned in another process: those very weights, though the run may have gone on since.

    Raises:
        RunError: the run has none, or they are of another network.
    """
    if same is None:
        tensors, state = run.load_checkpoint()
    else:
        path = run.path / "checkpoints" / f"{same['agent_steps']:012d}"
        if not path.exists():
            raise RunError(f"--weights {run.path} has gone on since, and keeps these weights no more; begin again")
        tensors, state = read_checkpoint(path)
    try:
        load_network(agent.online, below(tensors, "online."))
    except ValueError as error:
        raise RunError(f"--weights {run.path}: {error}; its config.json says what it is made of") from None
    if agent.target is not None:
        agent.target.load_state_dict(agent.online.state_dict())
        if agent.acting is agent.target and run.experiment.target_acts:  # what played goes on playing
            load_network(agent.target, below(tensors, "target."))
    facts = {key: state[key] for key in ("agent_steps", "tensors_sha256")}
    x = run.experiment
    return {"run": str(run.path), "of": f"{x.preset} on {x.game}, {state['frames']:_} frames", **facts}


def check_surroundings(options: Train) -> None:
    """Refuses, before anything is built, what else could only be refused after: names, and weights to begin with.

    Raises:
        ValueError: naming what to change.
    """
    check_name(options.runs, options.name)
    if options.wandb != "off":
        check_project(options.wandb_project)
    if options.weights is not None:
        Run.open(options.weights)


def run_training(options: Train, console: Console, stop: Callable[[], bool] = lambda: False) -> tuple[Run, int]:
    """Trains to the end, or until asked to stop; returns the run and the signal that stopped it, or 0.

    Args:
        stop: asked after every iteration.

    Raises:
        ValueError: settings that cannot work; nothing is left behind.
        Diverged: the loss or a parameter is no number any more.
    """
    check_surroundings(options)
    setup = build(options.experiment, device_of(options.device))
    return train_and_keep(options, setup, console, stop)


def train_and_keep(
    options: Train, setup: Setup | DistributedSetup, console: Console, stop: Callable[[], bool] = lambda: False,
    follow: Callable[..., Trainer] = Trainer, interruption: Interruption | None = None, **more: Any,
) -> tuple[Run, int]:  # fmt: skip
    """Trains what was built and keeps it in a new run directory; as `run_training`.

    Args:
        follow: makes the trainer.
        more: further entries for config.json.
    """
    experiment = options.experiment
    if options.weights is not None:
        more["weights"] = begin_with(setup.agent, Run.open(options.weights))
    disk = check_disk(options.runs, setup.agent, experiment)
    group = options.wandb_group or f"{experiment.agent}/{experiment.game}"
    filed = {"mode": options.wandb, "project": options.wandb_project, "group": group, "tags": options.wandb_tags}
    more |= {"device": setup.games.device.type, "wandb": filed, "changed": changes(experiment)}
    run = Run.create(options.runs, experiment, options.name, **more)
    mirror = NoMirror() if options.wandb == "off" else Mirror(run, options.wandb, options.wandb_project, console.print)
    try:
        with interruption or Interruption() as asked, Log(run, experiment.frames, mirror, console) as log:
            introduce(run, setup, log)
            log.say(disk)
            trace = Trace(setup.agent, run.path / "trace.json", log.say) if options.profile else lambda: None
            follow(run, setup, log, asked).train(stop=lambda: trace() or stop())
    except Lost as lost:
        return go_back(lost, Resume(run.path), run, console, stop, asked)
    return run, asked.signal


def introduce(run: Run, setup: Setup | DistributedSetup, log: Log) -> None:
    """Says what is trained, what it changes in its preset, what of that does nothing, and what memory it takes."""
    x = run.experiment
    device = setup.games.device
    if device.type == "cpu":
        if fault := gpu_fault():
            log.say(f"{fault}; this training is on the CPU")
        if warning := crowded(others(), cores(), torch.get_num_threads()):
            log.say(warning)
    if x.precision == "bf16" and not multiplies_bf16(device):
        log.say(f"this {device.type} does not multiply bfloat16 numbers itself: --precision float32 is faster here")
    log.say(f"{run.path}: {x.preset} on {x.game}, {x.protocol}, seed {x.seed}")
    if changed := run.config["changed"]:
        log.say("changed: " + ", ".join(f"{name} {theirs} to {ours}" for name, (theirs, ours) in changed.items()))
    if weights := run.config.get("weights"):
        log.say(f"begins with the weights of {weights['run']}: {weights['of']}")
    if run.config["commit"] is None:
        log.say("NO COMMIT is kept with this run: its code is in no git repository, or in one that git may not read")
    if idle := without_effect(x):
        log.say("WITHOUT EFFECT: " + ", ".join(idle))
    if device.type == "cpu" and x.frames >= LONG:
        log.say(f"{x.frames:_} frames take days on a CPU; --frames 2M would be a beginning")
    kept: Any = setup.experience.config
    if x.replay is not None and x.distributed != "ray":
        log.say(replay_size(replace(x, replay=replace(x.replay, storage=kept.storage)), device))


def main(args: list[str]) -> int:
    """Runs the command; returns its exit status."""
    from experiments.cli import parse_train

    world, console = World.of_torchrun(), terminal()
    if world.size > 1:
        from experiments.distributed import together

        return together.run_rank(world, lambda: parse_train(args), together.train)
    return say_what_next(console, *run_training(parse_train(args), console))


if __name__ == "__main__":
    from experiments.cli import run_command

    sys.exit(run_command("train", sys.argv[1:]))
