"""The aligned face frame: what the diffusion model is shown, and the way back into the picture.

Training (``engines``) and the live path both call this module, so the network sees the same things in both.
"""

from dataclasses import dataclass
from typing import Final

import cv2
import numpy as np
import numpy.typing as npt

from avatar_stream.face import geometry
from avatar_stream.face.landmark_raster import RASTER_SIZE, UNKNOWN_CHANNEL, landmark_raster
from avatar_stream.face.mesh import Floats
from avatar_stream.portrait.warp import GRID, WarpResult

Image = npt.NDArray[np.uint8]

ALIGNED_SIZE: Final = 192
GATE: Final = 5  # raster cells by which the gate is wider than the unknown, and softer


@dataclass(frozen=True, slots=True)
class RestFace:
    """What one portrait shows at rest: the measures its unknowns are judged against.

    ``image`` is its own aligned face ``(192, 192, 3)``, the network's reference input.
    """

    image: Image
    gaps: Floats  # between the lips
    eyes: tuple[float, float]
    gaze: Floats


@dataclass(frozen=True, slots=True)
class AlignedInput:
    """One frame in the aligned face frame.

    ``shown`` RGB ``(192, 192, 3)`` is the warp with mouth and eyes drawn in; ``raster`` is ``uint8 (7, 96, 96)``;
    ``gate`` ``float32 (192, 192)`` is how much of the network's residual is let through; ``matrix`` (2x3) takes crop
    to aligned pixels.
    """

    shown: Image
    raster: Image
    gate: Floats
    matrix: Floats


def to_aligned(image: npt.NDArray[np.uint8], matrix: Floats, size: int = ALIGNED_SIZE) -> Image:
    """Resample a crop into the aligned frame."""
    out = cv2.warpAffine(image, matrix, (size, size), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    return np.asarray(out, np.uint8)


def rest_face(crop: Image, landmarks: Floats) -> RestFace:
    """Describe a portrait crop ``(h, w, 3)`` with its landmarks in crop pixels."""
    image = to_aligned(crop, geometry.aligned_frame(landmarks, ALIGNED_SIZE))
    return RestFace(image, geometry.lip_gaps(landmarks), geometry.eye_openings(landmarks), geometry.gaze(landmarks))


def aligned_input(warped: WarpResult, target: Floats, rest: RestFace) -> AlignedInput:
    """Align a warped crop, its interior drawn, by its target landmarks ``(478, 3)``; mark what the warp cannot
    know.
    """
    matrix = geometry.aligned_frame(target, ALIGNED_SIZE)
    points = geometry.transform_2d(matrix, target)
    raster = landmark_raster((points + 0.5) / ALIGNED_SIZE)
    cv2.max(_aligned_stretch(warped, matrix), _unknown(raster, target, rest), dst=raster[UNKNOWN_CHANNEL])
    return AlignedInput(to_aligned(warped.image, matrix), raster, residual_gate(raster[UNKNOWN_CHANNEL]), matrix)


def residual_gate(unknown: Image) -> Floats:
    """Where the network may paint: what the warp cannot know, and a rim around it. ``(192, 192)``, 0..1.

    Elsewhere the warp is right to within half a pixel and a small network can only blur it.
    """
    wide = cv2.blur(cv2.dilate(unknown, np.ones((GATE, GATE), np.uint8)), (GATE, GATE))
    gate = cv2.resize(wide, (ALIGNED_SIZE, ALIGNED_SIZE), interpolation=cv2.INTER_LINEAR)
    return np.minimum(gate.astype(np.float32) * np.float32(1.2 / 255), 1)


def _unknown(raster: Image, target: Floats, rest: RestFace) -> Image:
    """An opened mouth, lids that moved, irises that turned: 255 where nothing is known of them."""
    opened = geometry.smoothstep(
        *geometry.LIP_GAP_CHANGE_RANGE, float(np.abs(geometry.lip_gaps(target) - rest.gaps).max())
    )
    turned = geometry.smoothstep(0.03, 0.08, float(np.linalg.norm(geometry.gaze(target) - rest.gaze)))
    out = np.asarray(raster[0] * np.float32(opened), np.uint8)
    for side, open_now, open_then in zip(_SIDES, geometry.eye_openings(target), rest.eyes, strict=True):
        moved = max(geometry.smoothstep(0.06, 0.2, abs(open_now - open_then)), turned)
        if moved > 0:
            region = _eye_region(raster, side)
            out[:, side] = cv2.max(out[:, side], np.asarray(region * np.float32(moved), np.uint8))
    return out


def _eye_region(raster: Image, side: slice) -> Image:
    """An eye's opening and the lines of its lids: a closed eye has no opening left to mark."""
    return np.asarray(cv2.dilate(cv2.max(raster[2][:, side], raster[4][:, side] * _BELOW_BROWS), _BLOB), np.uint8)


_SIDES = (slice(0, RASTER_SIZE // 2), slice(RASTER_SIZE // 2, RASTER_SIZE))  # of the right eye, of the left
_BLOB = np.ones((3, 3), np.uint8)
# Lids lie in a band of the aligned frame; brows above it are no unknown.
_BELOW_BROWS = np.zeros((RASTER_SIZE, 1), np.uint8)
_BELOW_BROWS[round(0.29 * RASTER_SIZE) : round(0.45 * RASTER_SIZE)] = 1


def _aligned_stretch(warped: WarpResult, matrix: Floats) -> Image:
    height, width = warped.image.shape[:2]
    # Grid cell -> crop pixel -> aligned pixel -> raster cell, all with centres at i + 0.5.
    scale = RASTER_SIZE / ALIGNED_SIZE
    linear = matrix[:, :2] * scale
    cell = np.array([width / GRID, height / GRID], np.float32)
    offset = (linear @ (0.5 * cell - 0.5)) + (matrix[:, 2] + 0.5) * scale - 0.5
    combined = np.column_stack([linear * cell, offset]).astype(np.float32)
    return np.asarray(cv2.warpAffine(warped.stretch, combined, (RASTER_SIZE, RASTER_SIZE)), np.uint8)
