"""The differentiable external memory (Graves et al. 2016), part by part."""

import math

import pytest
import torch
from torch import nn

from envs.timestep import TimeStep
from networks.dnc import DNC, allocation, by_content, linked, oneplus, used


def test_addressing_by_content_is_worked_out_by_hand():
    matrix = torch.tensor([[[3.0, 4.0], [1.0, 0.0], [0.0, 0.0]]])
    found = by_content(matrix, torch.tensor([[[1.0, 0.0]]]), torch.tensor([[2.0]]))
    cosines = [3 / 5, 1.0, 0.0]
    total = sum(math.exp(2 * c) for c in cosines)
    assert found[0, 0].tolist() == pytest.approx([math.exp(2 * c) / total for c in cosines], abs=1e-5)
    assert oneplus(torch.tensor(0.0)).item() == pytest.approx(1 + math.log(2))


def test_usage_is_worked_out_by_hand():
    usage, writing = torch.tensor([[0.5, 0.0, 1.0]]), torch.tensor([[0.5, 0.25, 0.0]])
    reading, free = torch.tensor([[[1.0, 0.0, 0.5], [0.0, 0.0, 1.0]]]), torch.tensor([[0.5, 1.0]])
    # u + w - u w = .75, .25, 1; kept: (1 - .5)(1), 1, (1 - .25)(1 - 1).
    assert used(usage, writing, reading, free).tolist() == [[0.375, 0.25, 0.0]]


def test_allocation_is_worked_out_by_hand():
    # Least used first: place 1 (.2), place 2 (.5), place 0 (.9): .8, .5 * .2, .1 * .2 * .5.
    found = allocation(torch.tensor([[0.9, 0.2, 0.5]]))
    assert found[0].tolist() == pytest.approx([0.01, 0.8, 0.1])
    assert allocation(torch.ones(1, 3)).tolist() == [[0.0, 0.0, 0.0]]  # all used: nowhere


def test_links_are_worked_out_by_hand():
    link = torch.zeros(1, 3, 3)
    link[0, 1, 0] = 1.0  # 1 was written after 0
    writing, precedence = torch.tensor([[0.0, 0.5, 0.5]]), torch.tensor([[0.0, 1.0, 0.0]])
    found = linked(link, precedence, writing)
    # [1, 0]: (1 - .5 - 0) * 1 + .5 * 0; [2, 1]: (1 - .5 - .5) * 0 + .5 * 1; [1, 1] would be .5, but i = j.
    assert found[0].tolist() == [[0.0, 0.0, 0.0], [0.5, 0.0, 0.0], [0.0, 0.5, 0.0]]


def test_a_dnc_reads_back_in_the_order_of_writing():
    """Three words are written to fresh places, then read again from the first by the forward links alone."""
    words = torch.eye(4)[:3]
    matrix, usage, link = torch.zeros(1, 4, 4), torch.zeros(1, 4), torch.zeros(1, 4, 4)
    precedence, writing, reading = torch.zeros(1, 4), torch.zeros(1, 4), torch.zeros(1, 1, 4)
    for word in words:
        usage = used(usage, writing, reading, torch.zeros(1, 1))
        writing = allocation(usage)
        matrix = matrix + writing[..., None] * word
        link = linked(link, precedence, writing)
        precedence = (1 - writing.sum(-1, keepdim=True)) * precedence + writing
    reading = by_content(matrix, words[:1][None], torch.tensor([[50.0]]))
    for word in words:
        torch.testing.assert_close((reading @ matrix)[0, 0], word, atol=1e-4, rtol=0)
        reading = reading @ link.transpose(1, 2)


def test_a_word_is_erased_before_another_is_written():
    core = DNC(4, 0, 8, places=1, word=2)
    nn.init.zeros_(core.interface.weight)
    for part, to in zip(core.interface.bias.data.split(core.parts), (0, 0, 0, 0, 20, 5, 0, -20, 20, 0), strict=True):
        part.fill_(to)  # erase all, write fives, to where content says, for sure
    state = core.initial_state(1)._replace(matrix=torch.full((1, 1, 2), 7.0))
    step = TimeStep(*[None] * 3, torch.zeros(1, 1, dtype=torch.bool), None, None)
    assert torch.allclose(core(torch.zeros(1, 1, 4), step, state)[1].matrix, torch.full((1, 1, 2), 5.0))


def strokes(core, x, first):
    """The core on one sequence [T, F], one place after the other (Graves et al. 2016, Methods); outputs [T, F']."""
    places, word, reads, outputs = core.places, core.word, core.reads, []
    zeros = lambda *shape: torch.zeros(shape, dtype=x.dtype)

    def alike(matrix, key, strength):
        cosine = [row @ key / (row.norm() * key.norm() + 1e-6) for row in matrix]
        return (strength * torch.stack(cosine)).softmax(0)

    for features, begins in zip(x, first, strict=True):
        if begins:
            hidden, cell = zeros(core.controller.hidden_size), zeros(core.controller.hidden_size)
            matrix, usage, link, precedence = zeros(places, word), zeros(places), zeros(places, places), zeros(places)
            wrote, read = zeros(places), [zeros(places) for _ in range(reads)]
        seen = torch.cat([features, *(matrix.T @ weight for weight in read)])
        hidden, cell = core.controller(seen, (hidden, cell))
        keys, strengths, key, strength, erase, new, free, allocating, enabling, modes = core.interface(hidden).split(
            core.parts
        )
        kept = torch.stack([1 - gate.sigmoid() * weight for gate, weight in zip(free, read, strict=True)]).prod(0)
        usage = (usage + wrote - usage * wrote) * kept
        allocated, full = zeros(places), 1.0
        for place in usage.argsort():
            allocated[place], full = (1 - usage[place]) * full, full * usage[place]
        gate, found = allocating.sigmoid(), alike(matrix, key, oneplus(strength))
        wrote = enabling.sigmoid() * (gate * allocated + (1 - gate) * found)
        matrix = matrix * (1 - torch.outer(wrote, erase.sigmoid())) + torch.outer(wrote, new)
        before, link = link, zeros(places, places)
        for i in range(places):
            for j in range(places):
                if i != j:
                    link[i, j] = (1 - wrote[i] - wrote[j]) * before[i, j] + wrote[i] * precedence[j]
        precedence = (1 - wrote.sum()) * precedence + wrote
        for r, mode in enumerate(modes.view(reads, 3).softmax(-1)):
            content = alike(matrix, keys.view(reads, word)[r], oneplus(strengths)[r])
            read[r] = mode[0] * (link.T @ read[r]) + mode[1] * content + mode[2] * (link @ read[r])
        outputs.append(core.output(torch.cat([hidden, *(matrix.T @ weight for weight in read)])))
    return torch.stack(outputs)


def test_a_dnc_equals_its_slow_twin():
    torch.manual_seed(1)
    core = DNC(4, 0, 6, places=5, word=3, reads=2).double()
    for parameter in core.parameters():
        parameter.data *= 3  # so that gates open and close
    x, first = torch.randn(9, 2, 4).double(), torch.zeros(9, 2, dtype=torch.bool)
    first[0], first[5, 1] = True, True
    state = type(core.initial_state(2))(*(part.double() for part in core.initial_state(2)))
    with torch.no_grad():
        found, _ = core(x, TimeStep((), (), (), first, (), ()), state)
        for column in range(2):
            slow = strokes(core, x[:, column], first[:, column])
            assert torch.allclose(found[:, column], slow, atol=1e-12), (found[:, column] - slow).abs().max()
