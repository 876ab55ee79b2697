"""Messages between the server and a session process, besides commands and ``SessionSpec``."""

from dataclasses import dataclass
from typing import Any

from avatar_stream.server.rtc.signalling import Role
from avatar_stream.server.session.session import Session


@dataclass(frozen=True, slots=True)
class PeerSpec:
    """What defines a new peer: its key and role, the client's address and its token's name."""

    key: str
    role: Role
    address: str
    owner: str


@dataclass(frozen=True, slots=True)
class Report:
    """A session process sends it four times a second.

    The states of its sessions by their ids, calls of ``Metrics``, and the name of its engine (empty until the
    networks are loaded).
    """

    states: dict[str, "SessionState"]
    metric_calls: list[tuple[str, tuple[Any, ...]]]
    engine: str


@dataclass(frozen=True, slots=True)
class SessionState:
    """The state of a session that the server shows."""

    status: dict[str, Any]
    level: int

    @staticmethod
    def of(session: Session) -> "SessionState":
        """The current state of ``session``."""
        return SessionState(session.status(), session.level)
