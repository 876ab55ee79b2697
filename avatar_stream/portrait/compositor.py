"""Composes the picture: the residual added to the warped crop, the crop pasted into the whole portrait."""

import cv2
import numpy as np
import numpy.typing as npt

from avatar_stream.face import geometry
from avatar_stream.face.mesh import Floats
from avatar_stream.portrait.aligned import ALIGNED_SIZE, AlignedInput
from avatar_stream.portrait.portrait import Portrait

Image = npt.NDArray[np.uint8]
LIGHT_BLUR_PIXELS = 2  # of the aligned frame: sigma of the blur that leaves light and removes detail


def _face_mask() -> Floats:
    """1 over the face, falling smoothly to 0 before the edge of the aligned frame, ``(192, 192, 1)``."""
    axis = (np.arange(ALIGNED_SIZE) + 0.5) / ALIGNED_SIZE - 0.5
    x, y = np.meshgrid(axis / 0.47, (axis - 0.02) / 0.5)
    distance = (np.abs(x) ** 2.6 + np.abs(y) ** 2.6) ** (1 / 2.6)
    return np.asarray(geometry.ease(np.clip((1 - distance) / 0.2, 0, 1))[..., None], np.float32)


_FACE = _face_mask()


def add_residual(crop: Image, aligned: AlignedInput, residual: Floats) -> Image:
    """Add a network's residual ``float32 (192, 192, 3)``, in grey levels relative to ``aligned.shown``, to a crop.

    Only the difference is resampled, so the crop keeps its sharpness.
    """
    left, top, across, down = cv2.boundingRect((aligned.gate > 0).astype(np.uint8))
    back = cv2.invertAffineTransform(aligned.matrix)
    height, width = crop.shape[:2]
    box = _crop_box(back, (left - 1, top - 1, left + across, top + down), width, height)
    if across == 0 or box is None:
        return crop
    change = light_only(residual, aligned.raster[0]) * (aligned.gate[..., None] * _FACE)
    out = crop.copy()
    place = np.s_[box[1] : box[3], box[0] : box[2]]
    cv2.add(out[place], _resampled(change, back, box), dst=out[place], dtype=cv2.CV_8U)
    return out


def light_only(residual: Floats, hole: Image) -> Floats:
    """The residual, low-passed inside the mouth, so that it changes light and colour there but no shapes.

    A small network cannot tell where a tooth ends, and would blur the edges that were drawn.
    """
    left, top, width, height = cv2.boundingRect(hole)
    if width == 0:
        return residual
    cells = ALIGNED_SIZE // hole.shape[0]
    pad = 3 * LIGHT_BLUR_PIXELS
    y, x = max(cells * top - pad, 0), max(cells * left - pad, 0)
    region = np.s_[y : cells * (top + height) + pad, x : cells * (left + width) + pad]
    part = residual[region]
    small = np.s_[y // cells : -(-(y + part.shape[0]) // cells), x // cells : -(-(x + part.shape[1]) // cells)]
    share = cv2.resize(hole[small], None, fx=cells, fy=cells, interpolation=cv2.INTER_LINEAR)
    share = share[y % cells :, x % cells :][: part.shape[0], : part.shape[1], None].astype(np.float32) * (1 / 255)
    coarse = cv2.GaussianBlur(part, (2 * pad + 1, 2 * pad + 1), LIGHT_BLUR_PIXELS, borderType=cv2.BORDER_REPLICATE)
    out = residual.copy()
    out[region] = part + share * (coarse - part)
    return out


def _resampled(
    image: npt.NDArray[np.generic], back: Floats, box: tuple[int, int, int, int]
) -> npt.NDArray[np.generic]:
    """An aligned picture resampled into ``box`` of the crop; ``back`` takes aligned to crop pixels."""
    local = back.copy()
    local[:, 2] -= box[:2]
    size = (box[2] - box[0], box[3] - box[1])
    return np.asarray(cv2.warpAffine(image, local, size, flags=cv2.INTER_LINEAR))


def _crop_box(
    back: Floats, region: tuple[float, float, float, float], width: int, height: int
) -> tuple[int, int, int, int] | None:
    """The box of the crop (left, top, right, bottom) around a region of the aligned frame; None if outside."""
    left, top, right, bottom = region
    corners = np.array([[left, top, 1], [right, top, 1], [left, bottom, 1], [right, bottom, 1]]) @ back.T
    x, y = (int(max(0, v)) for v in np.floor(corners.min(0)))
    to_x, to_y = (int(v) for v in np.minimum(np.ceil(corners.max(0)) + 1, [width, height]))
    return (x, y, to_x, to_y) if x < to_x and y < to_y else None


def paste_back(portrait: Portrait, crop: Image) -> Image:
    """The whole picture with its moved region replaced by ``crop``."""
    left, top, width, height = portrait.box
    if (height, width) == portrait.picture.shape[:2]:
        return crop
    out = portrait.picture.copy()
    out[top : top + height, left : left + width] = crop
    return out
