"""What the README and its guides say is so."""

import re
from pathlib import Path

import pytest
import torch

from experiments import checks
from experiments.cli import COMMANDS, parse, parse_train
from experiments.matrix import cells
from experiments.presets import PRESETS
from experiments.scheduler import Room, check_fit
from experiments.suite import Suite, spec_of
from experiments.suite_checks import check_alike, check_cells

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted(ROOT.glob("experiments/*/README.md"))]
PAGES += sorted(ROOT.glob("experiments/guides/*.md"))


def test_the_snippet_runs_and_is_short(capsys):
    (snippet,) = re.findall(r"```python\n(.*?)```", README, re.S)
    assert len([line for line in snippet.splitlines() if line.strip()]) <= 20
    exec(compile(snippet, "README.md", "exec"), {})
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) > 20 and re.match(r"12\d\d losses/td_loss 0\.", lines[-1])


def test_every_preset_and_command_is_there():
    for name in PRESETS:
        assert f"| `{name}` |" in README
    for name in COMMANDS:
        assert f"highscore {name}" in README or f"make {name}" in README


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page):
    for target, part in re.findall(r"\]\(([^)#]*)(?:#([^)]*))?\)", page.read_text()):
        if target.startswith("http"):
            continue
        there = page.parent / target if target else page
        assert there.exists(), target
        if part:
            heads = re.findall(r"^#+ (.*)$", there.read_text(), re.M)
            assert part in [re.sub(r"[^a-z0-9 -]", "", head.lower()).replace(" ", "-") for head in heads], (
                target,
                part,
            )


def test_there_are_commands_to_try():
    assert len(commands("train")) > 8 and len(commands("suite")) > 1


def commands(kind):
    """The arguments of every command of a kind that can be typed as it stands."""
    text = "\n".join(page.read_text() for page in PAGES)
    found = re.findall(rf"^    highscore {kind} (.*?)(?: *#.*)?$", text, re.M)
    return [line for line in found if "..." not in line and "runs/NAME" not in line]


@pytest.mark.parametrize("line", [line for line in commands("train") if "cuda" not in line])
def test_trainings_can_begin(line, monkeypatch):
    monkeypatch.setattr(checks, "available_memory", lambda device: 8 << 30)  # on a laptop
    checks.check(parse_train(line.split()).experiment, torch.device("cpu"))


@pytest.mark.parametrize("line", sorted(set(commands("suite"))))
def test_suites_can_begin(line, monkeypatch):
    """Where 16 GB are free."""
    monkeypatch.setattr(checks, "available_memory", lambda device: 16 << 30)
    planned = cells(spec_of(parse(Suite, line.split())))
    check_alike(planned)
    needed = check_cells(planned, torch.device("cpu"))
    check_fit(planned, lambda cell: needed[cell.name], Room(16 << 30))
