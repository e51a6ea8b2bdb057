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
DOUBT = (180, 142, 245)
COLOURS = (GROUND, TRACK, TEXT, QUIET, VALUE, CHOSEN, REWARD, LOSS, DOUBT)
WIDTH = 140  # of the panel, in the game's own pixels; about that of the game
LABEL = 54  # of an action's name, in the same
LETTERS = 40  # of a line of text
LINE_STEPS = 150  # agent steps of the lines: ten seconds
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
        self.doubts: list[float] = []
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
        if plan := facts["plan"]:
            pen.text((8 * s, (top - 3) * s), " ".join(["plans", *plan])[:LETTERS], QUIET, font(6 * s))
            top += 10
        view = self.player.scene.view
        if view is not None and view.spread is not None:
            self._spread(pen, view.spread, facts["action"], top, top + 28)
            top += 38
        self.values.append(facts["value"])
        self.rewards.append(facts["reward"])
        self.doubts.append(facts["doubt"])
        self._lines(pen, facts, top, self.height - 8)
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

    def _lines(self, pen: Any, facts: dict[str, Any], top: float, bottom: float) -> None:
        """The value, its doubt from 0 to the most that it can be, and the rewards, of the last ten seconds."""
        s, room = self.scale, bottom - top - 14  # for the lines: the text and the rewards take the rest
        if room <= 0:  # the smallest worlds are not even as tall as the bars
            return
        values, rewards, doubts = (track[-LINE_STEPS:] for track in (self.values, self.rewards, self.doubts))
        pen.text((8 * s, (top - 4) * s), f"value {score_text(facts['value'])}", VALUE, font(6 * s))
        pen.text((132 * s, (top - 4) * s), doubt_text(facts), DOUBT, font(6 * s), anchor="ra")
        middle = bottom - 8 - 0.3 * room
        pen.rectangle((8 * s, middle * s, 132 * s, (bottom - 8) * s), TRACK)
        self._line(pen, values, (min(values), max(values)), top + 6, middle - 2, VALUE)
        most = facts["doubt_most"]
        self._line(pen, doubts, (0.0, max(doubts) if most is None else most), middle, bottom - 8, DOUBT)
        largest = max(map(abs, rewards)) or 1.0
        for i, reward in enumerate(rewards):
            if reward:
                x, tall = (8 + 124 * i / LINE_STEPS) * s, (2 + 5 * (abs(reward) / largest) ** 0.5) * s
                pen.rectangle((x, bottom * s - tall, x + s - 1, bottom * s), REWARD if reward > 0 else LOSS)

    def _line(
        self, pen: Any, track: list[float], ends: tuple[float, float], top: float, bottom: float,
        colour: tuple[int, int, int],
    ) -> None:  # fmt: skip
        """A line between the heights of the lowest and the highest that it could have."""
        s, (low, high) = self.scale, ends
        shares = [(x - low) / (high - low) if high > low else 0.5 for x in track]
        points = [
            ((8 + 124 * i / LINE_STEPS) * s, (bottom - share * (bottom - top)) * s) for i, share in enumerate(shares)
        ]
        if len(points) > 1:
            pen.line(points, colour, max(s // 2, 1), joint="curve")


def doubt_text(facts: dict[str, Any]) -> str:
    """An entropy, and the most that it can be, or an action gap, in words."""
    most = facts["doubt_most"]
    return f"{facts['doubt_name']} {score_text(facts['doubt'])}" + ("" if most is None else f" of {score_text(most)}")


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
