"""DTLS records and handshake messages as bytes (RFC 6347 sections 4.1 and 4.2). Pure functions, no I/O."""

from dataclasses import dataclass
from typing import Final

RECORD_HEADER_BYTES: Final = 13
MESSAGE_HEADER_BYTES: Final = 12
MAX_MESSAGE_BYTES: Final = 16_384  # of an assembled handshake message
MAX_EARLY_MESSAGES: Final = 8  # kept until the messages before them arrive


@dataclass(frozen=True)
class Record:
    """One record of a datagram."""

    kind: int
    epoch: int
    number: int
    content: bytes


@dataclass(frozen=True)
class Message:
    """A complete handshake message."""

    kind: int
    number: int
    body: bytes

    def to_bytes(self) -> bytes:
        """The message with its header, as one fragment: the form that both peers hash."""
        size, number = len(self.body).to_bytes(3, "big"), self.number.to_bytes(2, "big")
        return bytes([self.kind]) + size + number + bytes(3) + size + self.body


def split_records(data: bytes) -> list[Record]:
    """The records of a datagram, without a truncated last one."""
    found, at = [], 0
    while at + RECORD_HEADER_BYTES <= len(data):
        size = int.from_bytes(data[at + 11 : at + 13], "big")
        content = data[at + RECORD_HEADER_BYTES : at + RECORD_HEADER_BYTES + size]
        if len(content) < size:
            break
        epoch, number = int.from_bytes(data[at + 3 : at + 5], "big"), int.from_bytes(data[at + 5 : at + 11], "big")
        found.append(Record(data[at], epoch, number, content))
        at += RECORD_HEADER_BYTES + size
    return found


def encode_record(kind: int, epoch: int, number: int, content: bytes) -> bytes:
    """A DTLS 1.2 record as bytes."""
    head = bytes([kind]) + b"\xfe\xfd" + epoch.to_bytes(2, "big") + number.to_bytes(6, "big")
    return head + len(content).to_bytes(2, "big") + content


class Assembler:
    """Assembles handshake messages from their fragments, which may arrive in any order."""

    def __init__(self, first_number: int = 0) -> None:
        """``first_number`` is the number of the first message."""
        self._next_number = first_number
        self._parts: dict[int, tuple[int, int, dict[int, bytes]]] = {}  # number: type, size, fragments by offset

    def add(self, content: bytes) -> None:
        """Add the content of a handshake record; content that is not a valid fragment is ignored."""
        at = 0
        while at + MESSAGE_HEADER_BYTES <= len(content):
            size, number, offset, length = (
                int.from_bytes(content[at + a : at + b], "big") for a, b in ((1, 4), (4, 6), (6, 9), (9, 12))
            )
            body = content[at + MESSAGE_HEADER_BYTES : at + MESSAGE_HEADER_BYTES + length]
            if len(body) < length or offset + length > size or size > MAX_MESSAGE_BYTES:
                return
            if self._next_number <= number < self._next_number + MAX_EARLY_MESSAGES:
                kind, whole, parts = self._parts.setdefault(number, (content[at], size, {}))
                if (kind, whole) == (content[at], size) and len(parts) < 64:
                    parts.setdefault(offset, body)
            at += MESSAGE_HEADER_BYTES + length

    def next(self) -> Message | None:
        """The next message; None until it is complete."""
        if self._next_number not in self._parts:
            return None
        kind, size, parts = self._parts[self._next_number]
        body = bytearray()
        for offset in sorted(parts):
            if offset > len(body):
                return None
            body += parts[offset][max(0, len(body) - offset) :]
        if len(body) < size:
            return None
        message = Message(kind, self._next_number, bytes(body[:size]))
        del self._parts[self._next_number]
        self._next_number += 1
        return message
