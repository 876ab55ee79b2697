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
    back = cv2.invertAffineTransform(seen.matrix)
    height, width = crop.shape[:2]
    box = _reach(back, (0, 0, ALIGNED_SIZE, ALIGNED_SIZE), width, height)
    if box is None:
        return crop
    out = crop.copy()
    _forget(out, warped, seen, back)
    # Rounded to whole steps: integers travel through the resampling at half the cost of floats.
    steps = np.clip(np.rint(change), -255, 255).astype(np.int16)
    place = np.s_[box[1] : box[3], box[0] : box[2]]
    cv2.add(out[place], _placed(steps, back, box), dst=out[place], dtype=cv2.CV_8U)
    return out


def _forget(out: Image, warped: Image, seen: AlignedInput, back: Floats) -> None:
    """Where something was filled in, keep nothing of the crop that is finer than the aligned frame (in place).

    Stretched lips would shine through an opened mouth as streaks, the slit of an eye through its lid.
    """
    cells = ALIGNED_SIZE / seen.filled.shape[0]
    found = cv2.boundingRect(seen.filled)
    if found[2] == 0:
        return
    left, top, right, bottom = (
        cells * v for v in (found[0] - 1, found[1] - 1, sum(found[::2]) + 1, sum(found[1::2]) + 1)
    )
    box = _reach(back, (left, top, right, bottom), out.shape[1], out.shape[0])
    if box is None:
        return
    place = np.s_[box[1] : box[3], box[0] : box[2]]
    # Raster cell -> aligned pixel -> crop pixel, all with centres at i + 0.5.
    from_cells = np.column_stack([back[:, :2] * cells, back @ np.array([cells / 2 - 0.5, cells / 2 - 0.5, 1])])
    share = _placed(seen.filled, from_cells, box).astype(np.float32) * np.float32(1 / 255)
    out[place] = cv2.blendLinear(_placed(warped, back, box), np.ascontiguousarray(out[place]), share, 1 - share)


def _placed(image: npt.NDArray[np.generic], back: Floats, box: tuple[int, int, int, int]) -> npt.NDArray[np.generic]:
    """An aligned picture resampled into the part ``box`` of the crop."""
    local = back.copy()
    local[:, 2] -= box[:2]
    size = (box[2] - box[0], box[3] - box[1])
    return np.asarray(cv2.warpAffine(image, local, size, flags=cv2.INTER_LINEAR))


def _reach(
    back: Floats, region: tuple[float, float, float, float], width: int, height: int
) -> tuple[int, int, int, int] | None:
    """The box of the crop (left, top, right, bottom) that a region of the aligned frame comes to lie in."""
    left, top, right, bottom = region
    corners = np.array([[left, top, 1], [right, top, 1], [left, bottom, 1], [right, bottom, 1]]) @ back.T
    x, y = (int(max(0, v)) for v in np.floor(corners.min(0)))
    to_x, to_y = (int(v) for v in np.minimum(np.ceil(corners.max(0)) + 1, [width, height]))
    return (x, y, to_x, to_y) if x < to_x and y < to_y else None


def paste_back(portrait: Portrait, crop: Image) -> Image:
    """The whole picture with its moving region replaced."""
    left, top, width, height = portrait.box
    if (height, width) == portrait.picture.shape[:2]:
        return crop
    out = portrait.picture.copy()
    out[top : top + height, left : left + width] = crop
    return out
