"""Scores in words."""

import math

DECIMALS = 4  # at most: what is smaller than these is what float32 has lost


def score_text(score: float) -> str:
    """Whole numbers as such, others with up to three significant digits; never -0."""
    decimals = min(max(2 - math.floor(math.log10(abs(score))), 0), DECIMALS) if score else 0
    text = f"{round(score, decimals) + 0.0:,.{decimals}f}"  # -0.0 + 0.0 is 0.0
    return text.rstrip("0").rstrip(".") if decimals else text
