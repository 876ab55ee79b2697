"""The server's own rounds: warm up, measure the machine, look whether everything still answers."""

import asyncio
import logging
import time
from typing import TYPE_CHECKING, Final

from avatar_stream.server.session.capacity import cores, measure

if TYPE_CHECKING:
    from avatar_stream.server.http.session_handlers import Server

log = logging.getLogger(__name__)

ROUND: Final = 0.5  # seconds
SETTLED: Final = 10.0  # seconds after which a server has loaded what it loads beside its work


async def watch(server: "Server") -> None:
    """Run until cancelled."""
    # The first visitor should not wait for a process, for the default portrait and the first run of its networks.
    starting = asyncio.create_task(server.processes.start()) if server.processes is not None else None
    try:
        await asyncio.to_thread(server.library.get, server.library.default)
    except Exception:
        log.exception("the default portrait cannot be prepared")
    try:
        if starting is not None:
            await starting
    except Exception:
        log.exception("no process for sessions can be started: serve with --processes 0 should this last")
    server.warm.set()
    measured, runtime = "", server.networks.runtime if server.networks else None
    while True:
        due = time.monotonic() + ROUND
        await asyncio.sleep(ROUND)
        server.metrics.looped(time.monotonic() - due, len(asyncio.all_tasks()))
        networks, sessions = server.networks, server.sessions
        if networks is not None:
            networks.watch(server.settings.watchdog)
        if server.processes is not None:
            server.processes.watch()
            if networks is not None and networks.runtime and networks.runtime != runtime:
                runtime = networks.runtime
                server.processes.switch(runtime)
        name = networks.name if networks else "warp"
        # While more networks are being loaded (see upgrade), their work would be taken for a session's.
        settled = networks is None or len(networks.tickers) > 1 or time.monotonic() - server.began > SETTLED
        if name != measured and settled and not sessions.by_id:
            measured = name
            await _measure(server)


async def _measure(server: "Server") -> None:
    try:
        portrait = await asyncio.to_thread(server.library.get, server.library.default)
        load = await asyncio.to_thread(measure, server.networks, portrait, server.settings.fps)
    except Exception:
        log.exception("the machine could not be measured: as many sessions as it has processors")
        return
    # In one process Python runs one thread at a time: more processors than two are of no use there.
    usable = cores() if server.processes is not None else min(cores(), 2)
    held = server.sessions.measured = load.sessions(server.settings.fps, usable)
    log.info("%.1f ms of processor a frame on %g processors: %d sessions", load.processor * 1e3, usable, held)
