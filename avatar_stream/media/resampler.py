"""Resamples sound whose format may change: a peer may switch the codec or the number of channels at any packet."""

from typing import Any

import av


class Resampler:
    """Like ``av.AudioResampler``, which accepts one input format only, but replaces it when the format changes."""

    def __init__(self, **target: Any) -> None:
        """``target`` are the arguments of ``av.AudioResampler``."""
        self._target = target
        self._resampler = av.AudioResampler(**target)
        self._format: tuple[str, str, int] | None = None

    def resample(self, frame: av.AudioFrame | None) -> list[av.AudioFrame]:
        """Resample a frame; None returns the last samples.

        After a change of format, the old format's last samples come first, unless output frames have a fixed size.
        """
        if frame is None:
            return self._resampler.resample(None) if self._format else []
        sample_format = (frame.format.name, frame.layout.name, frame.sample_rate)
        flushed: list[av.AudioFrame] = []
        if self._format not in (None, sample_format):
            flushed = [] if self._target.get("frame_size") else self._resampler.resample(None)
            self._resampler = av.AudioResampler(**self._target)
        self._format = sample_format
        return flushed + self._resampler.resample(frame)
