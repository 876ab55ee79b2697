"""Decodes one incoming stream in a thread of its own, which nobody ever has to wait for.

aiortc's decoder takes whatever comes, from a queue without end, and is joined on the event loop when its peer leaves:
a camera whose frames take longer to decode than to send held up everybody in its process. Here what waits is bounded,
a picture is measured before it is decoded, a decoder gets a share of a processor, and one that is given up ends by
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
"""Of a picture that is decoded. 2560 x 1440 has as many; a face never needs them."""

MAX_MACROBLOCKS: Final = MAX_PIXELS // 256
"""The same in macroblocks of 16 x 16 pixels, as ``max-fs`` says it (RFC 7741 section 6.1, RFC 6184 section 8.1)."""

MAX_QUEUED_FRAMES: Final = 30  # encoded frames that wait for their decoder: a second
MAX_QUEUED_BYTES: Final = 3_000_000
MAX_DECODED_FRAMES: Final = {"video": 2, "audio": 50}  # frames that wait for the event loop
CPU_TIME_LIMIT: Final = 0.6, 1.0
"""Seconds of processor a second, and at once, that one stream may take. 1080p at 30 a second takes 0.2."""

Encoded = tuple[RTCRtpCodecParameters, Any]
"""A codec and an ``aiortc.jitterbuffer.JitterFrame``."""


class StreamDecoder:
    """Stands in the place of an aiortc receiver's decoder queue: ``put`` on the event loop, :meth:`run` in a thread.

    ``kind`` is ``"video"`` or ``"audio"``.
    """

    def __init__(self, kind: str) -> None:
        self.too_large: Size | None = None
        """The size of the camera's pictures in pixels, where it is too large to be decoded."""
        self.skipped_frames = 0
        """Frames that were not decoded."""
        self._kind = kind
        self._queue: deque[Encoded] = deque()
        self._bytes = 0
        self._changed = threading.Condition()
        self._stopped = False
        self._needs_key = kind == "video"  # what is no key frame builds on frames that were not decoded
        self._gap = False  # frames were left out before the first that waits
        self._cpu_time = RateLimit(*CPU_TIME_LIMIT)

    def put(self, item: Encoded | None) -> None:
        """Leave a frame to be decoded; None ends the thread. Never blocks."""
        with self._changed:
            if item is None:
                self._stopped = True
                self._clear()
            elif item[1].data and not self._stopped:  # padding is a frame of nothing
                if len(self._queue) >= MAX_QUEUED_FRAMES or self._bytes + len(item[1].data) > MAX_QUEUED_BYTES:
                    self.skipped_frames += len(self._queue)
                    self._clear()
                    self._gap = True
                self._queue.append(item)
                self._bytes += len(item[1].data)
            self._changed.notify()

    def run(self, loop: asyncio.AbstractEventLoop, output: "asyncio.Queue[Any]", failed: threading.Event) -> None:
        """Decode until stopped. Frames go to ``output``, newest first to stay; ``failed`` asks for a key frame."""
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
                except Exception:  # whatever a codec makes of a stranger's bytes
                    self.skipped_frames += 1
                    failed.set()
                    frames = []
                for frame in frames:
                    if self._kind == "video":
                        attach_pixel_aspect(frame, getattr(decoders[codec.name], "codec", None))
                    loop.call_soon_threadsafe(self._deliver, output, frame)
                self._wait_for_cpu_time(time.thread_time() - began)
            loop.call_soon_threadsafe(output.put_nowait, None)  # the track ends

    def _next_frame(self) -> Encoded | None:
        with self._changed:
            self._changed.wait_for(lambda: self._queue or self._stopped)
            if self._stopped:
                return None
            item = self._queue.popleft()
            if self._gap:  # told by the thread that decodes: it may be judging a frame from before the gap
                self._needs_key, self._gap = self._kind == "video", False
            self._bytes -= len(item[1].data)
            return item

    def _may_decode(self, codec: RTCRtpCodecParameters, data: bytes, begun: bool, failed: threading.Event) -> bool:
        """Whether a frame may be decoded: not too large, and not built on what was left out."""
        vp8 = codec.name.upper() == "VP8"
        size = vp8_size(data) if vp8 else h264_size(data)
        if size is not None:
            large = size[0] * size[1] > MAX_PIXELS
            self.too_large, self._needs_key = size if large else None, large
        elif self.too_large is None and self._needs_key:
            # Some cameras send their parameter sets once only.
            self._needs_key = vp8 or not (begun and has_h264_key_frame(data))
            if self._needs_key:
                failed.set()
        return not self._needs_key

    def _wait_for_cpu_time(self, seconds: float) -> None:
        amount = min(seconds, CPU_TIME_LIMIT[1])
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
    """aiortc's decoder; FFmpeg refuses pictures that are too large, should a header have said another size."""
    decoder = get_decoder(codec)
    if codec.mimeType.lower().startswith("video/"):
        decoder.codec.options = {"max_pixels": str(MAX_PIXELS)}  # type: ignore[attr-defined]
    return decoder
