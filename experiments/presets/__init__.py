"""Published settings by name, complete; each cites its table and lists its deviations."""

import difflib
from collections.abc import Callable, Iterable
from typing import Any

from experiments.config import Experiment, Policies, to_json
from experiments.presets import distributional, dqn, memory, planning, players, policy, pqn, samples, worlds
from experiments.records import flat

FILES = (dqn, distributional, samples, pqn, policy, memory, players, planning, worlds)
PRESETS: dict[str, Experiment] = {preset.preset: preset for file in FILES for preset in file.PRESETS}


def closest(name: str, known: Iterable[str], otherwise: str = "") -> str:
    """Which known names are closest to one that is not, as the end of a message; if none is, `otherwise`, or all."""
    names = {other.lower(): other for other in known}
    close = [names[found] for found in difflib.get_close_matches(name.lower(), names, cutoff=0.5)]
    return f"did you mean {', '.join(close)}?" if close else otherwise or f"there are {', '.join(names.values())}"


def preset(name: str) -> Experiment:
    """The experiment that a preset stands for.

    Raises:
        ValueError: no such preset, nor run, if that is what it looks like; names the closest presets.
    """
    if name not in PRESETS:
        if "/" in name:
            raise ValueError(f"there is no run at {name}; `highscore list runs` shows those there are")
        raise ValueError(f"there is no preset called {name!r}; {closest(name, PRESETS)}")
    return PRESETS[name]


def changes(experiment: Experiment) -> dict[str, list[Any]]:
    """What an experiment changes in its preset, beside game, seed and name: {setting: [the preset's, its own]}.

    Nothing of a run whose preset is not here, for others may have their own.
    """
    known = PRESETS.get(experiment.preset, experiment)
    theirs, ours = flat(to_json(known)), flat(to_json(experiment))
    names = [name for name in dict.fromkeys([*theirs, *ours]) if name not in ("game", "seed", "variant")]
    return {name: [theirs.get(name), ours.get(name)] for name in names if theirs.get(name) != ours.get(name)}


# (settings, whether they have an effect, what gives them one). Presets may have a value for each, whatever it does.
DEPENDENT: tuple[tuple[tuple[str, ...], Callable[[Experiment], Any], str], ...] = (
    (("network.memory_size", "network.memory_bias", "network.history"), lambda x: x.network.memory != "none",
     "--network.memory lstm, gru, gtrxl or dnc"),
    (("network.memory_bias",), lambda x: x.network.memory != "gtrxl", "--network.memory lstm, gru or dnc"),
    (("algorithm.burn_in",), lambda x: x.network.memory != "none", "--network.memory lstm, gru, gtrxl or dnc"),
    (("explore",), lambda x: not isinstance(x.algorithm, Policies), "agents that learn values"),
    (("target_period",), lambda x: x.replay, "agents with a replay"),
    (("algorithm.jumps",), lambda x: getattr(x.algorithm, "prediction_cost", 1), "--algorithm.prediction-cost above 0"),
    (("reset.keep",), lambda x: x.reset.period, "--reset.period above 0"),
    (("replay.importance_exponent", "replay.initial_priority", "algorithm.priority"),
     lambda x: not x.replay or x.replay.priority_exponent, "--replay.priority-exponent above 0"),
    (("bonus.discount", "bonus.train_share"), lambda x: x.bonus.weight, "--bonus.weight above 0"),
    (("players", "replay.initial_priority"), lambda x: x.distributed != "none", "--distributed local or ray"),
)  # fmt: skip


def without_effect(experiment: Experiment) -> list[str]:
    """What was changed in the preset and does nothing: each setting, and what would give it an effect."""
    return [
        f"{name} (it is for {condition})"
        for name in changes(experiment)
        for settings, effective, condition in DEPENDENT
        if name.startswith(settings) and not effective(experiment)
    ]
