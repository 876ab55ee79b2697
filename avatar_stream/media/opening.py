"""Opens media files, and reads damaged ones as far as possible."""

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import av

from avatar_stream.errors import BadClip


def open_media(path: Path, what: str) -> Any:
    """Open a file as a PyAV container; raises :class:`BadClip` if it is no ``what`` (a video, a sound)."""
    try:
        # Without "file:" FFmpeg takes the part of a path before a colon for a protocol.
        return av.open(f"file:{path}")
    except (av.FFmpegError, OSError, ValueError) as error:
        raise BadClip(f"cannot open {path}: {_reason(path, what)}") from error


def _reason(path: Path, what: str) -> str:
    try:
        if path.is_dir():
            return "it is a folder"
        if not path.exists():
            return "no such file"
        with path.open("rb") as file:
            if not file.read(1):
                return "the file is empty"
    except (OSError, ValueError) as error:
        return getattr(error, "strerror", None) or str(error)
    return f"it is not {what} that this machine can read"


def video_stream(container: Any) -> Any:
    """The first video stream that can be decoded, cover pictures excluded; None if there is none."""
    for stream in container.streams.video:
        if stream.codec_context is not None and not stream.disposition & av.stream.Disposition.attached_pic:
            return stream
    return None


def audio_stream(container: Any) -> Any:
    """The first audio stream that can be decoded; None if there is none."""
    for stream in container.streams.audio:
        context = stream.codec_context
        if context is not None and context.codec is not None and context.sample_rate:
            return stream
    return None


def packets(container: Any, stream: Any) -> Iterator[Any]:
    """The packets of a stream, then an empty one; a truncated or damaged file ends early, without the empty one."""
    found = container.demux(stream)
    while True:
        try:
            yield next(found)
        except (StopIteration, av.FFmpegError, OSError):
            return


def decoded_frames(container: Any, stream: Any) -> Iterator[Any]:
    """The frames of a stream, without those of damaged packets."""
    ended = False
    for packet in packets(container, stream):
        frames: list[Any] = []
        with contextlib.suppress(av.FFmpegError, ValueError):
            frames = list(packet.decode())
        ended = packet.size == 0
        yield from frames
    if not ended:  # the file is damaged: get the frames that the decoder still holds
        with contextlib.suppress(av.FFmpegError, ValueError, EOFError):
            for frame in stream.codec_context.decode(None):
                frame.time_base = stream.time_base
                yield frame
