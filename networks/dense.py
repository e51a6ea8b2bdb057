"""The dense layer, for small batches on a CPU."""

import torch
from torch import Tensor, nn

FEW = 24, 48  # rows for which the product with the weights on the left was faster


def dense(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """x W^T + b: [..., I], [O, I] and [O] to [..., O].

    On a CPU and for few rows it is (W x^T + b)^T: two threads share the many rows of W, not the few of x, which takes
    a third of the time for a batch of 32.
    """
    rows = x.numel() // x.shape[-1]
    if x.device.type != "cpu" or not FEW[0] <= rows <= FEW[1]:
        return nn.functional.linear(x, weight, bias)
    return torch.addmm(bias[:, None], weight, x.reshape(rows, -1).t()).t().view(*x.shape[:-1], -1)


class Dense(nn.Linear):
    """x W^T + b."""

    def forward(self, input: Tensor) -> Tensor:
        return dense(input, self.weight, self.bias)
