"""Driving clips in, avatar clips out."""

import contextlib
import os
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any, Protocol

import av
import numpy as np
import numpy.typing as npt

from avatar_stream.errors import BadClip
from avatar_stream.media.marking import Label, Marker
from avatar_stream.media.upright import keep_pixel_shape, upright

COPIED_AUDIO = ("aac", "mp3", "opus", "ac3", "alac")  # MP4 carries these as they are


class Sounding(Protocol):
    """What may have sound: its stream, and the packets of it that were read and are to be written."""

    audio: Any
    packets: list[Any]


def opened(path: Path, what: str) -> Any:
    """The file's container; raises ``BadClip`` where it is no ``what`` (a video, a sound)."""
    try:
        return av.open(str(path))
    except (av.FFmpegError, OSError, ValueError) as error:
        reason = "no such file" if not path.exists() else f"not {what} this machine can read"
        raise BadClip(f"cannot open {path}: {reason}") from error


def only_sounds(path: Path) -> bool:
    """The file has sound, and no pictures but perhaps a cover; raises ``BadClip``."""
    with opened(path, "a video or sound") as container:
        cover = av.stream.Disposition.attached_pic
        moving = [stream for stream in container.streams.video if not stream.disposition & cover]
        return bool(container.streams.audio) and not moving


class Clip:
    """A driving clip; iterate :meth:`frames` once. Audio packets go to ``audio`` as they pass."""

    def __init__(self, source: str | os.PathLike[str]) -> None:
        path = Path(source)
        self._container = opened(path, "a video")
        if not self._container.streams.video:
            self._container.close()
            raise BadClip(f"{path} has no video: the driving clip must show a face")
        self._video = self._container.streams.video[0]
        self._video.thread_type = "AUTO"
        self.audio = self._container.streams.audio[0] if self._container.streams.audio else None
        rate = self._video.average_rate or Fraction(25)
        self.rate = min(Fraction(rate).limit_denominator(1001), Fraction(60))
        self.expected = int(self._video.frames or 0)
        self.packets: list[Any] = []

    def frames(self) -> Iterator[tuple[float, npt.NDArray[np.uint8]]]:
        """(seconds, RGB picture) of every frame, upright; the size may change on the way."""
        streams = [s for s in (self._video, self.audio) if s is not None]
        first: float | None = None
        count = 0
        for packet in self._container.demux(*streams):
            if packet.stream is self.audio:
                if packet.dts is not None:
                    self.packets.append(packet)
                continue
            # A damaged packet costs its frame, not the clip.
            decoded: list[Any] = []
            with contextlib.suppress(av.FFmpegError):
                decoded = list(packet.decode())
            for frame in decoded:
                now = frame.time if frame.time is not None else count / float(self.rate)
                first = now if first is None else first
                count += 1
                yield now - first, upright(keep_pixel_shape(frame, self._video))

    def close(self) -> None:
        """Close the file."""
        self._container.close()


class Recorder:
    """Writes H.264 MP4 frames of one size, with the driving clip's audio."""

    def __init__(
        self,
        path: str | os.PathLike[str],
        rate: Fraction | int,
        size: tuple[int, int],
        clip: Sounding | None = None,
        *,
        marker: Marker | None = None,
    ) -> None:
        """``rate`` frames a second of ``size`` (width, height); ``marker`` marks them as generated."""
        self._marker = marker or Marker(Label(""), watermark=False)
        try:
            self._container = av.open(str(path), "w", format="mp4", options={"movflags": "faststart"})
        except (av.FFmpegError, OSError) as error:
            raise BadClip(f"cannot write {path}: {error.strerror or error}") from error
        self._video: Any = self._container.add_stream("libx264", rate=rate)
        self._video.width, self._video.height = size
        self._video.pix_fmt = "yuv420p"
        self._video.options = {"crf": "16", "preset": "veryfast"}
        self._clip = clip
        self._audio: Any = None
        self._copied = False
        if clip is not None and clip.audio is not None:
            self._copied = clip.audio.codec_context.name in COPIED_AUDIO
            if self._copied:
                self._audio = self._container.add_stream_from_template(clip.audio)
            else:
                self._audio = self._container.add_stream("aac", rate=clip.audio.rate or 48000)

    def write(self, picture: npt.NDArray[np.uint8]) -> None:
        """Append one RGB frame, and the audio read so far."""
        self._mux(self._video.encode(self._marker(picture)))
        self._write_audio()

    def close(self) -> None:
        """Finish the file."""
        self._mux(self._video.encode(None))
        self._write_audio()
        if self._audio is not None and not self._copied:
            self._mux(self._audio.encode(None))
        self._container.close()

    def _write_audio(self) -> None:
        if self._audio is None or self._clip is None:
            return
        packets, self._clip.packets = self._clip.packets, []
        for packet in packets:
            if self._copied:
                packet.stream = self._audio
                self._container.mux(packet)
            else:
                with contextlib.suppress(av.FFmpegError):
                    for frame in packet.decode():
                        self._mux(self._audio.encode(frame))

    def _mux(self, packets: list[Any]) -> None:
        for packet in packets:
            self._container.mux(packet)
