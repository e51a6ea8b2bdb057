"""A game and its numbers as text: two pixels to a character, by the half block and its background."""

import os
import shutil
import sys
from typing import Any

import numpy as np
from PIL import Image

from experiments.viewer.score import score_text

LEAST = (40, 15)  # columns and rows
SIDE = 30  # columns of the numbers, where there is room for them
WITH_SIDE = 72  # columns from which on there is
CLEAR, HOME, RESET, LINE_END = "\x1b[2J", "\x1b[H", "\x1b[0m", "\x1b[K"


def check_terminal() -> None:
    """Refuses a terminal that could show nothing.

    Raises:
        ValueError: there is none, it has no colours or too few characters, or is too small.
    """
    if not (sys.stdout.isatty() and sys.stdin.isatty()):
        raise ValueError("--terminal needs a terminal, and this is none; use ssh -t, or --video out.mp4")
    if sys.stdout.encoding.lower().replace("-", "") != "utf8":
        raise ValueError(
            f"--terminal needs UTF-8, and this is {sys.stdout.encoding}; set LANG=C.UTF-8 before the command"
        )
    if not colours():
        raise ValueError(f"--terminal needs 256 colours, and TERM={os.environ.get('TERM', '')} has fewer; set TERM")
    columns, rows = shutil.get_terminal_size()
    if columns < LEAST[0] or rows < LEAST[1]:
        raise ValueError(f"--terminal needs {LEAST[0]} x {LEAST[1]} characters, this one has {columns} x {rows}")


def colours() -> int:
    """How many colours the terminal says it has: 2**24, 256, or 0 for too few."""
    if os.environ.get("COLORTERM", "").lower() in ("truecolor", "24bit"):
        return 1 << 24
    return 256 if "256color" in os.environ.get("TERM", "") or "kitty" in os.environ.get("TERM", "") else 0


def shrink(pixels: np.ndarray, height: int, width: int) -> np.ndarray:
    """Pixels [H, W, 3] as means over areas, uint8 [height, width, 3]; nearest pixels where it grows."""
    return np.asarray(Image.fromarray(pixels).resize((width, height), Image.Resampling.BOX))


def half_blocks(pixels: np.ndarray, depth: int) -> list[str]:
    """Pixels [2 R, C, 3] as R lines of C characters: the upper pixel is the half block's colour, the lower its ground.

    Args:
        depth: colours there are, 2**24 or 256.
    """
    if depth == 256:  # the cube of 6 x 6 x 6 that begins at colour 16
        codes = 16 + (pixels.astype(np.int64) * 5 + 127) // 255 @ np.array([36, 6, 1])
    else:
        codes = pixels.astype(np.int64) @ np.array([1 << 16, 1 << 8, 1])
    lines = []
    for upper, lower in zip(codes[0::2].tolist(), codes[1::2].tolist(), strict=True):
        before, parts = (None, None), []
        for pair in zip(upper, lower, strict=True):
            if pair[0] != before[0]:
                parts.append(f"\x1b[38;{_colour(pair[0], depth)}m")
            if pair[1] != before[1]:
                parts.append(f"\x1b[48;{_colour(pair[1], depth)}m")
            before = pair
            parts.append("▀")
        lines.append("".join(parts) + RESET)
    return lines


def _colour(code: int, depth: int) -> str:
    return f"5;{code}" if depth == 256 else f"2;{code >> 16};{code >> 8 & 255};{code & 255}"


def side_lines(facts: dict[str, Any], names: list[str], paused: bool) -> list[str]:
    """Score and bars, SIDE - 2 characters a line."""
    share = "" if facts["normalised"] is None else f"   {100 * facts['normalised']:.0f} % of human"
    lines = [f"\x1b[1m{score_text(facts['score'])}\x1b[22m{share}", "♥" * min(facts["lives"] or 0, 9), ""]
    shown = facts.get("values") or facts.get("policy") or []
    low, high = (min(shown), max(shown)) if facts.get("values") else (0.0, 1.0)
    for i, (name, value) in enumerate(zip(names, shown, strict=False)):
        filled = round(8 * (value - low) / (high - low)) if high > low else 0
        line = f"{name[:13]:13} {'█' * filled:8} {value:6.3g}"
        lines.append(f"\x1b[1;33m{line}{RESET}" if i == facts["action"] else line)
    return [*lines, "", "paused" if paused else "", "q quits, p pauses"]


def frame_text(
    pixels: np.ndarray, facts: dict[str, Any], names: list[str], size: tuple[int, int], depth: int, paused: bool = False
) -> str:
    """Everything on a terminal of (columns, rows): the game as large as it fits, beside it the numbers."""
    columns, rows = size
    if columns < LEAST[0] or rows < LEAST[1]:
        return f"{HOME}{CLEAR}too small: {LEAST[0]} x {LEAST[1]} characters"
    room = columns - (SIDE if columns >= WITH_SIDE else 0)
    height, width = pixels.shape[:2]
    scale = min(room / width, 2 * (rows - 2) / height)
    picture = half_blocks(shrink(pixels, max(int(scale * height) // 2 * 2, 2), max(int(scale * width), 1)), depth)
    side = side_lines(facts, names, paused) if columns >= WITH_SIDE else []
    head = f"{facts['label']}  {score_text(facts['score'])}  {'♥' * min(facts['lives'] or 0, 9)}"
    lines = [head[:columns]]
    for i in range(rows - 2):
        left = picture[i] if i < len(picture) else ""
        beside = side[i] if i < len(side) else ""
        gap = "  " if left else " " * (max(int(scale * width), 1) + 2)
        lines.append(left + (gap + beside if beside else ""))
    return HOME + "\n".join(line + LINE_END for line in lines)
