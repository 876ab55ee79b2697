"""A real server process, and a real Chromium with a fake webcam."""

import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.browser.camera import driver_frames, write_camera

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


# Sessions live in the server itself, which starts sooner: for what has nothing to do with where they live.
QUICK = ("--processes", "0")


class RunningServer:
    """``avatar-stream serve`` on a free port."""

    def __init__(self, *flags: str, marks: bool = True, **environment: str) -> None:
        command = [sys.executable, "-m", "avatar_stream.cli", "serve", "--port", "0", *flags]
        command += ["--frame-marks"] if marks else []
        command += [] if "--library" in flags else ["--library", "none"]
        began = time.monotonic()
        self.process = subprocess.Popen(
            command,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=os.environ | {"PYTHONUNBUFFERED": "1"} | environment,
        )
        self.errors: list[str] = []
        threading.Thread(target=self._read_errors, daemon=True).start()
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        self.ready_after = time.monotonic() - began
        found = re.search(r"http://localhost:(\d+)", line)
        if not found:
            self.stop()
            raise AssertionError(f"the server did not start: {line} {''.join(self.errors)}")
        self.port = int(found.group(1))
        self.url = f"http://localhost:{self.port}/"

    def memory_mb(self) -> float:
        """Memory of the server and its processes; what they share counts once."""
        server = psutil.Process(self.process.pid)
        return sum(one.memory_full_info().pss for one in (server, *server.children(recursive=True))) / 1e6

    def stop(self) -> None:
        self.process.send_signal(signal.SIGINT)
        try:
            self.process.wait(1)
        except subprocess.TimeoutExpired:
            self.process.send_signal(signal.SIGINT)  # without waiting for sessions whose browser has gone
        try:
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            self.process.kill()

    def _read_errors(self) -> None:
        assert self.process.stderr is not None
        for line in self.process.stderr:
            self.errors.append(line)


@pytest.fixture(scope="session")
def camera_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("camera") / "driver.mjpeg"
    write_camera(path, driver_frames())
    return path


@pytest.fixture(scope="module")
def server() -> Iterator[RunningServer]:
    running = RunningServer("--sessions", "2")
    yield running
    running.stop()
    assert not [line for line in running.errors if "Traceback" in line], "".join(running.errors)


@pytest.fixture(scope="session")
def playwright_driver() -> Iterator[Any]:
    from playwright.sync_api import sync_playwright

    with sync_playwright() as driver:
        yield driver


def chromium(driver: Any, *flags: str) -> Any:
    """Launch Debian's Chromium."""
    path = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    assert path, "no Chromium found: apt-get install -y chromium"
    return driver.chromium.launch(executable_path=path, args=[*CHROMIUM_FLAGS, *flags])


@pytest.fixture(scope="module")
def browser(playwright_driver: Any, camera_file: Path) -> Iterator[Any]:
    running = chromium(playwright_driver, *FAKE_CAMERA, f"--use-file-for-fake-video-capture={camera_file}")
    yield running
    running.close()
