"""Resampling of sound whose format may change on the way: a peer's next packet may have another codec or channels."""

from typing import Any

import av


class Resampler:
    """``av.AudioResampler``, which takes frames of one format only, made anew when the format changes."""

    def __init__(self, **target: Any) -> None:
        """``target``: the arguments of ``av.AudioResampler``."""
        self._target = target
        self._resampler = av.AudioResampler(**target)
        self._format: tuple[str, str, int] | None = None

    def resample(self, frame: av.AudioFrame | None) -> list[av.AudioFrame]:
        """The resampled sound of ``frame``; None ends the sound.

        After a change of format the rest of the old sound comes first, unless frames have a fixed size.
        """
        if frame is None:
            return self._resampler.resample(None) if self._format else []
        now = (frame.format.name, frame.layout.name, frame.sample_rate)
        left: list[av.AudioFrame] = []
        if self._format not in (None, now):
            left = [] if self._target.get("frame_size") else self._resampler.resample(None)
            self._resampler = av.AudioResampler(**self._target)
        self._format = now
        return left + self._resampler.resample(frame)
