"""Published settings by name, complete; each cites its table and lists its deviations."""

import difflib

from experiments.config import Experiment
from experiments.presets import distributional, dqn, memory, players, policy, pqn, worlds

FILES = (dqn, distributional, pqn, policy, memory, players, worlds)
PRESETS: dict[str, Experiment] = {preset.preset: preset for file in FILES for preset in file.PRESETS}


def preset(name: str) -> Experiment:
    """The experiment that a preset stands for.

    Raises:
        ValueError: no such preset; the message names the closest ones.
    """
    if name not in PRESETS:
        close = difflib.get_close_matches(name.lower(), PRESETS, cutoff=0.5)
        hint = f"did you mean {', '.join(close)}?" if close else f"there are {', '.join(PRESETS)}"
        raise ValueError(f"there is no preset called {name!r}; {hint}")
    return PRESETS[name]
