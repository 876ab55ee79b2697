"""Periodic work of the server: warm up, measure the machine's capacity, check that engines and processes answer."""

import asyncio
import logging
import time
from typing import TYPE_CHECKING, Final

from avatar_stream.server.session.capacity import cores, measure

if TYPE_CHECKING:
    from avatar_stream.server.http.session_handlers import Server

log = logging.getLogger(__name__)

CHECK_PERIOD: Final = 0.5  # seconds
SETTLING_TIME: Final = 10.0  # seconds after the start until background loading is over


async def run_housekeeping(server: "Server") -> None:
    """Warm up, then check periodically until cancelled."""
    # Start these now: the first visitor should not wait for a process, the default portrait or the first network run.
    starting = asyncio.create_task(server.processes.start()) if server.processes is not None else None
    try:
        await asyncio.to_thread(server.library.get, server.library.default)
    except Exception:
        log.exception("the default portrait cannot be prepared")
    try:
        if starting is not None:
            await starting
    except Exception:
        log.exception("no session process can be started: if this persists, serve with --processes 0")
    server.warm.set()
    measured, runtime = "", server.networks.runtime if server.networks else None
    while True:
        due = time.monotonic() + CHECK_PERIOD
        await asyncio.sleep(CHECK_PERIOD)
        server.metrics.loop_checked(time.monotonic() - due, len(asyncio.all_tasks()))
        networks, sessions = server.networks, server.sessions
        if networks is not None:
            networks.run_housekeeping(server.settings.watchdog)
        if server.processes is not None:
            server.processes.watch()
            if networks is not None and networks.runtime and networks.runtime != runtime:
                runtime = networks.runtime
                server.processes.switch(runtime)
        name = networks.name if networks else "warp"
        # Loading more networks (see upgrade) takes processor time, which would distort the measurement.
        settled = networks is None or len(networks.tickers) > 1 or time.monotonic() - server.began > SETTLING_TIME
        if name != measured and settled and not sessions.by_id:
            measured = name
            await _measure(server)


async def _measure(server: "Server") -> None:
    try:
        portrait = await asyncio.to_thread(server.library.get, server.library.default)
        load = await asyncio.to_thread(measure, server.networks, portrait, server.settings.fps)
    except Exception:
        log.exception("the capacity could not be measured: the limit is one session per processor")
        return
    # Python runs one thread of a process at a time: more than two processors do not help a single process.
    usable = cores() if server.processes is not None else min(cores(), 2)
    held = server.sessions.measured = load.sessions(server.settings.fps, usable)
    log.info(
        "capacity: %d sessions (%.1f ms of processor time per frame, %g processors)",
        held,
        load.processor * 1e3,
        usable,
    )
