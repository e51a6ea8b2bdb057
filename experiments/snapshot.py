"""Everything that decides how a training goes on, as tensors and JSON.

Parameters, optimiser, emulators (as seeds and actions), experience, recurrent memory, and the random
states of torch, NumPy and Python. Nothing here knows which algorithm or game it is.
"""

import random
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor

from agents.agent import Agent
from agents.sequence import below, tree_leaves, tree_like
from experiments.build import Setup
from experiments.distributed.setup import DistributedSetup
from experiments.loop import Moment

SHARED = ("online.", "target.", "optimiser.")  # by all ranks that learn together
# "memory." is the experience's, as checkpoints have always called it; "state." is of networks that remember.
# Sizes differ from those of a fresh training, and only a GPU has a random state of its own.
GROWING = ("optimiser.", "memory.", "games.actions", "games.rewards", "random.cuda")
LACKS = ("can't allocate memory", "CUDA error", "NCCL error")  # in what torch says of a machine, not of a checkpoint


def take(setup: Setup | DistributedSetup, moment: Moment) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """(tensors, facts) of a training after an iteration; the rows of a replay are kept elsewhere."""
    games, game_tensors = setup.games.state()
    experience, rows = setup.experience.state()
    tensors = setup.agent.tensors()
    tensors |= {f"games.{name}": x for name, x in game_tensors.items()}
    tensors |= {f"memory.{name}": x for name, x in rows.items()}
    tensors |= {f"state.{i}": x for i, x in enumerate(tree_leaves(moment.state))}
    tensors["random.torch"] = torch.get_rng_state()
    if setup.games.device.type == "cuda":
        tensors["random.cuda"] = torch.cuda.get_rng_state(setup.games.device)
    facts = {
        "games": games, "memory": experience, "updates": setup.agent.updates,
        "cycle": [setup.agent.resets, setup.agent.cycle_begin],
        "python": random.getstate(), "numpy": numpy_state(),
    }  # fmt: skip
    return tensors, facts


def own(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Of a rank's tensors, those that are not the same on all ranks."""
    return {name: x for name, x in tensors.items() if not name.startswith(SHARED)}


def joined(
    first: tuple[dict[str, Tensor], dict[str, Any]], others: list[tuple[dict[str, Tensor], dict[str, Any]]]
) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """One checkpoint of several ranks: a name of rank 1's begins with rank.1, and facts["ranks"][0] is its own."""
    tensors = dict(first[0])
    for rank, (theirs, _) in enumerate(others, 1):
        tensors |= {f"rank.{rank}.{name}": x for name, x in theirs.items()}
    return tensors, first[1] | {"ranks": [facts for _, facts in others]}


def part_of(rank: int, tensors: dict[str, Tensor], facts: dict[str, Any]) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """The inverse of `joined`, for one rank."""
    if rank == 0:
        return {name: x for name, x in tensors.items() if not name.startswith("rank.")}, facts
    theirs = below(tensors, f"rank.{rank}.")
    shared = {name: x for name, x in tensors.items() if name.startswith(SHARED)}
    return shared | theirs, facts | facts["ranks"][rank - 1]


def restore(setup: Setup, tensors: dict[str, Tensor], facts: dict[str, Any]) -> tuple[Moment, bool]:
    """Takes a freshly built training to where `take` found another.

    Returns:
        The moment to go on from, and whether the emulators are where they were (see `Games.restore`).

    Raises:
        ValueError: tensors or facts that are not those of such a training.
    """
    with refused():
        return _restore(setup, tensors, facts)


@contextmanager
def refused() -> Iterator[None]:
    """What breaks at a foreign checkpoint becomes a ValueError; what a machine lacks for a good one does not."""
    try:
        yield
    except (KeyError, TypeError, AttributeError, IndexError, OverflowError, RuntimeError) as error:
        if isinstance(error, torch.OutOfMemoryError) or any(words in str(error) for words in LACKS):
            raise
        raise ValueError(f"it is not of such a training: {type(error).__name__}: {error}") from None


def _restore(setup: Setup, tensors: dict[str, Tensor], facts: dict[str, Any]) -> tuple[Moment, bool]:
    agent, games = setup.agent, setup.games
    fresh = Moment(0, games.reset(0), agent.initial_state(games.num_envs), {})
    check_like(tensors, take(setup, fresh)[0])
    check_games(facts["games"], tensors, games.num_envs)
    agent.load_tensors(tensors)
    restore_counts(agent, facts)
    step, exact = games.restore(facts["games"], below(tensors, "games."))
    state = tree_like((tensors[f"state.{i}"] for i in range(len(below(tensors, "state.")))), fresh.state)
    with agent.evaluating():  # only for their shapes: nothing may move
        action, note, _ = agent.act(step, state, 0.0)
    setup.experience.restore(facts["memory"], below(tensors, "memory."), (step, action, note, state))
    restore_random_states(tensors, facts, games.device)
    return Moment(games.agent_steps, step, state, {}), exact


def restore_counts(agent: Agent, facts: dict[str, Any]) -> None:
    """Takes an agent's counts to where `take` found them."""
    agent.updates = checked_count(facts["updates"])
    agent.resets, agent.cycle_begin = map(checked_count, facts.get("cycle", [0, 0]))  # older ones have none


def restore_random_states(tensors: dict[str, Tensor], facts: dict[str, Any], device: torch.device) -> None:
    """Takes the random states of Python, NumPy and torch to where `take` found them."""
    version, internal, gauss = facts["python"]
    random.setstate((version, tuple(internal), gauss))
    kind, keys, *rest = facts["numpy"]
    np.random.set_state((kind, np.array(keys, np.uint32), *rest))
    torch.set_rng_state(tensors["random.torch"])
    if device.type == "cuda" and "random.cuda" in tensors:
        torch.cuda.set_rng_state(tensors["random.cuda"], device)


def begin_new_episodes(setup: Setup, moment: Moment) -> Moment:
    """Ends the episodes at a moment, as truncated, where the emulators cannot go on with them."""
    with setup.agent.evaluating():
        action, note, _ = setup.agent.act(moment.step, moment.state, 0.0)
    end = moment.step._replace(last=torch.ones_like(moment.step.last))
    setup.experience.add(end, torch.zeros_like(action), note, moment.state)
    return moment._replace(step=setup.games.restart())


def check_like(tensors: dict[str, Tensor], fresh: dict[str, Tensor]) -> None:
    """Refuses tensors that a training of this making cannot have.

    Raises:
        ValueError: naming the first one.
    """

    def fixed(names: Any) -> set[str]:
        return {name for name in names if not name.startswith(GROWING)}

    if unequal := sorted(fixed(tensors) ^ fixed(fresh)):
        raise ValueError(f"it is not of such a training: {', '.join(unequal[:3])}")
    for name in fixed(fresh):
        x, like = tensors[name], fresh[name]
        floats = x.is_floating_point() and like.is_floating_point()
        alike = x.dtype == like.dtype or (floats and name.startswith("target."))  # which this code rounds as it does
        if x.shape != like.shape or not alike:
            raise ValueError(f"{name} is {x.dtype} {tuple(x.shape)}, not {like.dtype} {tuple(like.shape)}")


def check_games(facts: dict[str, Any], tensors: dict[str, Tensor], num_envs: int) -> None:
    """Refuses seeds and logs that N games cannot have.

    Raises:
        ValueError: saying what does not fit.
    """
    logs = (("actions", "lengths", torch.uint8), ("rewards", "episodes", torch.float32))
    for name, lengths, dtype in logs:
        counts, x = [checked_count(n) for n in facts[lengths]], tensors[f"games.{name}"]
        if len(counts) != num_envs or x.dtype != dtype or x.shape != (sum(counts),):
            raise ValueError(f"the games' {name} are not those of {num_envs} games")
    if len(facts["seeds"]) != num_envs or max(checked_count(seed) for seed in facts["seeds"]) >= 1 << 31:
        raise ValueError("the games' seeds are not seeds")
    if any(episode > length for episode, length in zip(facts["episodes"], facts["lengths"], strict=True)):
        raise ValueError("an episode is longer than its log")
    checked_count(facts["agent_steps"])


def checked_count(number: Any) -> int:
    """A count as JSON holds it.

    Raises:
        ValueError: it is none.
    """
    if type(number) is not int or number < 0:
        raise ValueError(f"{number!r:.40} is not a count")
    return number


def numpy_state() -> list[Any]:
    """The state of NumPy's global generator, as JSON holds it."""
    kind, keys, *rest = np.random.get_state(legacy=True)
    return [kind, [int(key) for key in keys], *rest]
