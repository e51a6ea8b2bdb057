"""highscore watch: a trained agent plays, and you see it."""

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from rich.console import Console

from envs.library import game_of
from experiments.build import device_of
from experiments.episodes import find_episode
from experiments.evaluate import load_agent, score_agent
from experiments.run import Run
from experiments.video import video_of


@dataclass(frozen=True)
class Watch:
    """Makes a video, in full colour, every frame of the game: a run's newest checkpoint plays, or a recorded episode is
    played again."""

    run: Path
    """a run directory"""
    video: Path | None = None
    """where the video goes; by default into the run's recordings"""
    episode: str = ""
    """a recorded one: its number, counted from 1, or EVALUATION/NUMBER; `highscore list episodes RUN` shows them"""
    seed: int = 0
    """another seed, another episode"""
    epsilon: float = 0.001
    """exploration rate"""
    protocol: str = ""
    """another than it was trained under, such as machado or nature"""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """auto takes a GPU if there is one"""


def main(args: list[str]) -> int:
    """Runs the command; returns its exit status."""
    from experiments.cli import parse

    options = parse(Watch, args)
    if options.video is not None and options.video.suffix != ".mp4":
        raise ValueError(f"--video {options.video}: the name must end in .mp4")
    run, device, console = Run.open(options.run), device_of(options.device), Console()
    if options.episode:
        recording = find_episode(run, options.episode)
        name = f"episode-{options.episode.replace('/', '-')}"
    else:
        protocol = options.protocol or run.experiment.protocol
        game_of(run.experiment.game).protocol(protocol)
        agent, state = load_agent(run, device)
        with console.status("playing"):
            _, (recording, *_) = score_agent(
                agent, run.experiment, 1, epsilon=options.epsilon, seed=options.seed, device=device, protocol=protocol
            )  # fmt: skip
        name = f"{state['agent_steps']:012d}-seed{options.seed}"
    path = options.video or run.path / "recordings" / f"{name}.mp4"
    with console.status("rendering"):
        seconds = video_of(recording, path)
    console.print(
        f"{recording.game}, {recording.protocol.name}: score {recording.score:.0f}, "
        f"{seconds:.0f} s of play, in {path}", highlight=False, soft_wrap=True,
    )  # fmt: skip
    return 0


if __name__ == "__main__":
    from experiments.cli import run_command

    sys.exit(run_command("watch", sys.argv[1:]))
