"""Where a mouth is open: the lines of the inner lips, and what lies between them."""

from dataclasses import dataclass
from typing import Final

import cv2
import numpy as np

from avatar_stream.face import mesh
from avatar_stream.face.mesh import Floats
from avatar_stream.face.outlines import LIP_SMOOTHING, lip_lines

LEAST: Final = 0.8  # pixels between the lips from which there is an inside
_OUTER_UPPER, _OUTER_LOWER = list(mesh.OUTER_LIP_UPPER), list(mesh.OUTER_LIP_LOWER)


@dataclass(frozen=True, slots=True)
class Hole:
    """Where a mouth is open: ``box`` (left, top, right, bottom) in pixels and ``alpha`` ``(h, w)`` 0 to 1 in it."""

    box: tuple[int, int, int, int]
    alpha: Floats

    @property
    def gap(self) -> float:
        """Its greatest height in pixels."""
        return float((self.alpha > 0.5).sum(0).max())


def hole_between(target: Floats, width: int, height: int) -> Hole | None:
    """The opening between the inner lips of landmarks ``target (478, 3)``; None where they are closed."""
    upper, lower = lip_lines(target)
    across = target[308, :2] - target[78, :2]
    length = max(float(np.linalg.norm(across)), 1e-6)
    down = np.array([-across[1], across[0]], np.float32) / length
    gap = (lower - upper) @ down
    if gap.max() < LEAST:
        return None
    # Lips that cross at a corner leave no hole there.
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
    # On the far side of a turned head the inner lips may come to lie beyond the outer ones.
    lips = np.zeros_like(mask)
    outline = np.concatenate([LIP_SMOOTHING @ target[line, :2] for line in (_OUTER_UPPER, _OUTER_LOWER[::-1])])
    cv2.fillPoly(lips, [np.round((outline - [left, top]) * 16).astype(np.int32)], 255, cv2.LINE_AA, 4)
    # Soft by about a hundredth of the mouth: lips have no cut edge.
    soft = cv2.GaussianBlur(mask, (0, 0), max(0.5, length / 110))
    alpha = cv2.min(soft, lips).astype(np.float32) * np.float32(1 / 255)
    return Hole((int(left), int(top), int(right), int(bottom)), np.asarray(alpha, np.float32))
