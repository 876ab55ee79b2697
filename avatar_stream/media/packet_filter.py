"""What may reach aioice and aiortc of the datagrams that arrive on a connection's UDP ports.

Every datagram passes here first, whoever sent it. What no peer sends is dropped and counted, and nothing is logged: a
stranger must not fill a log. The rest goes on: ICE's messages to aioice, DTLS, SRTP and SRTCP to aiortc.

aioice and aiortc trust what arrives: an empty datagram, a STUN attribute of the wrong length, or a REMB message cut
short raises where nobody catches it, and ends the session.
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

MAX_DATAGRAM_BYTES: Final = 2048  # bytes; WebRTC keeps to the path's MTU, 1,500 at most
STUN_HEADER_BYTES: Final = 20  # bytes (RFC 8489 section 5)
DTLS_HEADER_BYTES: Final = 13  # bytes (RFC 6347 section 4.1)
RTP_HEADER_BYTES: Final = 12  # bytes (RFC 3550 section 5.1)
MIN_SRTCP_BYTES: Final = 8 + 4 + 10  # bytes: a header with its source, the SRTCP index, the shortest tag (RFC 3711)
RTCP_PACKET_TYPES: Final = range(192, 209)  # second byte of RTCP beside RTP (RFC 5761 section 4)

# Packets a second, and at once. A camera of 5 Mbit/s with its sound is 550 packets a second, each of which costs 150
# us of a processor; a key frame may be 200 at once. Browsers send RTCP ten to fifty times a second when packets are
# lost, STUN once in a few seconds, DTLS in the handshake only.
RTP_RATE_LIMIT: Final = 800, 600
RTCP_RATE_LIMIT: Final = 120, 200
RTCP_BYTE_RATE_LIMIT: Final = 16_000, 24_000
"""Bytes of RTCP a second, and at once: what is said of each lost packet costs more than the packet."""
DTLS_RATE_LIMIT: Final = 40, 120
STUN_RATE_LIMIT: Final = 40, 120

MAX_SSRCS: Final = 24
"""Synchronisation sources (SSRC) of one connection. libsrtp, aiortc's statistics and its reports grow with each."""

DEFAULT_PRIORITY: Final = 110 << 24 | 65535 << 8 | 255
"""Of a peer that names none in its checks, as FFmpeg 8.0 does: peer-reflexive (RFC 8445 section 5.1.2.1)."""

MAX_CANDIDATE_PAIRS: Final = 100
"""Candidate pairs of one connection: each new address that checks with the right password makes one."""

DATAGRAMS_PER_TURN: Final = 32  # datagrams read in one turn of the event loop
READ_PAUSE_SECONDS: Final = 0.03
"""Seconds for which nothing is read from a port after its peer sent too much: the system drops what its buffer does
not hold, some hundreds of datagrams, and that costs nothing here."""


class DatagramKind(Enum):
    """What a datagram is, by its first bytes (RFC 7983)."""

    STUN = "STUN"
    DTLS = "DTLS"
    RTP = "RTP"
    RTCP = "RTCP"


def datagram_kind(data: bytes) -> DatagramKind | None:
    """The kind of a datagram whose header is whole; None for everything else."""
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
    """A binding request, response or error (RFC 8445) with all that aioice will read of it; None for any other.

    Its integrity is not checked here.
    """
    try:
        message = stun.parse_message(data)
    except Exception:  # aioice raises whatever its attributes' parsers do: ValueError, struct.error, IndexError
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
    """Stands before one connection's ports. Used on the event loop only.

    ``on_known_sender`` is called for every datagram from an address that ICE knows.
    """

    def __init__(self, connection: Any, on_known_sender: Callable[[], None]) -> None:
        """``connection`` is an ``aioice.Connection`` whose candidates have been gathered."""
        self.dropped: Counter[str] = Counter()
        """Datagrams dropped, by reason."""
        self.connection = connection
        self._on_known_sender = on_known_sender
        self._ssrcs: set[bytes] = set()  # of packets whose authentication held
        self._last_known: tuple[str, int] | None = None  # the address that was last found to be known
        self._buckets = {
            DatagramKind.RTP: RateLimit(*RTP_RATE_LIMIT),
            DatagramKind.RTCP: RateLimit(*RTCP_RATE_LIMIT),
            DatagramKind.DTLS: RateLimit(*DTLS_RATE_LIMIT),
            DatagramKind.STUN: RateLimit(*STUN_RATE_LIMIT),
        }
        self._rtcp_bytes = RateLimit(*RTCP_BYTE_RATE_LIMIT)
        self._unknown_senders = RateLimit(*STUN_RATE_LIMIT)  # checks from addresses that are not known yet
        self._username = f"{connection.local_username}:".encode()
        self._password = connection.local_password.encode()
        self._flooded = False  # since the last batch began
        for protocol in connection._protocols:
            self._filter_datagrams(protocol)
            self._read_in_batches(protocol)

    def authenticated(self, source: bytes) -> None:
        """SRTP of the synchronisation source ``source`` (4 bytes) has passed its authentication."""
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
                # aioice hands every datagram that is no STUN to DTLS, whoever sent it and before anybody is let in:
                # a stranger's ClientHello would take the peer's place (the race of OWASP ASVS 17.2.6).
                self.dropped["foreign"] += 1
            elif not self._within_rates(kind, len(data)):
                self.dropped["too many"] += 1
                self._flooded = True
            elif kind is DatagramKind.RTP and len(self._ssrcs) >= MAX_SSRCS and data[8:12] not in self._ssrcs:
                self.dropped["too many sources"] += 1
            else:
                # Past aioice's own look for STUN, which raises and catches an exception for each of these.
                self.connection.data_received(data, protocol.local_candidate.component)

        protocol.datagram_received = listen

    def _within_rates(self, kind: DatagramKind, size: int) -> bool:
        now = time.monotonic()
        return self._buckets[kind].take(now) and (kind is not DatagramKind.RTCP or self._rtcp_bytes.take(now, size))

    def _read_in_batches(self, protocol: Any) -> None:
        """Read a port's datagrams many at a time, and for a while none where its peer sends too many.

        asyncio reads one in a turn of its loop, which costs 50 us: a flood of 5,000 a second is a quarter of a
        processor before anybody has looked at it. Other event loops than its own go on as they do.
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
        """The STUN message that aioice may see: only what this peer can have sent, and not too many.

        A request without this connection's name is not answered (RFC 8489 section 9.1.3 wants a 401): whoever asks
        does not know the session, and an answer to a forged address hits somebody else. The cheap looks come first.
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
            if "PRIORITY" not in message.attributes:  # aioice reads it
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
    """The DTLS transports of ``pc``: one, where all of its media are bundled."""
    found: set[Any] = {receiver.transport for receiver in pc.getReceivers()}
    return found | {pc.sctp.transport} if pc.sctp is not None else found


def filter_packets(pc: RTCPeerConnection, on_known_sender: Callable[[], None]) -> list[PacketFilter]:
    """Stand before all ports of ``pc``, whose candidates have been gathered."""
    return [PacketFilter(dtls.transport._connection, on_known_sender) for dtls in dtls_transports(pc)]
