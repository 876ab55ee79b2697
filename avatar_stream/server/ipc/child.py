"""A process of sessions: what it does when the server asks (see :mod:`.pool`), and what it tells the server.

Sessions live here whole, with their connections, networks and threads, as they do in a server without such processes.
Python runs one thread of a process at a time: four sessions in one process came to 19 plain pictures a second on
sixteen cores, of which they used three.
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

from avatar_stream.errors import NotFound
from avatar_stream.runtime.networks import networks_for
from avatar_stream.server.heap import few_arenas, trim
from avatar_stream.server.ipc.messages import PeerSpec, SessionState
from avatar_stream.server.ipc.pipe import Pipe
from avatar_stream.server.ipc.proxies import LibraryProxy, MetricsBuffer
from avatar_stream.server.logs import set_up
from avatar_stream.server.rtc.peer import Peer
from avatar_stream.server.rtc.trickle import Candidates
from avatar_stream.server.session.control import Command
from avatar_stream.server.session.session import Session, SessionSpec
from avatar_stream.settings import Settings

log = logging.getLogger(__name__)

TELL: Final = 0.25  # seconds between reports on sessions
LEAVING: Final = 10.0  # seconds for what is left once the server has gone
SWITCH: Final = 0.0005
"""Seconds a thread may go on with Python while another waits: with Python's own 5 ms two sessions waited for one
another, and a quarter of the machine was idle."""


def main(connection: Connection, settings: Settings, keeps: bool) -> None:
    """Host sessions until the other end of ``connection`` is gone; ``keeps`` says that the library has characters."""
    # The server is told to stop; it tells us, or ends, and then the pipe does.
    for one in (signal.SIGINT, signal.SIGTERM):
        signal.signal(one, signal.SIG_IGN)
    few_arenas()
    set_up(settings.log)
    sys.setswitchinterval(SWITCH)
    asyncio.run(ChildServer(connection, settings, keeps).run())
    os._exit(0)  # without waiting for threads that are left


class ChildServer:
    """Hosts sessions; used on the event loop only."""

    def __init__(self, connection: Connection, settings: Settings, keeps: bool) -> None:
        self._connection, self._settings, self._keeps = connection, settings, keeps
        self._sessions: dict[str, Session] = {}
        self._peers: dict[str, Peer] = {}
        self._listened: dict[str, asyncio.Task[None]] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._gone = asyncio.Event()
        self._metrics_buffer = MetricsBuffer()

    async def run(self) -> None:
        """Until the server is gone."""
        handlers: dict[str, Callable[..., Any]] = {
            "ready": self.ready,
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
        self._pipe = Pipe(self._connection, handlers, self._gone.set)
        self._library = LibraryProxy(self._pipe, self._keeps)
        settings = self._settings
        # The answer to a first offer must not wait for them any longer than it has to.
        self._networks = asyncio.create_task(asyncio.to_thread(networks_for, settings.engine, settings.threads))
        self._networks.add_done_callback(lambda _: gc.freeze())  # for _clear
        telling = asyncio.create_task(self._tell())
        await self._gone.wait()
        telling.cancel()
        end = threading.Timer(LEAVING, os._exit, (1,))  # should a thread hang, nobody else would end this process
        end.daemon = True
        end.start()
        await asyncio.gather(*(session.end("server stopped") for session in self._sessions.values()))

    # What the server asks

    async def ready(self) -> None:
        """Answer when the networks are loaded; raises ``EngineUnavailable``."""
        await self._networks

    async def open(self, spec: SessionSpec, peer: PeerSpec, offer: str) -> tuple[str, str, SessionState]:
        """Open a session; the answer's SDP, the publisher's ICE user, its state. Raises ``BadOffer``."""
        networks = await self._networks
        publisher = self._peer(peer)
        session = Session(spec, publisher, self._settings, networks, self._library, self._metrics_buffer)
        self._sessions[spec.id] = session
        try:
            answer = await session.open(offer)
        finally:
            self._spawn(self._run(session))
        return answer, publisher.user, SessionState.of(session)

    async def view(self, id: str, peer: PeerSpec, offer: str) -> tuple[str, str]:
        """Let a viewer watch; as :meth:`open`."""
        if (session := self._sessions.get(id)) is None:
            raise NotFound("no such session: it may have ended")
        viewer = self._peer(peer)
        return await session.view(viewer, offer), viewer.user

    async def trickle(self, key: str, said: Candidates) -> None:
        """See ``Peer.trickle``."""
        if (peer := self._peers.get(key)) is not None:
            await peer.trickle(said)

    def end(self, key: str, reason: str) -> None:
        """See ``Peer.end``."""
        if (peer := self._peers.get(key)) is not None:
            peer.end(reason)

    async def handle(self, id: str, command: Command) -> SessionState | None:
        """See ``Session.handle``; the state it leads to."""
        if (session := self._sessions.get(id)) is None:
            return None
        await session.handle(command)
        return SessionState.of(session)

    async def move(self, id: str, command: Command) -> None:
        """The same for a frame of motion, of which there are dozens a second."""
        if (session := self._sessions.get(id)) is not None:
            await session.handle(command)

    def control(self, id: str, opened: bool) -> None:
        """A control channel came or went."""
        if (session := self._sessions.get(id)) is not None:
            session.control_opened() if opened else session.control_closed()

    def listen(self, id: str, wanted: bool) -> None:
        """Send a session's motion, or stop."""
        if (task := self._listened.pop(id, None)) is not None:
            task.cancel()
        if wanted:
            self._listened[id] = self._spawn(self._send_motion(id))

    async def switch(self, runtime: str) -> None:
        """Run on another runtime from now on; what cannot be done is logged, and what runs goes on."""
        networks = await self._networks
        if networks is not None:
            await asyncio.to_thread(networks.switch, runtime)

    # What it tells

    async def _tell(self) -> None:
        while True:
            await asyncio.sleep(TELL)
            if self._networks.done() and not self._networks.exception() and (networks := self._networks.result()):
                networks.watch(self._settings.watchdog)
            states = {id: SessionState.of(session) for id, session in self._sessions.items()}
            self._pipe.tell("report", states, self._metrics_buffer.take())

    async def _send_motion(self, id: str) -> None:
        sent = None
        while (session := self._sessions.get(id)) is not None:
            await asyncio.sleep(1 / self._settings.fps)
            motion = session.motion()
            if motion is not None and motion != sent:
                sent = motion
                self._pipe.tell("moved", id, motion)

    def _peer(self, spec: PeerSpec) -> Peer:
        peer = Peer(spec.role, spec.address, spec.owner, self._settings, key=spec.key)
        self._peers[spec.key] = peer
        self._spawn(self._follow(peer))
        return peer

    async def _follow(self, peer: Peer) -> None:
        """Tell how a peer gets on."""
        connected = asyncio.create_task(peer.connected.wait())
        ended = asyncio.create_task(peer.ended.wait())
        await asyncio.wait((connected, ended), return_when=asyncio.FIRST_COMPLETED)
        if connected.done():
            self._pipe.tell("connected", peer.key)
        connected.cancel()
        await ended
        self._peers.pop(peer.key, None)
        self._pipe.tell("ended", peer.key, peer.reason)

    async def _run(self, session: Session) -> None:
        try:
            await session.run()
        finally:
            self._sessions.pop(session.id, None)
            self.listen(session.id, False)
            self._pipe.tell("report", {}, self._metrics_buffer.take())
            self._pipe.tell("closed", session.id)
            await asyncio.to_thread(_clear)

    def _spawn(self, work: Coroutine[Any, Any, None]) -> "asyncio.Task[None]":
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task


def _clear() -> None:
    """Free what a session leaves behind in cycles, a portrait of its own among it: 4 MB a visit. Takes milliseconds,
    for what was there before the first session is frozen.
    """
    gc.collect()
    trim()
