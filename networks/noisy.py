"""Exploration by noise in the weights."""

import math

import torch
from torch import Tensor, nn

from networks.dense import dense

MANY = 32  # rows for which one product with noisy weights is faster than two products


def signed_root(x: Tensor) -> Tensor:
    """f(x) = sgn(x) sqrt(|x|) (Fortunato et al. 2018, sec. 3)."""
    return x.abs().sqrt().copysign(x)


class NoisyLinear(nn.Module):
    """y = (mu + sigma * eps) x, eps_ij = f(eps_i) f(eps_j): factorised noise (Fortunato et al. 2018, eqs. 9 to 11).

    Noise is drawn at every call, one for the whole batch: acting, and each network's part in an update,
    have their own. In evaluation mode there is none. Maps float [..., inputs] to [..., outputs].

    Args:
        sigma: sigma_0; weights and biases begin with sigma_0 / sqrt(inputs), sec. 3.2.
    """

    def __init__(self, inputs: int, outputs: int, sigma: float = 0.5):
        super().__init__()
        bound = 1 / math.sqrt(inputs)
        self.weight = nn.Parameter(torch.empty(outputs, inputs).uniform_(-bound, bound))
        self.bias = nn.Parameter(torch.empty(outputs).uniform_(-bound, bound))
        self.weight_sigma = nn.Parameter(torch.full((outputs, inputs), sigma * bound))
        self.bias_sigma = nn.Parameter(torch.full((outputs,), sigma * bound))

    def quiet(self, x: Tensor) -> Tensor:
        """What it gives without noise."""
        return dense(x, self.weight, self.bias)

    def forward(self, x: Tensor) -> Tensor:
        if not self.training:
            return self.quiet(x)
        outputs, inputs = self.weight.shape
        noise_in = signed_root(torch.randn(inputs, device=x.device))
        noise_out = signed_root(torch.randn(outputs, device=x.device))
        if x.numel() < MANY * inputs:  # (sigma * eps_out eps_in^T) x without the matrix of the noise
            noisy = dense(x * noise_in, self.weight_sigma, self.bias_sigma)
            return dense(x, self.weight, self.bias) + noise_out * noisy
        weight = torch.addcmul(self.weight, self.weight_sigma * noise_in, noise_out[:, None])
        return dense(x, weight, self.bias + self.bias_sigma * noise_out)
