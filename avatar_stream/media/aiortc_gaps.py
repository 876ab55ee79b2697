"""Where aiortc 1.16 leaves gaps that a live picture falls into, closed from outside.

Everything in the project that touches what aiortc does not promise to keep is in this module; its tests fail when
aiortc renames any of it.
"""

import contextlib
import logging
import time
from collections.abc import Iterable
from typing import Any, Final, Protocol

from aiortc import RTCPeerConnection, RTCRtpReceiver, RTCRtpSender, rtcrtpreceiver, rtp
from aiortc.codecs.h264 import H264Encoder
from aiortc.jitterbuffer import JitterFrame
from aiortc.rtp import (
    RTCP_PSFB_APP,
    RTCP_PSFB_FIR,
    RTCP_PSFB_PLI,
    RTP_HISTORY_SIZE,
    RtcpPacket,
    RtcpPsfbPacket,
    RtcpRrPacket,
    RtcpRtpfbPacket,
    unpack_remb_fci,
)

from avatar_stream.media.decoding import StreamDecoder
from avatar_stream.media.packet_filter import PacketFilter, dtls_transports
from avatar_stream.rate_limits import RateLimit

log = logging.getLogger(__name__)

NACK_REPEAT_SECONDS: Final = 0.08  # seconds between requests for the same lost packets
MAX_LOSS_WAIT_SECONDS: Final = 0.6  # seconds after which a lost packet is not waited for any more
MIN_NACK_INTERVAL_SECONDS: Final = 0.01  # seconds between two requests for lost packets
MIN_PLI_INTERVAL_SECONDS: Final = 0.2  # seconds between two requests for a key frame
MAX_RTCP_PACKETS: Final = 16  # RTCP packets heard of one datagram; browsers put four or five into one
MAX_REPORT_BLOCKS: Final = 31  # of sources in one receiver report: its count has five bits
MAX_DROPOUT: Final = 512  # sequence numbers ahead from which on a packet is a jump: aiortc's buffer holds as many
MAX_MISORDER: Final = 100  # sequence numbers behind
RESEND_RATE_LIMIT: Final = 400, 300  # packets that one peer is sent again, a second and at once
MAX_NACKED_PACKETS: Final = 300  # packets that one message asks for


class FeedbackListener(Protocol):
    """Who wants to know what a peer says of the video it gets."""

    wants_key_frame: bool
    bitrate: int | None


def listen_to_feedback(sender: RTCRtpSender, listener: FeedbackListener) -> None:
    """Pass on a peer's RTCP: lost pictures (PLI, FIR, RFC 4585 and 5104) and the bit rate of its line (REMB).

    aiortc gives them to the encoder that it would have made itself, and to nobody else. How much is sent again is
    bounded.
    """
    handle = sender._handle_rtcp_packet
    resent = RateLimit(*RESEND_RATE_LIMIT)

    async def listen(packet: Any) -> None:
        if isinstance(packet, RtcpRtpfbPacket):
            # One datagram can ask for six thousand packets, and for the same one as often.
            now = time.monotonic()
            packet.lost = [number for number in dict.fromkeys(packet.lost[:MAX_NACKED_PACKETS]) if resent.take(now)]
        if isinstance(packet, RtcpPsfbPacket):
            if packet.fmt in (RTCP_PSFB_PLI, RTCP_PSFB_FIR):
                listener.wants_key_frame = True
            elif packet.fmt == RTCP_PSFB_APP:
                try:
                    bitrate, ssrcs = unpack_remb_fci(packet.fci)
                    if sender._ssrc in ssrcs:
                        listener.bitrate = bitrate
                except ValueError:
                    pass
        await handle(packet)

    sender._handle_rtcp_packet = listen  # type: ignore[method-assign]


class _SingleNalUnits(H264Encoder):
    """Packs H.264 in packetization mode 0: a unit is a packet (RFC 6184 section 6.2)."""

    @classmethod
    def _packetize(cls, packages: Iterable[bytes]) -> list[bytes]:
        return list(packages)


def use_single_nal_units(sender: RTCRtpSender) -> None:
    """Send H.264 in packetization mode 0, which aiortc does not have; the encoder keeps its units short."""
    sender._RTCRtpSender__encoder = _SingleNalUnits()  # type: ignore[attr-defined]


def limit_receive_delay(receiver: RTCRtpReceiver) -> None:
    """Let a receiver catch up after a loss, and let no packet cost more than another.

    aiortc hands out at most one frame for every packet that comes in. What has piled up behind a lost packet is never
    worked off where frames are one packet: after every loss the picture is later, for good (measured: 1.2 s behind at
    5 % loss and 100 ms, 0.3 s with this). It also asks for a lost packet only when the next one is lost, and waits
    for one that never comes until 512 others have arrived, which are seconds. Here everything whole is handed out at
    once, lost packets are asked for again, and given up in time.

    aiortc takes a frame for whole when the next one begins: each is 40 ms late at 25 a second. Here the marker bit
    ends it (RFC 7741 section 4.1, RFC 6184 section 5.1), unless a sender sets it before a frame's end; a packet of
    sound is a frame.

    A jump in the sequence numbers makes aiortc list up to 32,767 lost packets and empty its buffer, for each packet
    that jumps. Here two packets in a row must agree on a jump (RFC 3550 appendix A.1), and nothing is asked for that
    senders no longer keep.
    """
    buffer = receiver._RTCRtpReceiver__jitter_buffer  # type: ignore[attr-defined]
    mapper = receiver._RTCRtpReceiver__timestamp_mapper  # type: ignore[attr-defined]
    codecs = receiver._RTCRtpReceiver__codecs  # type: ignore[attr-defined]
    nacks = receiver._RTCRtpReceiver__nack_generator  # type: ignore[attr-defined]
    handle = receiver._handle_rtp_packet
    send_nack, send_pli = receiver._send_rtcp_nack, receiver._send_rtcp_pli
    asked = moved = time.monotonic()
    key_frame_asked = -MIN_PLI_INTERVAL_SECONDS
    wants_key_frame = False
    origin: int | None = None
    guards: dict[int, SequenceGuard] = {}
    collector = _FrameCollector(buffer)

    async def listen(packet: Any, arrival_time_ms: int) -> None:
        nonlocal asked, moved, origin
        codec = codecs.get(packet.payload_type)
        retransmitted = codec is not None and "apt" in codec.parameters  # RFC 4588
        if retransmitted:
            codec = codecs.get(codec.parameters["apt"])
            if nacks is None or int.from_bytes(packet.payload[:2], "big") not in nacks.missing:
                return  # not asked for: browsers fill up a line with such packets to measure it
        elif not guards.setdefault(packet.ssrc, SequenceGuard()).admits(packet.sequence_number):
            return
        elif nacks is not None and nacks.max_seq is not None:
            lost = (packet.sequence_number - nacks.max_seq) & 0xFFFF
            if RTP_HISTORY_SIZE < lost <= 0x10000 - MAX_MISORDER:
                nacks.missing.clear()
                nacks.max_seq = (packet.sequence_number - 1) & 0xFFFF
        if not retransmitted:
            collector.observe(packet)
        await handle(packet, arrival_time_ms)
        if codec is None or buffer._origin is None:
            return  # nothing usable: browsers begin with padding
        now = time.monotonic()
        if (
            nacks is not None
            and buffer._origin == origin
            and now - moved > MAX_LOSS_WAIT_SECONDS
            and _skip_gap(buffer)
        ):
            nacks.missing.clear()
            await request_key_frame(_ssrc(receiver, packet.ssrc))
        while (frame := buffer._remove_frame(0) or collector.take_frame()) is not None:
            frame.timestamp = mapper.map(frame.timestamp)
            receiver._RTCRtpReceiver__decoder_queue.put((codec, frame))  # type: ignore[attr-defined]
        if buffer._origin != origin:
            origin, moved = buffer._origin, now
        if nacks is not None and nacks.missing and now - asked > NACK_REPEAT_SECONDS:
            await request_lost(_ssrc(receiver, packet.ssrc), sorted(nacks.missing))
        if wants_key_frame:
            await request_key_frame(_ssrc(receiver, packet.ssrc))

    async def request_lost(ssrc: int, lost: list[int]) -> None:
        nonlocal asked
        now = time.monotonic()
        if now - asked > MIN_NACK_INTERVAL_SECONDS:  # what waits is asked for with the next
            asked = now
            await send_nack(ssrc, lost)

    async def request_key_frame(ssrc: int) -> None:
        nonlocal key_frame_asked, wants_key_frame
        now = time.monotonic()
        wants_key_frame = now - key_frame_asked <= MIN_PLI_INTERVAL_SECONDS
        if not wants_key_frame:
            key_frame_asked = now
            await send_pli(ssrc)

    receiver._handle_rtp_packet = listen  # type: ignore[method-assign]
    receiver._send_rtcp_nack = request_lost  # type: ignore[assignment, method-assign]
    receiver._send_rtcp_pli = request_key_frame  # type: ignore[assignment, method-assign]


class _FrameCollector:
    """Finds frames in a jitter buffer of aiortc that their last packet ends."""

    def __init__(self, buffer: Any) -> None:
        self._buffer = buffer
        self._trusts_markers = True
        self._last: int | None = None  # the stamp of the last frame that was found

    def observe(self, packet: Any) -> None:
        """See a packet, no retransmission, before it goes into the buffer.

        One that goes on with a frame which had ended shows that its sender sets markers in another way. Padding has
        no payload and shows nothing.
        """
        if self._last == packet.timestamp and packet.payload:
            ahead = (packet.sequence_number - self._buffer._origin) & 0xFFFF
            self._trusts_markers = self._trusts_markers and ahead >= 0x8000

    def take_frame(self) -> JitterFrame | None:
        """The first frame in the buffer, taken out, if all of it is there; None if not."""
        buffer, found = self._buffer, list[Any]()
        if buffer._is_video and not self._trusts_markers:
            return None
        for count in range(buffer.capacity):
            packet = buffer._packets[(buffer._origin + count) % buffer.capacity]
            if packet is None or (found and packet.timestamp != found[0].timestamp):
                return None
            found.append(packet)
            if packet.marker or not buffer._is_video:
                buffer.remove(len(found))
                self._last = packet.timestamp if buffer._is_video else None
                return JitterFrame(data=b"".join(one._data for one in found), timestamp=packet.timestamp)
        return None


class SequenceGuard:
    """Tells a lost packet from a jump in one source's sequence numbers (RFC 3550 appendix A.1)."""

    def __init__(self) -> None:
        self._newest: int | None = None
        self._expected: int | None = None  # what must come next for a jump to be believed

    def admits(self, number: int) -> bool:
        """Whether a packet may be used: it is near the newest, or the second in a row behind a jump."""
        ahead = 0 if self._newest is None else (number - self._newest) & 0xFFFF
        if ahead > 0x10000 - MAX_MISORDER:
            return True  # late
        if ahead >= MAX_DROPOUT and number != self._expected:
            self._expected = (number + 1) & 0xFFFF
            return False
        self._newest, self._expected = number, None
        return True


def use_stream_decoder(receiver: RTCRtpReceiver) -> StreamDecoder:
    """Give a receiver that has not begun a :class:`StreamDecoder` in place of its own queue and thread."""
    decoder = StreamDecoder(receiver._RTCRtpReceiver__kind)  # type: ignore[attr-defined]
    receiver._RTCRtpReceiver__decoder_queue = decoder  # type: ignore[attr-defined]

    def stop() -> None:
        decoder.put(None)
        receiver._RTCRtpReceiver__decoder_thread = None  # type: ignore[attr-defined]

    receiver._RTCRtpReceiver__stop_decoder = stop  # type: ignore[attr-defined]
    return decoder


def _run_decoder(loop: Any, frames: Any, output: Any, failed: Any) -> None:
    """In place of aiortc's ``decoder_worker``, which every receiver's thread runs."""
    if isinstance(frames, StreamDecoder):
        frames.run(loop, output, failed)
    else:
        _aiortc_decoder_worker(loop, frames, output, failed)


# Chromium numbers from 35 on what does not fit into 96 to 127, its last H.264 profiles among it: aiortc would answer
# with numbers of its own.
rtp.DYNAMIC_PAYLOAD_TYPES = (*range(35, 64), *range(96, 128))  # type: ignore[assignment]

_aiortc_decoder_worker = rtcrtpreceiver.decoder_worker
rtcrtpreceiver.decoder_worker = _run_decoder  # type: ignore[assignment]


def ignore_malformed_packets(pc: RTCPeerConnection, filters: Iterable[PacketFilter]) -> None:
    """Drop and count what aiortc cannot use of the packets that pass their authentication.

    Whatever one of them raises would end the connection with a traceback in the log. A datagram may hold hundreds of
    RTCP packets; the first few are heard.
    """
    by_connection = {id(one.connection): one for one in filters}
    for dtls in dtls_transports(pc):
        _ignore_malformed(dtls, by_connection[id(dtls.transport._connection)])
    for receiver in pc.getReceivers():
        _bound_report_fields(receiver)


def log_connect_errors(pc: RTCPeerConnection) -> None:
    """Let no task of a connection fail whose offer was refused half-way: asyncio would log it with a traceback."""
    connect = pc._RTCPeerConnection__connect  # type: ignore[attr-defined]

    async def quietly() -> None:
        try:
            await connect()
        except Exception as error:
            log.info("a connection was not begun: %s", error)

    pc._RTCPeerConnection__connect = quietly  # type: ignore[attr-defined]


async def close_connection(pc: RTCPeerConnection) -> None:
    """Close a connection and all of its ports.

    aiortc stops half-way at a medium without a transport, which an offer has that was refused half-way.
    """
    try:
        await pc.close()
    except AttributeError:
        found = [dtls for dtls in dtls_transports(pc) if dtls is not None]
        for part in [*found, *(dtls.transport for dtls in found)]:
            with contextlib.suppress(Exception):
                await part.stop()
        pc.remove_all_listeners()


def _ignore_malformed(dtls: Any, filter: PacketFilter) -> None:
    handle_rtp = dtls._handle_rtp_data

    async def rtp(data: bytes, arrival_time_ms: int) -> None:
        filter.authenticated(data[8:12])
        try:
            await handle_rtp(data, arrival_time_ms)
        except ConnectionError:
            raise
        except Exception:
            filter.dropped["malformed"] += 1

    async def rtcp(data: bytes) -> None:
        try:
            for packet in RtcpPacket.parse(data)[:MAX_RTCP_PACKETS]:
                for recipient in dtls._rtp_router.route_rtcp(packet):
                    await recipient._handle_rtcp_packet(packet)
        except ConnectionError:
            raise
        except Exception:
            filter.dropped["malformed"] += 1

    dtls._handle_rtp_data, dtls._handle_rtcp_data = rtp, rtcp
    # Nothing here uses data channels, and a parameter of no length in an SCTP chunk keeps aiortc busy for ever.
    dtls._register_data_receiver = lambda receiver: None


def _bound_report_fields(receiver: RTCRtpReceiver) -> None:
    """Keep receiver reports to what their fields hold (RFC 3550 section 6.4.1).

    One that does not fit ends aiortc's reports for good, and then ``stop`` waits for them for ever.
    """
    send = receiver._send_rtcp

    async def bounded(packet: Any) -> None:
        if isinstance(packet, RtcpRrPacket):
            packet.reports = packet.reports[:MAX_REPORT_BLOCKS]
            for report in packet.reports:
                report.jitter = min(report.jitter, 0xFFFFFFFF)
        await send(packet)

    receiver._send_rtcp = bounded  # type: ignore[method-assign]


def _ssrc(receiver: RTCRtpReceiver, ssrc: int) -> int:
    """The media's source of a packet that may be a retransmission (RFC 4588)."""
    return int(receiver._RTCRtpReceiver__rtx_ssrc.get(ssrc, ssrc))  # type: ignore[attr-defined]


def _skip_gap(buffer: Any) -> bool:
    """Go on with the first frame behind the gap whose beginning is there; False if there is none yet."""
    origin, size = buffer._origin, buffer.capacity
    ahead = [buffer._packets[(origin + k) % size] for k in range(size)]
    gap = ahead.index(None) if None in ahead else size
    for k in range(gap + 1, size):
        before, packet = ahead[k - 1], ahead[k]
        if before is not None and packet is not None and before.timestamp != packet.timestamp:
            buffer.remove(k)
            return True
    return False
