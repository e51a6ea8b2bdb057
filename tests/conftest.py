"""Settings for every test."""

import gc
import os

os.environ["OMP_NUM_THREADS"] = "1"  # tests run side by side; must be set before torch is imported
os.environ["TORCHINDUCTOR_COMPILE_THREADS"] = "1"  # more are processes that import torch
for name in ("FORCE_COLOR", "NO_COLOR", "CLICOLOR_FORCE", "COLUMNS", "LINES", "TTY_COMPATIBLE"):
    os.environ.pop(name, None)  # what is printed is that of no terminal

import pytest
import torch
from hypothesis import settings


def pytest_xdist_auto_num_workers():
    """Half as many again as there are cores: many tests wait for a process, a browser or a signal."""
    return 3 * (os.cpu_count() or 1) // 2


LONGEST = (
    "resume", "dashboard_page", "wandb", "train", "local", "suite", "compiled", "world_processes", "show", "ranks",
    "benchmark", "faults", "fuzz", "agents", "page", "watch", "player", "dashboard_says", "worlds", "captured",
    "memory", "atari",
)  # fmt: skip


def pytest_collection_modifyitems(items):
    """The modules that take longest begin first, so that all workers end at about the same time; among them those that
    mostly wait, for a browser or a process, beside those that train."""
    ranks = {f"test_{name}": rank for rank, name in enumerate(LONGEST)}
    items.sort(key=lambda item: ranks.get(item.path.stem, len(LONGEST)))


gc.freeze()  # torch's modules are hundreds of thousands of objects, which live as long as the process
gc.set_threshold(20_000, 50, 100)

settings.register_profile("noisy machine", deadline=None)
settings.load_profile("noisy machine")


@pytest.fixture(scope="session")
def watched_run(tmp_path_factory):
    """A run that can be watched, for all that look at one."""
    from tests.watched import make_run

    return make_run(tmp_path_factory.mktemp("runs"))


@pytest.fixture(autouse=True)
def subnormal_numbers():
    """Every test begins with them, as Python has it (Hypothesis insists), whatever was trained here before."""
    torch.set_flush_denormal(False)
