"""Presentation times of a file's streams, as a player would use them."""

import math
from typing import Any, Final

RESTART_BACK_SECONDS: Final = 0.5
"""A timestamp that is further back starts a new clock, as in concatenated streams."""
JUMP_AHEAD_SECONDS: Final = 10.0  # further ahead starts a new clock too, if the format allows clocks to jump
AVFMT_TS_DISCONT: Final = 0x0200  # flag in FFmpeg, for example of MPEG transport streams


class PresentationClock:
    """Repairs the timestamps of one stream: every time is later than the one before.

    A timestamp that is equal to the previous one, or slightly earlier, is moved right behind it. After a jump far
    back, times continue from the previous one, as for two concatenated recordings. ``start`` is the file's first
    time, ``period`` the duration of a frame or packet without a timestamp, both in seconds.
    """

    def __init__(self, start: float, period: float, *, jumps: bool = False) -> None:
        self._offset, self._period, self._jumps = -start, period, jumps
        self._last: float | None = None

    def __call__(self, stamp: float | None) -> float:
        """The time of the next frame, in seconds from the file's start; ``stamp`` is None if the frame has none."""
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
    """The start of the earliest of ``streams``, in seconds on the file's own clock."""
    starts = [float(stream.start_time * stream.time_base) for stream in streams if stream.start_time is not None]
    return min(starts, default=float(container.start_time or 0) / 1e6)


def may_jump(container: Any) -> bool:
    """Whether the file's format allows its clock to jump."""
    return bool(container.format.flags & AVFMT_TS_DISCONT)
