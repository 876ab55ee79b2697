"""Landmarks drawn as image channels, as input for a convolutional network."""

from typing import Final

import cv2
import numpy as np
import numpy.typing as npt

from avatar_stream.face import mesh
from avatar_stream.face.mesh import Floats

RASTER_CHANNELS: Final = 7  # mouth hole, lips, eye openings, irises, lid and brow lines, outline, unknown
UNKNOWN_CHANNEL: Final = 6
RASTER_SIZE: Final = 96

_FIXED_POINT_BITS = 4  # OpenCV draws at a sixteenth of a pixel
_MOUTH, _LIPS = list(mesh.MOUTH_RING), list(mesh.LIPS_RING)
_EYES = (list(mesh.RIGHT_EYE_RING), list(mesh.LEFT_EYE_RING))
_IRISES = (list(mesh.RIGHT_IRIS), list(mesh.LEFT_IRIS))
_LINES = [
    list(line)
    for line in (
        mesh.RIGHT_LID_UPPER, mesh.LEFT_LID_UPPER, mesh.RIGHT_LID_LOWER, mesh.LEFT_LID_LOWER,
        mesh.RIGHT_BROW, mesh.LEFT_BROW,
    )
]  # fmt: skip
_OUTLINE = [list(mesh.FACE_OVAL) + [mesh.FACE_OVAL[0]], list(mesh.NOSE_LINE), [98, 97, 2, 326, 327]]


def landmark_raster(points: Floats, size: int = RASTER_SIZE) -> npt.NDArray[np.uint8]:
    """Draw landmarks ``(478, 2)``, given in the aligned frame's unit square (0 to 1).

    Returns ``uint8 (RASTER_CHANNELS, size, size)``. The last channel stays empty: the caller marks in it what
    the warp cannot know.
    """
    fixed = np.round((points[:, :2] * size - 0.5) * (1 << _FIXED_POINT_BITS)).astype(np.int32)
    raster = np.zeros((RASTER_CHANNELS, size, size), np.uint8)
    _fill(raster[0], fixed[_MOUTH])
    _fill(raster[1], fixed[_LIPS])
    cv2.subtract(raster[1], raster[0], dst=raster[1])
    for eye, iris in zip(_EYES, _IRISES, strict=True):
        opening = np.zeros((size, size), np.uint8)
        _fill(opening, fixed[eye])
        disc = np.zeros((size, size), np.uint8)
        centre = fixed[iris[0]]
        radius = np.linalg.norm(fixed[iris[1:]] - centre, axis=1).mean()
        cv2.circle(disc, (int(centre[0]), int(centre[1])), int(radius), 255, -1, cv2.LINE_AA, _FIXED_POINT_BITS)
        np.maximum(raster[2], opening, out=raster[2])
        np.maximum(raster[3], np.minimum(disc, opening), out=raster[3])
    cv2.polylines(raster[4], [fixed[line] for line in _LINES], False, 255, 1, cv2.LINE_AA, _FIXED_POINT_BITS)
    cv2.polylines(raster[5], [fixed[line] for line in _OUTLINE], False, 255, 1, cv2.LINE_AA, _FIXED_POINT_BITS)
    return raster


def _fill(channel: npt.NDArray[np.uint8], polygon: npt.NDArray[np.int32]) -> None:
    cv2.fillPoly(channel, [polygon], 255, cv2.LINE_AA, _FIXED_POINT_BITS)
