"""Which of a run's evaluations counts where runs are compared."""

from typing import Any

from envs.protocols import PROTOCOLS
from experiments.fingerprint import differing, identity, of_result
from experiments.records import finite, in_training
from experiments.stats import typical

NEAR = 1.01  # lengths of training are alike up to this: whole rounds of games and rollouts end a little apart


def by_then(found: list[dict[str, Any]], frames: int) -> list[dict[str, Any]]:
    """Of evaluations, those that training made at or before so many frames; all that it made if these are 0."""
    return [result for result in in_training(found) if not frames or result["frames"] <= NEAR * frames]


def eligible(found: list[dict[str, Any]], checkpoint: str, protocol: str, frames: int = 0) -> list[dict[str, Any]]:
    """Evaluations of a run's last weights (or of its last best), under a protocol if one is named.

    Args:
        frames: of training, at most; only what training measured counts then. 0: whatever was measured.
    """
    kinds = {"protocol": str, "episodes": int}
    found = by_then(found, frames) if frames else found
    found = [result for result in found if all(isinstance(result.get(key), kind) for key, kind in kinds.items())]
    if checkpoint == "best":
        found = [result for result in found if result.get("checkpoint") == "best"]
    newest = max((result["agent_steps"] for result in found), default=0)
    found = [result for result in found if result["agent_steps"] == newest]
    found = [result for result in found if result.get("checkpoint", "last") == checkpoint]
    return [result for result in found if protocol in ("", result["protocol"])]


def choose(choices: list[list[dict[str, Any]]]) -> list[dict[str, Any]]:
    """One evaluation per run: all under the same conditions if that can be, and then with the most episodes.

    Of several of one run under the same conditions, that of its training counts, else that with the smallest seed:
    nobody is to repeat an evaluation until it pleases.
    """
    by_identity = [
        {identity(of_result(result)): result for result in sorted(found, key=preference, reverse=True)}
        for found in choices
    ]
    shared = set.intersection(*(set(found) for found in by_identity))
    if shared:
        first = by_identity[0]
        best = max(shared, key=lambda key: (first[key]["episodes"], -first[key].get("epsilon", 0), key))
        return [found[best] for found in by_identity]
    return [max(found.values(), key=lambda result: result["episodes"]) for found in by_identity]


def world_of(protocol: str) -> str:
    """The world whose games a protocol is for."""
    return PROTOCOLS[protocol].world if protocol in PROTOCOLS else ""


def choose_in_each(worlds: list[str], choices: list[list[dict[str, Any]]]) -> list[dict[str, Any]]:
    """As `choose`, among the runs of each world by themselves, for no protocol is for games of two."""
    chosen: dict[int, dict[str, Any]] = {}
    for world in set(worlds):
        mine = [i for i, its in enumerate(worlds) if its == world]
        chosen |= zip(mine, choose([choices[i] for i in mine]), strict=True)
    return [chosen[i] for i in range(len(worlds))]


def apart_in(worlds: list[str], found: list[list[dict[str, Any]]]) -> dict[str, list[Any]]:
    """The conditions in which evaluations of one world's games differ, and the values they have: {} if comparable."""
    apart: dict[str, list[Any]] = {}
    for world in sorted(set(worlds)):
        mine = [one for results, its in zip(found, worlds, strict=True) if its == world for one in results]
        for key, values in differing([of_result(result) for result in mine]).items():
            apart[key] = apart.get(key, []) + [value for value in values if value not in apart.get(key, [])]
    return apart


def preference(result: dict[str, Any]) -> tuple[bool, list[int], str]:
    """What counts of evaluations under the same conditions: the smallest."""
    return not in_training([result]), seeds_of(result), result["name"]


def seeds_of(result: dict[str, Any]) -> list[int]:
    """The seeds of an evaluation, as far as it tells them."""
    seeds = of_result(result).get("seeds")
    return [seed for seed in seeds if isinstance(seed, int)] if isinstance(seeds, list) else []


def repeated(found: list[dict[str, Any]], chosen: dict[str, Any]) -> bool:
    """Whether a run has other evaluations under the conditions of the chosen one, with other seeds."""
    same = [result for result in found if identity(of_result(result)) == identity(of_result(chosen))]
    return any(seeds_of(one) != seeds_of(chosen) for one in same)


def how(result: dict[str, Any]) -> str:
    """The conditions of an evaluation that people choose."""
    return f"{result['episodes']} episodes, {result['protocol']}, epsilon {result.get('epsilon')}"


def shown_of(result: dict[str, Any]) -> int:
    """The number of the episode that stands for an evaluation; the first, where it does not tell its scores."""
    scores = result.get("scores")
    told = isinstance(scores, list) and len(scores) == len(result["recordings"])
    return 1 + typical(scores) if told and scores and all(finite(x) is not None for x in scores) else 1
