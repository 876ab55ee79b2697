"""A face that a browser (privacy mode) or another program has tracked, in place of a camera frame."""

from dataclasses import dataclass
from typing import Final

from avatar_stream.face.mesh import Floats

PACKET_PICTURE_HEIGHT: Final = 480.0  # pixels of the picture that a packet's landmarks refer to


@dataclass(frozen=True, slots=True)
class TrackedFace:
    """A face that was tracked elsewhere.

    ``landmarks (478, 3)``: in pixels of a picture ``height`` pixels high; None if there is no face. ``view``: the
    mouth view (see ``read_mouth``); None if the mouth is closed.
    """

    landmarks: Floats | None
    view: Floats | None = None
    height: float = PACKET_PICTURE_HEIGHT
