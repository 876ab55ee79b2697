"""A portrait's background: its own, the same out of focus, one colour, or another picture."""

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

OWN_BACKGROUND, BLURRED_BACKGROUND = "own", "blur"
BACKGROUND_HELP: Final = "own, blur, a colour such as #00ff00, or a picture, behind the portrait (own)"
UPLOADED_BACKGROUND_PREFIX: Final = "b-"  # of ids of background pictures that were uploaded to the server
BLUR_SIGMAS_PER_SIDE: Final = 32  # the blur's sigma is the picture's longer side over this
MIN_PERSON_SHARE: Final = 0.08  # of a pixel; with less person in it, their colour cannot be separated
BACKGROUND_PATTERN: Final = rf"^(own|blur|#?[0-9a-fA-F]{{6}}|{UPLOADED_BACKGROUND_PREFIX}[A-Za-z0-9_-]{{16}})$"


def checked_background(background: str) -> str:
    """Check ``own``, ``blur``, a colour such as ``#00ff00``, or the id of a picture; else raise :class:`BadInput`."""
    if not re.fullmatch(BACKGROUND_PATTERN, background):
        raise BadInput('a background is "own", "blur", a colour such as "#00ff00", or the id of a picture')
    if background in (OWN_BACKGROUND, BLURRED_BACKGROUND) or background.startswith(UPLOADED_BACKGROUND_PREFIX):
        return background
    return "#" + background.lower().removeprefix("#")  # URLs leave the # out


def open_background(background: str) -> "str | Image":
    """The value of ``--background``: a picture if it names a file; else see :func:`checked_background`."""
    return read_picture(Path(background)) if Path(background).is_file() else checked_background(background)


def on_background(portrait: Portrait, background: "str | Image") -> Portrait:
    """The portrait on ``own``, ``blur``, a colour, or a picture RGB ``(h, w, 3)``, which is cropped to fit."""
    if isinstance(background, str) and checked_background(background) == OWN_BACKGROUND:
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
        behind = _cropped_to(background, picture.shape)
    elif background == BLURRED_BACKGROUND:
        behind = cv2.GaussianBlur(plate, (0, 0), max(picture.shape[:2]) / BLUR_SIGMAS_PER_SIDE).astype(np.uint8)
    else:
        background = checked_background(background)
        colour = [int(background[k : k + 2], 16) for k in (1, 3, 5)]
        behind = np.full_like(picture, np.array(colour, np.uint8))
    share = matte[..., None].astype(np.float32) / 255
    # Remove the old background from edge pixels: hair before a bright wall gets no bright rim on a dark ground.
    person = np.clip((picture - (1 - share) * plate) / np.maximum(share, MIN_PERSON_SHARE), 0, 255)
    shown = np.asarray(share * person + (1 - share) * behind + 0.5, np.uint8)
    return replace(portrait, picture=shown, plate=np.ascontiguousarray(behind[region]))


def _cropped_to(picture: Image, shape: tuple[int, ...]) -> Image:
    """The middle of a picture, scaled to cover ``shape``."""
    height, width = shape[:2]
    scale = max(height / picture.shape[0], width / picture.shape[1])
    size = (max(width, round(picture.shape[1] * scale)), max(height, round(picture.shape[0] * scale)))
    scaled = cv2.resize(picture, size, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR)
    top, left = (size[1] - height) // 2, (size[0] - width) // 2
    return np.ascontiguousarray(scaled[top : top + height, left : left + width].astype(np.uint8))
