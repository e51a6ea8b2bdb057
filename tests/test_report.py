"""The page of a report as a browser shows it."""

import json

import pytest

from experiments.cli import run_command
from experiments.files import write_json
from tests.browser import chromium
from tests.test_compare import make

COMMAND = "highscore train dqn " + "--evaluation.episodes 10 " * 20


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    """A report of four runs, each of another commit and begun with a long command."""
    root = tmp_path_factory.mktemp("runs")
    for seed in (1, 2, 3, 4):
        path = make(root, "dqn", "Pong", seed, [1.0 * seed])
        config = json.loads((path / "config.json").read_text())
        write_json(path / "config.json", config | {"commit": f"{seed}" * 40, "command": COMMAND})
    assert run_command("report", [str(root)]) == 0
    return f"file://{root / 'report.html'}"


def luminance(colour):
    """How bright a CSS colour such as rgb(170, 170, 170) is, from 0 to 1, as WCAG has it."""
    parts = [int(part) / 255 for part in colour[4:-1].split(",")]
    linear = [x / 12.92 if x <= 0.04045 else ((x + 0.055) / 1.055) ** 2.4 for x in parts]
    return sum(weight * x for weight, x in zip((0.2126, 0.7152, 0.0722), linear, strict=True))


def test_a_report_fits_a_phone_and_quiet_words_are_readable_in_the_dark(page):
    with chromium() as browser:
        for scheme, ground in (("light", 1.0), ("dark", 0.006)):  # Chromium's dark ground is #121212
            shown = browser.new_page(viewport={"width": 390, "height": 800}, color_scheme=scheme)
            shown.goto(page)
            assert shown.evaluate("document.documentElement.scrollWidth") == 390
            for kind in ("quiet", "warn"):
                colour = shown.evaluate(f"getComputedStyle(document.querySelector('p.{kind}')).color")
                low, high = sorted((ground, luminance(colour)))
                assert (high + 0.05) / (low + 0.05) > 4.5, (scheme, kind, colour)


def test_commands_are_folded_below_the_runs_and_wrap(page):
    with chromium() as browser:
        shown = browser.new_page(viewport={"width": 390, "height": 800})
        shown.goto(page)
        rows = "[...document.querySelectorAll('.runs tbody tr')].map(row => row.offsetHeight)"
        assert len(found := shown.evaluate(rows)) == 4 and max(found) < 60
        command = shown.get_by_role("cell", name=COMMAND.strip()).first
        assert not command.is_visible()
        shown.get_by_text("The command of each run").click()
        assert command.is_visible() and command.evaluate("cell => getComputedStyle(cell).textAlign") == "left"
        assert command.evaluate("cell => cell.getBoundingClientRect().right") <= 390
