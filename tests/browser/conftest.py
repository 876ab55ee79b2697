"""A server process, and Chromium with a fake webcam."""

import contextlib
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.browser.camera import driver_frames, write_camera
from tests.serving import RunningServer
from tests.waiting import TEST_TIMEOUT

CHROMIUM_FLAGS = (
    "--no-sandbox",
    "--autoplay-policy=no-user-gesture-required",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
)
FAKE_CAMERA = ("--use-fake-ui-for-media-stream", "--use-fake-device-for-media-stream")


# Sessions run in the server's own process, which starts faster; for tests that do not depend on session processes.
IN_SERVER_PROCESS = ("--processes", "0")


# The page has its own timeouts, which a slow machine must not reach.
LONG_TIMEOUTS_JS = f"""
const plain = window.setTimeout;
window.setTimeout = (work, ms, ...more) => plain(work, ms >= 20000 ? {1000 * TEST_TIMEOUT} : ms, ...more);
"""
_contexts: list[Any] = []


@pytest.fixture(scope="session")
def camera_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("camera") / "driver.mjpeg"
    write_camera(path, driver_frames())
    return path


@pytest.fixture(scope="module")
def server() -> Iterator[RunningServer]:
    with RunningServer("--sessions", "2", marks=True) as running:
        yield running
    assert not [line for line in running.stderr_lines if "Traceback" in line], "".join(running.stderr_lines)


@pytest.fixture(scope="session")
def playwright_driver() -> Iterator[Any]:
    from playwright.sync_api import sync_playwright

    with sync_playwright() as driver:
        yield driver


@contextlib.contextmanager
def chromium(driver: Any, *flags: str) -> Iterator[Any]:
    """Run the system's Chromium with ``flags``."""
    path = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    assert path, "no Chromium found: apt-get install -y chromium"
    arguments = [*CHROMIUM_FLAGS, *flags]
    running = driver.chromium.launch(executable_path=path, args=arguments, timeout=1000 * TEST_TIMEOUT)
    try:
        yield running
    finally:
        running.close()


def new_context(browser: Any, **options: Any) -> Any:
    """A browser context with the tests' timeout, which is closed at the end of the test."""
    context = browser.new_context(**options)
    context.set_default_timeout(1000 * TEST_TIMEOUT)
    context.add_init_script(LONG_TIMEOUTS_JS)
    _contexts.append(context)
    return context


@pytest.fixture(autouse=True)
def _close_contexts() -> Iterator[None]:
    yield
    for context in _contexts:
        with contextlib.suppress(Exception):  # its browser has been closed
            context.close()
    _contexts.clear()


def wait_until_on(page: Any, condition: Callable[[], object], what: str) -> None:
    """As ``wait_until``, while Playwright handles the page's events."""
    end = time.monotonic() + TEST_TIMEOUT
    while not condition():
        if time.monotonic() > end:
            raise AssertionError(f"in {TEST_TIMEOUT:.0f} s it did not happen that {what}")
        page.wait_for_timeout(20)


def wait_until_true(page: Any, script: str, what: str) -> None:
    """Wait until ``script`` is true in the page, whose CSP blocks Playwright's ``wait_for_function``."""
    wait_until_on(page, lambda: page.evaluate(script), what)


@pytest.fixture(scope="module")
def browser(playwright_driver: Any, camera_file: Path) -> Iterator[Any]:
    video = f"--use-file-for-fake-video-capture={camera_file}"
    with chromium(playwright_driver, *FAKE_CAMERA, video) as running:
        yield running
