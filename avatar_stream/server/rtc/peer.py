"""One WebRTC connection of a session: it publishes the camera, views the avatar, or both."""

import asyncio
import logging
import secrets
import time
from collections import Counter
from collections.abc import Callable, Coroutine
from typing import Any, Final

from aiortc import MediaStreamTrack, RTCConfiguration, RTCPeerConnection, RTCRtpSender, RTCSessionDescription
from aiortc.mediastreams import MediaStreamError
from aiortc.sdp import candidate_from_sdp

from avatar_stream.errors import BadInput, BadOffer
from avatar_stream.media.aiortc_gaps import (
    close_connection,
    ignore_malformed_packets,
    limit_receive_delay,
    listen_to_feedback,
    log_connect_errors,
    use_single_nal_units,
    use_stream_decoder,
)
from avatar_stream.media.broadcast import Broadcast, Feed
from avatar_stream.media.decoding import MAX_MACROBLOCKS, MAX_PIXELS, StreamDecoder
from avatar_stream.media.dtls import accept_certificates
from avatar_stream.media.encode import H264_CODEC, H264_SINGLE_NAL
from avatar_stream.media.packet_filter import PacketFilter, filter_packets
from avatar_stream.server.rtc.h264 import (
    SINGLE_NAL_UNIT_MODE,
    choose_h264,
    with_aiortc_parameters,
    with_offered_parameters,
)
from avatar_stream.server.rtc.signalling import (
    Role,
    agreed_codec,
    hint_bitrate,
    ice_ufrag,
    limit_pictures,
    mark_generated,
    video_section,
    without_refused_candidates,
)
from avatar_stream.server.rtc.trickle import Candidates
from avatar_stream.settings import Settings

log = logging.getLogger(__name__)

OnFrame = Callable[[str, Any], None]
"""Called with the kind (``"video"`` or ``"audio"``) and each decoded frame of the peer."""

CHECK_PERIOD: Final = 0.25  # seconds between checks of the connection
MAX_INTERRUPTION: Final = 6.0  # seconds in the state "disconnected"
# Seconds without a datagram after which a viewer has left. Viewers send RTCP reports and consent checks (RFC 7675)
# every few seconds. ICE would notice only after 30 seconds.
VIEWER_SILENCE_TIMEOUT: Final = 9.0
CLOSE_TIMEOUT: Final = 5.0  # seconds for aiortc to close a connection


class Peer:
    """Answers one offer, then runs until :meth:`end` is called or the connection is lost.

    ``key`` is the secret in its URL, which only the client that opened it knows. Use it on the event loop only.
    """

    def __init__(self, role: Role, address: str, owner: str, settings: Settings, key: str = "") -> None:
        """``address`` is the client's IP address, ``owner`` its token's name; an empty ``key`` makes a new one."""
        self.key = key or secrets.token_urlsafe(18)
        self.etag = f'"{secrets.token_hex(8)}"'
        self.role, self.address, self.owner = role, address, owner
        self.connected = asyncio.Event()
        self.ended = asyncio.Event()
        self.reason = ""
        """Why it ended, in a few words; for logs, metrics and the page."""
        self.feeds: list[Feed] = []
        self.ice_ufrag = ""  # of the remote side
        self._settings = settings
        self._candidates = 0
        self._pc = RTCPeerConnection(RTCConfiguration(iceServers=[]))
        log_connect_errors(self._pc)
        self._forwarders: set[asyncio.Task[None]] = set()
        self._filters: list[PacketFilter] = []
        self._decoders: list[StreamDecoder] = []
        self._state_changed = self._last_datagram = time.monotonic()

    async def answer(self, offer: str, broadcast: Broadcast, on_frame: OnFrame) -> str:
        """The SDP answer to an offer that :func:`check_offer` accepted; raises :class:`BadOffer`."""
        pc = self._pc
        pc.on("connectionstatechange", self._on_state)
        if self.role is not Role.VIEW:
            pc.on(
                "track", lambda track: self._spawn(_forward_frames(track, lambda frame: on_frame(track.kind, frame)))
            )
        offer = without_refused_candidates(offer, self._settings.private_allowed)
        self.ice_ufrag = ice_ufrag(offer)
        self._candidates = offer.count("a=candidate:")
        chosen = choose_h264(video_section(offer))
        if chosen is not None:
            offer = with_aiortc_parameters(offer, chosen)
        try:
            await pc.setRemoteDescription(RTCSessionDescription(offer, "offer"))
            self._add_feeds(broadcast)
            self._decoders = [use_stream_decoder(receiver) for receiver in pc.getReceivers()]
            await pc.setLocalDescription(await pc.createAnswer())
            answer = pc.localDescription.sdp
            for feed in self.feeds:
                feed.codec = agreed_codec(answer, feed.kind) or feed.codec
                if feed.codec == H264_CODEC and chosen is not None and chosen.mode == SINGLE_NAL_UNIT_MODE:
                    feed.codec = H264_SINGLE_NAL
        except Exception as error:
            # aiortc raises any kind of exception for a broken offer.
            log.info("offer refused: %s", error)
            raise BadOffer("the offer cannot be answered: is it a complete WebRTC offer?") from error
        for sender in pc.getSenders():
            if isinstance(sender.track, Feed):
                listen_to_feedback(sender, sender.track)
                if sender.track.codec == H264_SINGLE_NAL:
                    use_single_nal_units(sender)
        for receiver in pc.getReceivers():
            limit_receive_delay(receiver)
        accept_certificates(pc)
        self._filters = filter_packets(pc, self._on_datagram)
        ignore_malformed_packets(pc, self._filters)
        if chosen is not None:
            answer = with_offered_parameters(answer, chosen)
        if self.role is not Role.VIEW:
            answer = limit_pictures(hint_bitrate(answer), MAX_MACROBLOCKS)
        return mark_generated(answer)

    def take_dropped(self) -> Counter[str]:
        """Number of datagrams dropped since the last call, by reason."""
        dropped = sum((one.dropped for one in self._filters), Counter[str]())
        for one in self._filters:
            one.dropped.clear()
        return dropped

    @property
    def notice(self) -> str:
        """A sentence for the sender if their video cannot be used, else empty."""
        for decoder in self._decoders:
            if (size := decoder.too_large) is not None:
                side = round(MAX_PIXELS**0.5)
                return (
                    f"the camera sends {size[0]} x {size[1]} pixels, more than the maximum of {side} x {side}: "
                    "choose a smaller picture such as 1280 x 720"
                )
        return ""

    async def trickle(self, candidates: Candidates) -> None:
        """Add trickled candidates; raises :class:`BadInput` if there are too many."""
        self._candidates += len(candidates)
        if self._candidates > self._settings.max_candidates:
            raise BadInput(f"more than {self._settings.max_candidates} candidates")
        transceivers = self._pc.getTransceivers()
        for text, mid in candidates:
            try:
                candidate = candidate_from_sdp(text)
            except (ValueError, AssertionError, IndexError):
                continue  # RFC 9725: drop candidates that cannot be used
            # All media share one transport (BUNDLE), so an unknown mid is replaced by the first.
            known = [transceiver.mid for transceiver in transceivers]
            candidate.sdpMid = mid if mid in known else known[0]
            await self._pc.addIceCandidate(candidate)

    async def run(self) -> None:
        """Run until the connection is over, then free everything."""
        try:
            await self._watch()
        finally:
            self.end("failed")  # unless it has another reason
            for feed in self.feeds:
                feed.stop()
            for task in self._forwarders:
                task.cancel()
            await asyncio.gather(*self._forwarders, return_exceptions=True)
            try:
                await asyncio.wait_for(close_connection(self._pc), CLOSE_TIMEOUT)
            except TimeoutError:
                log.warning("a connection did not close in time: abandoned")

    def end(self, reason: str) -> None:
        """Make :meth:`run` return. Later calls change nothing, so the first reason stays."""
        if not self.ended.is_set():
            self.reason = reason
            self.ended.set()

    async def _watch(self) -> None:
        while not self.ended.is_set():
            try:
                await asyncio.wait_for(self.ended.wait(), CHECK_PERIOD)
            except TimeoutError:
                state, since = self._pc.connectionState, time.monotonic() - self._state_changed
                if state == "closed":
                    self.end("left")
                elif state == "failed":
                    self.end("connection lost" if self.connected.is_set() else "never connected")
                elif self._viewer_silent or (state == "disconnected" and since > MAX_INTERRUPTION):
                    self.end("connection lost")
                elif not self.connected.is_set() and since > self._settings.connect_timeout:
                    self.end("never connected")

    @property
    def _viewer_silent(self) -> bool:
        """The peer is a viewer that sends nothing any more."""
        silent = time.monotonic() - self._last_datagram > VIEWER_SILENCE_TIMEOUT
        return silent and self.role is Role.VIEW and self.connected.is_set()

    def _on_datagram(self) -> None:
        self._last_datagram = time.monotonic()

    def _on_state(self) -> None:
        self._state_changed = time.monotonic()
        if self._pc.connectionState == "connected":
            self.connected.set()

    def _add_feeds(self, broadcast: Broadcast) -> None:
        """Send the avatar, and to viewers the driver's sound; nothing to a WHIP publisher (RFC 9725 section 4.2)."""
        if self.role is Role.PUBLISH:
            return
        for transceiver in list(self._pc.getTransceivers()):
            if transceiver.kind == "video" or self.role is Role.VIEW:
                feed = broadcast.open(transceiver.kind, "VP8" if transceiver.kind == "video" else "opus")
                self.feeds.append(feed)
                self._pc.addTrack(feed)
            if transceiver.kind == "video":
                transceiver.setCodecPreferences(_vp8_first())

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._forwarders.add(task)
        task.add_done_callback(self._forwarders.discard)


async def _forward_frames(track: MediaStreamTrack, deliver: Callable[[Any], None]) -> None:
    """Deliver every frame of ``track`` until it ends, so that aiortc's queue never fills up."""
    try:
        while True:
            deliver(await track.recv())
    except MediaStreamError:
        return


def _vp8_first() -> list[Any]:
    codecs = RTCRtpSender.getCapabilities("video").codecs
    return sorted(codecs, key=lambda codec: codec.mimeType != "video/VP8")
