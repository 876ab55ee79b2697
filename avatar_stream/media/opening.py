"""Opening a file that somebody brings, and reading what can be read of it."""

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import av

from avatar_stream.errors import BadClip


def open_media(path: Path, what: str) -> Any:
    """The file's container; raises :class:`BadClip` where it is no ``what`` (a video, a sound)."""
    try:
        # FFmpeg takes what stands before a colon for a protocol, unless it is told that this is a file.
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
    return f"not {what} this machine can read"


def video_stream(container: Any) -> Any:
    """The first stream of moving pictures, a cover left out; None where there is none that can be decoded."""
    for stream in container.streams.video:
        if stream.codec_context is not None and not stream.disposition & av.stream.Disposition.attached_pic:
            return stream
    return None


def audio_stream(container: Any) -> Any:
    """The first sound that can be decoded; None where there is none."""
    for stream in container.streams.audio:
        context = stream.codec_context
        if context is not None and context.codec is not None and context.sample_rate:
            return stream
    return None


def packets(container: Any, stream: Any) -> Iterator[Any]:
    """The packets of a stream, an empty one last; a file that is cut or damaged gives what it has."""
    found = container.demux(stream)
    while True:
        try:
            yield next(found)
        except (StopIteration, av.FFmpegError, OSError):
            return


def decoded_frames(container: Any, stream: Any) -> Iterator[Any]:
    """The frames of a stream; a damaged packet costs its frame, not the rest."""
    ended = False
    for packet in packets(container, stream):
        frames: list[Any] = []
        with contextlib.suppress(av.FFmpegError, ValueError):
            frames = list(packet.decode())
        ended = packet.size == 0
        yield from frames
    if not ended:  # the file is damaged: what the decoder still holds
        with contextlib.suppress(av.FFmpegError, ValueError, EOFError):
            for frame in stream.codec_context.decode(None):
                frame.time_base = stream.time_base
                yield frame
