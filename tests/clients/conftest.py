"""A real server, the sample clip as pictures for cameras, and a viewer that counts what comes out."""

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
"""Different pictures that make a stream."""


@pytest.fixture(scope="session")
def server() -> Iterator[RunningServer]:
    """One for all clients, each with a session of its own."""
    with RunningServer("--engine", "warp", "--processes", "0", "--sessions", "8", marks=True) as it:
        yield it
        assert not [line for line in it.stderr_lines if "Traceback" in line], it.output


@pytest.fixture(scope="session")
def camera_pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the sample clip as ``0000.jpg``, …, each with its number on it."""
    folder = tmp_path_factory.mktemp("camera")
    for number, frame in enumerate(driver_frames()[:120]):
        marked = frame.copy()
        draw_mark(marked, number)
        cv2.imwrite(str(folder / f"{number:04}.jpg"), cv2.cvtColor(marked, cv2.COLOR_RGB2BGR))
    return folder


@contextlib.contextmanager
def running_program(*command: str, **environment: str) -> Iterator[subprocess.Popen[str]]:
    """A program in a process group of its own, which ends with the ``with``."""
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
    """The line of the program's output in which ``words`` are."""
    said, timer = [], threading.Timer(TEST_TIMEOUT, process.kill)
    timer.start()
    try:
        assert process.stdout is not None
        for line in process.stdout:
            said.append(line)
            if words in line:
                return line
    finally:
        timer.cancel()
    raise AssertionError(f"it ended without {words!r}: {''.join(said)}")


def finish(process: subprocess.Popen[str]) -> str:
    """Close the program's input, which asks it to end, and return all that it has said."""
    said, _ = process.communicate(timeout=TEST_TIMEOUT)
    assert process.returncode == 0, said
    return said


async def connect_viewer(server: RunningServer, session: str, process: subprocess.Popen[str] | None = None) -> Peer:
    """A viewer of ``session``, made by aiortc, as soon as somebody publishes to it; ``process`` is who should."""
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
    """Wait until a viewer of ``session`` has seen the avatar follow enough pictures of the camera, each numbered."""
    viewer = await connect_viewer(server, session, process)
    try:
        seen: set[int] = set()
        while len(seen) < MIN_PICTURES:
            seen.update((await viewer.avatars(1))[1])
    finally:
        await viewer.close()


async def wait_until_ended(server: RunningServer, session: str) -> None:
    """Wait until ``session`` has ended, as it does at once when its publisher says so."""
    async with http(server.url) as client:
        while session in {row["id"] for row in (await client.get("/status", headers=ACCEPT_JSON)).json()["sessions"]}:
            await asyncio.sleep(0.2)


def run_in_thread(work: Coroutine[Any, Any, None]) -> None:
    """Run a coroutine where Playwright's own event loop runs already."""
    with ThreadPoolExecutor(1) as pool:
        pool.submit(asyncio.run, work).result()
