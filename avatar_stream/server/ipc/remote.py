"""A session and a peer that live in another process, as the server sees them (see :mod:`.pool`)."""

import asyncio
import contextlib
import logging
import secrets
import time
from typing import Any, Final, Protocol

from avatar_stream.errors import NotFound
from avatar_stream.server.ipc.messages import PeerSpec, SessionState
from avatar_stream.server.ipc.pipe import Pipe
from avatar_stream.server.rtc.signalling import Role
from avatar_stream.server.rtc.trickle import Candidates
from avatar_stream.server.session.control import Command, Move
from avatar_stream.server.session.session import SessionSpec, new_life

log = logging.getLogger(__name__)

LEAVING: Final = 12.0  # seconds a session that was ended gets to free what it has


class ProcessHandle(Protocol):
    """The process that a session lives in (see :class:`.pool.SessionProcess`)."""

    @property
    def pipe(self) -> Pipe:
        """To it; raises ``ProcessGone``."""

    async def started(self) -> Pipe:
        """Start it, unless it runs; raises ``ServerFull``."""

    def forget(self, id: str) -> None:
        """A session has ended."""

    def kill(self) -> None:
        """End it now."""


class RemotePeer:
    """A peer whose connection another process has. See :class:`.peer.Peer`."""

    def __init__(self, role: Role, address: str, owner: str) -> None:
        self.key = secrets.token_urlsafe(18)
        self.etag = f'"{secrets.token_hex(8)}"'
        self.role, self.address, self.owner = role, address, owner
        self.connected, self.ended = asyncio.Event(), asyncio.Event()
        self.reason = ""
        self.user = ""
        self.process: ProcessHandle | None = None

    @property
    def spec(self) -> PeerSpec:
        """What the process has to know."""
        return PeerSpec(self.key, self.role, self.address, self.owner)

    async def trickle(self, said: Candidates) -> None:
        """See ``Peer.trickle``."""
        if self.process is not None:
            await self.process.pipe.call("trickle", self.key, said)

    def end(self, reason: str) -> None:
        """See ``Peer.end``."""
        if not self.ended.is_set():
            self.reason = reason
            self.ended.set()
            if self.process is not None:
                self.process.pipe.tell("end", self.key, reason)


class RemoteSession:
    """A session that lives in another process. See :class:`.session.Session`."""

    def __init__(self, spec: SessionSpec, publisher: RemotePeer, process: ProcessHandle) -> None:
        self.id, self.life, self.publisher = spec.id, new_life(), publisher
        self.viewers: dict[str, RemotePeer] = {}
        self.began = time.monotonic()
        self.closed = asyncio.Event()
        self.state: SessionState | None = None
        self._spec, self._process = spec, process
        self._listeners = 0
        self._motion: tuple[float, dict[str, Any]] | None = None
        self._over = asyncio.Event()  # the process has freed it, or has ended

    @property
    def live(self) -> bool:
        """The publisher is connected."""
        return self.publisher.connected.is_set() and not self.closed.is_set()

    @property
    def level(self) -> int:
        """Steps below the best quality at which it is drawn."""
        return self.state.level if self.state else 0

    @property
    def listeners(self) -> int:
        """Who is sent its motion."""
        return self._listeners

    @listeners.setter
    def listeners(self, count: int) -> None:
        if bool(count) != bool(self._listeners):
            self._process.pipe.tell("listen", self.id, bool(count))
        self._listeners = count

    def control_opened(self) -> None:
        """See ``Session``."""
        self._process.pipe.tell("control", self.id, True)

    def control_closed(self) -> None:
        """See ``Session``."""
        self._process.pipe.tell("control", self.id, False)

    def motion(self) -> tuple[float, dict[str, Any]] | None:
        """See ``Session``."""
        return self._motion

    def moved(self, motion: tuple[float, dict[str, Any]]) -> None:
        """The process says how the driver moved."""
        self._motion = motion

    async def open(self, offer: str) -> str:
        """See ``Session.open``."""
        try:
            pipe = await self._process.started()
            self.publisher.process = self._process
            said = await pipe.call("open", self._spec, self.publisher.spec, offer)
        except BaseException:
            self.publisher.end("refused")
            raise
        answer, self.publisher.user, self.state = said
        if self.publisher.ended.is_set():  # meanwhile, when nobody there could be told
            pipe.tell("end", self.publisher.key, self.publisher.reason)
        return str(answer)

    async def run(self) -> None:
        """Live until the process says that all of it is gone."""
        await self.publisher.ended.wait()
        with contextlib.suppress(TimeoutError):
            if self.publisher.process is not None:  # else it was never opened
                await asyncio.wait_for(self._over.wait(), LEAVING)
        if self.publisher.process is not None and not self._over.is_set():
            log.error("a process of sessions does not let go of one: it is ended")
            self._process.kill()
        for viewer in list(self.viewers.values()):
            viewer.end("the session ended")
        self._process.forget(self.id)
        self.closed.set()

    def over(self) -> None:
        """The process has freed it, or has ended."""
        self._over.set()
        self.publisher.end("failed")  # if nobody said why

    async def view(self, viewer: RemotePeer, offer: str) -> str:
        """See ``Session.view``."""
        viewer.process = self._process
        self.viewers[viewer.key] = viewer
        try:
            answer, viewer.user = await self._process.pipe.call("view", self.id, viewer.spec, offer)
        except BaseException:
            self.viewers.pop(viewer.key, None)
            viewer.end("refused")
            raise
        if self.publisher.ended.is_set():
            viewer.end("the session ended")
            raise NotFound("no such session: it may have ended")
        return str(answer)

    async def end(self, reason: str) -> None:
        """See ``Session.end``."""
        self.publisher.end(reason)
        await self.closed.wait()

    async def handle(self, command: Command) -> None:
        """See ``Session.handle``."""
        if isinstance(command, Move):  # dozens a second, and nobody waits for an answer
            self._process.pipe.tell("move", self.id, command)
        else:
            self.state = await self._process.pipe.call("handle", self.id, command) or self.state

    def status(self) -> dict[str, Any]:
        """See ``Session.status``; a quarter of a second old at most, and empty until it is open."""
        return self.state.status if self.state else {}
