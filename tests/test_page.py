"""The page of highscore watch, in a real browser."""

import threading
import time
from contextlib import contextmanager
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
import uvicorn

from envs.protocols import MACHADO, MINATAR
from experiments.presets import PRESETS
from experiments.viewer.server import Hub, application
from experiments.viewer.show import Show, Wishes
from experiments.viewer.source import find_source
from experiments.web import address, listen
from tests.browser import chromium
from tests.watched import CPU, make_run


@contextmanager
def served(browser, run, protocol):
    """A show of a run that is served."""
    hub = Hub()
    show = Show(find_source(run.path), protocol, CPU, "agent", [], Wishes(epsilon=0.9), hub.publish)
    with listen(18_010, print) as listener:
        server = uvicorn.Server(uvicorn.Config(application(hub, show), log_level="warning"))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
        thread.start()
        yield SimpleNamespace(browser=browser, show=show, hub=hub, address=address(listener))
        server.should_exit = True
        thread.join(timeout=20)
    for lane in show.lanes:
        lane.player.close()


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """A show that is served, and a browser."""
    torch.set_num_threads(1)
    with chromium() as browser, served(browser, make_run(tmp_path_factory.mktemp("runs")), MACHADO) as found:
        yield found


@pytest.fixture(scope="module")
def page(site):
    page = site.browser.new_page(viewport={"width": 1200, "height": 900})
    page.complaints = []
    page.on("console", lambda message: page.complaints.append(message.text) if message.type == "error" else None)
    page.on("pageerror", lambda error: page.complaints.append(str(error)))
    page.goto(site.address)
    page.wait_for_selector(".bar")
    return page


def pixels(page, selector=".game"):
    return page.evaluate("selector => document.querySelector(selector).toDataURL()", selector)


def until(true, seconds=20):
    """Waits until something holds."""
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, "it did not happen"
        time.sleep(0.03)


def paused(page, site, is_so):
    if site.show.wishes.paused is not is_so:
        page.click("#pause")
        until(lambda: site.show.wishes.paused is is_so)
    page.wait_for_function(
        "text => document.querySelector('#pause').textContent === text", arg="Play" if is_so else "Pause"
    )


def test_the_game_moves_until_it_is_paused(page, site):
    paused(page, site, False)
    before = pixels(page)
    until(lambda: pixels(page) != before)
    paused(page, site, True)
    page.wait_for_timeout(200)
    cursor, still = site.show.cursor, pixels(page)
    page.wait_for_timeout(400)
    assert site.show.cursor == cursor and pixels(page) == still
    page.click("#step")
    until(lambda: site.show.cursor == cursor + 1)
    assert page.evaluate("() => document.querySelector('.game').width") == 160


def hide(page, is_so):
    """As a browser tells a page that another one is in front of it; one without a window tells none."""
    page.evaluate(
        """is_so => { Object.defineProperty(document, "hidden", {value: is_so, configurable: true});
          document.dispatchEvent(new Event("visibilitychange")); }""",
        is_so,
    )


def test_nothing_is_played_for_pages_that_nobody_sees(page, site):
    paused(page, site, False)
    other = site.browser.new_page()
    other.goto(site.address)
    other.wait_for_selector(".bar")
    hide(page, True)
    page.wait_for_timeout(300)
    cursor = site.show.cursor
    until(lambda: site.show.cursor > cursor)  # the other one is looked at
    hide(other, True)
    until(lambda: site.show.alone)
    page.wait_for_timeout(300)
    cursor = site.show.cursor
    page.wait_for_timeout(400)
    assert site.show.cursor == cursor and not site.show.wishes.paused
    hide(page, False)
    until(lambda: site.show.cursor > cursor)
    other.close()


def test_the_bars_are_the_numbers_that_were_sent(page, site):
    paused(page, site, True)
    cursor = site.show.cursor + 1
    page.click("#step")
    until(lambda: site.hub.newest.header["cursor"] == cursor)
    first = site.hub.newest.header["lanes"][0]
    page.wait_for_function("step => document.querySelector('#clock').textContent.endsWith(`step ${step}`)", arg=cursor)
    bars = page.evaluate(
        """() => [...document.querySelectorAll('.bar')].map(bar => {
          const wide = name => bar.querySelector(name).getBoundingClientRect().width;
          return [bar.querySelector('.name').textContent, Number(bar.dataset.value), bar.classList.contains('chosen'),
            wide('.fill') / wide('.track')]; })"""
    )
    assert [bar[0] for bar in bars] == ["NOOP", "FIRE", "RIGHT", "LEFT"]
    assert [bar[1] for bar in bars] == first["values"]
    assert [bar[2] for bar in bars] == [i == first["action"] for i in range(4)]
    by_value, by_width = (sorted(range(4), key=lambda i: bars[i][k]) for k in (1, 3))
    assert by_value == by_width and 0 < bars[by_width[0]][3] < bars[by_width[-1]][3] <= 1.001
    longest, shortest = bars[by_width[-1]], bars[by_width[0]]
    middle = bars[by_width[1]]  # lengths are linear in the values
    share = (middle[1] - shortest[1]) / (longest[1] - shortest[1])
    assert (middle[3] - shortest[3]) / (longest[3] - shortest[3]) == pytest.approx(share, abs=0.02)
    assert page.inner_text(".lane .score") == f"{first['score']:,.0f}"
    number = lambda name: float(page.inner_text(f"#{name}-now").split()[-1].replace("−", "-"))
    assert number("value") == pytest.approx(first["value"], abs=0.0006)
    assert number("doubt") == pytest.approx(first["doubt"], abs=0.0006) and "gap" in page.inner_text("#doubt-now")


@pytest.mark.parametrize(
    "entropy, most, share", [(1.386, 1.386, 1), (0.693, 1.386, 0.5), (0, 1.386, 0), (0.02, None, 1)]
)
def test_doubt_is_drawn_from_none_to_the_most_that_it_can_be(page, entropy, most, share):
    """An entropy to that of a uniform policy, though it never moved; a gap to the widest yet."""
    rows = page.evaluate(
        """async ([entropy, most]) => {
          const { timeline } = await import("/draw.js"), canvas = document.createElement("canvas");
          canvas.style.cssText = "width: 200px; height: 100px; position: fixed; top: 0";
          document.body.append(canvas);
          const many = (x) => Array(50).fill(x);
          document.documentElement.style.setProperty("--doubt", "rgb(0, 255, 0)");
          timeline(canvas, { value: many(1), reward: many(0), doubt: many(entropy) }, 0, 50, most);
          document.documentElement.style.removeProperty("--doubt");
          const column = canvas.getContext("2d").getImageData(100, 0, 1, 100).data;
          canvas.remove();
          return [...Array(100).keys()].filter((y) => column[4 * y + 1] > column[4 * y + 2] + 80); }""",
        [entropy, most],
    )
    top, bottom = 78, 97
    assert sum(rows) / len(rows) + 0.5 == pytest.approx(bottom - share * (bottom - top), abs=1)


def test_keys_reach_the_game_and_letting_go_gives_it_back(page, site):
    paused(page, site, False)
    page.keyboard.down("ArrowLeft")
    until(lambda: site.show.lanes[0].shown[-1].facts["taken"])
    assert site.show.lanes[0].player.screen.action_names[site.show.lanes[0].shown[-1].facts["played"]] == "LEFT"
    page.wait_for_selector(".who.you")
    page.keyboard.up("ArrowLeft")
    until(lambda: not site.show.lanes[0].shown[-1].facts["taken"])
    page.hover(".bar >> nth=2")  # holding an action's name plays it, too
    page.mouse.down()
    until(lambda: site.show.lanes[0].shown[-1].facts["taken"])
    assert site.show.lanes[0].shown[-1].facts["played"] == 2
    page.mouse.up()
    until(lambda: not site.show.wishes.keys)
    page.focus(".bar >> nth=1")  # so do its number, and Enter on its name
    for key, action in (("3", 3), ("Enter", 1)):
        page.keyboard.down(key)
        until(lambda action=action: site.show.lanes[0].shown[-1].facts["played"] == action)
        assert site.show.wishes.keys == [str(action)]
        page.keyboard.up(key)
        until(lambda: not site.show.wishes.keys)


def test_settings_without_restarting(page, site):
    page.select_option("#checkpoint", "1000")
    until(lambda: site.show.wishes.checkpoint == "1000")
    page.fill("#seed", "12")
    page.keyboard.press("Enter")
    until(lambda: site.show.lanes[0].player.seed == 12)
    page.select_option("#speed", "0.25")
    until(lambda: site.show.wishes.speed == 0.25)
    page.select_option("#speed", "1")
    page.fill("#epsilon", "7")
    page.keyboard.press("Enter")
    page.wait_for_function("() => document.querySelector('#note').textContent.includes('probability')")
    site.show.kind = "episode"  # somebody else may have played it
    site.show.commands.put({"do": "pause", "value": True})
    page.wait_for_function(
        "() => document.querySelector('#unit').textContent.endsWith(', as checkpoint 1,000 sees it')"
    )
    site.show.kind = "agent"
    words = page.evaluate(
        """async () => { const { score } = await import("/draw.js");
          return [7, -0, 1234567, -0.1, 4.4, 0.1 + 0.2 - 0.3, -1e-9, 9.999, 1234.5678, -21].map(score); }"""
    )
    assert words == ["7", "0", "1,234,567", "-0.1", "4.4", "0", "0", "10", "1,235", "-21"]
    assert site.show.wishes.epsilon == 0.9


def test_what_it_looks_at_sees_remembers_and_expects(page, site):
    paused(page, site, True)
    page.click("[data-saliency=gradient]")
    page.wait_for_function(
        "() => !document.querySelector('.glow').hidden && document.querySelector('.glow').width === 84"
    )
    gradient = pixels(page, ".glow")
    page.click("[data-saliency=perturbation]")
    until(lambda: pixels(page, ".glow") != gradient)
    page.click("[data-saliency=off]")
    page.wait_for_selector(".glow", state="hidden")
    page.click("#features")
    page.wait_for_selector("#maps", state="visible")
    for canvas in ("#input", "#maps", "#spread", "#memory-line", "#timeline"):
        empty = "selector => { const c = document.querySelector(selector), d = document.createElement('canvas');"
        empty += "d.width = c.width; d.height = c.height; return c.width > 0 && c.toDataURL() !== d.toDataURL(); }"
        assert page.evaluate(empty, canvas), canvas


def test_the_time_line_goes_back(page, site):
    paused(page, site, False)
    until(lambda: site.show.cursor > 8)
    paused(page, site, True)
    box = page.locator("#timeline").bounding_box()
    page.mouse.click(box["x"] + 2, box["y"] + 20)
    until(lambda: site.show.cursor == 0)
    page.wait_for_function("() => document.querySelector('#clock').textContent.startsWith('0:00')")
    assert len(site.show.lanes[0]) > 8


def test_a_person_against_the_agent(page, site):
    page.click("#duel")
    page.wait_for_function("() => document.querySelectorAll('.game').length === 2")
    assert "begin" in page.inner_text("#note")
    page.keyboard.press("Space")
    until(lambda: site.show.cursor > 2)
    assert site.show.lanes[1].shown[1].facts["taken"]
    page.wait_for_function("() => document.querySelector('#note').innerText.includes('you 0 : 0 agent')")
    page.click("#duel")
    page.wait_for_function("() => document.querySelectorAll('.game').length === 1")


def test_viewers_come_and_go_and_other_sites_stay_out(page, site):
    others = [site.browser.new_page() for _ in range(2)]
    for other in others:
        other.goto(site.address)
        other.wait_for_selector(".bar")
    until(lambda: len(site.hub.viewers) == 3)
    others[0].keyboard.down("ArrowRight")
    until(lambda: site.show.wishes.keys == ["ArrowRight"])
    for other in others:
        other.close()  # in the middle of it: a closed page holds no key
    until(lambda: len(site.hub.viewers) == 1 and site.show.wishes.keys == [])
    paused(page, site, False)
    cursor = site.show.cursor
    until(lambda: site.show.cursor != cursor)
    foreign = site.browser.new_page()
    foreign.goto("data:text/html,<p>another site</p>")
    closed = """address => new Promise(answer => { const live = new WebSocket(address);
      live.onopen = () => answer('open'); live.onclose = () => answer('closed'); })"""
    assert foreign.evaluate(closed, site.address.replace("http", "ws") + "/live") == "closed"
    foreign.close()


def test_a_show_that_could_not_begin_tells_why(site, monkeypatch):
    monkeypatch.setattr(site.hub, "failure", RuntimeError("CUDA out of memory."))
    late = site.browser.new_page()
    late.goto(site.address)
    late.wait_for_function("() => document.querySelector('#note').textContent === 'CUDA out of memory.'")
    late.wait_for_timeout(2_000)  # it does not ask again: the answer would be that nobody is there
    assert late.inner_text("#note") == "CUDA out of memory."
    late.close()


def test_a_phone_needs_no_sideways_scrolling(site):
    phone = site.browser.new_page(viewport={"width": 360, "height": 740})
    phone.goto(site.address)
    phone.wait_for_selector(".bar")
    assert phone.evaluate("() => document.documentElement.scrollWidth") <= 360
    phone.close()


def test_nothing_was_complained_about(page):
    assert page.complaints == []


def test_what_a_search_imagines_is_said(site, tmp_path):
    x = PRESETS["muzero-minatar"]
    planner = replace(x, algorithm=replace(x.algorithm, simulations=4), network=replace(x.network, hidden=8))
    with served(site.browser, make_run(tmp_path, experiment=planner), MINATAR) as other:
        page = other.browser.new_page()
        page.goto(other.address)
        paused(page, other, True)
        while not (plan := other.hub.newest.header["lanes"][0]["plan"]):  # a game that is over has none
            header = other.hub.newest.header
            page.click("#step")
            until(lambda: other.hub.newest.header is not header)
        page.wait_for_function(
            "text => document.querySelector('#plan').innerText === text", arg="plans " + " → ".join(plan)
        )
        assert plan[0] == page.inner_text(".chosen .name")
        page.close()
    page = site.browser.new_page()
    page.goto(site.address)
    page.wait_for_selector(".bar")
    assert not page.is_visible("#plan")  # who does not plan says nothing of it
    page.close()
