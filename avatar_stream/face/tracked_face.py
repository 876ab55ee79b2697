"""A face that was found elsewhere, in place of a camera frame: in a browser (privacy mode), or in another program."""

from dataclasses import dataclass
from typing import Final

from avatar_stream.face.mesh import Floats

PACKET_PICTURE_HEIGHT: Final = 480.0  # pixels of the picture that a packet's landmarks are in


@dataclass(frozen=True, slots=True)
class TrackedFace:
    """A face that was found elsewhere: ``landmarks (478, 3)`` in pixels of a picture ``height`` pixels high, None
    where there is none, and ``view``, what its mouth shows (see ``read_mouth``), None where it is closed.
    """

    landmarks: Floats | None
    view: Floats | None = None
    height: float = PACKET_PICTURE_HEIGHT
