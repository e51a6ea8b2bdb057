"""The leaderboard and the runs in a real browser: suites, bars of negative scores, colours, and a phone."""

import json

import pytest

from envs.protocols import PROTOCOLS
from experiments.comparison import load
from experiments.files import write_json
from tests.browser import chromium, served
from tests.test_compare import make


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """Two suites of the same agents, game and seeds, all of whose scores are below random play; and one of MinAtar."""
    root = tmp_path_factory.mktemp("suites")
    for suite in ("first", "second"):
        for seed in range(3):
            for agent, name in (("dqn", "a"), ("c51", "b10"), ("rainbow", "b9")):  # names of folders, in their order
                path = make(root / suite, agent, "Pong", seed, [-21.0 - seed / 10 - (suite == "second")])
                path.rename(root / suite / f"{name}-{seed}")
    for seed in range(2):
        path = make(root / "mini", "dqn", "Pong", seed, [5.0 + seed], protocol=PROTOCOLS["minatar"])
        config = json.loads((path / "config.json").read_text())
        config["experiment"]["game"] = "minatar/breakout"
        write_json(path / "config.json", config)
    return root


@pytest.fixture(scope="module")
def open_page(root):
    with served("dashboard", str(root), "--no-open") as (address, _), chromium() as browser:

        def page_at(where, width=1400):
            page = browser.new_page(viewport={"width": width, "height": 900})
            page.goto(f"{address}/#/{where}")
            page.wait_for_selector("#page[data-ready] table")
            return page

        yield page_at


def test_a_suite_is_chosen_and_stays_so(open_page):
    page = open_page("leaderboard")
    line = page.locator("section", has_text="machado").locator("tbody tr").first
    assert "in second" in line.inner_text() and "9 repeats of a seed left out" in page.inner_text("#page")
    assert "minatar" in page.inner_text("#page") and "No run" not in page.inner_text("#page")
    page.select_option("label:has-text('suite') select", "first")
    page.wait_for_function("() => document.querySelectorAll('section').length === 1")
    assert "repeats" not in page.inner_text("#page") and "-21.1" in page.inner_text("section")
    page.reload()
    page.wait_for_selector("#page[data-ready] table")
    assert page.locator("section").count() == 1
    assert "95 % t interval" in page.inner_text("section")
    page.select_option("label:has-text('suite') select", "all")
    page.wait_for_function("() => document.querySelectorAll('section').length === 2")


def test_bars_reach_below_zero_which_has_a_tick(open_page):
    page = open_page("leaderboard")
    section = page.locator("section", has_text="machado")
    assert "optimality gap ↓" in section.locator("thead").first.inner_text()
    places = page.evaluate(
        """() => [...document.querySelectorAll('.track')].map((one) => ['s', 'b'].map((name) =>
             parseFloat(one.querySelector(name).style.left)))"""
    )
    assert len(places) == 12 and all(zero == 100 and 0 < mark < 100 for zero, mark in places if zero)
    assert page.evaluate(
        """async () => {
          const { ends } = await import("/static/leaderboard.js");
          const row = (value, interval) => ({ IQM: { value, interval } });
          return [ends([row(1, [-0.5, 2]), row(3, null)], "IQM"), ends([row(1, null)], "IQM"), ends([], "IQM")];
        }"""
    ) == [[-0.5, 3], [0, 1], [0, 1]]


def test_agents_are_in_the_order_that_comparisons_have(open_page, root):
    page = open_page("")
    shown = [button.inner_text() for button in page.locator(".legend button").all()]
    assert shown == load([root], mixed=True).agents == ["dqn", "c51", "rainbow"]


def test_seeds_are_told_apart_on_a_phone(open_page):
    page = open_page("", width=390)
    line = page.locator("tbody tr").first
    assert line.locator("td:nth-child(6)").is_visible() and line.locator("td:nth-child(6)").inner_text() in "012"
    name = line.locator("td.name").evaluate("(cell) => cell.scrollWidth <= cell.clientWidth")
    assert name and page.evaluate("document.documentElement.scrollWidth") <= 390
