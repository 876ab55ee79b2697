"""The aligned face frame, in which the diffusion network sees a face: eyes and mouth always at the same place.

Training (``engines``) and live sessions both call this module, so the network gets the same inputs in both.
"""

from dataclasses import dataclass
from typing import Final

import cv2
import numpy as np
import numpy.typing as npt

from avatar_stream.face import geometry
from avatar_stream.face.landmark_raster import RASTER_SIZE, UNKNOWN_CHANNEL, landmark_raster
from avatar_stream.face.mesh import Floats
from avatar_stream.portrait.warp import FLOW_CELLS, WarpResult

Image = npt.NDArray[np.uint8]

ALIGNED_SIZE: Final = 192  # pixels
GATE_CELLS: Final = 5  # raster cells by which the gate is wider than the unknown areas, and blurred


@dataclass(frozen=True, slots=True)
class RestFace:
    """A portrait's face as it is; a frame's unknown areas are where its target differs from this.

    ``image`` is the aligned face RGB ``(192, 192, 3)``, the network's reference input.
    """

    image: Image
    gaps: Floats  # between the inner lips, see ``geometry.lip_gaps``
    eyes: tuple[float, float]  # openings
    gaze: Floats


@dataclass(frozen=True, slots=True)
class AlignedInput:
    """One frame in the aligned face frame.

    ``shown`` RGB ``(192, 192, 3)`` is the warp with mouth and eyes drawn in. ``raster`` ``uint8 (7, 96, 96)`` has the
    landmarks and the unknown areas. ``gate`` ``float32 (192, 192)`` is the share of the residual that is added.
    ``matrix`` (2x3) takes crop pixels to aligned pixels.
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
    """Align a warped crop with mouth and eyes drawn in, by its target landmarks ``(478, 3)``.

    The raster marks the areas that the warp cannot know.
    """
    matrix = geometry.aligned_frame(target, ALIGNED_SIZE)
    points = geometry.transform_2d(matrix, target)
    raster = landmark_raster((points + 0.5) / ALIGNED_SIZE)
    cv2.max(_aligned_stretch(warped, matrix), _unknown(raster, target, rest), dst=raster[UNKNOWN_CHANNEL])
    return AlignedInput(to_aligned(warped.image, matrix), raster, residual_gate(raster[UNKNOWN_CHANNEL]), matrix)


def residual_gate(unknown: Image) -> Floats:
    """Where the network may paint: areas that the warp cannot know, and a rim around them. ``(192, 192)``, 0..1.

    Elsewhere the warp is right to within half a pixel, and a small network can only blur it.
    """
    wide = cv2.blur(cv2.dilate(unknown, np.ones((GATE_CELLS, GATE_CELLS), np.uint8)), (GATE_CELLS, GATE_CELLS))
    gate = cv2.resize(wide, (ALIGNED_SIZE, ALIGNED_SIZE), interpolation=cv2.INTER_LINEAR)
    return np.minimum(gate.astype(np.float32) * np.float32(1.2 / 255), 1)


def _unknown(raster: Image, target: Floats, rest: RestFace) -> Image:
    """255 where the portrait shows nothing of the target: an opened mouth, moved lids, turned irises."""
    opened = geometry.smoothstep(
        *geometry.LIP_GAP_CHANGE_RANGE, float(np.abs(geometry.lip_gaps(target) - rest.gaps).max())
    )
    turned = geometry.smoothstep(0.03, 0.08, float(np.linalg.norm(geometry.gaze(target) - rest.gaze)))
    out = np.asarray(raster[0] * np.float32(opened), np.uint8)
    for side, open_now, open_then in zip(_EYE_HALVES, geometry.eye_openings(target), rest.eyes, strict=True):
        moved = max(geometry.smoothstep(0.06, 0.2, abs(open_now - open_then)), turned)
        if moved > 0:
            region = _eye_region(raster, side)
            out[:, side] = cv2.max(out[:, side], np.asarray(region * np.float32(moved), np.uint8))
    return out


def _eye_region(raster: Image, side: slice) -> Image:
    """An eye's opening and its lid lines, because a closed eye has no opening."""
    return np.asarray(cv2.dilate(cv2.max(raster[2][:, side], raster[4][:, side] * _BELOW_BROWS), _DILATION), np.uint8)


# Raster columns of the right eye, of the left.
_EYE_HALVES = (slice(0, RASTER_SIZE // 2), slice(RASTER_SIZE // 2, RASTER_SIZE))
_DILATION = np.ones((3, 3), np.uint8)
# Lids lie in this band of the aligned frame. Brows lie above it, and the warp shows them well.
_BELOW_BROWS = np.zeros((RASTER_SIZE, 1), np.uint8)
_BELOW_BROWS[round(0.29 * RASTER_SIZE) : round(0.45 * RASTER_SIZE)] = 1


def _aligned_stretch(warped: WarpResult, matrix: Floats) -> Image:
    height, width = warped.image.shape[:2]
    # Grid cell -> crop pixel -> aligned pixel -> raster cell, all with centres at i + 0.5.
    scale = RASTER_SIZE / ALIGNED_SIZE
    linear = matrix[:, :2] * scale
    cell = np.array([width / FLOW_CELLS, height / FLOW_CELLS], np.float32)
    offset = (linear @ (0.5 * cell - 0.5)) + (matrix[:, 2] + 0.5) * scale - 0.5
    combined = np.column_stack([linear * cell, offset]).astype(np.float32)
    return np.asarray(cv2.warpAffine(warped.stretch, combined, (RASTER_SIZE, RASTER_SIZE)), np.uint8)
