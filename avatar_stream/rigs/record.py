"""A clip's motion, written to a file."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from avatar_stream.errors import BadClip
from avatar_stream.face.capture import FaceCapture
from avatar_stream.face.closer import no_face_in
from avatar_stream.media.files import Clip
from avatar_stream.rigs.files import MotionWriter


@dataclass(frozen=True, slots=True)
class Recorded:
    """What a recording holds."""

    frames: int
    face_found: float  # share of the frames
    output: str


def record_motion(driving: Path, output: Path, progress: Callable[[int, int], None] | None = None) -> Recorded:
    """Write the motion of the face in ``driving`` to ``output``; raises :class:`~avatar_stream.errors.BadInput`."""
    clip, capture = Clip(driving), FaceCapture()
    unfinished = output.with_name(output.name + ".part")
    frames = seen = 0
    try:
        writer = MotionWriter(unfinished, clip.rate)
        for at, image in clip.frames():
            frame = capture(image, at)
            writer.write(frame, at)
            frames += 1
            seen += frame is not None
            if progress:
                progress(frames, clip.expected)
        writer.close()
        if seen == 0:
            raise BadClip(no_face_in(driving, capture.too_small))
        unfinished.replace(output)
    finally:
        unfinished.unlink(missing_ok=True)
        clip.close()
        capture.close()
    return Recorded(frames, round(seen / frames, 4), str(output))
