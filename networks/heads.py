"""Features [..., F] to action values [..., A]."""

from torch import Tensor, nn


def _hidden(inputs: int, size: int, layer_norm: bool) -> list[nn.Module]:
    return [nn.Linear(inputs, size), *([nn.LayerNorm(size)] if layer_norm else []), nn.ReLU()]


class Linear(nn.Module):
    """Q-values from one hidden layer (Mnih et al. 2015, Methods, "Model architecture")."""

    def __init__(self, inputs: int, num_actions: int, hidden: int = 512, layer_norm: bool = False):
        super().__init__()
        self.layers = nn.Sequential(*_hidden(inputs, hidden, layer_norm), nn.Linear(hidden, num_actions))

    def forward(self, x: Tensor) -> Tensor:
        return self.layers(x)


def dueling(value: Tensor, advantage: Tensor) -> Tensor:
    """Q = V + A - mean_a A (Wang et al. 2016, eq. 9): [..., 1] and [..., A] to [..., A]."""
    return value + advantage - advantage.mean(-1, keepdim=True)


class Dueling(nn.Module):
    """Value and advantage, a hidden layer each (Wang et al. 2016, fig. 1)."""

    def __init__(self, inputs: int, num_actions: int, hidden: int = 512, layer_norm: bool = False):
        super().__init__()
        self.value = nn.Sequential(*_hidden(inputs, hidden, layer_norm), nn.Linear(hidden, 1))
        self.advantage = nn.Sequential(*_hidden(inputs, hidden, layer_norm), nn.Linear(hidden, num_actions))

    def forward(self, x: Tensor) -> Tensor:
        return dueling(self.value(x), self.advantage(x))
