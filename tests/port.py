"""A simulated aioice connection with one port, behind the packet filter."""

from types import SimpleNamespace
from typing import Any, Final

from aioice import stun

from avatar_stream.media.packet_filter import PacketFilter

PEER_ADDRESS: Final = ("192.0.2.1", 5000)
"""The address that ICE has validated."""
UNKNOWN_ADDRESS: Final = ("192.0.2.9", 6000)
ICE_PASSWORD: Final = "a" * 22


class Port:
    """Both the connection and its port. Packets that pass the filter are in ``checks`` (STUN) and ``data``."""

    def __init__(self) -> None:
        self.local_username, self.local_password = "abcd", ICE_PASSWORD
        self._nominated = {1: SimpleNamespace(remote_addr=PEER_ADDRESS)}
        self._check_list: list[Any] = []
        self.local_candidate = SimpleNamespace(component=1)
        self.transactions: dict[bytes, Any] = {}
        self._protocols = [self]
        self.checks: list[bytes] = []
        self.data: list[bytes] = []
        self.heard = 0
        self.filter = PacketFilter(self, self._on_heard)

    def _on_heard(self) -> None:
        self.heard += 1

    def datagram_received(self, data: bytes, addr: Any) -> None:
        """Receives the STUN packets that pass the filter."""
        self.checks.append(data)

    def data_received(self, data: bytes, component: int) -> None:
        """Receives the DTLS, SRTP and SRTCP packets that pass the filter."""
        self.data.append(data)


def connectivity_check(username: str = "abcd:efgh", password: str = ICE_PASSWORD, **more: Any) -> bytes:
    """A connectivity check (RFC 8445 section 7.1) as a peer sends it."""
    attributes = {"USERNAME": username, "PRIORITY": 1, "ICE-CONTROLLING": 2} | more
    message = stun.Message(stun.Method.BINDING, stun.Class.REQUEST, attributes=attributes)
    message.add_message_integrity(password.encode())
    return bytes(message)
