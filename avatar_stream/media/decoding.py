"""Decodes one incoming stream in a thread of its own, which the event loop never waits for.

aiortc's decoder decodes everything from an unbounded queue, and the event loop joins its thread when the peer leaves.
A camera whose frames take longer to decode than to send therefore blocked all sessions of its process. Here the queue
is bounded, the size of a picture is checked before it is decoded, CPU time is limited, and a stopped thread ends by
itself.
"""

import asyncio
import contextlib
import threading
import time
from collections import deque
from typing import Any, Final

from aiortc.codecs import get_decoder
from aiortc.rtcrtpparameters import RTCRtpCodecParameters

from avatar_stream.media.picture_size import Size, h264_size, has_h264_key_frame, vp8_size
from avatar_stream.media.upright import attach_pixel_aspect
from avatar_stream.rate_limits import RateLimit

MAX_PIXELS: Final = 1920 * 1920
"""In one picture; larger ones are not decoded. 2560 x 1440 has as many, more than a face needs."""

MAX_MACROBLOCKS: Final = MAX_PIXELS // 256
"""The same in macroblocks of 16 x 16 pixels, the unit of ``max-fs`` (RFC 7741 section 6.1, RFC 6184 section 8.1)."""

MAX_QUEUED_FRAMES: Final = 30  # encoded frames that wait for the decoder: one second
MAX_QUEUED_BYTES: Final = 3_000_000
MAX_DECODED_FRAMES: Final = {"video": 2, "audio": 50}  # frames that wait for the event loop, by kind
CPU_TIME_LIMITS: Final = {"video": (0.6, 1.0), "audio": (0.1, 0.2)}
"""CPU seconds that one stream may use, by kind: per second, and in one burst. 1080p at 30 frames a second uses 0.2,
50 Opus packets a second 0.01."""
SOUND_TIME_LIMIT: Final = 1.2, 2.0
"""Seconds of sound that one stream may bring: per second, and in one burst. What is more cannot be heard: hundreds of
packets a second of 120 ms each would only cost the encoders and the reading of lips."""

Encoded = tuple[RTCRtpCodecParameters, Any]
"""A codec and an ``aiortc.jitterbuffer.JitterFrame``."""


class StreamDecoder:
    """Replaces an aiortc receiver's decoder queue. Call :meth:`put` on the event loop, :meth:`run` in a thread.

    ``kind`` is ``"video"`` or ``"audio"``.
    """

    def __init__(self, kind: str) -> None:
        self.too_large: Size | None = None
        """Size of the camera's pictures in pixels if it is too large to be decoded, else None."""
        self.skipped_frames = 0
        """Frames that were not decoded."""
        self._kind = kind
        self._queue: deque[Encoded] = deque()
        self._bytes = 0
        self._changed = threading.Condition()
        self._stopped = False
        self._needs_key = kind == "video"  # delta frames are useless until the next key frame
        self._gap = False  # frames were skipped before the first one in the queue
        self._cpu_time = RateLimit(*CPU_TIME_LIMITS[kind])
        self._sound_time = RateLimit(*SOUND_TIME_LIMIT)

    def put(self, item: Encoded | None) -> None:
        """Queue a frame to be decoded; None ends the thread. Never blocks."""
        with self._changed:
            if item is None:
                self._stopped = True
                self._clear()
            elif item[1].data and not self._stopped:  # padding makes empty frames
                if len(self._queue) >= MAX_QUEUED_FRAMES or self._bytes + len(item[1].data) > MAX_QUEUED_BYTES:
                    self.skipped_frames += len(self._queue)
                    self._clear()
                    self._gap = True
                self._queue.append(item)
                self._bytes += len(item[1].data)
            self._changed.notify()

    def run(self, loop: asyncio.AbstractEventLoop, output: "asyncio.Queue[Any]", failed: threading.Event) -> None:
        """Decode until stopped. ``output`` keeps the newest frames; ``failed`` is set to request a key frame."""
        decoders: dict[str, Any] = {}
        with contextlib.suppress(RuntimeError):  # the event loop has ended
            while (item := self._next_frame()) is not None:
                codec, encoded = item
                if self._kind == "video" and not self._may_decode(
                    codec, encoded.data, codec.name in decoders, failed
                ):
                    self.skipped_frames += 1
                    continue
                began = time.thread_time()
                try:
                    if codec.name not in decoders:
                        decoders = {codec.name: _decoder(codec)}
                    frames = decoders[codec.name].decode(encoded)
                except Exception:  # decoders raise anything on untrusted input
                    self.skipped_frames += 1
                    failed.set()
                    frames = []
                for frame in frames:
                    if self._kind == "video":
                        attach_pixel_aspect(frame, getattr(decoders[codec.name], "codec", None))
                    elif not self._sound_time.take(time.monotonic(), frame.samples / frame.sample_rate):
                        self.skipped_frames += 1
                        continue
                    loop.call_soon_threadsafe(self._deliver, output, frame)
                self._wait_for_cpu_time(time.thread_time() - began)
            loop.call_soon_threadsafe(output.put_nowait, None)  # the track ends

    def _next_frame(self) -> Encoded | None:
        with self._changed:
            self._changed.wait_for(lambda: self._queue or self._stopped)
            if self._stopped:
                return None
            item = self._queue.popleft()
            if self._gap:  # set in this thread, because it may still be checking a frame from before the gap
                self._needs_key, self._gap = self._kind == "video", False
            self._bytes -= len(item[1].data)
            return item

    def _may_decode(self, codec: RTCRtpCodecParameters, data: bytes, begun: bool, failed: threading.Event) -> bool:
        """Whether to decode a frame: it is not too large and needs no skipped frame."""
        vp8 = codec.name.upper() == "VP8"
        size = vp8_size(data) if vp8 else h264_size(data)
        if size is not None:
            large = size[0] * size[1] > MAX_PIXELS
            self.too_large, self._needs_key = size if large else None, large
        elif self.too_large is None and self._needs_key:
            # Some cameras send their parameter sets only once.
            self._needs_key = vp8 or not (begun and has_h264_key_frame(data))
            if self._needs_key:
                failed.set()
        return not self._needs_key

    def _wait_for_cpu_time(self, seconds: float) -> None:
        amount = min(seconds, CPU_TIME_LIMITS[self._kind][1])
        while not self._cpu_time.take(time.monotonic(), amount) and not self._stopped:
            time.sleep(0.01)

    def _deliver(self, output: "asyncio.Queue[Any]", frame: Any) -> None:
        if self._stopped:
            return
        while output.qsize() >= MAX_DECODED_FRAMES[self._kind]:
            output.get_nowait()
        output.put_nowait(frame)

    def _clear(self) -> None:
        self._queue.clear()
        self._bytes = 0


def _decoder(codec: RTCRtpCodecParameters) -> Any:
    """aiortc's decoder. FFmpeg also rejects pictures above ``MAX_PIXELS``, in case the header was wrong."""
    decoder = get_decoder(codec)
    if codec.mimeType.lower().startswith("video/"):
        decoder.codec.options = {"max_pixels": str(MAX_PIXELS)}  # type: ignore[attr-defined]
    return decoder
