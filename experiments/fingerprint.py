"""What a score was measured under, in full: two scores with unlike fingerprints are not comparable."""

import hashlib
import json
from typing import Any

from envs.protocols import PROTOCOLS, Protocol

NOT_COMPARED = ("seeds", "checkpoint", "commit")  # these differ between the runs of one comparison
LIFE_RULES = {False: "game over", True: "game over; in training a lost life ends value"}


def fingerprint(
    protocol: Protocol, *, epsilon: float, episodes: int, seeds: list[int], checkpoint: str | None, commit: str | None
) -> dict[str, Any]:
    """The conditions of one evaluation, as evaluations/*.json keep them.

    Args:
        epsilon: exploration rate of the player.
        seeds: of the emulators and the exploration.
        checkpoint: SHA-256 of the weights that played.
        commit: of the code that played.
    """
    return {
        "protocol": protocol.name, "sticky_probability": protocol.sticky_actions, "noop_max": protocol.noop_max,
        "life_rule": LIFE_RULES[protocol.life_loss_is_terminal], "flicker": protocol.flicker,
        "action_set": "minimal" if protocol.world == "atari" else "the game's own",
        "frame_cap": protocol.max_frames, "epsilon": epsilon, "episodes": episodes, "seeds": seeds,
        "checkpoint": checkpoint, "commit": commit,
    }  # fmt: skip


def of_result(result: dict[str, Any]) -> dict[str, Any]:
    """The fingerprint of an evaluation; of one that was written before there were any, what it still tells.

    Raises:
        KeyError: this is no evaluation of ours.
    """
    if "fingerprint" in result:
        return {"flicker": 0.0} | result["fingerprint"]  # the first did not say it, for no game flickered
    return fingerprint(
        PROTOCOLS[result["protocol"]], epsilon=result["epsilon"], episodes=result["episodes"],
        seeds=[result["seed"]], checkpoint=result.get("tensors_sha256"), commit=result.get("commit"),
    )  # fmt: skip


def conditions(found: dict[str, Any]) -> dict[str, Any]:
    """The part of a fingerprint in which comparable scores agree."""
    return {key: value for key, value in found.items() if key not in NOT_COMPARED}


def identity(found: dict[str, Any]) -> str:
    """Eight hexadecimal digits: equal for comparable scores."""
    return hashlib.sha256(json.dumps(conditions(found), sort_keys=True).encode()).hexdigest()[:8]


def differing(found: list[dict[str, Any]]) -> dict[str, list[Any]]:
    """The conditions in which fingerprints differ, and the values they have: {} if they are comparable."""
    keys = sorted({key for one in found for key in conditions(one)})
    values = {key: sorted({json.dumps(one.get(key)) for one in found}) for key in keys}
    return {key: [json.loads(text) for text in texts] for key, texts in values.items() if len(texts) > 1}
