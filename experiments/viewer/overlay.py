"""What the agent expects, drawn beside a film's picture."""

from functools import cache
from typing import Any

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from experiments.video import enlarge
from experiments.viewer import explain
from experiments.viewer.history import facts_of
from experiments.viewer.pictures import heat
from experiments.viewer.player import Player
from experiments.viewer.score import score_text

GROUND, TRACK, TEXT, QUIET = (15, 17, 21), (35, 40, 51), (232, 234, 240), (152, 161, 179)
VALUE, CHOSEN, REWARD, LOSS = (88, 166, 255), (255, 145, 71), (63, 207, 127), (255, 107, 107)
COLOURS = (GROUND, TRACK, TEXT, QUIET, VALUE, CHOSEN, REWARD, LOSS)
WIDTH = 140  # of the panel, in the game's own pixels; about that of the game
LABEL = 54  # of an action's name, in the same
LINE_STEPS = 150  # agent steps of the value's line: ten seconds
SCALE_STEPS = 20  # agent steps over which the bars keep one scale


@cache
def font(size: int) -> Any:
    return ImageFont.load_default(size)


def label_size(names: list[str], row: float, scale: int) -> int:
    """The size, in pixels, at which the longest of the names fits in front of its bar, and a line into its row.

    Args:
        row: how far one bar is below another, in the game's own pixels.
        scale: pixels a side for each of the game's.
    """
    size = round(min(7.0, row * 0.75) * scale)
    longest = max(font(size).getlength(name) for name in names)
    return min(size, int(size * (LABEL - 2) * scale / longest))


class Panel:
    """Draws a player's present scene, and remembers a little of the ones before.

    Args:
        height: of the picture beside it, in the game's own pixels.
        scale: pixels a side for each of the game's.
    """

    def __init__(self, player: Player, height: int, scale: int):
        self.player, self.height, self.scale = player, height, scale
        self.values: list[float] = []
        self.rewards: list[float] = []
        self.ranges: list[tuple[float, float]] = []

    def draw(self) -> np.ndarray:
        """uint8 [height, WIDTH, 3], times the scale."""
        s, facts = self.scale, facts_of(self.player, "")
        sheet = Image.new("RGB", (WIDTH * s, self.height * s), GROUND)
        pen = ImageDraw.Draw(sheet)
        pen.text((8 * s, 5 * s), score_text(facts["score"]), TEXT, font(17 * s))
        share = facts["normalised"]
        line = self.player.game + ("" if share is None else f"  {100 * share:.0f} % of human")
        pen.text((8 * s, 25 * s), line, QUIET, font(7 * s))
        shown = facts["values"] or facts["policy"]
        row = min(11.0, 95 / len(shown))
        low, high = self._range(shown, facts["values"] is None)
        names = self.player.screen.action_names
        size = label_size(names, row, s)
        for i, (name, value) in enumerate(zip(names, shown, strict=True)):
            colour = CHOSEN if i == facts["action"] else VALUE
            self._bar(pen, 40 + i * row, row, size, name, value, (value - low) / (high - low), colour)
        top = 40 + row * len(shown) + 6
        view = self.player.scene.view
        if view is not None and view.spread is not None:
            self._spread(pen, view.spread, facts["action"], top, top + 28)
            top += 38
        self.values.append(facts["value"])
        self.rewards.append(facts["reward"])
        self._line(pen, top, self.height - 8)
        return np.asarray(sheet)

    def _range(self, shown: list[float], policy: bool) -> tuple[float, float]:
        self.ranges = [*self.ranges[1 - SCALE_STEPS :], (min(shown), max(shown))]
        if policy:
            return 0.0, 1.0
        low, high = min(low for low, _ in self.ranges), max(high for _, high in self.ranges)
        return low - max(0.12 * (high - low), 1e-6), high

    def _bar(
        self, pen: Any, y: float, row: float, size: int, name: str, value: float, share: float,
        colour: tuple[int, int, int],
    ) -> None:  # fmt: skip
        s = self.scale
        pen.text((8 * s, y * s), name, colour if colour is CHOSEN else TEXT, font(size))
        box = ((8 + LABEL) * s, (y + 1.5) * s, 108 * s, (y + row - 3) * s)
        pen.rectangle(box, TRACK)
        width = max(0.0, min(1.0, share)) * (box[2] - box[0])
        pen.rectangle((box[0], box[1], box[0] + width, box[3]), colour)
        pen.text((132 * s, y * s), f"{value:.3g}", colour if colour is CHOSEN else QUIET, font(size), anchor="ra")

    def _spread(self, pen: Any, spread: Any, action: int, top: float, bottom: float) -> None:
        s = self.scale
        low, high, weight = explain.histogram(spread)
        chosen, most = weight[action].tolist(), float(weight.max())
        width = 124 * s / len(chosen)
        for k, p in enumerate(chosen):
            x = 8 * s + k * width
            pen.rectangle((x, bottom * s - p / most * (bottom - top) * s, x + max(width - 1, 1), bottom * s), CHOSEN)
        pen.text((8 * s, (bottom + 1) * s), f"{low:.3g}", QUIET, font(6 * s))
        pen.text((70 * s, (bottom + 1) * s), "return", QUIET, font(6 * s), anchor="ma")
        pen.text((132 * s, (bottom + 1) * s), f"{high:.3g}", QUIET, font(6 * s), anchor="ra")

    def _line(self, pen: Any, top: float, bottom: float) -> None:
        """The value, and the rewards, of the last ten seconds."""
        s = self.scale
        values, rewards = self.values[-LINE_STEPS:], self.rewards[-LINE_STEPS:]
        low, high = min(values), max(values)
        most = max(map(abs, rewards)) or 1.0
        points = []
        for i, (value, reward) in enumerate(zip(values, rewards, strict=True)):
            x = (8 + 124 * i / LINE_STEPS) * s
            share = (value - low) / (high - low) if high > low else 0.5
            points.append((x, (bottom - 8 - share * (bottom - top - 14)) * s))
            if reward:
                tall = (2 + 5 * (abs(reward) / most) ** 0.5) * s
                pen.rectangle((x, bottom * s - tall, x + s - 1, bottom * s), REWARD if reward > 0 else LOSS)
        if len(points) > 1:
            pen.line(points, VALUE, max(s // 2, 1), joint="curve")
        pen.text((8 * s, (top - 4) * s), "value and rewards", QUIET, font(6 * s))


def glow(player: Player) -> np.ndarray:
    """What the agent looks at in its present scene: uint8 [H, W, 4], as `pictures.heat`."""
    assert player.agent is not None
    scene = player.scene
    return heat(explain.gradient_saliency(player.agent, scene.step, scene.state, scene.action))


def glowing(pixels: np.ndarray, light: np.ndarray, scale: int) -> np.ndarray:
    """A frame [H, W, 3], enlarged, under a glow [h, w, 4] of any size."""
    large = enlarge(pixels, scale)
    height, width = large.shape[:2]
    smooth = np.asarray(Image.fromarray(light).resize((width, height), Image.Resampling.BILINEAR), np.float32)
    opacity = smooth[..., 3:] / 255 * 0.8
    return (large * (1 - opacity) + smooth[..., :3] * opacity).astype(np.uint8)
