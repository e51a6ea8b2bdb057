"""highscore resume: goes on with a training that was stopped or killed, as if it had never been."""

import shlex
import shutil
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple

import torch
from rich.console import Console

from experiments import snapshot
from experiments.build import Setup, device_of
from experiments.checkpoint import Unreadable, read_checkpoint
from experiments.checks import NoRoom
from experiments.distributed import recovery
from experiments.distributed.cluster import Lost
from experiments.distributed.setup import DistributedSetup, build
from experiments.distributed.world import World
from experiments.files import RunError, write_json
from experiments.interruption import Interruption
from experiments.log import Log, say_what_next, terminal
from experiments.loop import Moment, Scores
from experiments.provenance import provenance
from experiments.records import flat
from experiments.run import Run
from experiments.suite_record import command_of
from experiments.trainer import Trainer
from experiments.wandb_mirror import Mirror, NoMirror, sent_before

TRIES, PAUSE = 5, 10.0  # seconds: a cluster needs some to find out which machines it still has


@dataclass(frozen=True)
class Resume:
    """Goes on with an unfinished training from its newest whole checkpoint; on the CPU bit for bit as it would have."""

    run: Path
    """a run directory"""
    device: Literal["same", "cpu", "cuda"] = "same"
    """same: the kind that it was begun on; on the other kind it goes on, but not bit for bit"""
    wandb: Literal["same", "auto", "online", "offline", "off"] = "same"
    """Weights & Biases: same, as it was begun; auto is online with a key and offline without"""


def resume(options: Resume, console: Console, stop: Callable[[], bool] = lambda: False) -> tuple[Run, int]:
    """Goes on to the end, or until asked to stop; returns the run and the signal that stopped it, or 0.

    Args:
        stop: asked after every iteration.

    Raises:
        RunError: there is nothing to go on from, nothing left to do, or another process is at it.
    """
    begun = time.monotonic()
    refuse_suite(options.run)
    run = Run.reopen(options.run)
    device = device_for(options, run, ranks=1)
    try:
        back = recover(run, lambda: build(run.experiment, device))
    except BaseException:
        run.close()
        raise
    return go_on(options, back, run, console, begun, stop)


def refuse_suite(path: Path) -> None:
    """Tells a suite's folder from one that is nothing of ours.

    Raises:
        RunError: it is a suite; names the command that goes on with it.
    """
    command = ""
    if not (path / "config.json").exists():
        with suppress(OSError, ValueError, KeyError, TypeError, RecursionError):
            command = command_of(path)
    if command:
        raise RunError(f"{path} is a suite; the command that began it goes on with all its runs: {command}")


def device_for(options: Resume, run: Run, ranks: int) -> torch.device:
    """Where a run goes on.

    Raises:
        ValueError: there is no such device, or the run needs another number of ranks.
    """
    if run.ranks != ranks:
        raise RunError(f"{run.path} was begun on {run.ranks} ranks; go on with it so: {run.resume_command}")
    return device_of(run.begun_on if options.device == "same" else options.device)


def go_on(
    options: Resume, back: "Recovered", run: Run, console: Console, begun: float,
    stop: Callable[[], bool] = lambda: False, follow: Callable[..., Trainer] = Trainer,
    interruption: Interruption | None = None,
) -> tuple[Run, int]:  # fmt: skip
    """Goes on from where a training was brought back to; as `resume`.

    Args:
        begun: when it was asked to, by the monotonic clock.
        follow: makes the trainer.
    """
    mode = run.wandb["mode"] if options.wandb == "same" else options.wandb
    mirror = NoMirror() if mode == "off" else Mirror(run, mode, run.wandb["project"], console.print)
    try:
        with interruption or Interruption() as asked, Log(run, run.experiment.frames, mirror, console) as log:
            trainer = follow(run, back.setup, log, asked)
            trainer.take_up(back.state, back.segments)
            if not back.exact:
                trainer.scores.give_up()
            for text in [*back.notes, *other_code(run.config), *other_settings(run.config, back.state)]:
                log.event(text)
            if trainer.device.type != run.begun_on:
                log.event(
                    f"it was begun on {run.begun_on}: from here, on {trainer.device}, it differs in the last digits"
                )
            lost, repeats = sent_before(run) - back.state["resume"]["mirrored"], repeats_itself(back, trainer)
            if mode != "off" and lost > 0 and not repeats:
                log.event(
                    f"Weights & Biases keeps {lost} rows of what was lost since the checkpoint; what is played in its"
                    " place is another training, whose rows are in metrics.jsonl"
                )
            log.event(
                f"{run.path}: going on at {trainer.frames():_} of {run.experiment.frames:_} frames,"
                f" {time.monotonic() - begun:.1f} s after it was asked to"
            )
            trainer.train(back.moment, stop)
    except Lost as lost:
        return go_back(lost, options, run, console, stop, asked, since=back.state["agent_steps"])
    return run, asked.signal


def repeats_itself(back: "Recovered", trainer: Trainer) -> bool:
    """Whether what a training did since its checkpoint comes again bit for bit."""
    x, here = trainer.experiment, trainer.device.type
    alone = x.distributed == "none" and here == trainer.run.begun_on
    return back.exact and alone and (here == "cpu" or x.deterministic)


def other_code(config: dict[str, Any]) -> list[str]:
    """What of the code has changed since a run was begun, for its events: [] or a line."""
    now, versions = provenance(), config.get("versions")
    before = versions if isinstance(versions, dict) else {}
    changed = [
        f"{name} {before.get(name)} to {new}" for name, new in now["versions"].items() if before.get(name) != new
    ]
    if config.get("commit") != now["commit"]:
        changed.insert(0, f"commit {config.get('commit')} to {now['commit']}")
    return [f"from here with other code: {', '.join(changed)}"] if changed else []


def other_settings(config: dict[str, Any], state: dict[str, Any]) -> list[str]:
    """What somebody changed in config.json since a checkpoint was written, for a run's events: [] or a line."""
    before, now = state["resume"].get("settings"), flat(config["experiment"])
    if not isinstance(before, dict):  # it is older than they are kept
        return []
    before = flat(before)
    changed = [f"{name} {before.get(name)} to {now.get(name)}" for name in now if now[name] != before.get(name)]
    return [f"from here with other settings, as config.json has them now: {', '.join(changed)}"] if changed else []


def go_back(
    lost: Lost, options: Resume, run: Run, console: Console, stop: Callable[[], bool], asked: Interruption,
    since: int = -1,
) -> tuple[Run, int]:  # fmt: skip
    """Goes on from the newest checkpoint after a part of the training was lost; as `resume`.

    Args:
        asked: what the training listened to: who was asked to stop meanwhile does not begin again.
        since: agent steps of the checkpoint from which it was gone on with before.

    Raises:
        Lost: nothing was saved since, or it was asked to stop.
        NoRoom: what is left has too little.
    """
    saved = run.checkpoints()
    if saved and asked.signal:
        raise Lost(f"{lost}, and it was asked to stop; go on from {saved[-1]}: {run.resume_command}")
    if not saved or int(saved[-1].name) <= since:
        raise lost
    reason: Lost | NoRoom = lost
    for _ in range(TRIES):
        console.print(f"{reason}; going back to {saved[-1]}", highlight=False, markup=False, soft_wrap=True)
        time.sleep(PAUSE)
        try:
            return resume(options, console, stop)
        except (Lost, NoRoom) as again:  # the machine may come back
            reason = again
    raise reason


class Recovered(NamedTuple):
    """A training as it was when a checkpoint was written."""

    setup: Setup | DistributedSetup
    segments: Any  # the replay's rows on disk
    moment: Moment
    state: dict[str, Any]  # checkpoint.json
    exact: bool  # whether the emulators are where they were
    notes: list[str]  # what people should know


def recover(
    run: Run,
    make: Callable[[], Setup | DistributedSetup],
    rank: int = 0,
    agree: Callable[[bool], bool] = lambda holds: holds,
) -> Recovered:  # fmt: skip
    """Brings a training back from its newest checkpoint that is whole.

    Args:
        make: builds it afresh.
        rank: which process's part of the checkpoint is wanted.
        agree: whether what holds here holds on all ranks; all call it equally often.

    Raises:
        RunError: there is none, or the run is finished.
        Unreadable: the newest may be whole, but cannot be read now.
        NoRoom: there is less memory than it takes.
    """
    notes: list[str] = []
    for path in reversed(run.checkpoints()):
        back = attempt(run, path, make, rank)
        if agree(isinstance(back, Recovered)):
            assert isinstance(back, Recovered)
            if not (exact := agree(back.exact)):
                notes.append("the emulators do not show again what they showed: every game begins a new episode")
                assert isinstance(back.setup, Setup)
                back = back._replace(moment=snapshot.begin_new_episodes(back.setup, back.moment))
            if rank == 0:
                run.forget_after(path)
            return back._replace(exact=exact, notes=notes)
        if isinstance(back, Recovered):
            back.setup.games.close()
        problem = back if isinstance(back, str) else f"checkpoint {path} (another rank cannot)"
        notes.append(f"PASSED OVER: {problem}; trying the one before")
    for text in notes:
        print(text, file=sys.stderr)
    anew = f"highscore train {shlex.quote(str(run.path))}"
    raise RunError(f"{run.path} has no checkpoint to go on from; train it anew: {anew}{from_its_weights(run)}")


def from_its_weights(run: Run) -> str:
    """How to begin anew with a run's weights, if they at least are whole; for the end of a sentence."""
    for path in run.checkpoints():
        with suppress(RunError):
            read_checkpoint(path)
            folder = shlex.quote(str(run.path))
            return f", or with its weights: highscore train {folder} --weights {folder}"
    return ""


def attempt(run: Run, path: Path, make: Callable[[], Setup | DistributedSetup], rank: int) -> Recovered | str:
    """A training as one checkpoint has it, or what is wrong with that checkpoint.

    Raises:
        RunError: the run is finished, or the disk does not give the checkpoint now.
    """
    try:
        tensors, state = read_checkpoint(path)
    except Unreadable:
        raise
    except RunError as error:
        return f"{error}"
    if state.get("finished") is True:
        if rank == 0:
            tidy_up(run, state)
        folder = shlex.quote(str(run.path))
        raise RunError(
            f"{run.path} is finished; to train on from its weights, as long again:"
            f" highscore train {folder} --weights {folder}"
        )
    try:
        setup = make()
    except NoRoom as error:  # what to change is the run's for good
        raise NoRoom(error.what, f"free some, then: {run.resume_command}") from None
    try:
        tensors, facts = snapshot.part_of(rank, tensors, state["resume"])
        moment, exact, segments = bring_back(run, setup, tensors, state | {"resume": facts})
        return Recovered(setup, segments, moment, state, exact, [])
    except Lost:  # a ValueError, too, but not the checkpoint's fault
        setup.games.close()
        raise
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        setup.games.close()
        return f"checkpoint {path} ({error})"


def tidy_up(run: Run, state: dict[str, Any]) -> None:
    """Does for a finished training what a kill right after its last checkpoint kept it from."""
    own = ("schema", "resume", "tensors_sha256", "sha256")
    write_json(run.path / "summary.json", {key: x for key, x in state.items() if key not in own})
    shutil.rmtree(run.path / "replay", ignore_errors=True)


def bring_back(
    run: Run, setup: Setup | DistributedSetup, tensors: dict[str, Any], state: dict[str, Any]
) -> tuple[Moment, bool, Any]:
    """A freshly built training as of one checkpoint: (moment, whether the emulators are there, the replay's files).

    Raises:
        ValueError, KeyError, TypeError, AttributeError: the checkpoint is not one of such a training.
    """
    facts = state["resume"]
    Scores.from_facts(facts["scores"], run.experiment.num_envs)
    for count in (state["agent_steps"], facts["mirrored"], *facts["positions"].values()):
        snapshot.checked_count(count)
    run.check_positions(facts["positions"])
    if not isinstance(facts["evaluation_due"], bool):
        raise ValueError("evaluation_due is true or false")
    moment, exact = (recovery if isinstance(setup, DistributedSetup) else snapshot).restore(setup, tensors, facts)
    if moment.agent_steps != state["agent_steps"]:
        raise ValueError("its games played another number of steps")
    segments = setup.segments((run.path / "replay").absolute())
    if segments is not None:
        segments.read(setup.experience, facts["rows"])
    return moment, exact, segments


def main(args: list[str]) -> int:
    """Runs the command; returns its exit status."""
    from experiments.cli import parse

    world, console = World.of_torchrun(), terminal()
    if world.size > 1:
        from experiments.distributed import together

        return together.run_rank(world, lambda: parse(Resume, args), together.resume)
    return say_what_next(console, *resume(parse(Resume, args), console))


if __name__ == "__main__":
    from experiments.cli import run_command

    sys.exit(run_command("resume", sys.argv[1:]))
