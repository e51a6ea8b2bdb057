"""A real browser for tests of pages: whichever Chromium this machine has."""

import shutil
from contextlib import contextmanager
from pathlib import Path

import pytest

MISSING = "no Chromium: install it with `apt-get install chromium`, or `playwright install chromium`"


@contextmanager
def chromium():
    """A headless Chromium; without one the test is skipped, and says how to get it."""
    from playwright.sync_api import sync_playwright

    names = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
    path = next(filter(None, map(shutil.which, names)), None)
    with sync_playwright() as playwright:
        if path is None and not Path(playwright.chromium.executable_path).exists():
            pytest.skip(MISSING)
        browser = playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])
        yield browser
        browser.close()
