"""A server process, the sample clip as JPEGs for fake cameras, and a viewer that counts pictures."""

import asyncio
import contextlib
import os
import signal
import subprocess
import threading
import time
from collections.abc import Coroutine, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import cv2
import pytest

from avatar_stream.media.marks import draw_mark
from tests.browser.camera import driver_frames
from tests.serving import RunningServer
from tests.waiting import TEST_TIMEOUT, http
from tests.webrtc.peers import Peer

ACCEPT_JSON = {"Accept": "application/json"}
MIN_PICTURES = 12
"""A stream works if so many different pictures came."""


@pytest.fixture(scope="session")
def server() -> Iterator[RunningServer]:
    """One server for all clients; each client uses its own session."""
    with RunningServer("--engine", "warp", "--processes", "0", "--sessions", "8", marks=True) as it:
        yield it
        assert not [line for line in it.stderr_lines if "Traceback" in line], it.output


@pytest.fixture(scope="session")
def camera_pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the sample clip as ``0000.jpg``, …, with each picture's number drawn in."""
    folder = tmp_path_factory.mktemp("camera")
    for number, frame in enumerate(driver_frames()[:120]):
        marked = frame.copy()
        draw_mark(marked, number)
        cv2.imwrite(str(folder / f"{number:04}.jpg"), cv2.cvtColor(marked, cv2.COLOR_RGB2BGR))
    return folder


@contextlib.contextmanager
def running_program(*command: str, **environment: str) -> Iterator[subprocess.Popen[str]]:
    """Run a program in its own process group, which is killed at the end of the ``with``."""
    process = subprocess.Popen(
        command,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env=os.environ | environment,
        start_new_session=True,
    )
    try:
        yield process
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate()


def read_until(process: subprocess.Popen[str], words: str) -> str:
    """Read the program's output up to the line that contains ``words``; returns that line."""
    lines, timer = [], threading.Timer(TEST_TIMEOUT, process.kill)
    timer.start()
    try:
        assert process.stdout is not None
        for line in process.stdout:
            lines.append(line)
            if words in line:
                return line
    finally:
        timer.cancel()
    raise AssertionError(f"the program ended without {words!r}: {''.join(lines)}")


def finish(process: subprocess.Popen[str]) -> str:
    """Close the program's input, at which it ends, and return its output."""
    printed, _ = process.communicate(timeout=TEST_TIMEOUT)
    assert process.returncode == 0, printed
    return printed


async def connect_viewer(server: RunningServer, session: str, process: subprocess.Popen[str] | None = None) -> Peer:
    """A viewer of ``session`` (aiortc), as soon as ``process`` publishes to it."""
    end = time.monotonic() + TEST_TIMEOUT
    while True:
        viewer = Peer(server.url.rstrip("/"), "view")
        response = await viewer.connect(path=f"/whep/{session}")
        if response.status_code == 201:
            return viewer
        await viewer.close()
        assert response.status_code == 404, response.text
        if process is not None and process.poll() is not None:
            raise AssertionError(f"the client has ended: {process.communicate()[0]}")
        assert time.monotonic() < end, server.output
        await asyncio.sleep(0.2)


async def count_pictures(server: RunningServer, session: str, process: subprocess.Popen[str] | None = None) -> None:
    """Wait until a viewer of ``session`` has read enough numbers of camera pictures from the avatar."""
    viewer = await connect_viewer(server, session, process)
    try:
        seen: set[int] = set()
        while len(seen) < MIN_PICTURES:
            seen.update((await viewer.avatars(1))[1])
    finally:
        await viewer.close()


async def wait_until_ended(server: RunningServer, session: str) -> None:
    """Wait until ``session`` has ended."""
    async with http(server.url) as client:
        while session in {row["id"] for row in (await client.get("/status", headers=ACCEPT_JSON)).json()["sessions"]}:
            await asyncio.sleep(0.2)


def run_in_thread(work: Coroutine[Any, Any, None]) -> None:
    """Run a coroutine in another thread: Playwright's event loop already runs in this one."""
    with ThreadPoolExecutor(1) as pool:
        pool.submit(asyncio.run, work).result()
