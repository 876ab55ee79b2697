"""DTLS records and handshake messages as bytes (RFC 6347 sections 4.1 and 4.2). Pure functions, no I/O."""

from dataclasses import dataclass
from typing import Final

RECORD_HEADER: Final = 13  # bytes
MESSAGE_HEADER: Final = 12  # bytes
MAX_MESSAGE: Final = 16_384  # bytes of a handshake message that is put together
MAX_AHEAD: Final = 8  # messages kept that came before their turn


@dataclass(frozen=True)
class Record:
    """One record of a datagram."""

    kind: int
    epoch: int
    number: int
    content: bytes


@dataclass(frozen=True)
class Message:
    """A handshake message, put together."""

    kind: int
    number: int
    body: bytes

    def whole(self) -> bytes:
        """With its header, as one fragment: as it counts for what both ends hash."""
        size, number = len(self.body).to_bytes(3, "big"), self.number.to_bytes(2, "big")
        return bytes([self.kind]) + size + number + bytes(3) + size + self.body


def split(data: bytes) -> list[Record]:
    """The records of a datagram; what is cut short is left out."""
    found, at = [], 0
    while at + RECORD_HEADER <= len(data):
        size = int.from_bytes(data[at + 11 : at + 13], "big")
        content = data[at + RECORD_HEADER : at + RECORD_HEADER + size]
        if len(content) < size:
            break
        epoch, number = int.from_bytes(data[at + 3 : at + 5], "big"), int.from_bytes(data[at + 5 : at + 11], "big")
        found.append(Record(data[at], epoch, number, content))
        at += RECORD_HEADER + size
    return found


def record(kind: int, epoch: int, number: int, content: bytes) -> bytes:
    """A record of DTLS 1.2."""
    head = bytes([kind]) + b"\xfe\xfd" + epoch.to_bytes(2, "big") + number.to_bytes(6, "big")
    return head + len(content).to_bytes(2, "big") + content


class Assembler:
    """Puts handshake messages together from their fragments, in whatever order these come."""

    def __init__(self, turn: int = 0) -> None:
        """``turn`` is the number of the first message."""
        self._turn = turn
        self._parts: dict[int, tuple[int, int, dict[int, bytes]]] = {}  # number: type, size, fragments by offset

    def add(self, content: bytes) -> None:
        """Take in the content of a handshake record; what is no fragment is passed over."""
        at = 0
        while at + MESSAGE_HEADER <= len(content):
            size, number, offset, length = (
                int.from_bytes(content[at + a : at + b], "big") for a, b in ((1, 4), (4, 6), (6, 9), (9, 12))
            )
            body = content[at + MESSAGE_HEADER : at + MESSAGE_HEADER + length]
            if len(body) < length or offset + length > size or size > MAX_MESSAGE:
                return
            if self._turn <= number < self._turn + MAX_AHEAD:
                kind, whole, parts = self._parts.setdefault(number, (content[at], size, {}))
                if (kind, whole) == (content[at], size) and len(parts) < 64:
                    parts.setdefault(offset, body)
            at += MESSAGE_HEADER + length

    def next(self) -> Message | None:
        """The next message, once it is whole."""
        if self._turn not in self._parts:
            return None
        kind, size, parts = self._parts[self._turn]
        body = bytearray()
        for offset in sorted(parts):
            if offset > len(body):
                return None
            body += parts[offset][max(0, len(body) - offset) :]
        if len(body) < size:
            return None
        message = Message(kind, self._turn, bytes(body[:size]))
        del self._parts[self._turn]
        self._turn += 1
        return message
