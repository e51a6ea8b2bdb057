"""Features over time: [T, B, F] and a state [B, ...] to [T, B, F'] and the next state.

A memory clears itself wherever `step.first`; its state is a required argument, never a default. Others than these
are in gtrxl.py and dnc.py.
"""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence

State = tuple[Any, ...]  # (nested) tuples of tensors, each [B, ...]; () for memoryless networks


class Memoryless(nn.Module):
    """Passes features through; its state is ()."""

    def __init__(self, inputs: int):
        super().__init__()
        self.size = inputs

    def initial_state(self, batch: int) -> State:
        return ()

    def forward(self, features: Tensor, step: Any, state: State) -> tuple[Tensor, State]:
        return features, state


class Recurrent(nn.Module):
    """LSTM (Hochreiter & Schmidhuber 1997) or GRU (Cho et al. 2014); may know what was done and earned last.

    However many episodes begin on the way, all of it goes through the fused kernel at once: each stretch of one
    episode in one place is a sequence of its own.

    Args:
        kind: "lstm" or "gru".
        inputs: F.
        num_actions: of the history that joins the features (`with_history`); 0 for none.
        size: units, F'.
        bias: added to the gates that keep (`open_gates`).
    """

    def __init__(self, kind: str, inputs: int, num_actions: int, size: int, bias: float = 0.0):
        super().__init__()
        self.num_actions, self.size, self.parts = num_actions, size, 2 if kind == "lstm" else 1
        width = inputs + history_size(num_actions)
        self.cell = nn.LSTM(width, size) if kind == "lstm" else nn.GRU(width, size)
        open_gates(self.cell.get_parameter("bias_hh_l0"), size, bias)

    def initial_state(self, batch: int) -> State:
        like = next(self.parameters())
        return tuple(like.new_zeros(batch, self.size) for _ in range(self.parts))

    def forward(self, features: Tensor, step: Any, state: State) -> tuple[Tensor, State]:
        x = with_history(features, step, self.num_actions)
        keep = (~step.first[0]).to(x.dtype)[:, None]
        begin = torch.stack([part * keep for part in state])  # [parts, B, F']
        if len(x) == 1 or not (first := step.first.cpu())[1:].any():
            output, end = self._run(x, begin)
            return output, tuple(end)
        cut, sizes, *rest = stretches(first)
        place, carries, ends = (part.to(x.device) for part in (cut, *rest))
        # Only the stretch that a place begins with goes on from a state; the others begin episodes.
        starts = begin.new_zeros(self.parts, int(sizes[0]), self.size).index_copy(1, carries, begin)
        packed = PackedSequence(x.flatten(0, 1).index_select(0, place), sizes)
        output, end = self._run(packed, starts)
        output = output.data.index_select(0, place.argsort()).unflatten(0, x.shape[:2])
        return output, tuple(end.index_select(1, ends))

    def keep_from_compiling(self) -> None:
        """Lets it run as ever where all else is compiled: code that fits one cut into stretches fits few others."""
        self.forward = torch.compiler.disable(self.forward)  # type: ignore[method-assign]

    def _run(self, x: Any, begin: Tensor) -> tuple[Any, Tensor]:
        """Outputs for x and the states [parts, B, F'] after it."""
        if begin.is_cuda and torch.is_autocast_enabled("cuda"):
            # Whatever it is asked for, autocast gives cuDNN float16, in which the gradients of a mean vanish.
            with torch.autocast("cuda", enabled=False):
                return self._run(x.float(), begin.float())
        if self.parts == 1:
            return self.cell(x, begin)
        output, end = self.cell(x, tuple(part[None] for part in begin))
        return output, torch.cat(end)


def stretches(first: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Cuts [T, B] steps where episodes begin, as PackedSequence wants it: S stretches, the longest first.

    Args:
        first: bool [T, B], on the CPU.

    Returns:
        place: int64 [T * B], the steps t * B + b in packed order.
        sizes: int64 [L], how many stretches are longer than 0, 1, ... steps.
        carries, ends: int64 [B], the stretches that each place begins and ends with.
    """
    time, batch = first.shape
    cuts = first.T.clone()
    cuts[:, 0] = True
    where, begin = cuts.nonzero(as_tuple=True)  # [S], column and first step of each stretch, column by column
    # Laid end to end, a stretch ends where the next begins.
    length = torch.diff(where * time + begin, append=torch.tensor([batch * time]))
    order = length.argsort(descending=True, stable=True)  # packed rank to stretch
    rank = order.argsort()  # stretch to packed rank
    hop = torch.arange(int(length.max()))[:, None]
    inside = hop < length[order]  # [L, S]: which stretches go on so long
    place = ((begin[order] + hop) * batch + where[order])[inside]
    final = cuts.sum(1).cumsum(0) - 1  # [B], the last stretch of each column
    return place, inside.sum(1), rank[final + 1 - cuts.sum(1)], rank[final]


@torch.no_grad()
def open_gates(biases: Tensor, size: int, extra: float) -> None:
    """Adds to the biases of an LSTM's forget gates or a GRU's update gates, which are the second `size` of either.

    With the usual weights half of a memory is lost at every step, and so is its gradient: a thousandth is left after
    ten (Jozefowicz et al. 2015, sec. 2.2).
    """
    biases[size : 2 * size] += extra


def history_size(num_actions: int) -> int:
    """How many features `with_history` adds."""
    return num_actions + 1 if num_actions else 0


def with_history(features: Tensor, step: Any, num_actions: int) -> Tensor:
    """Features [T, B, F] with the last action as one-hot and the last reward, clipped to [-1, 1].

    Kapturowski et al. (2019), sec. 2.3, who do not clip. With 0 actions the features alone.
    """
    if not num_actions:
        return features
    known = (~step.first).to(features.dtype)[..., None]
    action = nn.functional.one_hot(step.prev_action, num_actions).to(features.dtype) * known
    reward = step.reward.to(features.dtype).clamp(-1, 1)[..., None] * known
    return torch.cat([features, action, reward], -1)
