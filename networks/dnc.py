"""The differentiable neural computer (Graves et al. 2016): a controller that writes to and reads from a matrix."""

from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from networks.memory import State, history_size, open_gates, with_history


class DNCState(NamedTuple):
    """All that goes on from one step to the next."""

    hidden: Tensor  # [B, H] of the controller
    cell: Tensor  # [B, H]
    matrix: Tensor  # [B, N, W], a word in each of N places
    usage: Tensor  # [B, N]
    link: Tensor  # [B, N, N]; [i, j]: i was written right after j
    precedence: Tensor  # [B, N], how much each place was the last written to
    writing: Tensor  # [B, N], write weights
    reading: Tensor  # [B, R, N], read weights


class DNC(nn.Module):
    """An LSTM beside a memory of its own making, addressed by content, by use and by the order of writing.

    A step depends on what was read at the step before, so time is a loop.

    Args:
        inputs: F.
        num_actions: of the history that joins the features (`with_history`); 0 for none.
        size: units of the controller, and F'.
        places: N.
        word: W.
        bias: added to the gates of the controller that keep (`open_gates`).
        reads: R, read heads.
    """

    def __init__(
        self, inputs: int, num_actions: int, size: int, places: int = 16, bias: float = 0.0, word: int = 16,
        reads: int = 1,
    ):  # fmt: skip
        super().__init__()
        self.num_actions, self.size, self.places, self.word, self.reads = num_actions, size, places, word, reads
        self.controller = nn.LSTMCell(inputs + history_size(num_actions) + reads * word, size)
        open_gates(self.controller.bias_hh, size, bias)
        self.parts = [reads * word, reads, word, 1, word, word, reads, 1, 1, 3 * reads]
        self.interface = nn.Linear(size, sum(self.parts))
        self.output = nn.Linear(size + reads * word, size)

    def initial_state(self, batch: int) -> State:
        def zeros(*shape: int) -> Tensor:
            return self.output.weight.new_zeros(batch, *shape)

        n = self.places
        return DNCState(
            zeros(self.size), zeros(self.size), zeros(n, self.word), zeros(n), zeros(n, n), zeros(n), zeros(n),
            zeros(self.reads, n),
        )  # fmt: skip

    def forward(self, features: Tensor, step: Any, state: State) -> tuple[Tensor, State]:
        outputs = []
        for x, first in zip(with_history(features, step, self.num_actions), step.first, strict=True):
            state = DNCState(*(part * (~first).to(x.dtype).view(-1, *[1] * (part.dim() - 1)) for part in state))
            output, state = self._step(x, state)
            outputs.append(output)
        return torch.stack(outputs), state

    def _step(self, x: Tensor, s: DNCState) -> tuple[Tensor, DNCState]:
        """One step (ibid., Methods): x [B, F] to the output [B, F'] and the next state."""
        read = (s.reading @ s.matrix).flatten(1)
        with torch.autocast(x.device.type, enabled=False):  # what it remembers for long is not rounded at every step
            given = torch.cat([x, read], -1).to(s.hidden.dtype)
            hidden, cell = self.controller(given, (s.hidden, s.cell))
        (
            read_key, read_strength, write_key, write_strength, erase, written, free, allocating, enabling, modes,
        ) = self.interface(hidden).split(self.parts, -1)  # fmt: skip

        usage = used(s.usage, s.writing, s.reading, free.sigmoid())
        found = by_content(s.matrix, write_key[:, None], oneplus(write_strength))[:, 0]
        share = allocating.sigmoid()
        writing = enabling.sigmoid() * (share * allocation(usage) + (1 - share) * found)
        matrix = s.matrix * (1 - writing[..., None] * erase.sigmoid()[:, None]) + writing[..., None] * written[:, None]

        link = linked(s.link, s.precedence, writing)
        precedence = (1 - writing.sum(-1, keepdim=True)) * s.precedence + writing
        found = by_content(matrix, read_key.unflatten(-1, (self.reads, self.word)), oneplus(read_strength))
        backward, content, forward = modes.unflatten(-1, (self.reads, 3)).softmax(-1)[..., None].unbind(-2)
        reading = backward * (s.reading @ link) + content * found + forward * (s.reading @ link.transpose(1, 2))

        output = self.output(torch.cat([hidden, (reading @ matrix).flatten(1)], -1))
        return output, DNCState(hidden, cell, matrix, usage, link, precedence, writing, reading)


def oneplus(x: Tensor) -> Tensor:
    """1 + ln(1 + e^x), of a strength (ibid., Methods, "Interface parameters")."""
    return 1 + nn.functional.softplus(x)


def by_content(matrix: Tensor, key: Tensor, strength: Tensor) -> Tensor:
    """softmax_i(strength * cos(key, matrix[i])) (ibid., "Content-based addressing"); with an empty word it is 0.

    Args:
        matrix: [B, N, W].
        key: [B, R, W].
        strength: [B, R].

    Returns:
        [B, R, N].
    """
    length = matrix.norm(dim=-1)[:, None] * key.norm(dim=-1, keepdim=True)
    return (strength[..., None] * (key @ matrix.transpose(1, 2)) / (length + 1e-6)).softmax(-1)


def used(usage: Tensor, writing: Tensor, reading: Tensor, free: Tensor) -> Tensor:
    """u = (u + w - u w) prod_r (1 - f_r w_r) (ibid., "Dynamic memory allocation"): [B, N].

    Args:
        usage, writing: [B, N], of the step before.
        reading: [B, R, N], of the step before.
        free: [B, R], gates of now.
    """
    return (usage + writing - usage * writing) * (1 - free[..., None] * reading).prod(1)


def allocation(usage: Tensor) -> Tensor:
    """a[phi_j] = (1 - u[phi_j]) prod_{i < j} u[phi_i], phi from the least used to the most (ibid.): [B, N].

    As in their text, no gradient passes through the sorting.
    """
    ascending, order = usage.sort(dim=-1, stable=True)
    before = torch.cat([torch.ones_like(ascending[:, :1]), ascending[:, :-1]], -1).cumprod(-1)
    return ((1 - ascending) * before).gather(-1, order.argsort(-1))


def linked(link: Tensor, precedence: Tensor, writing: Tensor) -> Tensor:
    """L[i, j] = (1 - w_i - w_j) L[i, j] + w_i p_j, and 0 for i = j (ibid., "Temporal memory linkage"): [B, N, N]."""
    row, column = writing[..., None], writing[:, None]
    new = (1 - row - column) * link + row * precedence[:, None]
    return new * (1 - torch.eye(link.shape[-1], device=link.device))
