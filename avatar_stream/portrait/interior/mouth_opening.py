"""Where a mouth is open: the area between the inner lips."""

from dataclasses import dataclass
from typing import Final

import cv2
import numpy as np

from avatar_stream.face import mesh
from avatar_stream.face.mesh import Floats
from avatar_stream.face.outlines import LIP_SMOOTHING, lip_lines

MIN_GAP_PIXELS: Final = 0.8  # between the lips, to count as open
_OUTER_UPPER, _OUTER_LOWER = list(mesh.OUTER_LIP_UPPER), list(mesh.OUTER_LIP_LOWER)


@dataclass(frozen=True, slots=True)
class MouthOpening:
    """The area of an open mouth: ``box`` (left, top, right, bottom) in pixels, and ``alpha (h, w)`` in it, 0 to 1."""

    box: tuple[int, int, int, int]
    alpha: Floats

    @property
    def gap(self) -> float:
        """The greatest height in pixels."""
        return float((self.alpha > 0.5).sum(0).max())


def find_mouth_opening(target: Floats, width: int, height: int) -> MouthOpening | None:
    """The opening between the inner lips of ``target (478, 3)``; None if they are closed."""
    upper, lower = lip_lines(target)
    across = target[308, :2] - target[78, :2]
    length = max(float(np.linalg.norm(across)), 1e-6)
    down = np.array([-across[1], across[0]], np.float32) / length
    gap = (lower - upper) @ down
    if gap.max() < MIN_GAP_PIXELS:
        return None
    # Lips that cross at a corner leave no opening there.
    middle = (upper + lower) / 2
    upper = np.where(gap[:, None] < 0, middle, upper)
    lower = np.where(gap[:, None] < 0, middle, lower)
    ring = np.concatenate([upper, lower[-2:0:-1]])
    left, top = np.maximum(np.floor(ring.min(0)).astype(int) - 2, 0)
    right, bottom = np.minimum(np.ceil(ring.max(0)).astype(int) + 3, [width, height])
    if right - left < 4 or bottom - top < 3:
        return None
    mask = np.zeros((bottom - top, right - left), np.uint8)
    cv2.fillPoly(mask, [np.round((ring - [left, top]) * 16).astype(np.int32)], 255, cv2.LINE_AA, 4)
    # On the far side of a turned head the inner lips may lie outside the outer ones.
    lips = np.zeros_like(mask)
    outline = np.concatenate([LIP_SMOOTHING @ target[line, :2] for line in (_OUTER_UPPER, _OUTER_LOWER[::-1])])
    cv2.fillPoly(lips, [np.round((outline - [left, top]) * 16).astype(np.int32)], 255, cv2.LINE_AA, 4)
    # Blurred by about a hundredth of the mouth's width, because lips have no sharp edge.
    soft = cv2.GaussianBlur(mask, (0, 0), max(0.5, length / 110))
    alpha = cv2.min(soft, lips).astype(np.float32) * np.float32(1 / 255)
    return MouthOpening((int(left), int(top), int(right), int(bottom)), np.asarray(alpha, np.float32))
