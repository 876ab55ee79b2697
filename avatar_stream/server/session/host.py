"""Where sessions live: in the server's own process (:class:`LocalHost`), or in others (``server.ipc.pool``).

HTTP and the registry of sessions know them by the protocols here.
"""

import asyncio
from collections.abc import Mapping
from typing import Any, Protocol

from avatar_stream.identity.library import Library
from avatar_stream.runtime.networks import Networks
from avatar_stream.server.metrics import Metrics
from avatar_stream.server.rtc.peer import Peer
from avatar_stream.server.rtc.signalling import Role
from avatar_stream.server.rtc.trickle import Candidates
from avatar_stream.server.session.control import Command
from avatar_stream.server.session.session import Session, SessionSpec
from avatar_stream.settings import Settings


class PeerHandle(Protocol):
    """A peer, wherever its connection is. See :class:`avatar_stream.server.rtc.peer.Peer`."""

    key: str
    etag: str
    role: Role
    address: str
    owner: str
    connected: asyncio.Event
    ended: asyncio.Event
    reason: str
    user: str

    async def trickle(self, said: Candidates) -> None:
        """See ``Peer.trickle``."""

    def end(self, reason: str) -> None:
        """See ``Peer.end``."""


class SessionHandle(Protocol):
    """A session, wherever it lives. See :class:`.session.Session`."""

    id: str
    life: str
    began: float
    closed: asyncio.Event
    listeners: int

    @property
    def publisher(self) -> PeerHandle:
        """The peer that drives it."""

    @property
    def viewers(self) -> Mapping[str, PeerHandle]:
        """Those that watch it, by key."""

    @property
    def live(self) -> bool:
        """The publisher is connected."""

    @property
    def level(self) -> int:
        """Steps below the best quality at which it is drawn."""

    def control_opened(self) -> None:
        """See ``Session``."""

    def control_closed(self) -> None:
        """See ``Session``."""

    def motion(self) -> tuple[float, dict[str, Any]] | None:
        """See ``Session``."""

    async def open(self, offer: str) -> str:
        """See ``Session.open``."""

    async def run(self) -> None:
        """See ``Session.run``."""

    async def view(self, viewer: Any, offer: str) -> str:
        """See ``Session.view``; ``viewer`` was made by the same host."""

    async def end(self, reason: str) -> None:
        """See ``Session.end``."""

    async def handle(self, command: Command) -> None:
        """See ``Session.handle``."""

    def status(self) -> dict[str, Any]:
        """See ``Session.status``."""


class SessionHost(Protocol):
    """Makes sessions and their peers."""

    def peer(self, role: Role, address: str, owner: str) -> PeerHandle:
        """A peer that has not been answered yet."""

    def session(self, spec: SessionSpec, publisher: Any) -> SessionHandle:
        """A session that has not been opened yet, for a publisher made here."""


class LocalHost:
    """Sessions live beside the server: for machines with one processor, and for tests that look inside."""

    def __init__(self, settings: Settings, networks: Networks | None, library: Library, metrics: Metrics) -> None:
        self._settings, self._networks, self._library, self._metrics = settings, networks, library, metrics

    def peer(self, role: Role, address: str, owner: str) -> Peer:
        """See :class:`SessionHost`."""
        return Peer(role, address, owner, self._settings)

    def session(self, spec: SessionSpec, publisher: Peer) -> Session:
        """See :class:`SessionHost`."""
        return Session(spec, publisher, self._settings, self._networks, self._library, self._metrics)
