"""How a run was measured: the evaluations of its last weights, whoever made them."""

from itertools import groupby
from pathlib import Path
from typing import Any

from experiments.choice import choose, eligible, preference
from experiments.fingerprint import identity, of_result
from experiments.records import is_count, read_evaluation


def measured(path: Path) -> list[dict[str, Any]]:
    """Evaluations of a run's last weights, one of a kind; first that which `highscore compare` takes of it alone."""
    found = [one for one in of_last_weights(path / "evaluations") if fingerprint_of(one) is not None]
    found = list({fingerprint_of(one): one for one in sorted(found, key=preference, reverse=True)}.values())
    first = choose([found]) if found else []
    return first + [one for one in found if one is not first[0]]


def of_last_weights(folder: Path) -> list[dict[str, Any]]:
    """All evaluations of the last weights that have any, by name; files with fewer agent steps are not even read."""
    found: list[dict[str, Any]] = []
    chosen: list[dict[str, Any]] = []
    for steps, files in groupby(sorted(folder.glob("*.json"), key=steps_of, reverse=True), steps_of):
        if chosen and chosen[0]["agent_steps"] > steps:
            break
        found += [one for file in files if (one := read_evaluation(file)) is not None]
        chosen = eligible(sorted(found, key=lambda one: one["name"]), "last", "")
    return chosen


def steps_of(file: Path) -> float:
    """The agent steps with which the name of an evaluation's file begins; infinity where it does not say."""
    number = file.stem.partition("-")[0]
    return int(number) if is_count(number) else float("inf")


def fingerprint_of(evaluation: dict[str, Any]) -> str | None:
    """The identity of an evaluation's fingerprint; None for what has none."""
    try:
        return identity(of_result(evaluation))
    except (KeyError, TypeError, AttributeError):
        return None
