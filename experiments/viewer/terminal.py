"""The game in a terminal, 30 pictures a second."""

import os
import select
import shutil
import sys
import termios
import time
import tty
from collections.abc import Iterator
from contextlib import closing, contextmanager
from typing import Any

import torch

from experiments.viewer.blocks import CLEAR, RESET, colours, frame_text
from experiments.viewer.history import facts_of
from experiments.viewer.player import Player


def play(options: Any, source: Any, protocol: Any, device: torch.device, recordings: list[Any]) -> int:
    """Shows one episode after another, or a recorded one, until q; returns the exit status."""
    torch.set_num_threads(1)
    rules, episode = (recordings[0][1].protocol, recordings[0][1]) if recordings else (protocol, None)
    player = Player(source.experiment, rules, device, None, episode)
    player.agent = source.load(source.chosen, player.games.observation_shape, player.games.num_actions, device)
    seed, paused, depth, before = options.seed, False, colours(), (0, 0)
    player.start(seed, options.epsilon)
    period = player.screen.frames_per_step / player.screen.frames_per_second
    due = time.monotonic()
    with closing(player), raw_terminal() as typed:
        while True:
            facts, frames = facts_of(player, player.game), player.scene.frames
            pictures = dict.fromkeys(((len(frames) - 1) // 2, len(frames) - 1))  # two of four: 30 a second
            for picture in pictures:
                columns, rows = shutil.get_terminal_size()
                text = frame_text(
                    frames[picture].pixels, facts, player.screen.action_names, (columns, rows), depth, paused
                )
                sys.stdout.write(("" if (columns, rows) == before else CLEAR) + text)
                sys.stdout.flush()
                before, due = (columns, rows), max(due + period / len(pictures), time.monotonic() - period)
                key = typed(max(due - time.monotonic(), 0))
                paused ^= key == "p"
                if key == "q":
                    return 0
            if paused:
                continue
            if not player.ended:
                player.extend()
            elif recordings:
                paused = True
            else:
                seed += 1
                player.start(seed, options.epsilon)


@contextmanager
def raw_terminal() -> Iterator[Any]:
    """While it lasts, keys come at once and unseen, the cursor is hidden, and what was on the screen is kept.

    Yields:
        A function of seconds: waits so long, or less if a key is pressed, and returns the key, else "".
    """
    file = sys.stdin.fileno()
    before = termios.tcgetattr(file)

    def typed(seconds: float) -> str:
        ready, _, _ = select.select([file], [], [], seconds)
        return os.read(file, 1).decode(errors="replace") if ready else ""

    sys.stdout.write("\x1b[?1049h\x1b[?25l")
    try:
        tty.setcbreak(file)
        yield typed
    finally:
        termios.tcsetattr(file, termios.TCSADRAIN, before)
        sys.stdout.write(f"{RESET}\x1b[?25h\x1b[?1049l")
        sys.stdout.flush()
