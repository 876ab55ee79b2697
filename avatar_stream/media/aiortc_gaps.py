"""Where aiortc 1.16 leaves gaps that a live picture falls into, closed from outside.

Everything in the project that touches what aiortc does not promise to keep is in this module; its tests fail when
aiortc renames any of it.
"""

import time
from collections.abc import Callable
from typing import Any, Final, Protocol

from aiortc import RTCPeerConnection, RTCRtpReceiver, RTCRtpSender
from aiortc.rtp import RTCP_PSFB_APP, RTCP_PSFB_FIR, RTCP_PSFB_PLI, RtcpPsfbPacket, unpack_remb_fci

ASK_AGAIN: Final = 0.08  # seconds between requests for the same lost packets
GIVE_UP: Final = 0.6  # seconds after which a lost packet is not waited for any more


class Listener(Protocol):
    """Who wants to know what a peer says of the video it gets."""

    wants_key: bool
    bitrate: int | None


def listen_to_feedback(sender: RTCRtpSender, listener: Listener) -> None:
    """Pass on a peer's RTCP: lost pictures (PLI, FIR, RFC 4585 and 5104) and the bit rate of its line (REMB).

    aiortc gives them to the encoder that it would have made itself, and to nobody else.
    """
    handle = sender._handle_rtcp_packet

    async def listen(packet: Any) -> None:
        if isinstance(packet, RtcpPsfbPacket):
            if packet.fmt in (RTCP_PSFB_PLI, RTCP_PSFB_FIR):
                listener.wants_key = True
            elif packet.fmt == RTCP_PSFB_APP:
                try:
                    bitrate, ssrcs = unpack_remb_fci(packet.fci)
                    if sender._ssrc in ssrcs:
                        listener.bitrate = bitrate
                except ValueError:
                    pass
        await handle(packet)

    sender._handle_rtcp_packet = listen  # type: ignore[method-assign]


def keep_up(receiver: RTCRtpReceiver) -> None:
    """Let a receiver catch up after a loss.

    aiortc hands out at most one frame for every packet that comes in. What has piled up behind a lost packet is never
    worked off where frames are one packet: after every loss the picture is later, for good (measured: 1.2 s behind at
    5 % loss and 100 ms, 0.3 s with this). It also asks for a lost packet only when the next one is lost, and waits
    for one that never comes until 512 others have arrived, which are seconds. Here everything whole is handed out at
    once, lost packets are asked for again, and given up in time.
    """
    buffer = receiver._RTCRtpReceiver__jitter_buffer  # type: ignore[attr-defined]
    mapper = receiver._RTCRtpReceiver__timestamp_mapper  # type: ignore[attr-defined]
    frames = receiver._RTCRtpReceiver__decoder_queue  # type: ignore[attr-defined]
    codecs = receiver._RTCRtpReceiver__codecs  # type: ignore[attr-defined]
    nacks = receiver._RTCRtpReceiver__nack_generator  # type: ignore[attr-defined]
    handle = receiver._handle_rtp_packet
    asked = moved = time.monotonic()
    origin: int | None = None

    async def listen(packet: Any, arrival_time_ms: int) -> None:
        nonlocal asked, moved, origin
        await handle(packet, arrival_time_ms)
        codec = codecs.get(packet.payload_type)
        if codec is not None and "apt" in codec.parameters:  # a retransmission (RFC 4588)
            codec = codecs.get(codec.parameters["apt"])
        if codec is None or buffer._origin is None:
            return  # nothing usable: browsers begin with padding
        now = time.monotonic()
        if nacks is not None and buffer._origin == origin and now - moved > GIVE_UP and _skip(buffer):
            nacks.missing.clear()
            await receiver._send_rtcp_pli(_ssrc(receiver, packet.ssrc))
        while (frame := buffer._remove_frame(0)) is not None:
            frame.timestamp = mapper.map(frame.timestamp)
            frames.put((codec, frame))
        if buffer._origin != origin:
            origin, moved = buffer._origin, now
        if nacks is not None and nacks.missing and now - asked > ASK_AGAIN:
            asked = now
            await receiver._send_rtcp_nack(_ssrc(receiver, packet.ssrc), sorted(nacks.missing))

    receiver._handle_rtp_packet = listen  # type: ignore[method-assign]


def only_known_senders(pc: RTCPeerConnection, heard: Callable[[], None]) -> None:
    """Drop datagrams from addresses that ICE knows nothing of; tell ``heard`` of each that is from the peer.

    aioice hands every datagram that is no STUN to DTLS, whoever sent it and before anybody is let in: a stranger's
    ClientHello takes the peer's place (the race of OWASP ASVS 17.2.6), and a stranger's flood fills its queue. To be
    called when candidates are gathered.
    """
    # Bundled media share one connection.
    for connection in {receiver.transport.transport._connection for receiver in pc.getReceivers()}:
        for protocol in connection._protocols:
            _filter(connection, protocol, heard)


def _filter(connection: Any, protocol: Any, heard: Callable[[], None]) -> None:
    handle = protocol.datagram_received

    def listen(data: bytes, addr: tuple[Any, ...]) -> None:
        known = _known(connection, addr[0].partition("%")[0], addr[1])
        # RFC 7983: what is no STUN begins with 20 to 63 (DTLS) or 128 to 191 (RTP, RTCP).
        if data[:1] > b"\x03" and not known:
            return
        if known:
            heard()
        handle(data, addr)

    protocol.datagram_received = listen


def _known(connection: Any, host: str, port: int) -> bool:
    pairs = (*connection._nominated.values(), *connection._check_list)
    return any(pair.remote_addr[1] == port and pair.remote_addr[0].partition("%")[0] == host for pair in pairs)


def _ssrc(receiver: RTCRtpReceiver, ssrc: int) -> int:
    """The media's source of a packet that may be a retransmission (RFC 4588)."""
    return int(receiver._RTCRtpReceiver__rtx_ssrc.get(ssrc, ssrc))  # type: ignore[attr-defined]


def _skip(buffer: Any) -> bool:
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
