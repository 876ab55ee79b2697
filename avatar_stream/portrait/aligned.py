"""The aligned face frame: what the diffusion model is shown, and the way back into the picture.

Training (``engines``) and the live path both call this module, so the network sees the same things in both.
"""

from dataclasses import dataclass
from typing import Final

import cv2
import numpy as np
import numpy.typing as npt

from avatar_stream.face import geometry
from avatar_stream.face.drawing import RASTER_SIZE, UNKNOWN, landmark_raster
from avatar_stream.face.mesh import Floats
from avatar_stream.portrait.eyes import Gaze, shut_lid
from avatar_stream.portrait.warp import GRID, Warped

Image = npt.NDArray[np.uint8]

ALIGNED_SIZE: Final = 192
GATE: Final = 5  # raster cells by which the gate is wider than the unknown, and softer
_LOWER = np.s_[ALIGNED_SIZE // 2 :]  # rows of the aligned frame with the mouth in them


@dataclass(frozen=True, slots=True)
class RestFace:
    """What one portrait shows at rest: the measures its unknowns are judged against, and its dark.

    ``image`` is its own aligned face ``(192, 192, 3)``, the network's reference input.
    """

    image: Image
    mouth: float
    eyes: tuple[float, float]
    gaze: Floats
    eyes_turned: Gaze
    skin: Floats  # mean RGB of cheeks and nose


@dataclass(frozen=True, slots=True)
class AlignedInput:
    """One frame in the aligned face frame.

    ``shown`` RGB ``(192, 192, 3)`` is the warp with the unknown mouth filled smoothly; ``raster`` is ``uint8
    (7, 96, 96)``; ``gate`` ``float32 (192, 192)`` is how much of the network's residual is let through; ``filled``
    ``uint8 (96, 96)`` is where the warp shows nothing worth keeping; ``matrix`` (2x3) takes crop to aligned pixels.
    """

    shown: Image
    raster: Image
    gate: Floats
    filled: Image
    matrix: Floats


def to_aligned(image: npt.NDArray[np.uint8], matrix: Floats, size: int = ALIGNED_SIZE) -> Image:
    """Resample a crop into the aligned frame."""
    out = cv2.warpAffine(image, matrix, (size, size), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    return np.asarray(out, np.uint8)


def rest_face(crop: Image, landmarks: Floats) -> RestFace:
    """Describe a portrait crop ``(h, w, 3)`` with its landmarks in crop pixels."""
    matrix = geometry.aligned_frame(landmarks, ALIGNED_SIZE)
    image = to_aligned(crop, matrix)
    skin = image[100:140, 40:152].reshape(-1, 3).mean(0)  # cheeks and nose
    return RestFace(
        image,
        geometry.mouth_opening(landmarks),
        geometry.eye_openings(landmarks),
        geometry.gaze(landmarks),
        Gaze(image, geometry.transform_2d(matrix, landmarks)),
        np.asarray(skin, np.float32),
    )


def aligned_input(warped: Warped, target: Floats, rest: RestFace) -> AlignedInput:
    """Align a warped crop by its target landmarks ``(478, 3)``, and mark what the warp cannot know."""
    matrix = geometry.aligned_frame(target, ALIGNED_SIZE)
    image = to_aligned(warped.image, matrix)
    points = geometry.transform_2d(matrix, target)
    raster = landmark_raster((points + 0.5) / ALIGNED_SIZE)
    mouth = _step(0.012, 0.05, geometry.mouth_opening(target) - 1.2 * rest.mouth)
    turned = _step(0.03, 0.08, float(np.linalg.norm(geometry.gaze(target) - rest.gaze)))
    unknown = _unknown(raster, target, rest, mouth, turned)
    cv2.max(_aligned_stretch(warped, matrix), unknown, dst=raster[UNKNOWN])
    filled = np.asarray(np.maximum(raster[0] * mouth, raster[2] * turned), np.uint8)
    if turned > 0:
        rest.eyes_turned.turn(image, points, turned)
    if mouth > 0:
        _fill_mouth(image[_LOWER], raster[0, RASTER_SIZE // 2 :], mouth, rest)
    for side, open_now, open_then in zip(_SIDES, geometry.eye_openings(target), rest.eyes, strict=True):
        shut = 1 - _step(0.2, 0.45, open_now / max(open_then, 1e-3))
        if shut > 0:
            region = _eye_region(raster, side)[_EYE_CELLS]
            cv2.max(filled[_EYE_CELLS, side], (region * shut).astype(np.uint8), dst=filled[_EYE_CELLS, side])
            lashes = (raster[4][:, side] * _BELOW_BROWS)[_EYE_CELLS]
            scale = ALIGNED_SIZE // RASTER_SIZE
            rows = slice(_EYE_CELLS.start * scale, _EYE_CELLS.stop * scale)
            shut_lid(image[rows, side.start * scale : side.stop * scale], region, lashes, shut)
    return AlignedInput(image, raster, residual_gate(raster[UNKNOWN]), filled, matrix)


def residual_gate(unknown: Image) -> Floats:
    """Where the network may paint: what the warp cannot know, and a rim around it. ``(192, 192)``, 0..1.

    Elsewhere the warp is right to within half a pixel and a small network can only blur it.
    """
    wide = cv2.blur(cv2.dilate(unknown, np.ones((GATE, GATE), np.uint8)), (GATE, GATE))
    gate = cv2.resize(wide, (ALIGNED_SIZE, ALIGNED_SIZE), interpolation=cv2.INTER_LINEAR)
    return np.minimum(gate.astype(np.float32) * np.float32(1.2 / 255), 1)


def _fill_mouth(lower: Image, hole: Image, share: float, rest: RestFace) -> None:
    """Paint the opened mouth in the tone of its lips, without the streaks of their stretching (in place).

    Teeth are brighter and throats darker than this; of flat colours it errs least over the training clips (18.2 dB,
    against 18.0 for the tone alone and 11.4 for a dark one), so it is where the network starts from.
    """
    tone = cv2.GaussianBlur(lower, (0, 0), sigmaX=7, sigmaY=1.5)
    inside = cv2.resize(hole, (ALIGNED_SIZE, ALIGNED_SIZE // 2), interpolation=cv2.INTER_LINEAR)
    filled = inside[..., None] * np.float32(share / 255)
    lower[:] = lower + filled * (np.float32(0.8) * tone + np.float32(0.1) * rest.skin - lower)


def _unknown(raster: Image, target: Floats, rest: RestFace, mouth: float, turned: float) -> Image:
    """Mouth that opened, lids that moved, irises that turned: 255 where nothing is known of them."""
    out = np.asarray(raster[0] * np.float32(mouth), np.uint8)
    for side, open_now, open_then in zip(_SIDES, geometry.eye_openings(target), rest.eyes, strict=True):
        moved = max(_step(0.06, 0.2, abs(open_now - open_then)), turned)
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
_EYE_CELLS = slice(round(0.23 * RASTER_SIZE), round(0.52 * RASTER_SIZE))  # rows of the raster with an eye and around
_BELOW_BROWS = np.zeros((RASTER_SIZE, 1), np.uint8)
_BELOW_BROWS[round(0.29 * RASTER_SIZE) : round(0.45 * RASTER_SIZE)] = 1


def _aligned_stretch(warped: Warped, matrix: Floats) -> Image:
    height, width = warped.image.shape[:2]
    # Grid cell -> crop pixel -> aligned pixel -> raster cell, all with centres at i + 0.5.
    scale = RASTER_SIZE / ALIGNED_SIZE
    linear = matrix[:, :2] * scale
    cell = np.array([width / GRID, height / GRID], np.float32)
    offset = (linear @ (0.5 * cell - 0.5)) + (matrix[:, 2] + 0.5) * scale - 0.5
    combined = np.column_stack([linear * cell, offset]).astype(np.float32)
    return np.asarray(cv2.warpAffine(warped.stretch, combined, (RASTER_SIZE, RASTER_SIZE)), np.uint8)


def _step(low: float, high: float, value: float) -> float:
    t = min(max((value - low) / (high - low), 0.0), 1.0)
    return t * t * (3 - 2 * t)
