"""What is behind a portrait: its own background, the same out of focus, or one colour."""

import re
from dataclasses import replace
from typing import Final

import cv2
import numpy as np
import numpy.typing as npt

from avatar_stream.errors import BadInput
from avatar_stream.portrait.portrait import Portrait, inpaint_background, segment_person

Image = npt.NDArray[np.uint8]

OWN, BLUR = "own", "blur"
BACKGROUND_HELP: Final = "own, blur, or a colour such as #00ff00 behind the portrait (own)"
BLURRED: Final = 32  # a blurred background's deviation, in shares of the picture's longer side
THIN: Final = 0.08  # of a person in a pixel: less shows no colour of theirs
_COLOUR = re.compile(r"#?[0-9a-f]{6}", re.IGNORECASE)


def checked(background: str) -> str:
    """``own``, ``blur`` or a colour as ``#00ff00``; raises :class:`~avatar_stream.errors.BadInput`."""
    if background in (OWN, BLUR):
        return background
    if _COLOUR.fullmatch(background):  # in an address a # has another meaning
        return "#" + background.lower().removeprefix("#")
    raise BadInput('a background is "own", "blur", or a colour such as "#00ff00"')


def on_background(portrait: Portrait, background: str) -> Portrait:
    """The portrait with another background (see :func:`checked`)."""
    background = checked(background)
    if background == OWN:
        return portrait
    picture, (left, top, width, height) = portrait.picture, portrait.box
    region = np.s_[top : top + height, left : left + width]
    matte = portrait.matte
    if matte.shape != picture.shape[:2]:
        matte = segment_person(picture)
        matte[region] = portrait.matte
    plate = inpaint_background(picture, matte)
    plate[region] = portrait.plate
    if background == BLUR:
        behind = cv2.GaussianBlur(plate, (0, 0), max(picture.shape[:2]) / BLURRED).astype(np.uint8)
    else:
        colour = [int(background[k : k + 2], 16) for k in (1, 3, 5)]
        behind = np.full_like(picture, np.array(colour, np.uint8))
    share = matte[..., None].astype(np.float32) / 255
    # Without what shines through at the edges: hair before a bright wall has no bright rim on a dark ground.
    person = np.clip((picture - (1 - share) * plate) / np.maximum(share, THIN), 0, 255)
    shown = np.asarray(share * person + (1 - share) * behind + 0.5, np.uint8)
    return replace(portrait, picture=shown, plate=np.ascontiguousarray(behind[region]))
