"""The dashboard in a real browser: 500 runs, live points, keys, phones, hostile names."""

import json
import os
import shutil
import time

import psutil
import pytest
from scipy.special import stdtrit

from experiments.stats import mean_interval
from tests.browser import chromium, served
from tests.test_compare import make
from tests.test_dashboard import row, train

EVIL = "<img src=x onerror=document.title='owned'>"


@pytest.fixture(scope="module")
def many(tmp_path_factory):
    """500 runs of 2,000 rows each, one with a hostile name; their rows are the same files."""
    root = tmp_path_factory.mktemp("many")
    first = make(root, "dqn", "Pong", 0, [-20.0, 3.0])
    result = json.loads((first / "evaluations/000000500000.json").read_text())
    train(first, 2_000, evaluation=result)
    config = json.loads((first / "config.json").read_text())
    for i in range(1, 500):
        path = root / (EVIL if i == 499 else f"run-{i}")
        path.mkdir()
        for name in ("metrics.jsonl", "perf.jsonl", "summary.json"):
            os.link(first / name, path / name)
        game, seed = ("Pong", "Breakout", "Qbert", "Seaquest")[i % 4], i // 8
        preset = ("dqn", "c51")[i // 4 % 2]
        experiment = config["experiment"] | {"game": game, "seed": seed, "preset": preset}
        if i == 499:
            experiment["preset"] = EVIL
        (path / "config.json").write_text(json.dumps(config | {"name": path.name, "experiment": experiment}))
    return root


@pytest.fixture(scope="module")
def page_of(many):
    """Opens the real dashboard in a real browser; fails on any script error."""
    with served("dashboard", "--runs", str(many), "--no-open") as (address, process), chromium() as browser:

        def open_page(where="", width=1400, height=900, scheme="light", before=lambda page: None):
            for left in browser.contexts:  # a page goes on drawing where nobody looks any more
                left.close()
            context = browser.new_context(viewport={"width": width, "height": height}, color_scheme=scheme)
            page = context.new_page()
            page.errors = []
            page.on("pageerror", lambda error: page.errors.append(str(error)))
            page.on("console", lambda message: message.type == "error" and page.errors.append(message.text))
            before(page)
            page.goto(f"{address}/{where}")
            return page

        yield open_page, process


def test_first_picture_in_two_seconds_and_little_memory(page_of):
    open_page, process = page_of
    began = time.monotonic()
    page = open_page()
    page.wait_for_selector("#page[data-ready] .uplot canvas")
    assert time.monotonic() - began < 8  # two on a machine that does nothing else
    assert psutil.Process(process.pid).memory_info().rss < 300e6
    assert page.locator("section.panel").count() == 4 and page.locator("tbody tr").count() == 60
    assert page.errors == []


def test_a_script_in_a_name_is_text(page_of):
    page = page_of[0]()
    page.fill("input[type=search]", "img")
    page.wait_for_selector("tbody tr:nth-child(1)")
    assert page.locator("tbody tr").count() == 1 and page.locator("td.name").inner_text() == EVIL
    page.click("td.name a")
    page.wait_for_selector("#page[data-ready=run] canvas")
    assert page.locator("h1").inner_text() == EVIL
    page.wait_for_timeout(300)
    assert page.title() == "Highscore" and page.locator("main img").count() == 0 and page.errors == []


def test_keys_open_choose_and_compare(page_of):
    page = page_of[0]()
    page.wait_for_selector("#page[data-ready] canvas")
    for key in ("j", "x", "j", "x", "c"):
        page.keyboard.press(key)
    page.wait_for_selector("#page[data-ready=compare] canvas")
    assert page.locator("h1").inner_text() == "2 runs side by side" and "seed" in page.locator("table").inner_text()
    page.keyboard.press("l")
    page.wait_for_selector("#page[data-ready=leaderboard] table")
    assert "optimality gap" in page.locator("table").first.inner_text()
    page.keyboard.press("r")
    page.wait_for_selector("#page[data-ready=runs] canvas")
    for _ in range(62):  # on beyond those that are shown at first
        page.keyboard.press("j")
    assert [page.locator(f"tbody {where}").count() for where in ("tr.at", "input:checked")] == [1, 2]
    page.keyboard.press("/")
    assert page.evaluate("document.activeElement.type") == "search" and page.errors == []


def test_who_goes_on_before_a_page_is_there_gets_the_next(page_of):
    """Where the first answers fail, too, and the browser keeps nothing."""

    def before(page):
        page.add_init_script("Object.defineProperty(window, 'localStorage', { get() { throw new Error('blocked'); } })")
        page.route("**/api/about", lambda route: route.abort(), times=1)
        page.route("**/api/leaderboard?*", lambda route: route.abort(), times=1)

    page = page_of[0](before=before)
    page.evaluate(
        "for (const where of ['leaderboard', '', 'leaderboard']) setTimeout(() => { location.hash = `#/${where}`; })"
    )
    page.wait_for_selector("#page[data-ready=leaderboard] table")
    page.wait_for_timeout(500)  # what was given up does not come back
    assert page.locator("h1").first.inner_text() == "Leaderboard"
    page.keyboard.press("t")
    page.keyboard.press("r")
    page.wait_for_selector("#page[data-ready=runs] canvas")
    page.select_option("label:has-text('over') select", "steps")
    assert [error for error in page.errors if "ERR_FAILED" not in error] == []


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_readable_on_a_phone(page_of, scheme):
    page = page_of[0](width=390, height=844, scheme=scheme)
    page.wait_for_selector("#page[data-ready] canvas")
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    assert page.evaluate("document.documentElement.classList.contains('dark')") == (scheme == "dark")
    assert page.errors == []


def test_raw_scores_of_several_games_have_no_mean(page_of):
    page = page_of[0]()
    page.wait_for_selector("#page[data-ready] canvas")
    note = page.locator("section.panel h3 .quiet").first
    assert "95 % over runs" in note.inner_text()
    page.select_option("label:has-text('panels') select", "")
    page.wait_for_function("() => document.querySelectorAll('section.panel').length === 1")
    assert "raw scores of several games: no mean" in page.locator("section.panel h3 .quiet").inner_text()
    page.select_option("label:has-text('panels') select", "game")
    assert page.errors == []


def test_a_mean_is_of_all_seeds_and_where_some_are_missing_it_is_another_line(page_of):
    page = page_of[0]()
    band = page.evaluate(
        """async () => {
          const { band, student } = await import("/static/charts.js");
          const ended = { x: [1, 3], y: [10, 30] }, running = { x: [1, 5], y: [0, 0] };
          const three = [1, 2, 6].map((y) => ({ x: [1], y: [y] })), quantiles = [1, 2, 3, 4, 9, 30].map(student);
          return [
            band([ended, running], [1, 2, 3, 4, 5]), band([running], [1, 5]), band([ended, ended, running], [4]),
            band(three, [1]), quantiles,
          ];
        }"""
    )
    both, alone, few, three, quantiles = band
    assert (three["low"][0], three["high"][0]) == pytest.approx(mean_interval([1, 2, 6]), rel=1e-4)
    assert quantiles == pytest.approx([stdtrit(n, 0.975) for n in (1, 2, 3, 4, 9, 30)], rel=2e-3)
    assert both["mean"] == [5, 10, 15, None, None] and both["some"] == [None, None, 15, 7.5, 0] and both["share"] == 0.4
    assert both["low"][3] is None and both["low"][1] is not None
    assert alone["mean"] == [0, 0] and alone["some"] is None
    assert few["mean"] == [None] and few["some"] is None  # one of three is no mean of them


def test_a_page_that_outlives_a_server_asks_the_next_one_for_everything(page_of):
    asked = page_of[0]().evaluate(
        """async () => {
          const { Curves } = await import("/static/store.js"), asked = [], known = window.fetch;
          let server = "a", version = 10, points = [1, 2];
          window.fetch = async (path) => {
            const since = +new URL(path, location).searchParams.get("since");
            asked.push([server, since]);
            const x = since < 0 ? points : points.slice(-1);
            const curves = [{ id: "r", anew: since < 0, x, y: [], frames: null }];
            return new Response(JSON.stringify({ server, version, curves }));
          };
          const curves = new Curves("y", "frames");
          await curves.refresh();
          server = "b"; version = 30; points = [1, 2, 3, 4, 5];  // it was started anew, and others have asked since
          await curves.refresh();
          window.fetch = known;
          return [asked, curves.all.get("r").x];
        }"""
    )
    assert asked == [[["a", -1], ["b", 10], ["b", -1]], [1, 2, 3, 4, 5]]


def test_two_runs_of_a_name_and_more_lines_than_colours_are_told_apart(page_of):
    titles, marks = page_of[0]().evaluate(
        """async () => {
          const { titled } = await import("/static/store.js"), { swatch } = await import("/static/base.js");
          const runs = [{ folder: "a", name: "x" }, { folder: "b", name: "x" }, { folder: "", name: "x" }];
          return [runs.map(titled), [...Array(30).keys()].map((i) => swatch(i).style.background)];
        }"""
    )
    assert titles == ["a/x", "b/x", "x"] and len(set(marks)) == 30 and all(marks)


def test_the_huge_interval_of_two_seeds_does_not_flatten_the_curves(page_of):
    page = page_of[0]()
    seen = page.evaluate(
        """async () => {
          const { Plot } = await import("/static/charts.js"), ranges = [];
          const host = document.body.appendChild(document.createElement("div"));
          const plot = new Plot(host, { axis: "frames" }), line = { label: "a", colour: "#123456", mean: [0, 10] };
          for (const [low, high] of [[[-100, -90], [100, 110]], [[-1, 8], [1, 12]]]) {
            plot.draw([1, 2], [{ ...line, low, high }]);
            await new Promise((done) => setTimeout(done));  // it draws when all else is done
            ranges.push([plot.u.scales.y.min, plot.u.scales.y.max]);
          }
          plot.destroy();
          return ranges;
        }"""
    )
    (bottom, top), (least, most) = seen
    assert -16 < bottom <= -10 and 20 <= top < 26  # lines from 0 to 10, and as much again on either side
    assert -4 < least <= -1 and 12 <= most < 16  # a narrow one is there, whole


def test_what_is_zoomed_into_is_drawn_anew_and_two_clicks_show_all(page_of):
    page = page_of[0]()
    page.wait_for_selector("#page[data-ready] canvas")
    panel = page.locator("section.panel").first
    box = panel.locator(".u-over").bounding_box()

    def at(share):
        return box["x"] + share * box["width"], box["y"] + box["height"] / 2

    def seen():
        page.mouse.move(5, 5)
        shots = [b"", b"-"]
        while shots[-1] != shots[-2]:  # it is still being drawn
            page.wait_for_timeout(300)
            shots.append(panel.locator("canvas").screenshot())
        return shots[-1]

    whole = seen()
    page.mouse.move(*at(0.2))
    page.mouse.down()
    page.mouse.move(*at(0.5), steps=4)
    page.mouse.up()
    zoomed = seen()
    page.locator("input[type=range]").evaluate("x => { x.value = 0.9; x.dispatchEvent(new Event('input')); }")
    smooth = seen()
    page.locator("input[type=range]").evaluate("x => { x.value = 0.3; x.dispatchEvent(new Event('input')); }")
    again = seen()
    page.mouse.dblclick(*at(0.5))
    assert len({whole, zoomed, smooth}) == 3 and again == zoomed and seen() == whole
    assert not page.locator("dialog").is_visible() and page.errors == []


def test_the_page_of_a_comparison_is_live(page_of, many):
    paths = [many / name for name in ("one", "two")]
    for path in paths:
        shutil.copytree(many / "run-1", path)
        (path / "metrics.jsonl").unlink()  # it is linked to the others'
        (path / "metrics.jsonl").write_text(row(1, 5.0))
    page = page_of[0]()
    page.fill("input[type=search]", "run-1")
    page.wait_for_function("() => document.querySelectorAll('tbody tr').length > 2")
    ids, until = [], time.monotonic() + 30
    while len(ids) < 2 and time.monotonic() < until:
        page.wait_for_timeout(200)
        ids = page.evaluate(
            "async () => (await (await fetch('/api/runs?since=-1')).json()).runs"
            ".filter((run) => run.training === 5).map((run) => run.id)"
        )
    assert len(ids) == 2
    page.goto(page.url.split("#")[0] + f"#/compare/{','.join(ids)}")
    page.wait_for_selector("#page[data-ready=compare] canvas")
    score = page.locator("tr:has(td:text-is('training score')) td").nth(1)
    assert score.inner_text() == "5.00"
    with (paths[0] / "metrics.jsonl").open("a") as first, (paths[1] / "metrics.jsonl").open("a") as second:
        first.write(row(2, 7.0))
        second.write(row(2, 7.0))
    page.wait_for_selector("tr:has(td:text-is('training score')) td:nth-child(2):has-text('7.00')", timeout=8_000)
    for path in paths:
        shutil.rmtree(path)
    assert page.errors == []


def test_new_points_appear_and_a_click_asks_for_the_episode(page_of, many):
    """Within two seconds of being written; and a click on a curve looks for the episode that it shows."""
    page = page_of[0]()
    page.wait_for_selector("#page[data-ready] canvas")
    path = many / "live"
    path.mkdir()
    config = json.loads((many / "run-1/config.json").read_text())
    config["experiment"] |= {"game": "Freeway"}
    (path / "config.json").write_text(json.dumps(config))
    (path / "episodes.jsonl").write_text(
        json.dumps({"episode": 7, "frames": 19_000, "score": 5, "recording": [0, 9]}) + "\n"
    )
    page.fill("input[type=search]", "freeway")
    page.wait_for_selector("tbody tr", timeout=10_000)
    shown = page.locator("label:has-text('show') select")
    assert shown.locator("option[value='charts/new']").count() == 0  # it has not begun
    shown.select_option("eval/mean")
    (path / "metrics.jsonl").write_text(row(1) + row(2, **{"charts/new": 1.0}))
    page.wait_for_selector("tbody td:nth-child(7):has-text('20k')")
    page.wait_for_selector("option[value='charts/new']", state="attached", timeout=5_000)
    assert shown.input_value() == "eval/mean"
    shown.select_option("charts/episodic_return")
    page.wait_for_selector("section[aria-label=Freeway] canvas")
    with (path / "metrics.jsonl").open("a") as file:
        file.write(row(3))
    began = time.monotonic()
    page.wait_for_selector("tbody td:nth-child(7):has-text('30k')", timeout=8_000)
    assert time.monotonic() - began < 6  # two and a half, likewise
    page.hover("tbody input")
    page.mouse.down()
    with page.expect_response(lambda got: "/api/runs?" in got.url and '"frames":40000' in got.text()):
        with (path / "metrics.jsonl").open("a") as file:
            file.write(row(4))
    page.wait_for_timeout(700)  # nothing is replaced under a pointer that is down
    assert page.locator("tbody td:nth-child(7):has-text('30k')").count() == 1
    page.mouse.up()
    page.wait_for_selector("tbody td:nth-child(7):has-text('40k')")
    assert page.is_checked("tbody input") and page.evaluate("document.activeElement.type") == "checkbox"
    box = page.locator("section[aria-label=Freeway] .u-over").bounding_box()
    page.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    page.mouse.down()
    page.mouse.move(box["x"] + box["width"] / 2 + 2, box["y"] + box["height"] / 2)  # a hand is not quite still
    page.mouse.up()
    page.wait_for_selector("dialog video", state="attached")
    assert "Episode 7 of the training" in page.locator("dialog").inner_text()
    film = page.locator("dialog video").element_handle()
    assert film.get_attribute("src").endswith("/7.mp4")
    assert [error for error in page.errors if "409" not in error] == []
    page.keyboard.press("Escape")
    page.wait_for_selector("dialog video", state="detached")
    page.wait_for_function("film => film.networkState === 0", arg=film)  # it holds no connection
    held = []
    page.route("**/episode?*", lambda route: held.append(route))
    page.mouse.click(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    page.wait_for_selector("dialog .wait")
    page.wait_for_timeout(200)
    page.keyboard.press("Escape")
    with page.expect_response("**/episode?*"):
        held[0].continue_()
    page.wait_for_timeout(200)
    assert not page.locator("dialog").is_visible()  # what comes too late opens nothing
    shutil.rmtree(path)
    page.wait_for_selector("section[aria-label=Freeway]", state="detached", timeout=10_000)
    # What was asked for while the run went away was not found.
    assert [error for error in page.errors if "409" not in error and "404" not in error] == []
