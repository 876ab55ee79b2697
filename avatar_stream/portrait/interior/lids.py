"""Shut lids: skin grown over an eye, or the person's own lids if another picture shows them shut."""

from dataclasses import dataclass
from typing import Final

import cv2
import numpy as np
import numpy.typing as npt

from avatar_stream.face.mesh import Floats
from avatar_stream.portrait.similarity import resample, similarity_between

Image = npt.NDArray[np.uint8]

LASH_DARKNESS: Final = 0.5  # of the line where shut lids meet
GROWN_SKIN_ALPHA, LID_DARKENING = 0.75, 0.08  # opacity of the skin grown over an eye, and how much darker it is


@dataclass(frozen=True, slots=True)
class ClosedLid:
    """A shut eye of another picture, independent of that picture's light.

    ``pixels (h, w, 3)`` are relative to the skin around them; the eye's ``corners (2, 2)`` are in their pixels.
    """

    pixels: Floats
    corners: Floats

    @staticmethod
    def of(picture: Image, landmarks: Floats, upper: Floats, lower: Floats) -> "ClosedLid":
        """Cut out the eye between lines ``upper`` and ``lower``, ``(25, 2)`` each."""
        width = float(np.linalg.norm(upper[-1] - upper[0]))
        ring = np.concatenate([upper, lower])
        pad = round(0.7 * width)
        left, top = np.maximum(np.floor(ring.min(0)).astype(int) - pad, 0)
        right, bottom = np.ceil(ring.max(0)).astype(int) + pad
        part = picture[top:bottom, left:right].astype(np.float32)
        corner = np.array([left, top], np.float32)
        lid = soft_polygon(
            np.concatenate([upper, lower[-2:0:-1]]) - corner, part.shape[:2], max(1, round(width / 5)), 1.0
        )
        skin = surrounding_skin(part, lid, width)
        ends = np.array([upper[0], upper[-1]], np.float32) - corner
        return ClosedLid(np.asarray(part / np.maximum(skin, 8), np.float32), ends)


def draw_closed_lid(
    picture: Image, upper: Floats, lower: Floats, opened: Floats, share: float, own: ClosedLid | None = None
) -> None:
    """Cover an eye that is nearly shut, ``share`` opaque (in place): with ``own`` lids, or with skin grown over it
    and a dark line where the lids meet.

    The warp stretches lashes and fold over the lid, up to the upper lid's ``opened`` line; they are covered, too.
    """
    width = float(np.linalg.norm(upper[-1] - upper[0]))
    everything = np.concatenate([upper, lower, opened])
    pad = round(0.22 * width) + 2
    left, top = np.maximum(np.floor(everything.min(0)).astype(int) - pad, 0)
    right, bottom = np.minimum(np.ceil(everything.max(0)).astype(int) + pad + 1, picture.shape[1::-1])
    if right - left < 4 or bottom - top < 4 or width < 4:
        return
    region = picture[top:bottom, left:right]
    corner, size = np.array([left, top], np.float32), region.shape[:2]
    over = soft_polygon(np.concatenate([upper, lower[-2:0:-1]]) - corner, size, max(1, round(width / 9)), width / 50)
    lid = soft_polygon(np.concatenate([opened, lower[-2:0:-1]]) - corner, size, max(1, round(width / 14)), width / 22)
    skin = surrounding_skin(region, np.minimum(np.maximum(over, lid) * 1.5, 1), width)
    if own is not None:
        back = similarity_between(np.array([upper[0], upper[-1]], np.float32) - corner, own.corners)
        skin = skin * resample(own.pixels, back, size[1], size[0])
        alpha = np.maximum(over, lid)[..., None]
    else:
        line = np.zeros(size, np.uint8)
        seam = np.round(((0.25 * upper + 0.75 * lower) - corner) * 16).astype(np.int32)
        cv2.polylines(line, [seam], False, 255, max(1, round(width / 26)), cv2.LINE_AA, 4)
        dark = cv2.GaussianBlur(
            line.astype(np.float32) * np.float32(LASH_DARKNESS / 255), (0, 0), max(0.5, width / 60)
        )
        # A lid is a little darker than the skin around it, and keeps some of its own texture.
        alpha = np.maximum(over, GROWN_SKIN_ALPHA * lid)[..., None]
        skin = skin * (1 - LID_DARKENING * lid[..., None]) * (1 - dark[..., None])
    region[:] = np.clip(region + np.float32(share) * alpha * (skin - region) + 0.5, 0, 255)


def surrounding_skin(region: npt.NDArray[np.generic], hidden: Floats, width: float) -> Floats:
    """Skin ``(h, w, 3)`` grown from outside over ``hidden (h, w)``; ``width`` is the eye's."""
    outside = (1 - hidden)[..., None]
    # Bright pixels count most, because brows and lashes beside the eye are not skin.
    bright = outside * (region.mean(2, keepdims=True) * np.float32(1 / 255)) ** 2
    reach = (2 * round(width / 5) + 1, 2 * round(width / 3.5) + 1)
    near = cv2.blur(bright, reach)[..., None]
    skin = cv2.blur(region * bright, reach) / np.maximum(near, 1e-4)
    return np.asarray(np.where(near > 1e-4, skin, region), np.float32)


def soft_polygon(ring: Floats, size: tuple[int, ...], thick: int, soft: float) -> Floats:
    """A filled polygon with an outline ``thick`` pixels wide, blurred by ``soft`` pixels: ``(h, w)``, 0 to 1."""
    mask = np.zeros(size, np.uint8)
    points = np.round(ring * 16).astype(np.int32)
    cv2.fillPoly(mask, [points], 255, cv2.LINE_AA, 4)
    cv2.polylines(mask, [points], True, 255, thick, cv2.LINE_AA, 4)
    return np.asarray(cv2.GaussianBlur(mask.astype(np.float32) * (1 / 255), (0, 0), max(0.6, soft)), np.float32)
