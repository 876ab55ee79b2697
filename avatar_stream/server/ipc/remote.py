"""Handles in the server for sessions and peers in a session process (see :mod:`.pool`)."""

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
from avatar_stream.server.session.session import SessionSpec, new_instance_id

log = logging.getLogger(__name__)

SESSION_END_TIMEOUT: Final = 12.0  # seconds for an ended session to free its resources


class ProcessHandle(Protocol):
    """The process that runs a session (see :class:`.pool.SessionProcess`)."""

    @property
    def pipe(self) -> Pipe:
        """The pipe to it; raises ``ProcessGone``."""

    async def ensure_started(self) -> Pipe:
        """Start it unless it runs; raises ``ServerFull``."""

    def forget(self, id: str) -> None:
        """Remove a session that has ended."""

    def kill(self) -> None:
        """Kill it."""


class RemotePeer:
    """A peer whose connection is in a session process. See :class:`.peer.Peer`."""

    def __init__(self, role: Role, address: str, owner: str) -> None:
        self.key = secrets.token_urlsafe(18)
        self.etag = f'"{secrets.token_hex(8)}"'
        self.role, self.address, self.owner = role, address, owner
        self.connected, self.ended = asyncio.Event(), asyncio.Event()
        self.reason = ""
        self.ice_ufrag = ""
        self.process: ProcessHandle | None = None

    @property
    def spec(self) -> PeerSpec:
        """The peer as sent to the process."""
        return PeerSpec(self.key, self.role, self.address, self.owner)

    async def trickle(self, candidates: Candidates) -> None:
        """See ``Peer.trickle``."""
        if self.process is not None:
            await self.process.pipe.call("trickle", self.key, candidates)

    def end(self, reason: str) -> None:
        """See ``Peer.end``."""
        if not self.ended.is_set():
            self.reason = reason
            self.ended.set()
            if self.process is not None:
                self.process.pipe.notify("end", self.key, reason)


class RemoteSession:
    """A session in a session process. See :class:`.session.Session`."""

    def __init__(self, spec: SessionSpec, publisher: RemotePeer, process: ProcessHandle) -> None:
        self.id, self.instance_id, self.publisher = spec.id, new_instance_id(), publisher
        self.viewers: dict[str, RemotePeer] = {}
        self.began = time.monotonic()
        self.closed = asyncio.Event()
        self.state: SessionState | None = None
        self._spec, self._process = spec, process
        self._listeners = 0
        self._motion: tuple[float, dict[str, Any]] | None = None
        self._freed = asyncio.Event()  # the process has freed the session, or has ended

    @property
    def live(self) -> bool:
        """The publisher is connected."""
        return self.publisher.connected.is_set() and not self.closed.is_set()

    @property
    def level(self) -> int:
        """The quality level of its pictures; 0 is the best."""
        return self.state.level if self.state else 0

    @property
    def listeners(self) -> int:
        """Number of listeners to its motion."""
        return self._listeners

    @listeners.setter
    def listeners(self, count: int) -> None:
        if bool(count) != bool(self._listeners):
            self._process.pipe.notify("listen", self.id, bool(count))
        self._listeners = count

    def control_opened(self) -> None:
        """See ``Session``."""
        self._process.pipe.notify("control", self.id, True)

    def control_closed(self) -> None:
        """See ``Session``."""
        self._process.pipe.notify("control", self.id, False)

    def motion(self) -> tuple[float, dict[str, Any]] | None:
        """See ``Session``."""
        return self._motion

    def update_motion(self, motion: tuple[float, dict[str, Any]]) -> None:
        """Store the driver's latest motion, which the process has reported."""
        self._motion = motion

    async def open(self, offer: str) -> str:
        """See ``Session.open``."""
        try:
            pipe = await self._process.ensure_started()
            self.publisher.process = self._process
            opened = await pipe.call("open", self._spec, self.publisher.spec, offer)
        except BaseException:
            self.publisher.end("refused")
            raise
        answer, self.publisher.ice_ufrag, self.state = opened
        if self.publisher.ended.is_set():  # in the meantime, before the process knew the peer
            pipe.notify("end", self.publisher.key, self.publisher.reason)
        return str(answer)

    async def run(self) -> None:
        """Run until the process reports that it has freed the session."""
        await self.publisher.ended.wait()
        with contextlib.suppress(TimeoutError):
            if self.publisher.process is not None:  # None: it was never opened
                await asyncio.wait_for(self._freed.wait(), SESSION_END_TIMEOUT)
        if self.publisher.process is not None and not self._freed.is_set():
            log.error("a session process does not free an ended session: it is killed")
            self._process.kill()
        for viewer in list(self.viewers.values()):
            viewer.end("the session ended")
        self._process.forget(self.id)
        self.closed.set()

    def mark_freed(self) -> None:
        """Note that the process has freed the session, or has ended."""
        self._freed.set()
        self.publisher.end("failed")  # unless it has another reason

    async def view(self, viewer: RemotePeer, offer: str) -> str:
        """See ``Session.view``."""
        viewer.process = self._process
        self.viewers[viewer.key] = viewer
        try:
            answer, viewer.ice_ufrag = await self._process.pipe.call("view", self.id, viewer.spec, offer)
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
        if isinstance(command, Move):  # without an answer, because there are dozens a second
            self._process.pipe.notify("move", self.id, command)
        else:
            self.state = await self._process.pipe.call("handle", self.id, command) or self.state

    def status(self) -> dict[str, Any]:
        """See ``Session.status``; at most a quarter of a second old, and empty until the session is open."""
        return self.state.status if self.state else {}
