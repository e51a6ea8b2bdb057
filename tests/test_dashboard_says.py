"""What the dashboard's page says of runs that are unlike: lengths, ways of measuring, times, and where the keys are."""

import json

import pytest

from tests.browser import chromium, served
from tests.test_compare import make
from tests.test_dashboard import row, train

HOURS = {0: 1.0, 1: 1.5, 2: 2.0}  # of training, by seed


def finish(path):
    """Writes what a run's training would have, up to its end."""
    results = [json.loads(file.read_text()) for file in sorted((path / "evaluations").iterdir())]
    train(path, 100 * len(results), evaluation=results[-1])
    with (path / "metrics.jsonl").open("a") as file:
        file.writelines(row(100 * i, **{"eval/mean": result["mean"]}) for i, result in enumerate(results, 1))


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """Three seeds with one evaluation each, after unlike hours; and a shorter agent, one of whose runs was measured
    otherwise."""
    root = tmp_path_factory.mktemp("unlike")
    for seed, hours in HOURS.items():
        path = make(root, "dqn", "Pong", seed, [float(seed)])
        finish(path)
        (path / "perf.jsonl").write_text(json.dumps({"frames": 1_000_000, "charts/FPS": 1e6 / hours / 3600}) + "\n")
    for seed in range(2):
        finish(make(root, "c51", "Pong", seed, [-20.0, 3.0]))
    finish(make(root, "rainbow", "Pong", 0, [1.0], epsilon=0.5))
    return root


@pytest.fixture(scope="module")
def page(root):
    with served("dashboard", str(root), "--no-open") as (address, _), chromium() as browser:
        page = browser.new_page(viewport={"width": 1400, "height": 900})
        page.errors = []
        page.on("pageerror", lambda error: page.errors.append(str(error)))
        page.goto(f"{address}/")
        page.wait_for_selector("#page[data-ready] canvas")
        yield page
        assert page.errors == []


def in_charts(page, script):
    return page.evaluate("async () => { const charts = await import('/static/charts.js'); " + script + "}")


def test_smoothing_goes_by_the_way_and_not_by_the_number_of_points(page):
    """A ramp is as late with few points as with many, but for a point."""
    few, many = in_charts(
        page,
        """const ramp = (n) => Array.from({ length: n + 1 }, (_, i) => 200 * i / n);
           return [20, 400].map((n) => charts.smooth({ x: ramp(n), y: ramp(n) }, 0.9, 2)[n / 2]);""",
    )
    assert many == pytest.approx(82, abs=1.5) and few == pytest.approx(many, abs=10) and few < 100
    assert in_charts(page, "return charts.smooth({ x: [1, 2], y: [5, 7] }, 0, 1)") == [5, 7]


def test_seeds_with_an_evaluation_each_are_drawn_though_it_came_after_unlike_hours(page):
    drawn = in_charts(
        page,
        """const curves = [[1, 0], [1.5, 1], [2, 5]].map(([x, y]) => ({ x: [x], y: [y] }));
           const own = charts.together(curves), grid = charts.gridOf([...own, { x: [0, 4], y: [1, 1] }]);
           const { mean, low } = charts.band(own, grid), i = mean.findIndex((value) => value !== null);
           return [grid[i], mean[i], low[i] !== null, mean.filter((value) => value !== null).length];""",
    )
    assert drawn == [1.5, 2, True, 1]
    assert in_charts(page, "return charts.together([{ x: [1], y: [1] }, { x: [1, 2], y: [1, 2] }])[0].x") == [1]
    page.select_option("label:has-text('show') select", "eval/mean")
    page.select_option("label:has-text('over') select", "hours")
    page.wait_for_selector("section[aria-label=Pong] canvas")
    box = page.locator("section[aria-label=Pong] .u-over").bounding_box()
    told = set()
    for x in range(int(box["width"]) // 2, int(box["width"]), 2):  # where c51 has come to its end
        page.mouse.move(box["x"] + x, box["y"] + box["height"] / 2)
        told.add(page.locator("section[aria-label=Pong] .tip").inner_text())
    assert "dqn: 1.00 at 1.50 h" in told, told
    page.select_option("label:has-text('over') select", "frames")


def test_every_evaluation_is_a_point_of_a_panel_and_a_band_does_not_close_where_seeds_cross(page):
    drawn = in_charts(
        page,
        """const x = Array.from({ length: 200 }, (_, i) => 1e6 * (i + 1)), y = x.map((_, i) => (i === 100 ? 0 : 1));
           const own = charts.together([{ x, y }, { x: x.map((v) => v + 5e3), y }]), grid = charts.gridOf(own);
           const crossing = [[0, 10], [10, 0]].map((y) => ({ x: [1e6, 2e6], y }));
           const other = { x: [1.5e6, 1.7e6], y: [3, 3] };  // of another agent, in the same panel
           const there = charts.gridOf([...crossing, other]), { low, high } = charts.band(crossing, there);
           const hit = own[0].x[100], { mean } = charts.band(own, grid);
           return [hit, own[0].frames[0], own[1].frames[0], mean[grid.indexOf(hit)], there.includes(1.7e6),
             Math.min(...high.map((v, i) => v - low[i]))];""",
    )
    assert drawn[:5] == [101e6 + 2_500, 1e6, 1e6 + 5_000, 0, True]
    assert drawn[5] == pytest.approx(2 * 12.706 * 5, rel=1e-3)


def test_evaluations_at_unlike_times_stay_where_they_are_and_what_is_nearer_than_a_dot_is_left_out(page):
    apart, twice, few, ends, none = in_charts(
        page,
        """const apart = charts.together([{ x: [1, 2], y: [0, 0] }, { x: [1.2, 2.2], y: [0, 0] }]).map((c) => c.x);
           const twice = charts.together([{ x: [1, 2, 3], y: [0, 0, 0] }, { x: [1, 1.001, 2], y: [0, 0, 0] }])[1].x;
           const x = Array.from({ length: 50000 }, (_, i) => i), lone = { x: [7], y: [7] };
           const grid = charts.gridOf([{ x, y: x }, lone]), ends = [grid[0], grid.includes(7), grid[grid.length - 1]];
           return [apart, twice, grid.length, ends, charts.gridOf([])];""",
    )
    assert apart == [[1, 2], [1.2, 2.2]] and twice == [1, 1.001, 2]
    assert 1_900 < few < 2_200 and ends == [0, True, 49_999] and none == []


def test_the_point_that_is_nearest_to_a_click_counts(page):
    found = in_charts(
        page,
        """const curve = { id: "a", x: [1e6, 2e6], y: [400, 0] };
           return [1.05e6, 1.4e6, 1.6e6].map((x) => charts.nearestRun([curve], x, 400).frames);""",
    )
    assert found == [1e6, 1e6, 2e6]


def test_what_was_measured_otherwise_is_marked(page):
    cells = {
        line.locator("td.name").inner_text(): line.locator("td:nth-child(9)") for line in page.locator("tbody tr").all()
    }
    marked = [name for name, cell in cells.items() if "†" in cell.inner_text()]
    assert [name.split("-")[0] for name in marked] == ["rainbow"]
    assert cells[marked[0]].get_attribute("title").startswith("machado, fingerprint ")
    assert "† evaluated otherwise than most" in page.locator("#page").inner_text()


def test_unequal_lengths_stand_on_the_leaderboard(page):
    page.keyboard.press("l")
    page.wait_for_selector("#page[data-ready=leaderboard] table")
    titles = [title.inner_text() for title in page.locator("h2").all()]
    assert sum("UNEQUAL FRAMES" in title for title in titles) == 1
    lines = page.locator("section", has_text="UNEQUAL FRAMES").locator("table").first.inner_text()
    assert "1M frames" in lines and "2M frames" in lines
    page.keyboard.press("r")
    page.wait_for_selector("#page[data-ready=runs] canvas")


def test_the_keys_stay_with_their_run_when_another_comes(page, root, tmp_path):
    page.wait_for_selector("tbody tr")
    before = page.locator("tbody tr").count()
    for _ in range(2):
        page.keyboard.press("j")
    at = page.locator("tr.at td.name").inner_text()
    path = make(tmp_path, "qrdqn", "Pong", 0, [1.0])
    config = json.loads((path / "config.json").read_text())
    (path / "config.json").write_text(json.dumps(config | {"created": "2099-01-01T00:00:00"}))
    (path / "metrics.jsonl").write_text(row(1))
    path.rename(root / "qrdqn-Pong-s0-new")
    page.wait_for_selector(f"tbody tr:nth-child({before + 1})")
    page.wait_for_selector("tbody tr:first-child td.name:has-text('qrdqn')")
    assert page.locator("tr.at td.name").inner_text() == at
    page.keyboard.press("x")
    assert page.locator("tr.at input").is_checked()
