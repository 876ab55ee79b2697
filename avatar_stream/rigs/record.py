"""Records the motion of a clip's face to a motion file."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from avatar_stream.errors import BadClip
from avatar_stream.face.capture import FaceCapture
from avatar_stream.face.small_faces import no_face_message
from avatar_stream.media.files import Clip
from avatar_stream.media.output import atomic_file
from avatar_stream.rigs.files import MotionWriter


@dataclass(frozen=True, slots=True)
class Recorded:
    """Summary of a recording."""

    frames: int
    face_found: float  # share of the frames
    output: str


def record_motion(driving: Path, output: Path, progress: Callable[[int, int], None] | None = None) -> Recorded:
    """Write the motion of the face in ``driving`` to ``output``; raises :class:`~avatar_stream.errors.BadInput`."""
    clip, capture = Clip(driving), FaceCapture()
    frames = seen = 0
    try:
        with atomic_file(output, driving) as unfinished:
            writer = MotionWriter(unfinished, clip.rate)
            try:
                for at, image in clip.frames():
                    frame = capture(image, at)
                    writer.write(frame, at)
                    frames += 1
                    seen += frame is not None
                    if progress:
                        progress(frames, clip.expected)
            finally:
                writer.close()
            if seen == 0:
                raise BadClip(no_face_message(driving, capture.too_small))
    finally:
        clip.close()
        capture.close()
    return Recorded(frames, round(seen / frames, 4), str(output))
