"""One WebRTC connection of a session: a publisher's, a viewer's, or both in one."""

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
from avatar_stream.server.rtc.h264 import SINGLE_UNITS, as_aiortc_knows_it, as_it_was_offered, choose_h264
from avatar_stream.server.rtc.signalling import (
    Role,
    agreed_codec,
    hint_bitrate,
    ice_user,
    limit_pictures,
    mark_generated,
    video_section,
    without_refused_candidates,
)
from avatar_stream.server.rtc.trickle import Candidates
from avatar_stream.settings import Settings

log = logging.getLogger(__name__)

OnFrame = Callable[[str, Any], None]
"""Told of every decoded frame of the peer: ``"video"`` or ``"audio"``, and the frame."""

LOOK: Final = 0.25  # seconds between looks at the connection
DISCONNECTED: Final = 6.0  # seconds a connection may be interrupted
# Seconds without a datagram after which a viewer is gone. Viewers report on the picture (RTCP) and consent to it
# (RFC 7675) every few seconds; ICE itself would miss them after 30.
VANISHED: Final = 9.0
CLOSING: Final = 5.0  # seconds aiortc gets to close a connection


class Peer:
    """Answers one offer, then lives until :meth:`end` or until the connection is over.

    ``key`` names it in its URL and is known only to who opened it. Used on the event loop only.
    """

    def __init__(self, role: Role, address: str, owner: str, settings: Settings, key: str = "") -> None:
        """``address`` is where the request came from, ``owner`` the name of its token; a ``key`` is made for none."""
        self.key = key or secrets.token_urlsafe(18)
        self.etag = f'"{secrets.token_hex(8)}"'
        self.role, self.address, self.owner = role, address, owner
        self.connected = asyncio.Event()
        self.ended = asyncio.Event()
        self.reason = ""
        """Why it ended, in a word or two; for logs, metrics and the page."""
        self.feeds: list[Feed] = []
        self.user = ""  # the peer's ICE user fragment
        self._settings = settings
        self._candidates = 0
        self._pc = RTCPeerConnection(RTCConfiguration(iceServers=[]))
        log_connect_errors(self._pc)
        self._pumps: set[asyncio.Task[None]] = set()
        self._filters: list[PacketFilter] = []
        self._decoders: list[StreamDecoder] = []
        self._changed = self._heard = time.monotonic()

    async def answer(self, offer: str, broadcast: Broadcast, on_frame: OnFrame) -> str:
        """The SDP answer to an offer that :func:`check_offer` let through; raises :class:`BadOffer`."""
        pc = self._pc
        pc.on("connectionstatechange", self._on_state)
        if self.role is not Role.VIEW:
            pc.on("track", lambda track: self._spawn(_pump(track, lambda frame: on_frame(track.kind, frame))))
        offer = without_refused_candidates(offer, self._settings.private_allowed)
        self.user = ice_user(offer)
        self._candidates = offer.count("a=candidate:")
        chosen = choose_h264(video_section(offer))
        if chosen is not None:
            offer = as_aiortc_knows_it(offer, chosen)
        try:
            await pc.setRemoteDescription(RTCSessionDescription(offer, "offer"))
            self._add_feeds(broadcast)
            self._decoders = [use_stream_decoder(receiver) for receiver in pc.getReceivers()]
            await pc.setLocalDescription(await pc.createAnswer())
            answer = pc.localDescription.sdp
            for feed in self.feeds:
                feed.codec = agreed_codec(answer, feed.kind) or feed.codec
                if feed.codec == H264_CODEC and chosen is not None and chosen.mode == SINGLE_UNITS:
                    feed.codec = H264_SINGLE_NAL
        except Exception as error:
            # Whatever aiortc makes of a broken offer, it is the offer's fault.
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
            answer = as_it_was_offered(answer, chosen)
        if self.role is not Role.VIEW:
            answer = limit_pictures(hint_bitrate(answer), MAX_MACROBLOCKS)
        return mark_generated(answer)

    def take_dropped(self) -> Counter[str]:
        """Datagrams that were dropped since the last time, by reason."""
        dropped = sum((one.dropped for one in self._filters), Counter[str]())
        for one in self._filters:
            one.dropped.clear()
        return dropped

    @property
    def notice(self) -> str:
        """A sentence for whoever sends, where what they send cannot be used; empty where it can."""
        for decoder in self._decoders:
            if (size := decoder.too_large) is not None:
                side = round(MAX_PIXELS**0.5)
                return (
                    f"the camera sends {size[0]} x {size[1]} pixels, and {side} x {side} is the most that is taken: "
                    "choose a smaller picture, 1280 x 720 say"
                )
        return ""

    async def trickle(self, said: Candidates) -> None:
        """Take in trickled candidates; raises :class:`BadInput` when they are too many."""
        self._candidates += len(said)
        if self._candidates > self._settings.max_candidates:
            raise BadInput(f"more than {self._settings.max_candidates} candidates")
        transceivers = self._pc.getTransceivers()
        for text, mid in said:
            try:
                candidate = candidate_from_sdp(text)
            except (ValueError, AssertionError, IndexError):
                continue  # RFC 9725: what cannot be used is dropped
            # All media share one transport (BUNDLE); a mid that names none of them means the first.
            known = [transceiver.mid for transceiver in transceivers]
            candidate.sdpMid = mid if mid in known else known[0]
            await self._pc.addIceCandidate(candidate)

    async def run(self) -> None:
        """Live until the connection is over, then free everything."""
        try:
            await self._watch()
        finally:
            self.end("failed")  # if nobody said why
            for feed in self.feeds:
                feed.stop()
            for pump in self._pumps:
                pump.cancel()
            await asyncio.gather(*self._pumps, return_exceptions=True)
            try:
                await asyncio.wait_for(close_connection(self._pc), CLOSING)
            except TimeoutError:
                log.warning("a connection would not close: left to itself")

    def end(self, reason: str) -> None:
        """Make :meth:`run` return; the first reason counts."""
        if not self.ended.is_set():
            self.reason = reason
            self.ended.set()

    async def _watch(self) -> None:
        while not self.ended.is_set():
            try:
                await asyncio.wait_for(self.ended.wait(), LOOK)
            except TimeoutError:
                state, since = self._pc.connectionState, time.monotonic() - self._changed
                if state == "closed":
                    self.end("left")
                elif state == "failed":
                    self.end("connection lost" if self.connected.is_set() else "never connected")
                elif self._vanished or (state == "disconnected" and since > DISCONNECTED):
                    self.end("connection lost")
                elif not self.connected.is_set() and since > self._settings.connect_timeout:
                    self.end("never connected")

    @property
    def _vanished(self) -> bool:
        """A viewer from whom nothing comes any more."""
        silent = time.monotonic() - self._heard > VANISHED
        return silent and self.role is Role.VIEW and self.connected.is_set()

    def _on_datagram(self) -> None:
        self._heard = time.monotonic()

    def _on_state(self) -> None:
        self._changed = time.monotonic()
        if self._pc.connectionState == "connected":
            self.connected.set()

    def _add_feeds(self, broadcast: Broadcast) -> None:
        """The avatar, and the driver's sound for viewers; nothing to who only publishes (RFC 9725 section 4.2)."""
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
        self._pumps.add(task)
        task.add_done_callback(self._pumps.discard)


async def _pump(track: MediaStreamTrack, deliver: Callable[[Any], None]) -> None:
    """Hand on every frame of ``track`` until it ends; aiortc's own queue must never fill up."""
    try:
        while True:
            deliver(await track.recv())
    except MediaStreamError:
        return


def _vp8_first() -> list[Any]:
    codecs = RTCRtpSender.getCapabilities("video").codecs
    return sorted(codecs, key=lambda codec: codec.mimeType != "video/VP8")
