"""Writes avatar clips."""

import contextlib
import os
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any, Final, Protocol

import av
import numpy as np
import numpy.typing as npt

from avatar_stream.errors import BadClip
from avatar_stream.media.marking import Label, Marker
from avatar_stream.media.sound import Sound, open_sound

VIDEO_CLOCK_RATE: Final = 90_000  # Hz
AAC_SAMPLE_RATES: Final = (8_000, 11_025, 12_000, 16_000, 22_050, 24_000, 32_000, 44_100, 48_000)  # Hz, in MP4
SOUND_LEAD_SECONDS: Final = 0.5  # sound is written this far ahead of the pictures


class DrivingClip(Protocol):
    """The driving clip of a recording: the source of its sound and frame times."""

    def next_time(self) -> float | None:
        """When the next picture is shown, in seconds; None if that is not known."""

    @property
    def source(self) -> Path:
        """The file."""

    @property
    def start(self) -> float:
        """The first time in the file, in seconds."""


class Recorder:
    """Writes H.264 MP4 frames of one size, with the driving clip's times and its sound. Used by one thread.

    Pictures keep the times of the clip's, including variable rates, late starts and long pictures, so that none is
    repeated or dropped. Sound is copied if MP4 can hold it, else encoded as AAC.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        rate: Fraction | int,
        size: tuple[int, int],
        clip: DrivingClip | None = None,
        *,
        marker: Marker | None = None,
    ) -> None:
        """``size`` is (width, height). ``rate``, in frames a second, applies if ``clip`` has no frame times;
        ``marker`` marks the frames as generated. Raises :class:`BadClip` if the file cannot be written.
        """
        self._marker = marker or Marker(Label(""), watermark=False)
        self._path, self._rate, self._clip = Path(path), Fraction(rate), clip
        self._count, self._last = 0, -1
        self._pending_sound: tuple[float, list[Any]] | None = None  # sound that was read but is not due yet
        self._sound = open_sound(clip.source, clip.start) if clip is not None else None
        self.silenced = self._sound is not None and self._sound.silenced
        """Whether the clip's sound cannot be decoded here, so that the recording is silent."""
        try:
            with self._as_bad_clip():
                self._container = av.open(f"file:{self._path}", "w", format="mp4", options={"movflags": "faststart"})
                self._video = self._video_stream(size)
                self._sound_packets = self._open_sound_packets()
        except BaseException:
            self._close_sound()
            raise

    def write(self, picture: npt.NDArray[np.uint8], at: float | None = None) -> None:
        """Append one RGB frame, shown at ``at`` seconds, and the sound up to that time.

        If ``at`` is None, the clip's next frame time applies. Raises :class:`BadClip` if the file cannot be written.
        """
        if at is None and self._clip is not None:
            at = self._clip.next_time()
        if at is None:
            at = self._count / float(self._rate)
        self._count += 1
        frame = self._marker(picture)
        frame.pts = self._last = max(round(at * VIDEO_CLOCK_RATE), self._last + 1)
        frame.time_base = Fraction(1, VIDEO_CLOCK_RATE)
        with self._as_bad_clip():
            self._mux(self._video.encode(frame))
            self._write_sound(at + SOUND_LEAD_SECONDS)

    def close(self) -> None:
        """Finish the file; raises :class:`BadClip` if it cannot be written."""
        try:
            with self._as_bad_clip():
                self._mux(self._video.encode(None))
                self._write_sound(float("inf"))
                self._container.close()
        except BaseException:
            self.abandon()
            raise
        self._close_sound()

    def abandon(self) -> None:
        """Close an unfinished file; the caller deletes it."""
        with contextlib.suppress(av.FFmpegError, OSError, ValueError):
            self._container.close()
        self._close_sound()

    def _video_stream(self, size: tuple[int, int]) -> Any:
        stream: Any = self._container.add_stream("libx264", rate=self._rate)
        stream.width, stream.height = size
        stream.pix_fmt = "yuv420p"
        stream.codec_context.time_base = stream.time_base = Fraction(1, VIDEO_CLOCK_RATE)
        stream.options = {"crf": "16", "preset": "veryfast"}
        return stream

    def _open_sound_packets(self) -> Iterator[tuple[float, list[Any]]]:
        """(seconds, packets to write) of the sound."""
        if self._sound is None or self._sound.stream is None:
            return iter(())
        if self._sound.fits_mp4:
            with contextlib.suppress(av.FFmpegError, ValueError):
                return self._copied(self._sound, self._container.add_stream_from_template(self._sound.stream))
        return self._encoded(self._sound)

    @staticmethod
    def _copied(sound: Sound, stream: Any) -> Iterator[tuple[float, list[Any]]]:
        last = None
        for time, packet in sound.packets():
            # After rounding to another clock, timestamps must still differ.
            if last is not None and packet.dts <= last:
                packet.pts = packet.dts = last + 1
            last = packet.dts
            packet.stream = stream
            yield time, [packet]

    def _encoded(self, sound: Sound) -> Iterator[tuple[float, list[Any]]]:
        context = sound.stream.codec_context
        rate = context.sample_rate if context.sample_rate in AAC_SAMPLE_RATES else 48_000
        layout = "mono" if context.layout.nb_channels == 1 else "stereo"
        stream: Any = self._container.add_stream("aac", rate=rate)
        stream.codec_context.layout = layout
        return self._encoded_by(stream, sound, rate, layout)

    @staticmethod
    def _encoded_by(stream: Any, sound: Sound, rate: int, layout: str) -> Iterator[tuple[float, list[Any]]]:
        count = 0
        for piece in sound.samples(rate, layout):
            for begin in range(0, piece.shape[1], rate):  # at most one second at a time
                part = np.ascontiguousarray(piece[:, begin : begin + rate])
                frame = av.AudioFrame.from_ndarray(part, "fltp", layout)
                frame.sample_rate, frame.pts, frame.time_base = rate, count, Fraction(1, rate)
                yield count / rate, list(stream.encode(frame))
                count += part.shape[1]
        yield count / rate, list(stream.encode(None))

    def _write_sound(self, until: float) -> None:
        while True:
            if self._pending_sound is None:
                self._pending_sound = next(self._sound_packets, None)
            if self._pending_sound is None or self._pending_sound[0] > until:
                return
            self._mux(self._pending_sound[1])
            self._pending_sound = None

    def _mux(self, packets: list[Any]) -> None:
        for packet in packets:
            self._container.mux(packet)

    def _close_sound(self) -> None:
        if self._sound is not None:
            self._sound.close()

    @contextlib.contextmanager
    def _as_bad_clip(self) -> Iterator[None]:
        try:
            yield
        except (av.FFmpegError, OSError) as error:
            raise BadClip(f"cannot write {self._path}: {getattr(error, 'strerror', None) or error}") from error
