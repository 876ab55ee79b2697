"""Patches for aiortc 1.16, where it lacks what live video needs.

The code that uses private parts of aiortc is in this module and in :mod:`.dtls` and :mod:`.packet_filter`. Their
tests fail if aiortc renames one of those parts.
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

NACK_REPEAT_SECONDS: Final = 0.08  # between requests for the same lost packets
MAX_LOSS_WAIT_SECONDS: Final = 0.6  # after that, a lost packet is given up
MIN_NACK_INTERVAL_SECONDS: Final = 0.01  # between any two requests for lost packets
MIN_PLI_INTERVAL_SECONDS: Final = 0.2  # between two requests for a key frame
MAX_RTCP_PACKETS: Final = 16  # handled per datagram; browsers send four or five in one
MAX_REPORT_BLOCKS: Final = 31  # in one receiver report: the count field has five bits
MAX_DROPOUT: Final = 512  # sequence numbers ahead; more is a jump. aiortc's buffer holds as many packets
MAX_MISORDER: Final = 100  # sequence numbers behind; more is a jump
RESEND_RATE_LIMIT: Final = 400, 300  # packets retransmitted to one peer: per second, and in one burst
MAX_NACKED_PACKETS: Final = 300  # accepted in one message


class FeedbackListener(Protocol):
    """Receives a peer's feedback about the video that it gets."""

    wants_key_frame: bool
    bitrate: int | None


def listen_to_feedback(sender: RTCRtpSender, listener: FeedbackListener) -> None:
    """Pass a peer's RTCP feedback to ``listener``: PLI and FIR (RFC 4585, RFC 5104), and the bit rate of REMB.

    aiortc passes this feedback only to its own encoder, which is not used here. The number of retransmitted packets
    is limited to ``RESEND_RATE_LIMIT``.
    """
    handle = sender._handle_rtcp_packet
    resent = RateLimit(*RESEND_RATE_LIMIT)

    async def handle_packet(packet: Any) -> None:
        if isinstance(packet, RtcpRtpfbPacket):
            # One datagram can request six thousand packets, or the same packet six thousand times.
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

    sender._handle_rtcp_packet = handle_packet  # type: ignore[method-assign]


class _SingleNalUnits(H264Encoder):
    """Packs H.264 in packetization mode 0: one NAL unit is one packet (RFC 6184 section 6.2)."""

    @classmethod
    def _packetize(cls, packages: Iterable[bytes]) -> list[bytes]:
        return list(packages)


def use_single_nal_units(sender: RTCRtpSender) -> None:
    """Send H.264 in packetization mode 0, which aiortc lacks. The encoder must keep NAL units small."""
    sender._RTCRtpSender__encoder = _SingleNalUnits()  # type: ignore[attr-defined]


def limit_receive_delay(receiver: RTCRtpReceiver) -> None:
    """Let a receiver catch up after a loss, and limit what jumps in the sequence numbers cost.

    aiortc returns at most one frame per arriving packet. If every frame is one packet, the frames that queued up
    behind a lost packet stay queued: each loss adds delay for good (measured: 1.2 s behind at 5 % loss and 100 ms;
    0.3 s with this function). aiortc also requests a lost packet again only when another one is lost, and waits
    for a packet that never comes until 512 others have arrived, which takes seconds. This function returns all
    complete frames at once, repeats requests for lost packets, and gives them up after ``MAX_LOSS_WAIT_SECONDS``.

    aiortc considers a frame complete when the next one begins, which adds 40 ms at 25 frames a second. Here the
    marker bit ends a frame (RFC 7741 section 4.1, RFC 6184 section 5.1), unless the sender sets it before a frame's
    end. Each audio packet is a frame.

    For each packet whose sequence number jumps, aiortc lists up to 32,767 lost packets and empties its buffer. Here
    two consecutive packets must confirm a jump (RFC 3550 appendix A.1), and packets that senders no longer keep are
    not requested.
    """
    buffer = receiver._RTCRtpReceiver__jitter_buffer  # type: ignore[attr-defined]
    mapper = receiver._RTCRtpReceiver__timestamp_mapper  # type: ignore[attr-defined]
    codecs = receiver._RTCRtpReceiver__codecs  # type: ignore[attr-defined]
    nacks = receiver._RTCRtpReceiver__nack_generator  # type: ignore[attr-defined]
    handle = receiver._handle_rtp_packet
    send_nack, send_pli = receiver._send_rtcp_nack, receiver._send_rtcp_pli
    last_nack = last_progress = time.monotonic()
    last_pli = -MIN_PLI_INTERVAL_SECONDS
    wants_key_frame = False
    origin: int | None = None
    guards: dict[int, SequenceGuard] = {}
    collector = _FrameCollector(buffer)

    async def handle_packet(packet: Any, arrival_time_ms: int) -> None:
        nonlocal last_nack, last_progress, origin
        codec = codecs.get(packet.payload_type)
        retransmitted = codec is not None and "apt" in codec.parameters  # RFC 4588
        if retransmitted:
            codec = codecs.get(codec.parameters["apt"])
            if nacks is None or int.from_bytes(packet.payload[:2], "big") not in nacks.missing:
                return  # not requested: browsers probe the bandwidth with such packets
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
            return  # no media yet: browsers begin with padding
        now = time.monotonic()
        if (
            nacks is not None
            and buffer._origin == origin
            and now - last_progress > MAX_LOSS_WAIT_SECONDS
            and _skip_gap(buffer)
        ):
            nacks.missing.clear()
            await request_key_frame(_ssrc(receiver, packet.ssrc))
        while (frame := buffer._remove_frame(0) or collector.take_frame()) is not None:
            frame.timestamp = mapper.map(frame.timestamp)
            receiver._RTCRtpReceiver__decoder_queue.put((codec, frame))  # type: ignore[attr-defined]
        if buffer._origin != origin:
            origin, last_progress = buffer._origin, now
        if nacks is not None and nacks.missing and now - last_nack > NACK_REPEAT_SECONDS:
            await request_lost(_ssrc(receiver, packet.ssrc), sorted(nacks.missing))
        if wants_key_frame:
            await request_key_frame(_ssrc(receiver, packet.ssrc))

    async def request_lost(ssrc: int, lost: list[int]) -> None:
        nonlocal last_nack
        now = time.monotonic()
        if now - last_nack > MIN_NACK_INTERVAL_SECONDS:  # otherwise the next request includes these packets
            last_nack = now
            await send_nack(ssrc, lost)

    async def request_key_frame(ssrc: int) -> None:
        nonlocal last_pli, wants_key_frame
        now = time.monotonic()
        wants_key_frame = now - last_pli <= MIN_PLI_INTERVAL_SECONDS
        if not wants_key_frame:
            last_pli = now
            await send_pli(ssrc)

    receiver._handle_rtp_packet = handle_packet  # type: ignore[method-assign]
    receiver._send_rtcp_nack = request_lost  # type: ignore[assignment, method-assign]
    receiver._send_rtcp_pli = request_key_frame  # type: ignore[assignment, method-assign]


class _FrameCollector:
    """Takes complete frames out of aiortc's jitter buffer as soon as their last packet is there."""

    def __init__(self, buffer: Any) -> None:
        self._buffer = buffer
        self._trusts_markers = True
        self._last: int | None = None  # timestamp of the last frame taken by its marker

    def observe(self, packet: Any) -> None:
        """Look at a packet before it enters the buffer; not for retransmissions.

        If a packet continues a frame that a marker had ended, its sender uses markers differently, and they are not
        trusted any more. Padding has no payload and is ignored.
        """
        if self._last == packet.timestamp and packet.payload:
            ahead = (packet.sequence_number - self._buffer._origin) & 0xFFFF
            self._trusts_markers = self._trusts_markers and ahead >= 0x8000

    def take_frame(self) -> JitterFrame | None:
        """Remove the first frame from the buffer and return it; None if it is not complete."""
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
    """Distinguishes lost packets from jumps in the sequence numbers of one source (RFC 3550 appendix A.1)."""

    def __init__(self) -> None:
        self._newest: int | None = None
        self._expected: int | None = None  # the number that would confirm a jump

    def admits(self, number: int) -> bool:
        """Whether to use a packet: its number is near the newest one, or confirms a jump."""
        ahead = 0 if self._newest is None else (number - self._newest) & 0xFFFF
        if ahead > 0x10000 - MAX_MISORDER:
            return True  # late
        if ahead >= MAX_DROPOUT and number != self._expected:
            self._expected = (number + 1) & 0xFFFF
            return False
        self._newest, self._expected = number, None
        return True


def use_stream_decoder(receiver: RTCRtpReceiver) -> StreamDecoder:
    """Replace a receiver's decoder queue by a :class:`StreamDecoder`; call before the receiver starts."""
    decoder = StreamDecoder(receiver._RTCRtpReceiver__kind)  # type: ignore[attr-defined]
    receiver._RTCRtpReceiver__decoder_queue = decoder  # type: ignore[attr-defined]

    def stop() -> None:
        decoder.put(None)
        receiver._RTCRtpReceiver__decoder_thread = None  # type: ignore[attr-defined]

    receiver._RTCRtpReceiver__stop_decoder = stop  # type: ignore[attr-defined]
    return decoder


def _run_decoder(loop: Any, frames: Any, output: Any, failed: Any) -> None:
    """Replaces aiortc's ``decoder_worker``, which every receiver runs in a thread."""
    if isinstance(frames, StreamDecoder):
        frames.run(loop, output, failed)
    else:
        _aiortc_decoder_worker(loop, frames, output, failed)


# Chromium uses payload types from 35 on when 96 to 127 are full, for example for its last H.264 profiles. aiortc does
# not know them as dynamic and would answer with other numbers.
rtp.DYNAMIC_PAYLOAD_TYPES = (*range(35, 64), *range(96, 128))  # type: ignore[assignment]

_aiortc_decoder_worker = rtcrtpreceiver.decoder_worker
rtcrtpreceiver.decoder_worker = _run_decoder  # type: ignore[assignment]


def ignore_malformed_packets(pc: RTCPeerConnection, filters: Iterable[PacketFilter]) -> None:
    """Drop and count authenticated packets that aiortc cannot parse.

    In aiortc, an exception from such a packet ends the connection with a traceback in the log. A datagram may hold
    hundreds of RTCP packets; only the first ``MAX_RTCP_PACKETS`` are handled.
    """
    by_connection = {id(one.connection): one for one in filters}
    for dtls in dtls_transports(pc):
        _ignore_malformed(dtls, by_connection[id(dtls.transport._connection)])
    for receiver in pc.getReceivers():
        _bound_report_fields(receiver)


def log_connect_errors(pc: RTCPeerConnection) -> None:
    """Log one line, not asyncio's traceback, if a connection cannot start, as after a refused offer."""
    connect = pc._RTCPeerConnection__connect  # type: ignore[attr-defined]

    async def quietly() -> None:
        try:
            await connect()
        except Exception as error:
            log.info("a connection could not start: %s", error)

    pc._RTCPeerConnection__connect = quietly  # type: ignore[attr-defined]


async def close_connection(pc: RTCPeerConnection) -> None:
    """Close a connection and all of its ports.

    aiortc's own ``close`` fails at a medium without a transport, and leaves ports open. Such media exist after an
    offer was refused while it was being applied.
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
    # No data channel is used here, and an SCTP chunk with a parameter of length zero makes aiortc loop for ever.
    dtls._register_data_receiver = lambda receiver: None


def _bound_report_fields(receiver: RTCRtpReceiver) -> None:
    """Clip receiver reports to the range of their fields (RFC 3550 section 6.4.1).

    A value out of range ends aiortc's report task, and then ``stop`` waits for that task for ever.
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
    """The SSRC of the media stream that a packet belongs to, which may be a retransmission (RFC 4588)."""
    return int(receiver._RTCRtpReceiver__rtx_ssrc.get(ssrc, ssrc))  # type: ignore[attr-defined]


def _skip_gap(buffer: Any) -> bool:
    """Skip to the first frame behind the gap whose first packet is there; False if there is none yet."""
    origin, size = buffer._origin, buffer.capacity
    ahead = [buffer._packets[(origin + k) % size] for k in range(size)]
    gap = ahead.index(None) if None in ahead else size
    for k in range(gap + 1, size):
        before, packet = ahead[k - 1], ahead[k]
        if before is not None and packet is not None and before.timestamp != packet.timestamp:
            buffer.remove(k)
            return True
    return False
