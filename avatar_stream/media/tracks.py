"""WebRTC tracks: a camera pump that keeps the newest frame, an avatar track that sends at a steady rate."""

import asyncio
import time
from collections.abc import Callable
from fractions import Fraction
from typing import Any

import av
from aiortc import MediaStreamTrack
from aiortc.codecs import vpx
from aiortc.mediastreams import MediaStreamError

CLOCK = 90_000  # Hz, RFC 6184 and RFC 7741


def raise_start_bitrate() -> None:
    """Let VP8 start at aiortc's maximum in place of 500 kbit/s.

    Each raise from a low start makes aiortc build a new encoder and send a key frame: twenty ugly seconds. aiortc has
    no setting for it, so this is its one module global we touch.
    """
    vpx.DEFAULT_BITRATE = vpx.MAX_BITRATE


async def pump(track: MediaStreamTrack, deliver: Callable[[Any], None]) -> None:
    """Hand on every frame of ``track`` until it ends; aiortc's own queue must never fill up."""
    try:
        while True:
            deliver(await track.recv())
    except MediaStreamError:
        return


class AvatarTrack(MediaStreamTrack):
    """Sends what ``newest`` returns, ``fps`` times a second, whatever the pace of the engine."""

    kind = "video"

    def __init__(self, newest: Callable[[], av.VideoFrame], fps: int) -> None:
        super().__init__()
        self._newest = newest
        self._period = 1 / fps
        self._began: float | None = None
        self._due = 0.0

    async def recv(self) -> av.VideoFrame:
        """The newest frame, stamped with the time it is sent at."""
        if self.readyState != "live":
            raise MediaStreamError
        now = time.monotonic()
        if self._began is None:
            self._began = self._due = now
        else:
            self._due += self._period
            if self._due < now - self._period:
                self._due = now  # late: go on from here, never catch up in a burst
            await asyncio.sleep(max(0.0, self._due - now))
        source = self._newest()
        # The same picture may be sent twice; the encoder must not see one frame object change under it.
        frame = av.VideoFrame(source.width, source.height, "yuv420p")
        for target, plane in zip(frame.planes, source.planes, strict=True):
            target.update(bytes(plane))
        frame.pts = round((time.monotonic() - self._began) * CLOCK)
        frame.time_base = Fraction(1, CLOCK)
        return frame
