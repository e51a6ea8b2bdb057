"""highscore watch: a trained agent plays, and you see what it sees, wants and remembers."""

import signal
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from experiments.options import OptionalPath

PROGRESS_SHOWN = 4  # episodes side by side


@dataclass(frozen=True)
class Watch:
    """A page in your browser where a trained agent plays, or a recorded episode is played again. Take over with the
    arrow keys and the space bar. Also as a video, or in the terminal."""

    run: Path
    """a run directory, a checkpoint's folder, or a folder with a checkpoint's files and its run's config.json"""
    episode: str = ""
    """a recorded one: its number, EVALUATION/NUMBER or people/NUMBER; `highscore list episodes RUN` shows them"""
    progress: bool = False
    """recorded episodes from the beginning of the training to its end, side by side"""
    terminal: bool = False
    """in this terminal instead of a browser; q quits"""
    video: OptionalPath = None
    """into a file instead: out.mp4 (H.264) or out.gif"""
    overlay: bool = False
    """video: beside the game, what the agent expects of each action; on it, what it looks at"""
    sound: bool = False
    """video: with the game's own sound"""
    seconds: int = 0
    """video: of play, at most; 0 for the whole episode, or 15 in a GIF"""
    skip: int = 0
    """video: seconds of play to leave out first"""
    seed: int = 0
    """another seed, another episode"""
    epsilon: float = 0.001
    """exploration rate"""
    checkpoint: str = ""
    """agent steps of an earlier one, or best: the weights that scored best in training; empty: the newest"""
    protocol: str = ""
    """another than it was trained under, such as machado or nature"""
    port: int = 8010
    """of the page, on this machine only; if it is in use, one of the next"""
    no_open: bool = False
    """do not open the page in your browser"""
    patience: int = 0
    """minutes without anybody looking after which the page ends; 0: it stays"""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """auto takes a GPU if there is one"""


def main(args: list[str]) -> int:
    """Runs the command; returns its exit status."""
    from experiments.cli import parse

    options = parse(Watch, args)
    check(options)
    before = signal.signal(signal.SIGTERM, lambda number, _: sys.exit(128 + number))  # so that games end with it
    try:
        return watch(options)
    finally:
        signal.signal(signal.SIGTERM, before)


def watch(options: Watch) -> int:
    """Shows what is asked for; returns the exit status."""
    from envs.library import game_of
    from experiments.build import device_of
    from experiments.viewer.source import find_source

    only_film = options.video is not None and bool(options.episode or options.progress) and not options.overlay
    source, device = find_source(options.run, options.checkpoint, agent=not only_film), device_of(options.device)
    game, own = game_of(source.experiment.game), source.experiment.protocol
    protocol = game.protocol(options.protocol) if options.protocol else game.evaluation(own)
    if options.sound and game_of(source.experiment.game).world != "atari":
        raise ValueError(f"--sound: {source.experiment.game} has none")
    kind, recordings = find_recordings(options, source)
    if options.video is not None:
        from experiments.viewer.film import film

        return film(options, source, protocol, device, recordings)
    if options.terminal:
        from experiments.viewer.terminal import play

        return play(options, source, protocol, device, recordings)
    return serve(options, source, protocol, device, kind, recordings)


def check(options: Watch) -> None:
    """Refuses what can only end badly, before anything is loaded.

    Raises:
        ValueError: naming the flag to change.
    """
    if options.video is not None and options.video.suffix not in (".mp4", ".gif"):
        raise ValueError(f"--video {options.video}: the name must end in .mp4 or .gif")
    if options.video is None:
        for name in ("overlay", "sound", "seconds", "skip"):
            if getattr(options, name):
                raise ValueError(f"--{name} is for a file: give --video, too")
    elif options.terminal:
        raise ValueError("--video or --terminal, not both")
    if options.video is not None or options.terminal:
        for name in ("port", "no_open", "patience"):
            if getattr(options, name) != getattr(Watch, name):
                raise ValueError(f"--{name.replace('_', '-')} is for the page: without --video and --terminal")
    if options.sound and options.video is not None and options.video.suffix == ".gif":
        raise ValueError("--sound: a GIF has none; use --video out.mp4")
    if options.progress and options.episode:
        raise ValueError("--progress or --episode, not both")
    if options.progress and options.terminal:
        raise ValueError("--progress has no room in a terminal; leave out --terminal")
    if options.progress and options.overlay:
        raise ValueError("--overlay is for one episode; leave out --progress")
    if options.seconds < 0 or options.skip < 0:
        raise ValueError(f"--seconds and --skip cannot be negative, got {min(options.seconds, options.skip)}")
    if options.patience < 0:
        raise ValueError(f"--patience cannot be negative, got {options.patience}")
    if not 0 <= options.epsilon <= 1:
        raise ValueError(f"--epsilon is a probability, got {options.epsilon}")
    if not 0 <= options.seed < 1 << 31:
        raise ValueError(f"--seed is a whole number from 0 to {(1 << 31) - 1}, got {options.seed}")
    if options.terminal:
        from experiments.viewer.blocks import check_terminal

        check_terminal()


def find_recordings(options: Watch, source: Any) -> tuple[str, list[Any]]:
    """What kind of show is asked for, and the labelled recordings for it.

    Raises:
        RunError: there are none.
    """
    from experiments.episodes import find_episode, progress_episodes
    from experiments.files import RunError

    if not options.episode and not options.progress:
        return "agent", []
    if source.run is None:
        raise RunError(f"{options.run} is no run directory: recorded episodes are in those")
    if options.progress:
        return "progress", progress_episodes(source.run, PROGRESS_SHOWN)
    return "episode", [(f"episode {options.episode}", find_episode(source.run, options.episode))]


def serve(options: Watch, source: Any, protocol: Any, device: Any, kind: str, recordings: list[Any]) -> int:
    """Serves the page until Ctrl-C."""
    import torch
    from rich.console import Console

    from experiments.viewer.server import Hub, application
    from experiments.viewer.show import Show, Wishes
    from experiments.web import address, listen, open_page, run

    console = Console(highlight=False, soft_wrap=True)
    torch.set_num_threads(1)  # one small image at a time: more threads only wait for each other
    hub = Hub()
    wishes = Wishes(seed=options.seed, epsilon=options.epsilon, checkpoint=source.chosen)
    with console.status("starting the game"):
        show = Show(source, protocol, device, kind, recordings, wishes, hub.publish)
    with listen(options.port, console.print) as listener:
        console.print(f"Watch it at {address(listener)}   (Ctrl-C ends this)")
        if not options.no_open:
            open_page(listener, console.print)
        run(application(hub, show, 60 * options.patience), listener)
    if hub.failure is not None:
        raise hub.failure
    return 0
