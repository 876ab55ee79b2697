"""Reads driving clips."""

import os
from collections import deque
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt

from avatar_stream.errors import BadClip
from avatar_stream.media.clock import PresentationClock, first_time, may_jump
from avatar_stream.media.opening import audio_stream, decoded_frames, open_media, video_stream
from avatar_stream.media.upright import attach_pixel_aspect, upright

MAX_FRAME_RATE: Final = 240  # frames a second; a file may claim more


class Clip:
    """A driving clip; iterate :meth:`frames` once, on one thread.

    Raises :class:`BadClip` if the file is no video.
    """

    def __init__(self, source: str | os.PathLike[str]) -> None:
        self.source = Path(source)
        """The file."""
        self._container = open_media(self.source, "a video")
        self._video = video_stream(self._container)
        if self._video is None:
            self._container.close()
            raise BadClip(f"{self.source} has no video that can be read: the driving clip must show a face")
        self._video.thread_type = "AUTO"
        streams = [one for one in (self._video, audio_stream(self._container)) if one is not None]
        self.start = first_time(self._container, streams)
        """Time of the first picture or sound on the file's own clock, in seconds."""
        rate = self._video.average_rate or self._video.guessed_rate or Fraction(25)
        self.rate = min(Fraction(rate).limit_denominator(1001), Fraction(MAX_FRAME_RATE))
        """Average frames a second; the frames' own times are authoritative."""
        self.expected = int(self._video.frames or 0)
        self._times: deque[float] = deque()

    def frames(self) -> Iterator[tuple[float, npt.NDArray[np.uint8]]]:
        """Yield ``(seconds, picture)`` of every frame; ``Avatar.stream`` takes them as they are.

        ``picture`` is RGB ``uint8 (height, width, 3)``, upright; its size may change within the file.
        ``seconds`` count from the first picture or sound of the file, and increase from frame to frame. Damaged
        frames are skipped.
        """
        clock = PresentationClock(self.start, 1 / float(self.rate), jumps=may_jump(self._container))
        for frame in decoded_frames(self._container, self._video):
            time = clock(frame.time)
            self._times.append(time)
            yield time, upright(attach_pixel_aspect(frame, self._video))

    def next_time(self) -> float | None:
        """The time of the oldest frame from :meth:`frames` whose time was not yet requested; for a recorder."""
        return self._times.popleft() if self._times else None

    def close(self) -> None:
        """Close the file."""
        self._container.close()
