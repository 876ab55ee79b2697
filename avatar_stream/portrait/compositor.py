"""Back into the picture: the painted face over the warped crop, the crop over the whole portrait."""

import cv2
import numpy as np
import numpy.typing as npt

from avatar_stream.face.mesh import Floats
from avatar_stream.portrait.aligned import ALIGNED_SIZE, AlignedInput
from avatar_stream.portrait.portrait import Portrait

Image = npt.NDArray[np.uint8]


def _face_mask() -> Floats:
    """1 over the face, falling smoothly to 0 before the edge of the aligned frame, ``(192, 192, 1)``."""
    axis = (np.arange(ALIGNED_SIZE) + 0.5) / ALIGNED_SIZE - 0.5
    x, y = np.meshgrid(axis / 0.47, (axis - 0.02) / 0.5)
    distance = (np.abs(x) ** 2.6 + np.abs(y) ** 2.6) ** (1 / 2.6)
    t = np.clip((1 - distance) / 0.2, 0, 1)
    return np.asarray((t * t * (3 - 2 * t))[..., None], np.float32)


_FACE = _face_mask()


def add_residual(crop: Image, warped: Image, seen: AlignedInput, residual: Floats) -> Image:
    """Paint a network's residual into a warped crop.

    ``warped`` is the warp in the aligned frame, ``residual`` ``float32 (192, 192, 3)`` relative to ``seen.shown``, in
    steps of 1/255. Only the difference travels, so the crop keeps its own sharpness wherever the network agrees.
    """
    gate = seen.gate[..., None]
    change = (residual * gate + seen.shown - warped) * _FACE
    corners = np.array([[0, 0, 1], [ALIGNED_SIZE, 0, 1], [0, ALIGNED_SIZE, 1], [ALIGNED_SIZE, ALIGNED_SIZE, 1]])
    back = cv2.invertAffineTransform(seen.matrix)
    reach = corners @ back.T
    height, width = crop.shape[:2]
    left, top = (int(max(0, v)) for v in np.floor(reach.min(0)))
    right, bottom = (int(v) for v in np.minimum(np.ceil(reach.max(0)) + 1, [width, height]))
    if right <= left or bottom <= top:
        return crop
    back[:, 2] -= (left, top)
    # Rounded to whole steps: integers travel through the resampling at half the cost of floats.
    steps = np.clip(np.rint(change), -255, 255).astype(np.int16)
    placed = cv2.warpAffine(steps, back, (right - left, bottom - top), flags=cv2.INTER_LINEAR)
    out = crop.copy()
    cv2.add(crop[top:bottom, left:right], placed, dst=out[top:bottom, left:right], dtype=cv2.CV_8U)
    return out


def paste_back(portrait: Portrait, crop: Image) -> Image:
    """The whole picture with its moving region replaced."""
    left, top, width, height = portrait.box
    if (height, width) == portrait.picture.shape[:2]:
        return crop
    out = portrait.picture.copy()
    out[top : top + height, left : left + width] = crop
    return out
