"""The code that runs in a session process: it carries out the server's calls (see :mod:`.pool`) and sends reports.

Sessions run here with their connections, networks and threads, as in a server without session processes.
Python runs one thread of a process at a time: four sessions in one process drew 19 warped portraits a second
on sixteen cores, of which they used three.
"""

import asyncio
import gc
import logging
import os
import signal
import sys
import threading
from collections.abc import Callable, Coroutine
from multiprocessing.connection import Connection
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from avatar_stream.errors import NotFound
from avatar_stream.runtime.network import Arrays
from avatar_stream.runtime.networks import engine_name, networks_for
from avatar_stream.server.heap import limit_arenas, trim_heap
from avatar_stream.server.ipc.messages import PeerSpec, Report, SessionState
from avatar_stream.server.ipc.pipe import Pipe
from avatar_stream.server.ipc.proxies import LibraryProxy, MetricsBuffer
from avatar_stream.server.logs import set_up_logging
from avatar_stream.server.rtc.peer import Peer
from avatar_stream.server.rtc.trickle import Candidates
from avatar_stream.server.session.capacity import Load, measure
from avatar_stream.server.session.control import Command
from avatar_stream.server.session.engine_upgrade import upgrade
from avatar_stream.server.session.session import Session, SessionSpec
from avatar_stream.settings import Settings

log = logging.getLogger(__name__)

REPORT_PERIOD: Final = 0.25  # seconds between reports on sessions
SHUTDOWN_TIMEOUT: Final = 10.0  # seconds for sessions to end once the server has gone
THREAD_SWITCH_INTERVAL: Final = 0.0005
"""Seconds for ``sys.setswitchinterval``: with Python's default of 5 ms, two sessions waited for each other, and a
quarter of the machine was idle."""


def main(connection: Connection, settings: Settings, keeps_characters: bool) -> None:
    """Host sessions until the other end of ``connection`` closes; ``keeps_characters`` is the library's."""
    # Ignore signals to stop: the server gets them too, and closes the pipe.
    for one in (signal.SIGINT, signal.SIGTERM):
        signal.signal(one, signal.SIG_IGN)
    limit_arenas()
    set_up_logging(settings.log)
    sys.setswitchinterval(THREAD_SWITCH_INTERVAL)
    asyncio.run(ChildServer(connection, settings, keeps_characters).run())
    os._exit(0)  # without waiting for remaining threads


class ChildServer:
    """Hosts sessions for the server; use it on the event loop only."""

    def __init__(self, connection: Connection, settings: Settings, keeps_characters: bool) -> None:
        self._connection, self._settings, self._keeps = connection, settings, keeps_characters
        self._sessions: dict[str, Session] = {}
        self._peers: dict[str, Peer] = {}
        self._motion_tasks: dict[str, asyncio.Task[None]] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._server_gone = asyncio.Event()
        self._metrics_buffer = MetricsBuffer()

    async def run(self) -> None:
        """Serve calls until the server has gone."""
        handlers: dict[str, Callable[..., Any]] = {
            "ready": self.ready,
            "measure": self.measure,
            "refer": self.refer,
            "upgrade": self.upgrade,
            "open": self.open,
            "view": self.view,
            "trickle": self.trickle,
            "end": self.end,
            "handle": self.handle,
            "move": self.move,
            "control": self.control,
            "listen": self.listen,
            "switch": self.switch,
        }
        self._pipe = Pipe(self._connection, handlers, self._server_gone.set)
        self._library = LibraryProxy(self._pipe, self._keeps)
        settings = self._settings
        # Load the networks now, to shorten the wait of the first session.
        self._networks = asyncio.create_task(asyncio.to_thread(networks_for, settings.engine, settings.threads))
        self._networks.add_done_callback(lambda _: gc.freeze())  # makes _collect_garbage fast
        reporting = asyncio.create_task(self._send_reports())
        await self._server_gone.wait()
        reporting.cancel()
        end = threading.Timer(SHUTDOWN_TIMEOUT, os._exit, (1,))  # a hanging thread would keep the process alive
        end.daemon = True
        end.start()
        await asyncio.gather(*(session.end("server stopped") for session in self._sessions.values()))

    # Calls from the server

    async def ready(self) -> str:
        """Wait until the networks are loaded. Returns the engine's name; raises ``EngineUnavailable``."""
        return engine_name(await self._networks)

    async def measure(self, portrait: str) -> Load:
        """See :func:`.capacity.measure`; ``portrait`` is a key of the library."""
        networks, fps = await self._networks, self._settings.fps
        prepared = await asyncio.to_thread(self._library.get, portrait)
        return await asyncio.to_thread(measure, networks, prepared, fps)

    async def refer(self, face: npt.NDArray[np.uint8]) -> Arrays | None:
        """See ``SessionHost.refer``."""
        networks = await self._networks
        return None if networks is None else await asyncio.to_thread(networks.refer, face)

    async def upgrade(self) -> None:
        """Switch to the fastest engine of this machine if the setting ``engine`` is ``auto``."""
        networks = await self._networks
        if networks is not None:
            before = networks.runtime
            await asyncio.to_thread(upgrade, networks, automatic=self._settings.engine == "auto")
            if networks.runtime != before:
                self._pipe.notify("upgraded", networks.runtime)

    async def open(self, spec: SessionSpec, peer: PeerSpec, offer: str) -> tuple[str, str, SessionState]:
        """Open a session. Returns the SDP answer, the publisher's ICE ufrag and the state; raises ``BadOffer``."""
        networks = await self._networks
        publisher = self._new_peer(peer)
        session = Session(spec, publisher, self._settings, networks, self._library, self._metrics_buffer)
        self._sessions[spec.id] = session
        try:
            answer = await session.open(offer)
        finally:
            self._spawn(self._run(session))
        return answer, publisher.ice_ufrag, SessionState.of(session)

    async def view(self, id: str, peer: PeerSpec, offer: str) -> tuple[str, str]:
        """Add a viewer. Returns the SDP answer and the viewer's ICE ufrag; raises ``NotFound``, ``BadOffer``."""
        if (session := self._sessions.get(id)) is None:
            raise NotFound("no such session: it may have ended")
        viewer = self._new_peer(peer)
        return await session.view(viewer, offer), viewer.ice_ufrag

    async def trickle(self, key: str, candidates: Candidates) -> None:
        """See ``Peer.trickle``."""
        if (peer := self._peers.get(key)) is not None:
            await peer.trickle(candidates)

    def end(self, key: str, reason: str) -> None:
        """See ``Peer.end``."""
        if (peer := self._peers.get(key)) is not None:
            peer.end(reason)

    async def handle(self, id: str, command: Command) -> SessionState | None:
        """See ``Session.handle``. Returns the new state."""
        if (session := self._sessions.get(id)) is None:
            return None
        await session.handle(command)
        return SessionState.of(session)

    async def move(self, id: str, command: Command) -> None:
        """Like :meth:`handle`, for a frame of motion: no answer, because there are dozens a second."""
        if (session := self._sessions.get(id)) is not None:
            await session.handle(command)

    def control(self, id: str, opened: bool) -> None:
        """A control channel was opened or closed."""
        if (session := self._sessions.get(id)) is not None:
            session.control_opened() if opened else session.control_closed()

    def listen(self, id: str, wanted: bool) -> None:
        """Start or stop sending a session's motion."""
        if (task := self._motion_tasks.pop(id, None)) is not None:
            task.cancel()
        if wanted:
            self._motion_tasks[id] = self._spawn(self._send_motion(id))

    async def switch(self, runtime: str) -> None:
        """Switch to another runtime. A failure is logged, and the current runtime stays in use."""
        networks = await self._networks
        if networks is not None:
            await asyncio.to_thread(networks.switch, runtime)

    # Reports to the server

    async def _send_reports(self) -> None:
        while True:
            await asyncio.sleep(REPORT_PERIOD)
            engine = ""
            if self._networks.done() and not self._networks.exception():
                networks = self._networks.result()
                engine = engine_name(networks)
                if networks is not None:
                    networks.watch(self._settings.watchdog)
            states = {id: SessionState.of(session) for id, session in self._sessions.items()}
            self._pipe.notify("report", Report(states, self._metrics_buffer.take(), engine))

    async def _send_motion(self, id: str) -> None:
        sent = None
        while (session := self._sessions.get(id)) is not None:
            await asyncio.sleep(1 / self._settings.fps)
            motion = session.motion()
            if motion is not None and motion != sent:
                sent = motion
                self._pipe.notify("moved", id, motion)

    def _new_peer(self, spec: PeerSpec) -> Peer:
        peer = Peer(spec.role, spec.address, spec.owner, self._settings, key=spec.key)
        self._peers[spec.key] = peer
        self._spawn(self._report_peer(peer))
        return peer

    async def _report_peer(self, peer: Peer) -> None:
        """Report when a peer connects and when it ends."""
        connected = asyncio.create_task(peer.connected.wait())
        ended = asyncio.create_task(peer.ended.wait())
        await asyncio.wait((connected, ended), return_when=asyncio.FIRST_COMPLETED)
        if connected.done():
            self._pipe.notify("connected", peer.key)
        connected.cancel()
        await ended
        self._peers.pop(peer.key, None)
        self._pipe.notify("ended", peer.key, peer.reason)

    async def _run(self, session: Session) -> None:
        try:
            await session.run()
        finally:
            self._sessions.pop(session.id, None)
            self.listen(session.id, False)
            self._pipe.notify("report", Report({}, self._metrics_buffer.take(), ""))
            self._pipe.notify("closed", session.id)
            await asyncio.to_thread(_collect_garbage)

    def _spawn(self, work: Coroutine[Any, Any, None]) -> "asyncio.Task[None]":
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task


def _collect_garbage() -> None:
    """Collect reference cycles of a session, which hold portraits: 4 MB a visit. Takes milliseconds, because objects
    that are older than the first session are frozen.
    """
    gc.collect()
    trim_heap()
