"""The gated transformer-XL (Parisotto et al. 2019): attention over the last steps of the episode."""

import math
from typing import Any

import torch
from torch import Tensor, nn

from networks.memory import State, history_size, with_history


class GTrXL(nn.Module):
    """Layers of attention and perceptron, each behind a gate; layer norm comes first (ibid., sec. 3.1 and 3.2).

    Its state is what each layer was given in the last `window` steps, and which of these belong to the present
    episode. A sequence is one pass: every step looks at itself and the `window` steps before it, whether they are
    in the sequence or in the state, and so sees what it saw when it was played.

    Args:
        inputs: F.
        num_actions: of the history that joins the features (`with_history`); 0 for none.
        size: F', of every layer.
        window: steps that each layer looks back; together they reach as many times as far as there are layers.
        layers: of attention and perceptron.
        heads: of the attention; must divide `size`.

    Raises:
        ValueError: they do not.
    """

    def __init__(self, inputs: int, num_actions: int, size: int, window: int = 64, layers: int = 2, heads: int = 4):
        super().__init__()
        if size % heads:
            raise ValueError(f"--network.memory-size must be a multiple of {heads}, the heads of its attention")
        self.num_actions, self.size, self.window = num_actions, size, window
        self.embedding = nn.Linear(inputs + history_size(num_actions), size)
        self.layers = nn.ModuleList(Layer(size, window, heads) for _ in range(layers))

    def initial_state(self, batch: int) -> State:
        like = self.embedding.weight
        past = like.new_zeros(batch, self.window, len(self.layers), self.size)
        return past, torch.zeros(batch, self.window, dtype=torch.bool, device=like.device)

    def forward(self, features: Tensor, step: Any, state: State) -> tuple[Tensor, State]:
        x = self.embedding(with_history(features, step, self.num_actions))
        past, known = state
        seen = visible(step.first, known)
        given = []
        for layer, before in zip(self.layers, past.transpose(0, 1).unbind(2), strict=True):
            given.append(torch.cat([before, x]))  # [window + T, B, F']
            x = layer(x, given[-1], seen)
        known = seen[:, -1, -self.window :]
        past = torch.stack([whole[-self.window :] for whole in given], 2).transpose(0, 1)
        return x, (past * known[..., None, None], known)


def visible(first: Tensor, known: Tensor) -> Tensor:
    """Which steps each step may look at: itself and the last W, as far as they are of the same episode.

    Args:
        first: bool [T, B].
        known: bool [B, W], which steps before these belong to the episode that goes on at step 0.

    Returns:
        bool [B, T, W + T].
    """
    episode = first.long().cumsum(0).T  # [B, T], 0 for the one that goes on
    every = torch.cat([torch.where(known, 0, -1), episode], 1)
    window, back = known.shape[1], hops(len(first), known.shape[1], first.device)
    return (every[:, None] == episode[:, :, None]) & (back >= 0) & (back <= window)


def hops(time: int, window: int, device: torch.device) -> Tensor:
    """How many steps key j lies before query t, for keys that begin `window` steps earlier: [T, window + T]."""
    return torch.arange(time, device=device)[:, None] + window - torch.arange(window + time, device=device)


class Layer(nn.Module):
    """Attention, then a perceptron; each normalises its input and joins the stream through a gate (sec. 3.2)."""

    def __init__(self, size: int, window: int, heads: int):
        super().__init__()
        self.norms = nn.ModuleList(nn.LayerNorm(size) for _ in range(2))
        self.gates = nn.ModuleList(Gate(size) for _ in range(2))
        self.attention = RelativeAttention(size, window, heads)
        self.perceptron = nn.Sequential(nn.Linear(size, 4 * size), nn.ReLU(), nn.Linear(4 * size, size))

    def forward(self, x: Tensor, given: Tensor, seen: Tensor) -> Tensor:
        normed = self.norms[0](given)
        x = self.gates[0](x, torch.relu(self.attention(normed, len(x), seen)))
        return self.gates[1](x, torch.relu(self.perceptron(self.norms[1](x))))


class Gate(nn.Module):
    """The gate of a GRU between stream x and sublayer y (ibid., sec. 3.2, "Gated-Recurrent-Unit-type gating").

    Args:
        bias: b_g; above 0 the gate is nearly shut at first, and the layer passes x on.
    """

    def __init__(self, size: int, bias: float = 2.0):
        super().__init__()
        self.from_y = nn.Linear(size, 3 * size, bias=False)
        self.from_x = nn.Linear(size, 2 * size, bias=False)
        self.from_reset = nn.Linear(size, size, bias=False)
        self.bias = nn.Parameter(torch.full((size,), bias))

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        reset_y, update_y, new_y = self.from_y(y).chunk(3, -1)
        reset_x, update_x = self.from_x(x).chunk(2, -1)
        reset = torch.sigmoid(reset_y + reset_x)
        update = torch.sigmoid(update_y + update_x - self.bias)
        return x + update * (torch.tanh(new_y + self.from_reset(reset * x)) - x)


class RelativeAttention(nn.Module):
    """Attention that knows how far back a step is (Dai et al. 2019, sec. 3.3)."""

    def __init__(self, size: int, window: int, heads: int):
        super().__init__()
        self.window, self.heads, self.width = window, heads, size // heads
        self.query, self.key, self.value, self.distance, self.output = (
            nn.Linear(size, size, bias=False) for _ in range(5)
        )
        self.content_bias = nn.Parameter(torch.zeros(heads, self.width))  # u and v of the paper
        self.distance_bias = nn.Parameter(torch.zeros(heads, self.width))
        self.waves: Tensor
        self.register_buffer("waves", sinusoids(window + 1, size), persistent=False)

    def forward(self, x: Tensor, time: int, seen: Tensor) -> Tensor:
        """The last T of x [window + T, B, F] look at all of it that is `seen`, bool [B, T, window + T]."""

        def split(y: Tensor) -> Tensor:
            return y.unflatten(-1, (self.heads, self.width))

        query, key, value = split(self.query(x[-time:])), split(self.key(x)), split(self.value(x))
        content = torch.einsum("tbhd,jbhd->bhtj", query + self.content_bias, key)
        by_hop = torch.einsum("tbhd,khd->bhtk", query + self.distance_bias, split(self.distance(self.waves)))
        hop = hops(time, self.window, x.device).clamp(0, self.window)
        score = (content + by_hop.gather(-1, hop.expand(content.shape))) / math.sqrt(self.width)
        weight = score.masked_fill(~seen[:, None], -torch.inf).softmax(-1)
        return self.output(torch.einsum("bhtj,jbhd->tbhd", weight, value).flatten(-2))


def sinusoids(count: int, size: int) -> Tensor:
    """Sines and cosines of positions 0 to count - 1 (Vaswani et al. 2017, sec. 3.5): [count, size]."""
    angle = torch.arange(count)[:, None] * 10_000 ** -(torch.arange(0, size, 2) / size)
    return torch.cat([angle.sin(), angle.cos()], -1)[:, :size]
