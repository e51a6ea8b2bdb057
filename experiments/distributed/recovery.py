"""A checkpoint of a training whose games are played elsewhere.

Parameters, optimiser, experience and counters are as they were; players begin new lives, with other seeds than
before, and so new episodes.
"""

from typing import Any

from torch import Tensor

from agents.sequence import below
from envs.timestep import NO_STEP
from experiments.distributed.blocks import example_row
from experiments.distributed.setup import DistributedSetup
from experiments.loop import Moment
from experiments.snapshot import check_like, checked_count, refused, restore_counts, restore_random_states, take


def restore(setup: DistributedSetup, tensors: dict[str, Tensor], facts: dict[str, Any]) -> tuple[Moment, bool]:
    """Takes a freshly built training to where `snapshot.take` found another.

    Returns:
        The moment to go on from, and True: nothing is left to be done about episodes.

    Raises:
        ValueError: tensors or facts that are not those of such a training.
    """
    with refused():
        return _restore(setup, tensors, facts), True


def _restore(setup: DistributedSetup, tensors: dict[str, Tensor], facts: dict[str, Any]) -> Moment:
    agent, players, experience = setup.agent, setup.games, setup.experience
    check_like(tensors, take(setup, Moment(0, NO_STEP, (), {}))[0])
    for name in ("lives", "blocks"):
        if len([checked_count(n) for n in facts["games"][name]]) != players.count:
            raise ValueError(f"it is not of {players.count} players")
    agent.load_tensors(tensors)
    restore_counts(agent, facts)
    experience.restore(facts["memory"], below(tensors, "memory."), example_row(players.x, agent))
    players.restore(facts["games"])
    restore_random_states(tensors, facts, players.device)
    return Moment(experience.steps_added, NO_STEP, (), {})
