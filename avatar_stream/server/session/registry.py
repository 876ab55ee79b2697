"""All sessions of a server: admits new ones, finds them, and ends them when the server stops."""

import asyncio
import logging
import math
import time
from collections.abc import Coroutine, Iterator
from typing import Any, Final

from avatar_stream.errors import BadInput, NameTaken, NotFound, ServerFull, TooMany, Unauthorized
from avatar_stream.identity.library import Library
from avatar_stream.portrait.background import OWN_BACKGROUND
from avatar_stream.rate_limits import AddressRateLimits
from avatar_stream.server.access import NAME_PATTERN, Access, Caller, require_instance
from avatar_stream.server.rtc.signalling import Role
from avatar_stream.server.session.capacity import cores
from avatar_stream.server.session.host import PeerHandle, SessionHandle, SessionHost
from avatar_stream.server.session.session import SessionSpec, new_id
from avatar_stream.settings import Settings

log = logging.getLogger(__name__)

BUSY_LEVEL: Final = 2  # quality levels below the best; a session there means that the machine is overloaded


class SessionRegistry:
    """All sessions and their peers. Use it on the event loop only."""

    def __init__(self, settings: Settings, host: SessionHost, library: Library, access: Access) -> None:
        self.by_id: dict[str, SessionHandle] = {}
        self.draining = False
        self.measured: int | None = None
        """Sessions this machine can run, once that is measured."""
        self._settings, self._host, self._library, self._access = settings, host, library, access
        self._peers: dict[str, tuple[SessionHandle, PeerHandle]] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        minute = settings.offers_per_minute
        self._offers = AddressRateLimits(minute / 60, max(minute / 12, 1))

    @property
    def capacity(self) -> int:
        """The limit of sessions: from the settings, else as measured, else the number of processors."""
        return self._settings.sessions or self.measured or max(1, int(cores()))

    async def publish(
        self,
        role: Role,
        offer: str,
        *,
        address: str,
        caller: Caller,
        portrait: str = "",
        name: str = "",
        background: str = OWN_BACKGROUND,
    ) -> tuple[SessionHandle, PeerHandle, str]:
        """Open a session and answer its publisher; ``name`` is its public id, generated if empty.

        A caller with the same token replaces a session of the same name, for example when OBS restarts. Raises
        :class:`ServerFull`, :class:`TooMany`, :class:`NameTaken`, ``UnknownPortrait``, ``BadOffer``.
        """
        if name and not NAME_PATTERN.fullmatch(name):
            raise BadInput("a session's name has small letters, digits and dashes, 64 at most")
        portrait = portrait or self._library.default
        await asyncio.to_thread(self._library.check, portrait, caller.visible_owner)
        while (before := self.by_id.get(name)) is not None:
            if before.publisher.owner != caller.name:
                raise NameTaken("a session of this name is running: choose another")
            await before.end("replaced")
            await asyncio.sleep(0)
        self._admit_session(address)
        publisher = self._host.peer(role, address, caller.name)
        session = self._host.session(
            SessionSpec(name or new_id(), portrait, background, caller.visible_owner), publisher
        )
        self.by_id[session.id] = session
        self._peers[publisher.key] = session, publisher
        try:
            answer = await session.open(offer)
        finally:
            # Run it even if opening failed: then it ends at once and frees everything.
            self._spawn(self._run(session))
        return session, publisher, answer

    async def view(self, id: str, offer: str, *, address: str, caller: Caller) -> tuple[PeerHandle, str]:
        """Let a viewer watch session ``id``; raises :class:`NotFound`, :class:`TooMany`, ``BadOffer``.

        Raises ``Unauthorized`` if the caller's link became void in the meantime.
        """
        session = self.find(id)
        require_instance(caller, session.instance_id)
        if self.draining:
            raise ServerFull("the server is stopping: try again in a moment")
        if len(session.viewers) >= self._settings.viewers:
            raise ServerFull(f"{self._settings.viewers} watch this session already: try again later")
        watching = [peer for _, peer in self._peers.values() if peer.role is Role.VIEW and peer.address == address]
        if len(watching) >= self._settings.viewers_per_address:
            raise TooMany(f"{self._settings.viewers_per_address} viewers of one address are enough")
        self._admit_half_open(address)
        viewer = self._host.peer(Role.VIEW, address, caller.name)
        self._peers[viewer.key] = session, viewer
        self._spawn(self._forget(viewer, caller.expires))
        answer = await session.view(viewer, offer)
        if reason := self._access.void_reason(caller, time.time()):
            viewer.end(reason)
            raise Unauthorized(f"{reason}: ask for a new one")
        return viewer, answer

    def find(self, id: str) -> SessionHandle:
        """The session with a public id; raises :class:`NotFound`."""
        session = self.by_id.get(id)
        if session is None or session.publisher.ended.is_set():
            raise NotFound("no such session: it may have ended")
        return session

    def peer(self, key: str, *roles: Role) -> tuple[SessionHandle, PeerHandle]:
        """The session and peer of a secret key; raises :class:`NotFound`, also if its role is not in ``roles``."""
        found = self._peers.get(key)
        if found is None or found[1].role not in roles or found[1].ended.is_set():
            raise NotFound("no such session: it may have ended")
        return found

    def peers(self) -> Iterator[PeerHandle]:
        """All publishers and viewers."""
        return (peer for _, peer in self._peers.values())

    async def drain(self, seconds: float) -> None:
        """Refuse new sessions, wait ``seconds`` for sessions to leave, then end the rest.

        The control channel meanwhile tells pages to reconnect.
        """
        self.draining = True
        if not self.by_id:
            return
        log.info("stopping: %d sessions get %g seconds to leave", len(self.by_id), seconds)
        try:
            async with asyncio.timeout(seconds):
                await asyncio.gather(*(session.closed.wait() for session in list(self.by_id.values())))
        except TimeoutError:
            await self.close()

    async def close(self) -> None:
        """End every session."""
        self.draining = True
        await asyncio.gather(*(session.end("server stopped") for session in list(self.by_id.values())))

    def _admit_session(self, address: str) -> None:
        if self.draining:
            raise ServerFull("the server is stopping: try again in a moment")
        sessions = list(self.by_id.values())
        if len(sessions) >= self.capacity:
            raise ServerFull("all places are taken: try again in a moment")
        if not self._settings.sessions and any(session.live and session.level >= BUSY_LEVEL for session in sessions):
            raise ServerFull("this machine is fully loaded: try again in a moment")
        if sum(session.publisher.address == address for session in sessions) >= self._settings.sessions_per_address:
            raise TooMany(f"{self._settings.sessions_per_address} sessions of one address are enough")
        self._admit_half_open(address)

    def _admit_half_open(self, address: str) -> None:
        """Check the limits before a new connection, which costs a tenth of a second of processor time."""
        if not self._offers.take(address, time.monotonic()):
            limit = self._settings.offers_per_minute
            raise TooMany(f"{limit} connections of one address in a minute are enough: try again in a moment")
        waiting = [peer.address for peer in self.peers() if not peer.connected.is_set()]
        if waiting.count(address) >= self._settings.half_open_per_address:
            raise TooMany("too many connections of this address are being set up: finish those first")
        if len(waiting) >= self._settings.half_open:
            raise ServerFull("too many connections are being set up: try again in a moment")

    async def _run(self, session: SessionHandle) -> None:
        try:
            await session.run()
        finally:
            self._access.end(session.instance_id)
            if self.by_id.get(session.id) is session:
                del self.by_id[session.id]
            self._peers.pop(session.publisher.key, None)

    async def _forget(self, peer: PeerHandle, expires: float) -> None:
        """Remove a viewer when it has ended; end it when its link expires (``expires``, in seconds since 1970)."""
        left = max(expires - time.time(), 0)
        try:
            async with asyncio.timeout(None if math.isinf(left) else left):
                await peer.ended.wait()
        except TimeoutError:
            peer.end("its link is over")
        self._peers.pop(peer.key, None)

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
