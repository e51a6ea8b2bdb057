"""The dense layer's fast path, and its plain twin."""

import pytest
import torch
from torch.nn.functional import linear

from networks.dense import FEW, Dense, dense


@pytest.mark.parametrize(
    "shape", [(1, 5), (FEW[0], 5), (FEW[1], 5), (FEW[1] + 1, 5), (3, 4, 5), (2, 3, 4, 5), (2, 3, 5, 5)]
)
def test_dense_is_a_linear_layer_whatever_the_number_of_rows(shape):
    torch.manual_seed(0)
    layer = Dense(5, 7).double()
    x = torch.randn(shape, dtype=torch.float64, requires_grad=True)
    ours, plain = dense(x, layer.weight, layer.bias), linear(x, layer.weight, layer.bias)
    assert ours.shape == plain.shape == layer(x).shape
    assert torch.allclose(ours, plain)
    outer = torch.randn_like(plain)
    inputs = (x, layer.weight, layer.bias)
    for a, b in zip(torch.autograd.grad(ours, inputs, outer), torch.autograd.grad(plain, inputs, outer), strict=True):
        assert torch.allclose(a, b)
