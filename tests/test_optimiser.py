"""Optimisers: by hand, as torch has them, and from their statistics."""

import sys

import pytest
import torch
from torch import nn

from agents.optimiser import Adadelta, Adam, Optimiser, RAdam, RMSProp
from tests.test_compiled import only_traced


def test_centred_rmsprop_is_worked_out_by_hand():
    # g = 2, then 1; decay 0.5, epsilon 0.25, learning rate 0.1.
    p = nn.Parameter(torch.tensor([1.0]))
    optimiser = Optimiser(RMSProp(decay=0.5, epsilon=0.25), [p])
    p.grad = torch.tensor([2.0])
    optimiser.step(0.1)  # E[g] = 1, E[g^2] = 2: 2 / sqrt(2 - 1 + .25)
    first = 1 - 0.1 * 2 / 1.25**0.5
    assert p.item() == pytest.approx(first)
    p.grad = torch.tensor([1.0])
    optimiser.step(0.1)  # E[g] = 1, E[g^2] = 1.5: 1 / sqrt(1.5 - 1 + .25)
    assert p.item() == pytest.approx(first - 0.1 / 0.75**0.5)


def test_centred_rmsprop_of_a_gradient_that_stays_the_same_is_a_number():
    p = torch.nn.Parameter(torch.tensor([1.0]))
    optimiser = Optimiser(RMSProp(epsilon=1.5e-7), [p])
    for _ in range(400):  # E[g^2] - E[g]^2 is rounded to less than -epsilon on the way
        p.grad = torch.tensor([3.0])
        optimiser.step(1e-4)
    assert p.isfinite()


def test_uncentred_rmsprop_is_worked_out_by_hand():
    # g = 2, then 1; decay 0.5, epsilon 0.25, learning rate 0.1.
    p = torch.nn.Parameter(torch.tensor([1.0]))
    optimiser = Optimiser(RMSProp(decay=0.5, epsilon=0.25, centred=False), [p])
    for g in (2.0, 1.0):
        p.grad = torch.tensor([g])
        optimiser.step(0.1)
    assert p.item() == pytest.approx(1 - 0.1 * 2 / (2 + 0.25) ** 0.5 - 0.1 / (1.5 + 0.25) ** 0.5)


@pytest.mark.parametrize("where", ["cpu", "gpu", "gpu, compiled"])
@pytest.mark.parametrize(
    ("settings", "theirs"),
    [
        (Adam(epsilon=1e-3), lambda p: torch.optim.Adam(p, 0.1, eps=1e-3)),
        (RAdam(epsilon=1e-3), lambda p: torch.optim.RAdam(p, 0.1, eps=1e-3)),
        (Adadelta(decay=0.9, epsilon=1e-3), lambda p: torch.optim.Adadelta(p, 0.1, rho=0.9, eps=1e-3)),
    ],
    ids=lambda x: type(x).__name__,
)
def test_an_optimiser_is_that_of_torch_and_goes_on_where_it_stood(settings, theirs, where, monkeypatch):
    """On a GPU the rate is a tensor, where a CUDA graph may be; what is compiled is run as it was traced."""
    on_gpu, traced = where != "cpu", only_traced(monkeypatch)

    def make():
        optimiser = Optimiser(settings, ours)
        if where == "gpu, compiled":
            optimiser.compile()
        return optimiser

    rate = torch.tensor(0.1) if on_gpu and settings.capturable else 0.1
    monkeypatch.setattr(sys.modules["torch.optim.radam"], "_get_capturable_supported_devices", lambda **how: ["cpu"])
    torch.manual_seed(0)
    ours = [nn.Parameter(torch.randn(3, 2)), nn.Parameter(torch.randn(4)), nn.Parameter(torch.randn(1))]
    other = [nn.Parameter(p.detach().clone()) for p in ours]
    optimiser, reference = make(), theirs(other)
    for moment in range(8):
        if moment == 4:
            tensors = {name: x.clone() for name, x in optimiser.state_dict().items()}
            optimiser = make()
            optimiser.load_state_dict(tensors)
        for p, q in zip(ours[:2], other[:2], strict=True):  # the third never has a gradient
            p.grad = torch.randn_like(p)
            q.grad = p.grad.clone()
        optimiser.step(rate)
        reference.step()
        for p, q in zip(ours, other, strict=True):
            # On a GPU RAdam rectifies in 32 bits.
            torch.testing.assert_close(p, q, rtol=1e-5, atol=1e-4 if on_gpu else 1e-5)
    assert bool(traced) == (where == "gpu, compiled" and settings.capturable)
    optimiser.zero_grad()
    assert all(p.grad is None for p in ours) and not optimiser.statistics[2]


@pytest.mark.parametrize(
    "spoil",
    [
        lambda t: {**t, "7.exp_avg": t["0.exp_avg"]},
        lambda t: {**t, "0.exp_avg": torch.zeros(5)},
        lambda t: {name: x for name, x in t.items() if name != "0.step"},
    ],
    ids=["more", "of another shape", "fewer"],
)
def test_statistics_that_do_not_fit_are_refused(spoil):
    p = nn.Parameter(torch.ones(2))
    optimiser = Optimiser(Adam(), [p])
    p.grad = torch.ones(2)
    optimiser.step(0.1)
    with pytest.raises(ValueError, match="do not fit this Adam"):
        Optimiser(Adam(), [p]).load_state_dict(spoil(optimiser.state_dict()))
