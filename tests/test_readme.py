"""What the README says is so."""

import re
from pathlib import Path

from experiments.cli import COMMANDS
from experiments.presets import PRESETS

README = (Path(__file__).parent.parent / "README.md").read_text()


def test_the_snippet_runs_and_is_short(capsys):
    (snippet,) = re.findall(r"```python\n(.*?)```", README, re.S)
    assert len([line for line in snippet.splitlines() if line.strip()]) <= 20
    exec(compile(snippet, "README.md", "exec"), {})
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) > 50 and re.match(r"15\d\d losses/td_loss 0\.", lines[-1])


def test_every_preset_and_command_is_there():
    for name in PRESETS:
        assert f"| `{name}` |" in README
    for name in COMMANDS:
        assert f"highscore {name}" in README or f"make {name}" in README


def test_links_lead_somewhere():
    for target in re.findall(r"\]\(([^)#]+)\)", README):
        assert target.startswith("http") or (Path(__file__).parent.parent / target).exists(), target
