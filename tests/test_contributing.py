"""Following CONTRIBUTING.md literally works."""

import dataclasses
import re
import sys
import types
from pathlib import Path

import pytest

import agents.returns
from agents.optimiser import Adam
from experiments.config import NetworkConfig
from tests import test_agents

PAGE = (Path(__file__).parent.parent / "CONTRIBUTING.md").read_text()


def test_the_example_masters_catch(monkeypatch):
    equation, algorithm = re.findall(r"```python\n(.*?)```", PAGE, re.S)
    exec(equation, vars(agents.returns))
    module = types.ModuleType("agents.expected_sarsa")
    monkeypatch.setitem(sys.modules, module.__name__, module)
    try:
        exec(compile(algorithm, "CONTRIBUTING.md", "exec"), vars(module))
    finally:
        expected = vars(agents.returns).pop("expected_value")
    import torch

    assert expected(torch.tensor([1.0, 3.0]), 0.5).item() == pytest.approx(0.5 * 3 + 0.5 * 2)
    assert dataclasses.is_dataclass(module.ExpectedSARSA)
    case = (module.ExpectedSARSA(), NetworkConfig(torso="mlp", hidden=64), test_agents.REPLAY, Adam(1e-3, 1e-5), 100)
    monkeypatch.setitem(test_agents.CASES, "expected", case)
    assert test_agents.learn("expected", "catch", 7_000, enough=0.9) >= 0.9


def test_it_is_one_page():
    assert len(PAGE.splitlines()) <= 100
