"""A real browser for the tests of pages."""

import contextlib
import shutil
import socket
import subprocess
import sys
import time

import pytest

NAMES = ("chromium", "chromium-browser", "google-chrome")


@contextlib.contextmanager
def chromium():
    """A headless Chromium, through Playwright; skips where there is none, and says what installs it."""
    path = next((found for name in NAMES if (found := shutil.which(name))), None)
    if path is None:
        pytest.skip("no Chromium here: apt-get install chromium (or brew install chromium)")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=["--no-sandbox", "--disable-dev-shm-usage"])
        yield browser
        browser.close()


@contextlib.contextmanager
def served(*args, limit=30.0):
    """A command of the suite that serves a page, as a process: yields (address, process)."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    process = subprocess.Popen([sys.executable, "-m", "experiments.cli", *args, "--port", str(port)])
    until = time.monotonic() + limit
    try:
        while time.monotonic() < until:
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", port)) == 0:
                    break
            assert process.poll() is None, "it ended at once"
            time.sleep(0.05)
        else:
            raise AssertionError(f"no page after {limit} s")
        yield f"http://localhost:{port}", process
    finally:
        process.terminate()
        process.wait(10)
