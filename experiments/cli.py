"""highscore: one command line for everything."""

import difflib
import errno
import importlib
import os
import signal
import sys
from dataclasses import replace
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import Any, TypeVar

from experiments.files import DISK_FULL, NO_ROOM

T = TypeVar("T")

TRAIN_USAGE = """highscore train PRESET [options]: trains an agent on a game

  highscore train dqn --game Pong --frames 2M --seed 1
  highscore train dqn --algorithm.n-steps 3 --replay.capacity 100k
  highscore train runs/NAME --seed 2        with the settings of a run, and its game

presets:  {presets}     (highscore list presets says what they are made of)
games:    highscore list games

highscore train PRESET --help shows every setting and its default."""

COMMANDS = {
    "train": "train an agent on a game",
    "resume": "go on with a training that was stopped or killed",
    "evaluate": "score a trained agent under a named protocol",
    "watch": "see a trained agent play and what it thinks, live or as a video; or play against it",
    "suite": "train many agents on many games, side by side",
    "compare": "put runs side by side: tables, intervals, figures",
    "report": "a suite as one HTML page that can be mailed",
    "dashboard": "all runs in your browser, live",
    "sync": "upload offline runs to Weights & Biases",
    "list": "list games, presets, runs or episodes",
    "benchmark": "measure how fast this machine trains, and how others do",
    "selfcheck": "prove on this machine that killed trainings resume bit for bit",
    "doctor": "check this machine and say what is wrong with it",
    "demo": "train for a few minutes, and see the difference",
}

USAGE = """highscore: reinforcement learning agents for games

  highscore COMMAND [options]        highscore COMMAND --help explains one

{commands}

To begin:  highscore demo
"""


OF_THE_USER = (  # errors of files that tell of no mistake of ours
    *DISK_FULL, errno.EACCES, errno.EROFS, errno.ENOTDIR, errno.EISDIR, errno.EEXIST,
    errno.ENAMETOOLONG,
)  # fmt: skip
UNITS = {"k": 1_000, "m": 1_000_000, "g": 1_000_000_000}


def parse_count(text: str) -> int:
    """A whole number, such as 200000, 200_000, 200k or 0.2M.

    Raises:
        ValueError: anything else.
    """
    unit = UNITS.get(text[-1:].lower(), 1)
    try:
        value = Decimal(text if unit == 1 else text[:-1]) * unit
        if not value.is_finite():
            raise InvalidOperation
    except InvalidOperation:
        raise ValueError(f"{text!r} is not a number such as 200000, 200k or 2M") from None
    if value != int(value):
        raise ValueError(f"{text} is not a whole number")
    return int(value)


def parse_yes_or_no(text: str = "True") -> bool:
    """True or False, in any case of letters.

    Raises:
        ValueError: anything else.
    """
    try:
        return {"true": True, "false": False}[text.lower()]
    except KeyError:
        raise ValueError(f"{text!r} is not True or False") from None


def parse(kind: type[T], args: list[str], default: Any = None, prog: str = "") -> T:
    """Command-line arguments as a dataclass; `--help` and mistakes end the process as tyro does (status 0, 2).

    What is true or false is said by `--name`, `--name True` or `--name False`, as the agents of sweeps say it.
    """
    import tyro
    from tyro.constructors import ConstructorRegistry, PrimitiveConstructorSpec, PrimitiveTypeInfo

    numbers = ConstructorRegistry()

    @numbers.primitive_rule
    def counts(info: PrimitiveTypeInfo) -> PrimitiveConstructorSpec | None:
        if info.type is not int:
            return None
        return PrimitiveConstructorSpec(
            nargs=1, metavar="N", instance_from_str=lambda texts: parse_count(texts[0]),
            is_instance=lambda x: isinstance(x, int), str_from_instance=lambda n: [f"{n:_}"],
        )  # fmt: skip

    @numbers.primitive_rule
    def yes_or_no(info: PrimitiveTypeInfo) -> PrimitiveConstructorSpec | None:
        if info.type is not bool:
            return None
        return PrimitiveConstructorSpec(
            nargs=(0, 1), metavar="[True|False]", instance_from_str=lambda texts: parse_yes_or_no(*texts),
            is_instance=lambda x: isinstance(x, bool), str_from_instance=lambda yes: [str(yes)],
        )  # fmt: skip

    options = (tyro.conf.AvoidSubcommands, tyro.conf.FlagConversionOff, tyro.conf.PositionalRequiredArgs)
    more = {} if default is None else {"default": default}
    command = kind.__module__.removeprefix("experiments.")
    if not prog and command in COMMANDS:
        prog = f"highscore {command}"
    return tyro.cli(kind, args=args, prog=prog or None, config=options, registry=numbers, **more)


def parse_train(args: list[str]) -> Any:
    """Preset and overrides as a Train; a run directory stands for its settings.

    Where no --protocol is given it is the preset's, or the game's own if that is for other games.

    Raises:
        ValueError: no preset, or one that does not exist; a run directory that is damaged; no such game.
    """
    from envs.library import game_of
    from experiments.presets import PRESETS, preset
    from experiments.run import Run
    from experiments.train import Train

    if not args or args[0] in ("-h", "--help"):
        print(TRAIN_USAGE.format(presets=", ".join(PRESETS)))
        raise SystemExit(0 if args else 2)
    if args[0].startswith("-"):
        raise ValueError("the preset comes first, such as: highscore train dqn --game Pong")
    known = args[0] in PRESETS or not Path(args[0]).is_dir()
    run = None if known else Run.open(Path(args[0]))
    experiment = preset(args[0]) if run is None else run.experiment
    weights = None if run is None else run.begun_with  # what it began with is one of its settings
    options = parse(
        Train, args[1:], Train(replace(experiment, protocol=""), weights=weights), f"highscore train {args[0]}"
    )
    if weights is not None and options.weights == weights and not weights.is_dir():
        raise ValueError(
            f"{args[0]} began with the weights of {weights}, which is not there: name it with --weights, or do without"
            " by --weights None"
        )
    if options.experiment.protocol:
        return options
    fit = game_of(options.experiment.game).protocols
    protocol = experiment.protocol if experiment.protocol in fit else "".join(fit[:1])  # none is refused later
    return replace(options, experiment=replace(options.experiment, protocol=protocol))


def run_command(name: str, args: list[str]) -> int:
    """Runs a command; what the user got wrong becomes one line and status 2."""
    try:
        return importlib.import_module(f"experiments.{name}").main(args)
    except ValueError as error:
        print(f"highscore {name}: {error}", file=sys.stderr)
        return getattr(error, "status", 2)  # what found no room has one of its own, which a suite knows
    except KeyboardInterrupt:
        print(f"highscore {name}: stopped", file=sys.stderr)
        return 128 + signal.SIGINT
    except BrokenPipeError:  # what reads it has heard enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except OSError as error:
        if error.errno not in OF_THE_USER:
            raise
        print(f"highscore {name}: {error.strerror}: {error.filename or 'the disk that it writes to'}", file=sys.stderr)
        return NO_ROOM if error.errno in DISK_FULL else 2


def main() -> None:
    """The console script."""
    args = sys.argv[1:]
    if args[:1] == ["help"]:  # help train, as git has it
        args = [*args[1:2], "--help"]
    if args[:1] == ["--version"]:
        from importlib.metadata import version

        print(f"highscore {version('highscore')}")
        sys.exit(0)
    if not args or args[0] in ("-h", "--help"):
        print(USAGE.format(commands="\n".join(f"  {name:10} {text}" for name, text in COMMANDS.items())))
        sys.exit(0 if args else 2)
    if args[0] not in COMMANDS:
        close = difflib.get_close_matches(args[0], COMMANDS)
        hint = f"did you mean {close[0]}?" if close else "highscore --help lists them"
        print(f"highscore: there is no command {args[0]!r}; {hint}", file=sys.stderr)
        sys.exit(2)
    sys.exit(run_command(args[0], args[1:]))


if __name__ == "__main__":
    main()
