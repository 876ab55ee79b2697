"""Where sessions live: in the server's own process, or in processes of their own (see :mod:`.workers`)."""

from typing import Any, Protocol

from avatar_stream.identity.library import Library
from avatar_stream.portrait.window import Networks
from avatar_stream.server.metrics import Metrics
from avatar_stream.server.peer import Peer
from avatar_stream.server.remote import RemotePeer, RemoteSession
from avatar_stream.server.session import Session, SessionSpec
from avatar_stream.server.signalling import Role
from avatar_stream.settings import Settings

AnyPeer = Peer | RemotePeer
AnySession = Session | RemoteSession


class Home(Protocol):
    """Makes sessions and their peers."""

    def peer(self, role: Role, address: str, owner: str) -> Any:
        """A peer that has not been answered yet."""

    def session(self, spec: SessionSpec, publisher: Any) -> Any:
        """A session that has not been opened yet, for a publisher made here."""


class OwnProcess:
    """Sessions live beside the server: for machines with one processor, and for tests that look inside."""

    def __init__(self, settings: Settings, networks: Networks | None, library: Library, metrics: Metrics) -> None:
        self._settings, self._networks, self._library, self._metrics = settings, networks, library, metrics

    def peer(self, role: Role, address: str, owner: str) -> Peer:
        """See :class:`Home`."""
        return Peer(role, address, owner, self._settings)

    def session(self, spec: SessionSpec, publisher: Peer) -> Session:
        """See :class:`Home`."""
        return Session(spec, publisher, self._settings, self._networks, self._library, self._metrics)
