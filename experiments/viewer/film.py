"""What is watched as a file: H.264 with the game's sound, or a GIF."""

import math
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from itertools import count, islice, pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageDraw
from rich.console import Console

from envs.recording import Recording
from envs.screen import SILENCE, SOUND_RATE
from experiments.video import SCALE, enlarge, even, write_film
from experiments.viewer.overlay import COLOURS, QUIET, TEXT, Panel, font, glow, glowing
from experiments.viewer.player import Player
from experiments.viewer.score import score_text
from experiments.viewer.source import Source

GIF_SCALE, GIF_SECONDS, GIF_COLOURS = 2, 15, 40
GIF_RATE = 50  # pictures a second, at most: browsers show what is faster at a tenth of its speed


def film(options: Any, source: Source, protocol: Any, device: torch.device, recordings: list[Any]) -> int:
    """Writes what `highscore watch --video` asks for; returns the exit status."""
    console = Console(highlight=False, soft_wrap=True)
    gif = options.video.suffix == ".gif"
    scale, seconds = (GIF_SCALE, options.seconds or GIF_SECONDS) if gif else (SCALE, options.seconds)
    with ExitStack() as games:
        players = cast(options, source, protocol, device, recordings)
        for player in players:
            games.callback(player.close)
        labels = [label for label, _ in recordings] if options.progress else []
        rate, per_step = players[0].screen.frames_per_second, players[0].screen.frames_per_step
        with console.status("playing"):
            for _ in range(options.skip * rate // per_step):
                if not extend(players):
                    raise ValueError(f"--skip {options.skip}: the episode is shorter")
            steps = math.ceil(rate / per_step / GIF_RATE) if gif else 0
            every = steps * per_step or 1  # frames from one picture to the next
            pictures = play(players, options.overlay, scale, labels, steps)
            wanted = islice(pictures, seconds * rate // every if seconds else None)
            if gif:
                shown = write_gif(options.video, (pixels for pixels, _ in wanted), rate / every)
            else:
                shown = write_film(options.video, wanted, rate, SOUND_RATE if options.sound else 0)
        for player in players:
            score = f"score {player.scene.score:.10g}" + ("" if player.ended else " so far")
            length = f"{shown * every / rate:.0f} s of play"
            console.print(f"{player.game}, {player.protocol.name}: {score}, {length}, in {options.video}")
    return 0


def cast(
    options: Any, source: Source, protocol: Any, device: torch.device, recordings: list[tuple[str, Recording]]
) -> list[Player]:
    """The players of a film; those who only repeat a recording need no agent."""
    episodes: list[Recording | None] = [episode for _, episode in recordings] or [None]
    players = [
        Player(source.experiment, episode.protocol if episode else protocol, device, None, episode)
        for episode in episodes
    ]
    for player in players:
        if not recordings or (options.overlay and not options.progress):
            games = player.games
            player.agent = source.load(source.chosen, games.observation_shape, games.num_actions, device)
        player.explained = options.overlay
        player.start(options.seed, options.epsilon)
    return players


def play(
    players: list[Player], overlay: bool, scale: int, labels: list[str], steps: int
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Emulator frames, as large as the film shows them, with their sound, until all episodes are over.

    What the agent expects and looks at is shown from the frame on that it was shown.

    Args:
        steps: only the last frame of one in so many agent steps; 0: all frames.
    """
    panel = Panel(players[0], len(players[0].scene.frames[0].pixels), scale) if overlay else None
    still = [False] * len(players)  # whose last frames were shown already
    side, light = None, None
    for step in count():
        fresh = (panel.draw(), glow(players[0])) if panel is not None else (None, None)
        frames = max(len(player.scene.frames) for player, over in zip(players, still, strict=True) if not over)
        for k in range(frames):
            if k == frames - 1 or side is None:
                side, light = fresh
            if steps and (k < frames - 1 or step % steps):
                continue
            parts = []
            for i, player in enumerate(players):
                last = len(player.scene.frames) - 1
                pixels = player.scene.frames[last if still[i] else min(k, last)].pixels
                picture = glowing(pixels, light, scale) if light is not None else enlarge(pixels, scale)
                parts.append(captioned(picture, labels[i], player.scene.score, scale) if labels else picture)
            frame = np.concatenate([*parts, *([side] if side is not None else [])], axis=1)
            first = players[0].scene.frames
            yield even(frame), first[k].sound if k < len(first) and not still[0] else SILENCE
        still = [player.ended for player in players]
        if not extend(players):
            return


def extend(players: list[Player]) -> bool:
    """Plays an agent step wherever the episode goes on; whether there was any."""
    going = [player for player in players if not player.ended]
    for player in going:
        player.extend()
    return bool(going)


def captioned(picture: np.ndarray, label: str, score: float, scale: int) -> np.ndarray:
    """A picture with a line above it: from when it is, and the score."""
    line = Image.new("RGB", (picture.shape[1], 14 * scale))
    pen = ImageDraw.Draw(line)
    pen.text((4 * scale, 2 * scale), label, QUIET, font(8 * scale))
    right = (picture.shape[1] - 4 * scale, 2 * scale)
    pen.text(right, score_text(score), TEXT, font(8 * scale), anchor="ra")
    return np.concatenate([np.asarray(line), picture])


def write_gif(path: Path, frames: Iterable[np.ndarray], rate: float) -> int:
    """Writes pictures, `rate` a second, as an endless GIF of few colours; returns how many.

    The file appears under its name only when it is whole.

    Args:
        rate: at most `GIF_RATE`.
    """
    images = [Image.fromarray(pixels) for pixels in frames]
    sample = np.concatenate([np.asarray(image)[::4, ::4] for image in images[:: max(len(images) // 20, 1)]])
    seldom = [part for colour in COLOURS for part in colour]  # but read by people: kept as they are
    found = Image.fromarray(sample).quantize(GIF_COLOURS - len(COLOURS)).getpalette()
    palette = Image.new("P", (1, 1))
    palette.putpalette(seldom + (found or [])[: 3 * (GIF_COLOURS - len(COLOURS))])
    first, *others = (image.quantize(palette=palette, dither=Image.Dither.NONE) for image in images)
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = path.with_name(f".{path.name}.writing")
    ends = [10 * round(100 * i / rate) for i in range(len(images) + 1)]  # a GIF counts hundredths of a second
    durations = [end - begin for begin, end in pairwise(ends)]
    try:
        first.save(aside, "GIF", save_all=True, append_images=others, duration=durations, loop=0)
        aside.replace(path)
    finally:
        aside.unlink(missing_ok=True)
    return len(images)
