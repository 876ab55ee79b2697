"""All sessions of a server: who is let in, where to find them, and how they leave when the server stops."""

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
from avatar_stream.server.access import NAME, Access, Caller, require_life
from avatar_stream.server.rtc.signalling import Role
from avatar_stream.server.session.capacity import cores
from avatar_stream.server.session.host import PeerHandle, SessionHandle, SessionHost
from avatar_stream.server.session.session import SessionSpec, new_id
from avatar_stream.settings import Settings

log = logging.getLogger(__name__)

BUSY: Final = 2  # qualities below the best at which a machine has enough to do


class SessionRegistry:
    """Used on the event loop only."""

    def __init__(self, settings: Settings, host: SessionHost, library: Library, access: Access) -> None:
        self.by_id: dict[str, SessionHandle] = {}
        self.draining = False
        self.measured: int | None = None
        """Sessions this machine holds, once that is known."""
        self._settings, self._host, self._library, self._access = settings, host, library, access
        self._peers: dict[str, tuple[SessionHandle, PeerHandle]] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        minute = settings.offers_per_minute
        self._offers = AddressRateLimits(minute / 60, max(minute / 12, 1))

    @property
    def capacity(self) -> int:
        """Sessions that are let in: what the settings say, else what was measured."""
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
        """Open a session and answer its publisher; ``name`` is its public id, one is made up for none.

        A name in use is taken over by who has the same token: OBS, started again. Raises :class:`ServerFull`,
        :class:`TooMany`, ``UnknownPortrait``, ``BadOffer``.
        """
        if name and not NAME.fullmatch(name):
            raise BadInput("a session's name has small letters, digits and dashes, 64 at most")
        portrait = portrait or self._library.default
        await asyncio.to_thread(self._library.check, portrait, caller.sees)
        while (before := self.by_id.get(name)) is not None:
            if before.publisher.owner != caller.name:
                raise NameTaken("a session of this name is running: choose another")
            await before.end("replaced")
            await asyncio.sleep(0)
        self._admit_session(address)
        publisher = self._host.peer(role, address, caller.name)
        session = self._host.session(SessionSpec(name or new_id(), portrait, background, caller.sees), publisher)
        self.by_id[session.id] = session
        self._peers[publisher.key] = session, publisher
        try:
            answer = await session.open(offer)
        finally:
            # Also a session that could not be opened ends here: everything of it is freed.
            self._spawn(self._run(session))
        return session, publisher, answer

    async def view(self, id: str, offer: str, *, address: str, caller: Caller) -> tuple[PeerHandle, str]:
        """Let a viewer watch session ``id``; raises :class:`NotFound`, :class:`TooMany`, ``BadOffer``.

        Who came by a link that has become void meanwhile does not stay: raises ``Unauthorized``.
        """
        session = self.find(id)
        require_life(caller, session.life)
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
        if fault := self._access.fault(caller, time.time()):
            viewer.end(fault)
            raise Unauthorized(f"{fault}: ask for a new one")
        return viewer, answer

    def find(self, id: str) -> SessionHandle:
        """The session of a public id; raises :class:`NotFound`."""
        session = self.by_id.get(id)
        if session is None or session.publisher.ended.is_set():
            raise NotFound("no such session: it may have ended")
        return session

    def peer(self, key: str, *roles: Role) -> tuple[SessionHandle, PeerHandle]:
        """The peer of a secret key, if its role is one of ``roles``, and its session; raises :class:`NotFound`."""
        found = self._peers.get(key)
        if found is None or found[1].role not in roles or found[1].ended.is_set():
            raise NotFound("no such session: it may have ended")
        return found

    def peers(self) -> Iterator[PeerHandle]:
        """Everybody here."""
        return (peer for _, peer in self._peers.values())

    async def drain(self, seconds: float) -> None:
        """Let nobody in, tell pages to go (the control channel does), wait for them, then end who is left."""
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
        if not self._settings.sessions and any(session.live and session.level >= BUSY for session in sessions):
            raise ServerFull("this machine has as much to do as it can: try again in a moment")
        if sum(session.publisher.address == address for session in sessions) >= self._settings.sessions_per_address:
            raise TooMany(f"{self._settings.sessions_per_address} sessions of one address are enough")
        self._admit_half_open(address)

    def _admit_half_open(self, address: str) -> None:
        """Let somebody begin; who is refused costs little, and who begins a tenth of a second of a processor."""
        if not self._offers.take(address, time.monotonic()):
            most = self._settings.offers_per_minute
            raise TooMany(f"{most} connections of one address in a minute are enough: try again in a moment")
        waiting = [peer.address for peer in self.peers() if not peer.connected.is_set()]
        if waiting.count(address) >= self._settings.half_open_per_address:
            raise TooMany("too many connections of this address are being set up: finish those first")
        if len(waiting) >= self._settings.half_open:
            raise ServerFull("too many connections are being set up: try again in a moment")

    async def _run(self, session: SessionHandle) -> None:
        try:
            await session.run()
        finally:
            self._access.end(session.life)
            if self.by_id.get(session.id) is session:
                del self.by_id[session.id]
            self._peers.pop(session.publisher.key, None)

    async def _forget(self, peer: PeerHandle, expires: float) -> None:
        """When it has ended, with the link it came by at the latest (``expires``, in seconds since 1970)."""
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
