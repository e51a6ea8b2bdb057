"""What comparisons call agents."""

import hashlib
from typing import Any

from experiments.choice import world_of
from experiments.records import agent_of
from experiments.tables import short

# Settings that do not make another agent; how it is evaluated is in the fingerprint.
APART = ("game", "seed", "variant", "source", "checkpoint_period", "deterministic", "evaluation", "replay.storage")
LONGEST_LABEL = 60


def label(settings: list[dict[str, Any]]) -> list[str]:
    """A name per run for its agent: variant or preset, and what distinguishes it from others that are called so.

    Games of two worlds have protocols of their own, so that only another one for the same world distinguishes agents.
    """
    varied: dict[str, list[str]] = {}
    protocols: dict[tuple[str, str], set[str]] = {}  # by agent and world
    for name in {agent_of(one) for one in settings}:
        same = [one for one in settings if agent_of(one) == name]
        keys = sorted({key for one in same for key in one if makes_another(key) and key != "protocol"})
        varied[name] = [key for key in keys if any(one.get(key) != same[0].get(key) for one in same)]
        for one in same:
            protocols.setdefault((name, world_of(one["protocol"])), set()).add(one["protocol"])
    labels = []
    for one in settings:
        name = agent_of(one)
        keys = sorted(varied[name] + ["protocol"] * (len(protocols[name, world_of(one["protocol"])]) > 1))
        words = [f"{key.split('.')[-1].replace('_', '-')} {short(one.get(key))}" for key in keys]
        labels.append(shortened(name + (f" ({', '.join(words)})" if words else "")))
    return labels


def shortened(name: str) -> str:
    """A name that fits into tables; one that is cut ends with digits of its hash, for it must stay another's."""
    if len(name) <= LONGEST_LABEL:
        return name
    digits = hashlib.sha256(name.encode()).hexdigest()[:8]
    return f"{name[: LONGEST_LABEL - 10]}… {digits}"


def makes_another(key: str) -> bool:
    """Whether another value of a setting makes another agent."""
    return key not in APART and key.split(".")[0] not in APART
