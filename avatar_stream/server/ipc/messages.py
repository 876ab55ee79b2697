"""What crosses the pipe between the server and a process of sessions, beside commands and specifications."""

from dataclasses import dataclass
from typing import Any

from avatar_stream.server.rtc.signalling import Role
from avatar_stream.server.session.session import Session


@dataclass(frozen=True, slots=True)
class PeerSpec:
    """A peer, as the server names it."""

    key: str
    role: Role
    address: str
    owner: str


@dataclass(frozen=True, slots=True)
class SessionState:
    """What the server shows of a session."""

    status: dict[str, Any]
    level: int

    @staticmethod
    def of(session: Session) -> "SessionState":
        """As it is now."""
        return SessionState(session.status(), session.level)
