"""What is behind a portrait: its own background, the same out of focus, one colour, or another picture."""

import re
from dataclasses import replace
from pathlib import Path
from typing import Final

import cv2
import numpy as np
import numpy.typing as npt

from avatar_stream.errors import BadInput
from avatar_stream.portrait.portrait import Portrait, inpaint_background, read_picture, segment_person

Image = npt.NDArray[np.uint8]

OWN, BLUR = "own", "blur"
BACKGROUND_HELP: Final = "own, blur, a colour such as #00ff00, or a picture, behind the portrait (own)"
UPLOADED: Final = "b-"  # how ids of pictures begin that a server was sent for a background
BLURRED: Final = 32  # a blurred background's deviation, in shares of the picture's longer side
THIN: Final = 0.08  # of a person in a pixel: less shows no colour of theirs
PATTERN: Final = rf"^(own|blur|#?[0-9a-fA-F]{{6}}|{UPLOADED}[A-Za-z0-9_-]{{16}})$"


def checked(background: str) -> str:
    """``own``, ``blur``, a colour as ``#00ff00``, or the id of a picture; raises :class:`BadInput`."""
    if not re.fullmatch(PATTERN, background):
        raise BadInput('a background is "own", "blur", a colour such as "#00ff00", or the id of a picture')
    if background in (OWN, BLUR) or background.startswith(UPLOADED):
        return background
    return "#" + background.lower().removeprefix("#")  # in an address a # has another meaning


def opened(background: str) -> "str | Image":
    """What a command's ``--background`` names: the picture, where it is a file; else see :func:`checked`."""
    return read_picture(Path(background)) if Path(background).is_file() else checked(background)


def on_background(portrait: Portrait, background: "str | Image") -> Portrait:
    """The portrait before ``own``, ``blur``, a colour, or a picture RGB ``(h, w, 3)``, which is cut to fit."""
    if isinstance(background, str) and checked(background) == OWN:
        return portrait
    picture, (left, top, width, height) = portrait.picture, portrait.box
    region = np.s_[top : top + height, left : left + width]
    matte = portrait.matte
    if matte.shape != picture.shape[:2]:
        matte = segment_person(picture)
        matte[region] = portrait.matte
    plate = inpaint_background(picture, matte)
    plate[region] = portrait.plate
    if isinstance(background, np.ndarray):
        behind = _covering(background, picture.shape)
    elif background == BLUR:
        behind = cv2.GaussianBlur(plate, (0, 0), max(picture.shape[:2]) / BLURRED).astype(np.uint8)
    else:
        background = checked(background)
        colour = [int(background[k : k + 2], 16) for k in (1, 3, 5)]
        behind = np.full_like(picture, np.array(colour, np.uint8))
    share = matte[..., None].astype(np.float32) / 255
    # Without what shines through at the edges: hair before a bright wall has no bright rim on a dark ground.
    person = np.clip((picture - (1 - share) * plate) / np.maximum(share, THIN), 0, 255)
    shown = np.asarray(share * person + (1 - share) * behind + 0.5, np.uint8)
    return replace(portrait, picture=shown, plate=np.ascontiguousarray(behind[region]))


def _covering(picture: Image, shape: tuple[int, ...]) -> Image:
    """The middle of a picture, as large as ``shape``."""
    height, width = shape[:2]
    scale = max(height / picture.shape[0], width / picture.shape[1])
    size = (max(width, round(picture.shape[1] * scale)), max(height, round(picture.shape[0] * scale)))
    scaled = cv2.resize(picture, size, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR)
    top, left = (size[1] - height) // 2, (size[0] - width) // 2
    return np.ascontiguousarray(scaled[top : top + height, left : left + width].astype(np.uint8))
