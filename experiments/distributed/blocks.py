"""What a player saw and did in some steps, laid out in one piece of memory."""

import math
from typing import Any, NamedTuple

import torch
from torch import Tensor

from agents.agent import Agent
from agents.sequence import tree_leaves, tree_map
from envs.library import game_of
from envs.timestep import TimeStep
from experiments.config import Experiment
from experiments.loop import Episode

MOST_ROWS = 16  # of a block: enough that sending it costs little, and few enough that it is not old when it arrives
MOST_UPDATES = 8  # that one block of every player pays for, if it is longer than a step or a stride
ALIGNED = 64  # bytes; where each tensor of a block begins


class Block(NamedTuple):
    """K steps in a row of a player's n games: the arguments of `Replay.extend`."""

    step: TimeStep  # [K, n, ...] of each only the newest frame
    action: Tensor  # int64 [K, n]
    note: Any  # [K, n, ...]
    state: Any  # [K / stride, n, ...] the memory before every stride-th step, the first included
    priority: Tensor  # float32 [K, n] of the sequences that each step is the last of; NaN if not known


class Told(NamedTuple):
    """What a player says of a block that it has filled."""

    player: int
    number: int  # of this player's blocks, counted over all its lives
    slot: int  # where the block is
    version: int  # updates that the weights had seen with which it was played
    ended: list[tuple[Episode, Any]]  # episodes that ended meanwhile, each with its `Played`


def block_rows(x: Experiment) -> int:
    """K, the agent steps of each game in a block.

    It is a multiple of the stride, so that memories are kept at the same rows of every block.

    Where many updates are made for a step, blocks are short, so that players are not many updates behind.
    """
    assert x.replay is not None
    rows = min(max(int(MOST_UPDATES * x.replay.learn_period / x.num_envs), 1), MOST_ROWS)
    return x.replay.stride * math.ceil(rows / x.replay.stride)


def example_row(x: Experiment, agent: Agent) -> Any:
    """One row of a player's games, as given to `Replay.add`, on the agent's device; what it holds means nothing.

    No emulator is needed for it.
    """
    games, device = x.num_envs // x.players, next(agent.online.parameters()).device
    obs = torch.zeros(games, x.stack, *game_of(x.game).frame_shape, dtype=torch.uint8, device=device)
    flags = torch.zeros(games, dtype=torch.bool, device=device)
    step, state = TimeStep(obs, flags.long(), flags.float(), flags, flags, flags), agent.initial_state(games)
    with agent.evaluating():
        action, note, _ = agent.act(step, state, 0.0)
    return step, action, note, state


def like(x: Experiment, row: Any) -> Block:
    """A block without memory, for its shapes.

    Args:
        row: see `example_row`.
    """
    step, action, note, state = row

    def rows(count: int, tree: Any) -> Any:
        return tree_map(lambda y: torch.empty((count, *y.shape), dtype=y.dtype, device="meta"), tree)

    count = block_rows(x)
    assert x.replay is not None
    newest = step._replace(obs=step.obs[:, -1])
    kept = rows(count // x.replay.stride, state)
    return Block(rows(count, newest), rows(count, action), rows(count, note), kept, rows(count, step.reward))


def size_of(tree: Any) -> int:
    """Bytes that `carve` needs for tensors like these."""
    return sum(-(-x.nbytes // ALIGNED) * ALIGNED for x in tree_leaves(tree))


def carve(memory: Tensor, tree: Any) -> Any:
    """Views into memory, uint8 [at least size_of(tree)], of the shapes and types of a tree's tensors."""
    offset = 0

    def view(x: Tensor) -> Tensor:
        nonlocal offset
        begin, offset = offset, offset + -(-x.nbytes // ALIGNED) * ALIGNED
        return memory[begin : begin + x.nbytes].view(x.dtype).view(x.shape)

    return tree_map(view, tree)
