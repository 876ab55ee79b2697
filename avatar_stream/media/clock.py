"""Presentation times of a file's streams, as a player would show them."""

import math
from typing import Any, Final

RESTART_BACK_SECONDS: Final = 0.5
"""Seconds back from which on a stamp begins another clock, as in streams that were joined."""
JUMP_AHEAD_SECONDS: Final = 10.0  # seconds ahead that are another clock too, where a format allows its clock to jump
AVFMT_TS_DISCONT: Final = 0x0200  # AVFMT_TS_DISCONT of FFmpeg: transport streams


class PresentationClock:
    """Mends the stamps of one stream: each time it gives is later than the one before.

    A stamp that is equal to the one before, or a little earlier, comes right after it. One that jumps far back goes
    on where the stream was: two recordings one after the other. ``start`` is the file's first time, ``period`` how
    long a frame or packet lasts where nothing says so, both in seconds.
    """

    def __init__(self, start: float, period: float, *, jumps: bool = False) -> None:
        self._offset, self._period, self._jumps = -start, period, jumps
        self._last: float | None = None

    def __call__(self, stamp: float | None) -> float:
        """The time of the next frame, in seconds from the file's start; None: it has no stamp."""
        last = self._last
        time = None if stamp is None or not math.isfinite(stamp) else stamp + self._offset
        if last is None:
            time = time or 0.0
        elif time is None:
            time = last + self._period
        elif time < last - RESTART_BACK_SECONDS or (self._jumps and time > last + JUMP_AHEAD_SECONDS):
            self._offset += last + self._period - time
            time = last + self._period
        elif time <= last:
            time = last + self._period / 10
        self._last = time
        return time


def first_time(container: Any, streams: list[Any]) -> float:
    """When the earliest of ``streams`` begins, in seconds of the file's own clock."""
    starts = [float(stream.start_time * stream.time_base) for stream in streams if stream.start_time is not None]
    return min(starts, default=float(container.start_time or 0) / 1e6)


def may_jump(container: Any) -> bool:
    """The file's format allows its clock to jump."""
    return bool(container.format.flags & AVFMT_TS_DISCONT)
