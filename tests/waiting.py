"""Waiting in tests. All waits share one limit, ``TEST_TIMEOUT``, which only failures reach.

A test waits for a condition (``until``) instead of sleeping, and asserts no durations. On a machine that needs more
time, set ``AVATAR_TEST_PATIENCE`` to a factor, such as 3.
"""

import asyncio
import os
import time
from collections.abc import Awaitable, Callable
from typing import Any, Final, TypeVar

import httpx

T = TypeVar("T")

TEST_TIMEOUT: Final = 300.0 * float(os.environ.get("AVATAR_TEST_PATIENCE", "1"))  # seconds
POLL_INTERVAL: Final = 0.02  # seconds

# A server's timeouts for slow clients. A slow machine must not reach them, unless a test is about one of them.
_TIMERS: Final = ("connect", "control", "header", "body")
SERVER_TIMERS: Final[dict[str, Any]] = {f"{name}_timeout": min(TEST_TIMEOUT, 600.0) for name in _TIMERS} | {
    "silence_timeout": TEST_TIMEOUT,
    "watchdog": min(TEST_TIMEOUT, 600.0),
}


async def until(condition: Callable[[], object], what: str) -> None:
    """Return as soon as ``condition()`` is true; raises AssertionError with ``what`` after ``TEST_TIMEOUT``."""
    end = time.monotonic() + TEST_TIMEOUT
    while not condition():
        if time.monotonic() > end:
            raise AssertionError(f"in {TEST_TIMEOUT:.0f} s it did not happen that {what}")
        await asyncio.sleep(POLL_INTERVAL)


def wait_until(condition: Callable[[], object], what: str) -> None:
    """As :func:`until`, without an event loop."""
    end = time.monotonic() + TEST_TIMEOUT
    while not condition():
        if time.monotonic() > end:
            raise AssertionError(f"in {TEST_TIMEOUT:.0f} s it did not happen that {what}")
        time.sleep(POLL_INTERVAL)


async def within(what: Awaitable[T]) -> T:
    """Await ``what``; raises :class:`TimeoutError` after ``TEST_TIMEOUT``."""
    return await asyncio.wait_for(what, TEST_TIMEOUT)


def http(url: str) -> httpx.AsyncClient:
    """An HTTP client of the server at ``url`` with the tests' timeout."""
    return httpx.AsyncClient(base_url=url, timeout=TEST_TIMEOUT)


def server_flags(given: tuple[str, ...] = ()) -> list[str]:
    """Flags of ``avatar-stream serve`` that set ``SERVER_TIMERS``, except for flags in ``given``."""
    flags = {"--" + name.replace("_", "-"): f"{seconds:g}" for name, seconds in SERVER_TIMERS.items()}
    return [word for flag, seconds in flags.items() if flag not in given for word in (flag, seconds)]
