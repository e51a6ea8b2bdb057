"""Packages may import only those below them."""

import ast
import subprocess
from pathlib import Path

ROOT = Path(__file__).parent.parent
ALLOWED = {"envs": set(), "networks": set(), "agents": {"envs.timestep"}, "experiments": {"envs", "networks", "agents"}}


def imported(tree):
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield node.module or ""


def test_imports_point_downwards():
    seen = 0
    for package, below in ALLOWED.items():
        for path in (ROOT / package).rglob("*.py"):
            for name in imported(ast.parse(path.read_text())):
                seen += 1
                if (top := name.split(".")[0]) in ALLOWED and top != package:
                    assert top in below or name in below, f"{path.relative_to(ROOT)} imports {name}"
    assert seen > 100


def test_there_are_no_other_packages():
    packages = {path.parent.name for path in ROOT.glob("*/*.py") if not path.parent.name.startswith(".")}
    assert packages == {*ALLOWED, "tests"}


def test_nothing_else_is_kept_at_the_top():
    """Such as what a test has left behind; in a copy that is no repository nothing is listed."""
    listed = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True).stdout.splitlines()
    files = {"CONTRIBUTING.md", "LICENSE", "Makefile", "README.md", "constraints.txt", "pyproject.toml"}
    tops = {name.split("/")[0] for name in listed}
    assert {name for name in tops if not name.startswith(".")} <= {*ALLOWED, "tests", *files}


def test_nothing_is_unpickled():
    for package in ALLOWED:
        for path in (ROOT / package).rglob("*.py"):
            text = path.read_text()
            assert "torch.load" not in text and "import pickle" not in text and "allow_pickle" not in text, path
