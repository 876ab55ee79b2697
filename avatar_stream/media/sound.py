"""The sound of a file, on the clock of its pictures.

Whoever uses it opens the file for itself: no packet and no decoder is shared between threads.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import av
import numpy as np
import numpy.typing as npt

from avatar_stream.errors import BadClip
from avatar_stream.media.clock import PresentationClock, first_time, may_jump
from avatar_stream.media.opening import audio_stream, decoded_frames, open_media, packets, video_stream

MP4_CODECS: Final = frozenset({"aac", "mp3", "opus", "ac3", "eac3", "alac", "flac"})
"""What MP4 holds as it is, and players play."""

MAX_DRIFT_SECONDS: Final = 0.08
"""Seconds by which decoded sound may be off its stamps: within it samples follow one another, beyond it silence is
put in, or sound is left out. Stamps of WebM are rounded to milliseconds, and encoders' paddings are 50 ms."""

MAX_SILENCE_SECONDS: Final = 600.0  # seconds of silence that stand for one gap, at most

Samples = npt.NDArray[np.float32]


class Sound:
    """The first sound of a file that can be decoded or copied. Used by one thread; read it once, in one of two ways.

    ``start`` is the first time of the file in seconds (see :attr:`.files.Clip.start`); None: that of its streams.
    Raises :class:`BadClip` where the file cannot be opened.
    """

    def __init__(self, path: Path, start: float | None = None) -> None:
        self._container = open_media(path, "a sound")
        self.stream: Any = audio_stream(self._container)
        """PyAV's stream; None where the file has no sound that can be decoded."""
        self.silenced = self.stream is None and bool(self._container.streams.audio)
        """The file has sound, and nobody here can decode it."""
        streams = [one for one in (video_stream(self._container), self.stream) if one is not None]
        self.start = first_time(self._container, streams) if start is None else start
        self.duration = float(self._container.duration or 0) / av.time_base
        """Seconds, as the file says; 0 where it does not."""

    @property
    def codec(self) -> str:
        """The codec's name in FFmpeg, whichever decoder is used; empty without sound."""
        return str(self.stream.codec_context.codec.canonical_name) if self.stream is not None else ""

    @property
    def fits_mp4(self) -> bool:
        """An MP4 file can hold it unchanged."""
        return self.codec in MP4_CODECS

    def packets(self) -> Iterator[tuple[float, Any]]:
        """(seconds, packet) of all sound, undecoded; each packet's stamps are mended, in its own time base."""
        period = self._packet_seconds()
        clock = PresentationClock(self.start, period, jumps=may_jump(self._container))
        for packet in packets(self._container, self.stream):
            if packet.size == 0:
                continue
            time = clock(None if packet.pts is None else float(packet.pts * packet.time_base))
            packet.pts = packet.dts = round(time / packet.time_base)
            yield time, packet

    def samples(self, rate: int, layout: str = "mono") -> Iterator[Samples]:
        """The whole sound ``(channels, n)`` from the file's start on, ``rate`` samples a second, -1 to 1, in pieces.

        Gaps in the stamps, late starts and damaged packets are silence.
        """
        clock = PresentationClock(self.start, self._packet_seconds(), jumps=may_jump(self._container))
        channels = len(av.AudioLayout(layout).channels)
        resampler, shape, count = _resampler(rate, layout), None, 0
        for frame in decoded_frames(self._container, self.stream):
            if not frame.samples:
                continue
            time = clock(frame.time)
            if shape not in (None, _sample_format(frame)):  # the format changes on the way
                resampler = _resampler(rate, layout)
            shape = _sample_format(frame)
            gap = round(time * rate) - count
            if gap > MAX_DRIFT_SECONDS * rate or (count == 0 and gap > 0):
                missing = min(gap, round(MAX_SILENCE_SECONDS * rate))
                count += missing
                yield np.zeros((channels, missing), np.float32)
            elif gap < -MAX_DRIFT_SECONDS * rate:
                continue
            frame.pts = None
            for part in resampler.resample(frame):
                piece = np.asarray(part.to_ndarray(), np.float32).reshape(channels, -1)
                count += piece.shape[1]
                yield piece
        if shape is not None:
            for part in resampler.resample(None):
                yield np.asarray(part.to_ndarray(), np.float32).reshape(channels, -1)

    def close(self) -> None:
        """Close the file."""
        self._container.close()

    def _packet_seconds(self) -> float:
        context = self.stream.codec_context
        return float(context.frame_size or 1024) / float(context.sample_rate or 48_000)


def open_sound(path: Path, start: float | None = None) -> Sound | None:
    """The sound of a file; None where it has none. Raises :class:`BadClip`."""
    sound = Sound(path, start)
    if sound.stream is None and not sound.silenced:
        sound.close()
        return None
    return sound


def has_only_sound(path: Path) -> bool:
    """The file has sound, and no pictures but perhaps a cover; raises :class:`BadClip`."""
    with open_media(path, "a video or sound") as container:
        if video_stream(container) is not None:
            return False
        if not container.streams.audio:
            raise BadClip(f"{path} has neither pictures nor sound")
        return True


def _resampler(rate: int, layout: str) -> av.AudioResampler:
    return av.AudioResampler(format="fltp", layout=layout, rate=rate)


def _sample_format(frame: Any) -> tuple[str, str, int]:
    return frame.format.name, frame.layout.name, frame.sample_rate
