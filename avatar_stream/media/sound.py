"""Reads the sound of a file, on the clock of its pictures.

Each user opens the file separately, so that threads share no packets and no decoder.
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
from avatar_stream.media.resampler import Resampler

MP4_CODECS: Final = frozenset({"aac", "mp3", "opus", "ac3", "eac3", "alac", "flac"})
"""Codecs that MP4 can hold and players can play."""

MAX_DRIFT_SECONDS: Final = 0.08
"""Tolerated difference between timestamps and the number of samples. Beyond it, silence is inserted or sound is
dropped. WebM rounds timestamps to milliseconds, and encoders pad up to 50 ms."""

MAX_SILENCE_SECONDS: Final = 600.0  # inserted for one gap

Samples = npt.NDArray[np.float32]


class Sound:
    """The first audio stream of a file that can be decoded. Use it in one thread; read packets or samples, once.

    ``start`` is the first time of the file in seconds (see :attr:`.files.Clip.start`); None: that of its streams.
    Raises :class:`BadClip` if the file cannot be opened.
    """

    def __init__(self, path: Path, start: float | None = None) -> None:
        self._container = open_media(path, "a sound")
        self.stream: Any = audio_stream(self._container)
        """PyAV's stream; None if the file has no sound that can be decoded."""
        self.silenced = self.stream is None and bool(self._container.streams.audio)
        """Whether the file has sound, but none that can be decoded here."""
        streams = [one for one in (video_stream(self._container), self.stream) if one is not None]
        self.start = first_time(self._container, streams) if start is None else start
        self.duration = float(self._container.duration or 0) / av.time_base
        """Seconds, from the file's header; 0 if it has none."""

    @property
    def codec(self) -> str:
        """FFmpeg's name of the codec, whichever decoder is used; empty without sound."""
        return str(self.stream.codec_context.codec.canonical_name) if self.stream is not None else ""

    @property
    def fits_mp4(self) -> bool:
        """Whether an MP4 file can hold it unchanged."""
        return self.codec in MP4_CODECS

    def packets(self) -> Iterator[tuple[float, Any]]:
        """(seconds, packet) of all sound, undecoded, with repaired timestamps in each packet's time base."""
        period = self._packet_seconds()
        clock = PresentationClock(self.start, period, jumps=may_jump(self._container))
        for packet in packets(self._container, self.stream):
            if packet.size == 0:
                continue
            time = clock(None if packet.pts is None else float(packet.pts * packet.time_base))
            packet.pts = packet.dts = round(time / packet.time_base)
            yield time, packet

    def samples(self, rate: int, layout: str = "mono") -> Iterator[Samples]:
        """The whole sound in pieces ``(channels, n)`` from the file's start on, ``rate`` samples a second, -1 to 1.

        Gaps in the timestamps, late starts and damaged packets become silence.
        """
        clock = PresentationClock(self.start, self._packet_seconds(), jumps=may_jump(self._container))
        channels = len(av.AudioLayout(layout).channels)
        resampler, count = Resampler(format="fltp", layout=layout, rate=rate), 0
        for frame in decoded_frames(self._container, self.stream):
            if not frame.samples:
                continue
            time = clock(frame.time)
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
        for part in resampler.resample(None):
            yield np.asarray(part.to_ndarray(), np.float32).reshape(channels, -1)

    def close(self) -> None:
        """Close the file."""
        self._container.close()

    def _packet_seconds(self) -> float:
        context = self.stream.codec_context
        return float(context.frame_size or 1024) / float(context.sample_rate or 48_000)


def open_sound(path: Path, start: float | None = None) -> Sound | None:
    """The sound of a file; None if it has none. Raises :class:`BadClip` if the file cannot be opened."""
    sound = Sound(path, start)
    if sound.stream is None and not sound.silenced:
        sound.close()
        return None
    return sound


def has_only_sound(path: Path) -> bool:
    """Whether the file has sound and no video, except perhaps a cover; raises :class:`BadClip` if it has neither."""
    with open_media(path, "a video or sound") as container:
        if video_stream(container) is not None:
            return False
        if not container.streams.audio:
            raise BadClip(f"{path} has neither pictures nor sound")
        return True
