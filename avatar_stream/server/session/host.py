"""Session hosts: sessions run in the server's process (:class:`LocalHost`) or in others (``server.ipc.pool``).

HTTP handlers and the session registry use sessions through these protocols.
"""

import asyncio
import threading
from collections.abc import Mapping
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from avatar_stream.identity.library import Library
from avatar_stream.runtime.network import Arrays
from avatar_stream.runtime.networks import Networks, engine_name
from avatar_stream.server.metrics import Metrics
from avatar_stream.server.rtc.peer import Peer
from avatar_stream.server.rtc.signalling import Role
from avatar_stream.server.rtc.trickle import Candidates
from avatar_stream.server.session.capacity import Load, cores, measure
from avatar_stream.server.session.control import Command
from avatar_stream.server.session.engine_upgrade import upgrade
from avatar_stream.server.session.session import Session, SessionSpec
from avatar_stream.settings import Settings


class PeerHandle(Protocol):
    """A peer in this or another process. See :class:`avatar_stream.server.rtc.peer.Peer`."""

    key: str
    etag: str
    role: Role
    address: str
    owner: str
    connected: asyncio.Event
    ended: asyncio.Event
    reason: str
    ice_ufrag: str

    async def trickle(self, candidates: Candidates) -> None:
        """See ``Peer.trickle``."""

    def end(self, reason: str) -> None:
        """See ``Peer.end``."""


class SessionHandle(Protocol):
    """A session in this or another process. See :class:`.session.Session`."""

    id: str
    instance_id: str
    began: float
    closed: asyncio.Event
    listeners: int

    @property
    def publisher(self) -> PeerHandle:
        """The peer that drives it."""

    @property
    def viewers(self) -> Mapping[str, PeerHandle]:
        """The peers that watch it, by key."""

    @property
    def live(self) -> bool:
        """The publisher is connected."""

    @property
    def level(self) -> int:
        """The quality level of its pictures; 0 is the best."""

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
        """See ``Session.view``; ``viewer`` is a peer of the same host."""

    async def end(self, reason: str) -> None:
        """See ``Session.end``."""

    async def handle(self, command: Command) -> None:
        """See ``Session.handle``."""

    def status(self) -> dict[str, Any]:
        """See ``Session.status``."""


class SessionHost(Protocol):
    """Creates sessions and their peers, and owns the networks that draw them."""

    @property
    def engine(self) -> str:
        """The name of the engine that draws, ``warp`` if there are no networks."""

    @property
    def processors(self) -> float:
        """How many processors its sessions can use."""

    def peer(self, role: Role, address: str, owner: str) -> PeerHandle:
        """A peer that has not been answered yet."""

    def session(self, spec: SessionSpec, publisher: Any) -> SessionHandle:
        """A session that has not been opened yet; ``publisher`` is a peer of this host."""

    async def start(self) -> None:
        """Get ready for the first session; raises ``EngineUnavailable``."""

    def watch(self) -> None:
        """Check that everything still answers; call it twice a second."""

    async def measure(self, portrait: str) -> Load:
        """The cost of a frame with a portrait of the library (see :func:`.capacity.measure`)."""

    async def refer(self, face: npt.NDArray[np.uint8]) -> Arrays | None:
        """The outputs of the reference network for an aligned face; None if there are no networks."""

    async def close(self) -> None:
        """Stop processes and threads; call it when all sessions have ended."""


class LocalHost:
    """Runs sessions in the server's process: for machines with one processor, and for tests of internals."""

    def __init__(self, settings: Settings, networks: Networks | None, library: Library, metrics: Metrics) -> None:
        self._settings, self._networks, self._library, self._metrics = settings, networks, library, metrics

    @property
    def engine(self) -> str:
        """See :class:`SessionHost`."""
        return engine_name(self._networks)

    @property
    def processors(self) -> float:
        """See :class:`SessionHost`. Python runs one thread of a process at a time: more than two do not help."""
        return min(cores(), 2.0)

    def peer(self, role: Role, address: str, owner: str) -> Peer:
        """See :class:`SessionHost`."""
        return Peer(role, address, owner, self._settings)

    def session(self, spec: SessionSpec, publisher: Peer) -> Session:
        """See :class:`SessionHost`."""
        return Session(spec, publisher, self._settings, self._networks, self._library, self._metrics)

    async def start(self) -> None:
        """See :class:`SessionHost`. Builds and loads a better engine in a separate thread."""
        if self._networks is not None:
            automatic = {"automatic": self._settings.engine == "auto"}
            threading.Thread(target=upgrade, args=(self._networks,), kwargs=automatic, daemon=True).start()

    def watch(self) -> None:
        """See :class:`SessionHost`."""
        if self._networks is not None:
            self._networks.watch(self._settings.watchdog)

    async def measure(self, portrait: str) -> Load:
        """See :class:`SessionHost`."""
        prepared = await asyncio.to_thread(self._library.get, portrait)
        return await asyncio.to_thread(measure, self._networks, prepared, self._settings.fps)

    async def refer(self, face: npt.NDArray[np.uint8]) -> Arrays | None:
        """See :class:`SessionHost`."""
        return None if self._networks is None else await asyncio.to_thread(self._networks.refer, face)

    async def close(self) -> None:
        """See :class:`SessionHost`."""
