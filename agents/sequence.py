"""What an agent learns from."""

from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

import torch
from torch import Tensor

from envs.timestep import TimeStep


class Sequence(NamedTuple):
    """T consecutive steps from each of B places, time first."""

    step: TimeStep  # [T, B, ...] exactly what the agent saw
    action: Tensor  # int64 [T, B] what it then did
    note: Any  # [T, B, ...] whatever else it wrote down as it acted; () if nothing
    state: Any  # [B, ...] its memory before step 0; () if it has none
    weight: Tensor  # float32 [B] importance weights
    ids: Tensor  # int64 [B], on the host: where in the experience each sequence came from
    intrinsic_reward: Any = ()  # float [T, B], weighted, joins the clipped reward (`Curious`); () if there is none
    horizon: Any = ()  # (n int64 [B], gamma float [B]) of their returns, if they are not the algorithm's own (`BBF`)


def cut(seq: Sequence, count: int) -> list[Sequence]:
    """Sequences [T, count * B] as `count` batches [T, B], in the order of their places."""
    if count == 1:
        return [seq]

    def parts(tree: Any, dim: int) -> list[Any]:
        return [tree_map(lambda x: x.chunk(count, dim)[i], tree) for i in range(count)]

    columns = parts((seq.step, seq.action, seq.note), 1), parts((seq.state, seq.weight, seq.ids, seq.horizon), 0)
    return [
        Sequence(step, action, note, state, weight, ids, horizon=horizon)
        for (step, action, note), (state, weight, ids, horizon) in zip(*columns, strict=True)
    ]


def tree_map(fn: Callable, tree: Any, *rest: Any) -> Any:
    """Applies `fn` to every tensor of nested (named) tuples."""
    if not isinstance(tree, tuple):
        return fn(tree, *rest)
    parts = [tree_map(fn, *xs) for xs in zip(tree, *rest, strict=True)]
    return type(tree)(*parts) if hasattr(tree, "_fields") else tuple(parts)


def tree_leaves(tree: Any) -> list[Tensor]:
    """The tensors of nested (named) tuples, in order."""
    if not isinstance(tree, tuple):
        return [tree]
    return [leaf for part in tree for leaf in tree_leaves(part)]


def tree_like(leaves: Iterable[Tensor], tree: Any) -> Any:
    """The inverse of `tree_leaves`: leaves in order, nested as those of `tree` and of their devices and dtypes."""
    following = iter(leaves)
    return tree_map(lambda x: next(following).to(x.device, x.dtype), tree)


def onto(device: torch.device, x: Tensor) -> Tensor:
    """x, of any shape, on a device, without waiting for a GPU. From pinned memory it crosses while the GPU computes."""
    return x.to(device, non_blocking=True)


def below(tensors: dict[str, Any], prefix: str) -> dict[str, Any]:
    """Those whose names begin with a prefix, by the rest of their names."""
    return {name.removeprefix(prefix): x for name, x in tensors.items() if name.startswith(prefix)}
