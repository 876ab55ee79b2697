"""One picture and one sound for any number of peers: each picture is encoded once per codec."""

import asyncio
import logging
import statistics
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final

import av
from aiortc import MediaStreamTrack
from aiortc.mediastreams import MediaStreamError

from avatar_stream.media.encode import (
    AUDIO_SAMPLE_RATE,
    MAX_BITRATE,
    MIN_BITRATE,
    VIDEO_CLOCK_RATE,
    OpusEncoder,
    Packet,
    VideoEncoder,
)

log = logging.getLogger(__name__)

MAX_QUEUED_PACKETS: Final = 50  # per feed, for a peer that does not read them
KEY_FRAME_INTERVAL_SECONDS: Final = 0.5  # at least: one peer's losses must not lower everybody's quality
MAX_DELAYED_SOUND_FRAMES: Final = 150  # 3 s
OPUS_DELAY_SECONDS: Final = 0.013
"""Delay of two Opus encoders, the driver's and this one: each looks 6.5 ms (312 samples) ahead."""
BITRATE_RAISE_INTERVAL_SECONDS: Final = 10.0  # at least: each new bit rate costs a key frame


class Feed(MediaStreamTrack):
    """A track of encoded packets for one peer. aiortc only packetizes them."""

    def __init__(self, kind: str, codec: str) -> None:
        """``codec`` is ``VP8``, ``H264``, ``H264/0`` or ``opus``."""
        super().__init__()
        self.kind = kind
        self.codec = codec
        self.wants_key_frame = False
        self.bitrate: int | None = None
        """Bandwidth that the peer reports, bit/s; None before its first report."""
        self.active = False
        """The peer reads packets. Before that nothing is encoded or queued for it."""
        self.sent = 0
        self.dropped = 0
        self._packets: deque[Packet] = deque()
        self._packet_arrived = asyncio.Event()
        self._decodable = kind != "video"  # no packet is missing since the last key frame

    async def recv(self) -> Any:
        """The next packet."""
        if not self.active:
            self.active, self.wants_key_frame = True, self.kind == "video"
        while not self._packets:
            if self.readyState != "live":
                raise MediaStreamError
            self._packet_arrived.clear()
            await self._packet_arrived.wait()
        self.sent += 1
        return self._packets.popleft()

    def put(self, packet: Packet) -> None:
        """Queue a packet. A peer that reads none for two seconds resumes at the next key frame."""
        if not self.active:
            return
        if self.kind == "video":
            if packet.is_keyframe:
                self._decodable, self.wants_key_frame = True, False
            if not self._decodable:
                self.dropped += 1
                return
            if len(self._packets) >= MAX_QUEUED_PACKETS:
                self.dropped += len(self._packets) + 1
                self._packets.clear()
                self._decodable, self.wants_key_frame = False, True
                return
        elif len(self._packets) >= MAX_QUEUED_PACKETS:
            self._packets.popleft()
            self.dropped += 1
        self._packets.append(packet)
        self._packet_arrived.set()

    def stop(self) -> None:
        """End the track and wake a waiting :meth:`recv`."""
        super().stop()
        self._packet_arrived.set()


class Broadcast:
    """Sends ``newest`` to every video feed, ``fps`` times a second, and delayed sound to every audio feed."""

    def __init__(self, newest: Callable[[], av.VideoFrame | None], fps: int) -> None:
        self.delay = 0.0
        """Seconds from the camera to the picture; sound is delayed by as much."""
        self.sent = 0
        """Pictures sent to at least one peer."""
        self.encoded = 0
        """Pictures encoded, summed over the codecs."""
        self._newest = newest
        self._fps = fps
        self._feeds: set[Feed] = set()
        self._encoders: dict[str, VideoEncoder] = {}
        self._last_key: dict[str, float] = {}
        self._last_raise: dict[str, float] = {}
        self._delayed_sound: deque[tuple[float, av.AudioFrame]] = deque(maxlen=MAX_DELAYED_SOUND_FRAMES)
        self._sound_arrived = asyncio.Event()
        self._opus: OpusEncoder | None = None
        self._picture_executor = ThreadPoolExecutor(1, thread_name_prefix="encode")
        # Sound has its own thread, so that it does not wait for pictures.
        self._sound_executor = ThreadPoolExecutor(1, thread_name_prefix="encode-sound")
        self._began = time.monotonic()

    def open(self, kind: str, codec: str) -> Feed:
        """Add a feed for a peer; it starts with a key frame."""
        feed = Feed(kind, codec)
        self._feeds.add(feed)
        return feed

    def remove(self, feed: Feed) -> None:
        """End a feed and remove it."""
        feed.stop()
        self._feeds.discard(feed)

    def add_audio(self, frame: av.AudioFrame) -> None:
        """Queue a frame of the driver's sound; it is sent with the picture of the same moment."""
        self._delayed_sound.append((time.monotonic(), frame))
        self._sound_arrived.set()

    async def send_pictures(self) -> None:
        """Encode and send until cancelled, at a steady rate that does not depend on the live loop."""
        due = time.monotonic()
        while True:
            due += 1 / self._fps
            now = time.monotonic()
            if due < now - 1 / self._fps:
                due = now  # late: restart the schedule here, without a burst
            await asyncio.sleep(max(0.0, due - now))
            frame = self._newest()
            if frame is None:
                continue
            pts = self._timestamp(VIDEO_CLOCK_RATE)
            codecs = {feed.codec for feed in self._feeds if feed.kind == "video" and feed.active}
            for codec in codecs:
                await self._send(codec, frame, pts)
            self.sent += bool(codecs)

    async def send_sound(self) -> None:
        """Send the sound in step with the picture until cancelled."""
        loop = asyncio.get_running_loop()
        while True:
            if not self._delayed_sound:
                self._sound_arrived.clear()
                await self._sound_arrived.wait()
                continue
            arrived, frame = self._delayed_sound[0]
            wait = arrived + self.delay - OPUS_DELAY_SECONDS - time.monotonic()
            if wait > 0:
                # The delay may change meanwhile: check again soon.
                await asyncio.sleep(min(wait, 0.02))
                continue
            self._delayed_sound.popleft()
            feeds = [feed for feed in self._feeds if feed.kind == "audio" and feed.active]
            if not feeds:
                self._opus = None
                continue
            self._opus = self._opus or OpusEncoder()
            try:
                packets = await loop.run_in_executor(
                    self._sound_executor, self._opus.encode, frame, self._timestamp(AUDIO_SAMPLE_RATE)
                )
            except (av.FFmpegError, ValueError):
                # A frame that cannot be encoded must not end the session.
                log.exception("the sound could not be encoded: starting a new encoder")
                self._opus = None
                continue
            for feed in feeds:
                for packet in packets:
                    feed.put(packet)

    def close(self) -> None:
        """End every feed and the encoding thread."""
        for feed in list(self._feeds):
            self.remove(feed)
        self._picture_executor.shutdown(wait=False, cancel_futures=True)
        self._sound_executor.shutdown(wait=False, cancel_futures=True)

    async def _send(self, codec: str, frame: av.VideoFrame, pts: int) -> None:
        feeds = [feed for feed in self._feeds if feed.codec == codec]
        encoder = self._encoders.setdefault(codec, VideoEncoder(codec, self._fps))
        now = time.monotonic()
        encoder.bitrate = self._bitrate(codec, [feed.bitrate for feed in feeds if feed.bitrate], encoder.bitrate, now)
        key = (
            any(feed.wants_key_frame for feed in feeds)
            and now - self._last_key.get(codec, -KEY_FRAME_INTERVAL_SECONDS) >= KEY_FRAME_INTERVAL_SECONDS
        )
        if key:
            self._last_key[codec] = now
        try:
            work = asyncio.get_running_loop().run_in_executor(self._picture_executor, encoder.encode, frame, pts, key)
            packets = await work
        except av.FFmpegError:
            log.exception("the %s encoder failed: starting a new one", codec)
            self._encoders.pop(codec)
            return
        self.encoded += 1
        for packet in packets:
            for feed in feeds:
                feed.put(packet)

    def _bitrate(self, codec: str, wanted: list[int], current: int, now: float) -> int:
        """A bit rate that at least half of the peers can receive, so that one slow peer does not slow all."""
        if not wanted:
            return current
        target = max(MIN_BITRATE, min(MAX_BITRATE, round(statistics.median_low(wanted))))
        if target > current:
            if now - self._last_raise.get(codec, self._began) < BITRATE_RAISE_INTERVAL_SECONDS:
                return current
            self._last_raise[codec] = now
        return target

    def _timestamp(self, rate: int) -> int:
        return round((time.monotonic() - self._began) * rate)
