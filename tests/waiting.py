"""Every wait of the tests. There is one limit, ``TEST_TIMEOUT``: only what fails ever waits that long.

What has to happen is waited for (``until``), never slept for; no test asserts how long it took. A machine that needs
longer still sets ``AVATAR_TEST_PATIENCE`` to a factor, such as 3.
"""

import asyncio
import os
import time
from collections.abc import Awaitable, Callable
from typing import Any, Final, TypeVar

import httpx

T = TypeVar("T")

TEST_TIMEOUT: Final = 300.0 * float(os.environ.get("AVATAR_TEST_PATIENCE", "1"))  # seconds
POLL_INTERVAL: Final = 0.02  # seconds between looks at a condition

# Timers of a server that end what is slow. Where a test is not about one of them, a slow machine must not trip it.
_TIMERS: Final = ("connect", "control", "header", "body")
SERVER_TIMERS: Final[dict[str, Any]] = {f"{name}_timeout": min(TEST_TIMEOUT, 600.0) for name in _TIMERS} | {
    "silence_timeout": TEST_TIMEOUT,
    "watchdog": min(TEST_TIMEOUT, 600.0),
}


async def until(condition: Callable[[], object], what: str) -> None:
    """Return as soon as ``condition()`` is true; ``what`` is said where it does not become so."""
    end = time.monotonic() + TEST_TIMEOUT
    while not condition():
        if time.monotonic() > end:
            raise AssertionError(f"in {TEST_TIMEOUT:.0f} s it did not happen that {what}")
        await asyncio.sleep(POLL_INTERVAL)


def wait_until(condition: Callable[[], object], what: str) -> None:
    """The same for tests without an event loop."""
    end = time.monotonic() + TEST_TIMEOUT
    while not condition():
        if time.monotonic() > end:
            raise AssertionError(f"in {TEST_TIMEOUT:.0f} s it did not happen that {what}")
        time.sleep(POLL_INTERVAL)


async def within(what: Awaitable[T]) -> T:
    """What it returns; raises :class:`TimeoutError` when it takes longer than ``TEST_TIMEOUT``."""
    return await asyncio.wait_for(what, TEST_TIMEOUT)


def http(url: str) -> httpx.AsyncClient:
    """A client of the server at ``url`` that waits for its answers."""
    return httpx.AsyncClient(base_url=url, timeout=TEST_TIMEOUT)


def server_flags(given: tuple[str, ...] = ()) -> list[str]:
    """Flags of ``avatar-stream serve`` that set ``SERVER_TIMERS``, but for those in ``given``."""
    flags = {"--" + name.replace("_", "-"): f"{seconds:g}" for name, seconds in SERVER_TIMERS.items()}
    return [word for flag, seconds in flags.items() if flag not in given for word in (flag, seconds)]
