"""Filters the datagrams that arrive on a connection's UDP ports, before aioice and aiortc receive them.

Datagrams that no valid peer sends are dropped and counted. They are not logged, because strangers must not be able to
fill the log. Of the others, aioice gets the ICE messages, and aiortc gets DTLS, SRTP and SRTCP.

aioice and aiortc do not validate their input: an empty datagram, a STUN attribute of the wrong length or a truncated
REMB message raises an exception that they do not catch, and ends the session.
"""

import time
from asyncio.selector_events import _SelectorDatagramTransport  # type: ignore[attr-defined]
from collections import Counter
from collections.abc import Callable
from enum import Enum
from typing import Any, Final

from aioice import stun
from aiortc import RTCPeerConnection

from avatar_stream.rate_limits import RateLimit

MAX_DATAGRAM_BYTES: Final = 2048  # WebRTC keeps to the path's MTU, 1,500 at most
STUN_HEADER_BYTES: Final = 20  # RFC 8489 section 5
DTLS_HEADER_BYTES: Final = 13  # RFC 6347 section 4.1
RTP_HEADER_BYTES: Final = 12  # RFC 3550 section 5.1
MIN_SRTCP_BYTES: Final = 8 + 4 + 10  # header with SSRC, SRTCP index, shortest tag (RFC 3711)
RTCP_PACKET_TYPES: Final = range(192, 209)  # second byte of RTCP; other values are RTP (RFC 5761 section 4)

# Packets per second, and in one burst. A camera of 5 Mbit/s with sound sends 550 packets a second, and each costs
# 150 us of CPU time; a key frame may be a burst of 200. Browsers send RTCP ten to fifty times a second when packets
# are lost, STUN once every few seconds, and DTLS only in the handshake.
RTP_RATE_LIMIT: Final = 800, 600
RTCP_RATE_LIMIT: Final = 120, 200
RTCP_BYTE_RATE_LIMIT: Final = 16_000, 24_000
"""Bytes of RTCP per second, and in one burst: handling the reported losses costs more than the packet itself."""
DTLS_RATE_LIMIT: Final = 40, 120
STUN_RATE_LIMIT: Final = 40, 120

MAX_SSRCS: Final = 24
"""Per connection. Each one takes memory in libsrtp and in aiortc's statistics and reports."""

DEFAULT_PRIORITY: Final = 110 << 24 | 65535 << 8 | 255
"""For peers such as FFmpeg 8.0 whose checks have no priority: peer-reflexive (RFC 8445 section 5.1.2.1)."""

MAX_CANDIDATE_PAIRS: Final = 100
"""Per connection: each check with the right password from a new address adds a pair."""

DATAGRAMS_PER_TURN: Final = 32  # read in one turn of the event loop
READ_PAUSE_SECONDS: Final = 0.03
"""Pause in reading a port whose peer sent too much. The socket's buffer holds some hundreds of datagrams; the system
drops the rest without cost for this process."""


class DatagramKind(Enum):
    """Protocol of a datagram, by its first bytes (RFC 7983)."""

    STUN = "STUN"
    DTLS = "DTLS"
    RTP = "RTP"
    RTCP = "RTCP"


def datagram_kind(data: bytes) -> DatagramKind | None:
    """The kind of a datagram with a complete header; None for all others."""
    size = len(data)
    if not RTP_HEADER_BYTES <= size <= MAX_DATAGRAM_BYTES:
        return None
    first = data[0]
    if first < 4:
        whole = size >= STUN_HEADER_BYTES and size % 4 == 0 and data[4:8] == b"\x21\x12\xa4\x42"
        return DatagramKind.STUN if whole else None
    if 20 <= first < 64:
        whole = size >= DTLS_HEADER_BYTES and DTLS_HEADER_BYTES + int.from_bytes(data[11:13], "big") <= size
        return DatagramKind.DTLS if whole else None
    if 128 <= first < 192:
        if data[1] not in RTCP_PACKET_TYPES:
            return DatagramKind.RTP
        return DatagramKind.RTCP if size >= MIN_SRTCP_BYTES else None
    return None


def read_stun(data: bytes) -> stun.Message | None:
    """Parse a binding request, response or error (RFC 8445) with all attributes that aioice reads; None for others.

    It does not check the message's integrity.
    """
    try:
        message = stun.parse_message(data)
    except Exception:  # aioice's parsers raise ValueError, struct.error, IndexError and others
        return None
    if message.message_method is not stun.Method.BINDING:
        return None
    needed = {
        stun.Class.REQUEST: ("USERNAME", "MESSAGE-INTEGRITY"),
        stun.Class.RESPONSE: ("MESSAGE-INTEGRITY",),
        stun.Class.ERROR: ("ERROR-CODE",),
    }.get(message.message_class)
    return message if needed and all(name in message.attributes for name in needed) else None


class PacketFilter:
    """Filters the datagrams of one connection's ports. Use it on the event loop only.

    It calls ``on_known_sender`` for every datagram from an address that ICE knows.
    """

    def __init__(self, connection: Any, on_known_sender: Callable[[], None]) -> None:
        """``connection`` is an ``aioice.Connection`` whose candidates have been gathered."""
        self.dropped: Counter[str] = Counter()
        """Number of dropped datagrams, by reason."""
        self.connection = connection
        self._on_known_sender = on_known_sender
        self._ssrcs: set[bytes] = set()  # 4 bytes each, of authenticated packets
        self._last_known: tuple[str, int] | None = None  # the known address that was looked up last
        self._buckets = {
            DatagramKind.RTP: RateLimit(*RTP_RATE_LIMIT),
            DatagramKind.RTCP: RateLimit(*RTCP_RATE_LIMIT),
            DatagramKind.DTLS: RateLimit(*DTLS_RATE_LIMIT),
            DatagramKind.STUN: RateLimit(*STUN_RATE_LIMIT),
        }
        self._rtcp_bytes = RateLimit(*RTCP_BYTE_RATE_LIMIT)
        self._unknown_senders = RateLimit(*STUN_RATE_LIMIT)  # for checks from unknown addresses
        self._username = f"{connection.local_username}:".encode()
        self._password = connection.local_password.encode()
        self._flooded = False  # a rate was exceeded in this batch
        for protocol in connection._protocols:
            self._filter_datagrams(protocol)
            self._read_in_batches(protocol)

    def authenticated(self, source: bytes) -> None:
        """Note that a packet of the SSRC ``source`` (4 bytes) was authenticated."""
        if len(self._ssrcs) < MAX_SSRCS:
            self._ssrcs.add(source)

    def _filter_datagrams(self, protocol: Any) -> None:
        handle = protocol.datagram_received

        def listen(data: bytes, addr: tuple[Any, ...]) -> None:
            address = addr[0].partition("%")[0], addr[1]
            known = address == self._last_known or self._is_known(*address)
            if known:
                self._on_known_sender()
            kind = datagram_kind(data)
            if kind is None:
                self.dropped["malformed"] += 1
            elif kind is DatagramKind.STUN:
                if (check := self._admitted_check(data, protocol, known)) is not None:
                    handle(check, addr)
            elif not known:
                # aioice passes all datagrams except STUN to DTLS, whoever sent them, even before ICE has connected.
                # A stranger's ClientHello could then replace the peer's (the race of OWASP ASVS 17.2.6).
                self.dropped["foreign"] += 1
            elif not self._within_rates(kind, len(data)):
                self.dropped["too many"] += 1
                self._flooded = True
            elif kind is DatagramKind.RTP and len(self._ssrcs) >= MAX_SSRCS and data[8:12] not in self._ssrcs:
                self.dropped["too many sources"] += 1
            else:
                # Bypass aioice's own test for STUN, which raises and catches an exception for each datagram.
                self.connection.data_received(data, protocol.local_candidate.component)

        protocol.datagram_received = listen

    def _within_rates(self, kind: DatagramKind, size: int) -> bool:
        now = time.monotonic()
        return self._buckets[kind].take(now) and (kind is not DatagramKind.RTCP or self._rtcp_bytes.take(now, size))

    def _read_in_batches(self, protocol: Any) -> None:
        """Read a port's datagrams in batches, and pause after a batch that exceeded a rate limit.

        asyncio reads one datagram in each turn of its loop, which costs 50 us. A flood of 5,000 a second would take a
        quarter of a processor before the filter runs. Event loops other than asyncio's own are left unchanged.
        """
        transport = getattr(protocol, "transport", None)
        if not isinstance(transport, _SelectorDatagramTransport):
            return
        loop, socket, number = transport._loop, transport._sock, transport._sock_fd

        def read() -> None:
            self._flooded = False
            for _ in range(DATAGRAMS_PER_TURN):
                try:
                    data, addr = socket.recvfrom(MAX_DATAGRAM_BYTES + 1)
                except (BlockingIOError, InterruptedError):
                    break
                except OSError as error:
                    protocol.error_received(error)
                    break
                protocol.datagram_received(data, addr)
            if self._flooded:
                loop._remove_reader(number)
                loop.call_later(READ_PAUSE_SECONDS, resume)

        def resume() -> None:
            if not transport.is_closing():
                loop._add_reader(number, read)

        loop._remove_reader(number)
        loop._add_reader(number, read)

    def _admitted_check(self, data: bytes, protocol: Any, known: bool) -> bytes | None:
        """Return a STUN message for aioice if the peer can have sent it and its rate is within the limits, else None.

        A request without this connection's username gets no answer, although RFC 8489 section 9.1.3 requires a 401:
        the sender does not know the session, and an answer to a forged address would hit somebody else. The cheap
        checks come first.
        """
        if data[0] & 0x01:  # a response or an error
            if data[8:20] not in protocol.transactions:
                self.dropped["foreign"] += 1
                return None
        elif self._username not in data:
            self.dropped["foreign"] += 1
            return None
        if not (self._buckets[DatagramKind.STUN] if known else self._unknown_senders).take(time.monotonic()):
            self.dropped["too many"] += 1
            return None
        message = read_stun(data)
        if message is None:
            self.dropped["malformed"] += 1
            return None
        if message.message_class is stun.Class.REQUEST:
            mine = str(message.attributes["USERNAME"]).encode().startswith(self._username)
            if not (mine and message.check_message_integrity(self._password)):
                self.dropped["foreign"] += 1
                return None
            if not known and len(self.connection._check_list) >= MAX_CANDIDATE_PAIRS:
                self.dropped["too many addresses"] += 1
                return None
            if "PRIORITY" not in message.attributes:  # aioice requires it
                message.attributes["PRIORITY"] = DEFAULT_PRIORITY
                message.add_message_integrity(self._password)
                return bytes(message)
        return data

    def _is_known(self, host: str, port: int) -> bool:
        pairs = (*self.connection._nominated.values(), *self.connection._check_list)
        if any(pair.remote_addr[1] == port and pair.remote_addr[0].partition("%")[0] == host for pair in pairs):
            self._last_known = host, port
            return True
        return False


def dtls_transports(pc: RTCPeerConnection) -> set[Any]:
    """The DTLS transports of ``pc``: just one if all of its media are bundled."""
    found: set[Any] = {receiver.transport for receiver in pc.getReceivers()}
    return found | {pc.sctp.transport} if pc.sctp is not None else found


def filter_packets(pc: RTCPeerConnection, on_known_sender: Callable[[], None]) -> list[PacketFilter]:
    """Filter the datagrams of all ports of ``pc``; call after its candidates have been gathered."""
    return [PacketFilter(dtls.transport._connection, on_known_sender) for dtls in dtls_transports(pc)]
