"""Periodic work of the server: warm up, measure the machine's capacity, check that engines and processes answer."""

import asyncio
import logging
import time
from typing import TYPE_CHECKING, Final

from avatar_stream.errors import EngineUnavailable

if TYPE_CHECKING:
    from avatar_stream.server.http.session_handlers import Server

log = logging.getLogger(__name__)

CHECK_PERIOD: Final = 0.5  # seconds
SETTLING_TIME: Final = 10.0  # seconds after the start until background loading is over


async def run_housekeeping(server: "Server") -> None:
    """Warm up, then check periodically until cancelled."""
    # Start these now: the first visitor should not wait for a process, the default portrait or the first network run.
    starting = asyncio.create_task(server.host.start())
    try:
        await asyncio.to_thread(server.library.get, server.library.default)
    except Exception:
        log.exception("the default portrait cannot be prepared")
    try:
        await starting
    except EngineUnavailable as error:
        server.failure = error
    except Exception:
        log.exception("no session process can be started: if this persists, serve with --processes 0")
    server.warm.set()
    measured = ""
    while True:
        due = time.monotonic() + CHECK_PERIOD
        await asyncio.sleep(CHECK_PERIOD)
        server.metrics.loop_checked(time.monotonic() - due, len(asyncio.all_tasks()))
        server.host.watch()
        # A configured limit needs no measurement. Before settling, background loading would distort the result.
        engine, settled = server.host.engine, time.monotonic() - server.began > SETTLING_TIME
        if engine != measured and settled and not server.settings.sessions and not server.sessions.by_id:
            measured = engine
            await _measure(server)


async def _measure(server: "Server") -> None:
    try:
        load = await server.host.measure(server.library.default)
    except Exception:
        log.exception("the capacity could not be measured: the limit is one session per processor")
        return
    usable = server.host.processors
    held = server.sessions.measured = load.sessions(server.settings.fps, usable)
    log.info(
        "capacity: %d sessions (%.1f ms of processor time per frame, %g processors)",
        held,
        load.processor * 1e3,
        usable,
    )
