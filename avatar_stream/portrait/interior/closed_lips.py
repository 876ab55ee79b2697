"""Closed lips for a portrait whose mouth is open.

When a mouth closes, a warp shrinks its opening to a line but never to nothing: the teeth would stay as a string of
beads. So when the mouth moves, the warp reads a picture in which the lips are continued over the opening.
"""

from typing import Final

import cv2
import numpy as np
import numpy.typing as npt

from avatar_stream.face import geometry, mesh
from avatar_stream.face.mesh import Floats
from avatar_stream.face.outlines import LIP_SMOOTHING, LOWER_INNER_LIP, UPPER_INNER_LIP

Image = npt.NDArray[np.uint8]

MIN_GAP: Final = 0.02  # eye distances between the lips, to count as open
EDGE_SOFTNESS: Final = 0.022  # eye distances over which blur mixes a lip's edge with the opening
MIRRORED_SHARE: Final = 0.7  # of a lip's height, which its continuation mirrors
THIN_LIP_SIGMA: Final = 0.05  # eye distances: sideways blur where a lip is too thin to mirror
SEAM_SIGMA, SEAM_DARKNESS = 0.16, 0.42  # of the line where lips meet; the sigma is in gaps
_OUTER: Final = (list(mesh.OUTER_LIP_UPPER), list(mesh.OUTER_LIP_LOWER))


def close_lips(picture: Image, landmarks: Floats) -> Image:
    """RGB ``picture`` with the lips of ``landmarks (478, 3)`` continued until they meet; itself if they do."""
    gaps = geometry.lip_gaps(landmarks)
    if gaps.max() < MIN_GAP:
        return picture
    unit = geometry.eye_distance(landmarks)
    lines = [LIP_SMOOTHING @ landmarks[ids, :2] for ids in (UPPER_INNER_LIP, LOWER_INNER_LIP)]
    rims = [LIP_SMOOTHING @ landmarks[ids, :2] for ids in _OUTER]
    ring = np.concatenate(rims)
    left, top = np.maximum(np.floor(ring.min(0)).astype(int), 0)
    right, bottom = np.minimum(np.ceil(ring.max(0)).astype(int) + 1, picture.shape[1::-1])
    if right - left < 4 or bottom - top < 4:
        return picture
    corner, end = lines[0][0], lines[0][-1]
    across = (end - corner) / max(float(np.linalg.norm(end - corner)), 1e-6)
    down = np.array([-across[1], across[0]], np.float32)
    x, y = np.meshgrid(np.arange(left, right, dtype=np.float32), np.arange(top, bottom, dtype=np.float32))
    along = (x - corner[0]) * across[0] + (y - corner[1]) * across[1]
    below = (x - corner[0]) * down[0] + (y - corner[1]) * down[1]

    def height(line: Floats) -> Floats:
        at = (line - corner) @ across
        order = np.argsort(at)
        return np.interp(along, at[order], ((line - corner) @ down)[order])

    upper, lower = (height(line) for line in lines)
    gap = np.maximum(lower - upper, 0)
    share = np.clip(2 * gap / (MIN_GAP * unit), 0, 1)
    deep_up, rate_up = _mirrored(below - upper, upper - height(rims[0]), gap, unit)
    deep_low, rate_low = _mirrored(lower - below, height(rims[1]) - lower, gap, unit)
    hole = (deep_up > 0) & (deep_low > 0)
    found = []
    for step, rate in ((-(1 + rate_up) * deep_up, rate_up), ((1 + rate_low) * deep_low, rate_low)):
        at = ((x + step * down[0]).astype(np.float32), (y + step * down[1]).astype(np.float32))
        lip = cv2.remap(picture, *at, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE).astype(np.float32)
        found.append(lip + (1 - rate)[..., None] * (_smoothed_sideways(lip, hole, THIN_LIP_SIGMA * unit) - lip))
    lips = _blended(found[0], found[1], (below - upper) / np.maximum(gap, 1e-3), gap)
    alpha = cv2.GaussianBlur((hole * share).astype(np.float32), (0, 0), 0.6)[..., None]
    out = picture.copy()
    region = out[top:bottom, left:right]
    region[:] = np.clip(region + alpha * (lips - region) + 0.5, 0, 255)
    return out


def _mirrored(inside: Floats, thick: Floats, gap: Floats, unit: float) -> tuple[Floats, Floats]:
    """How far each pixel is beyond a lip's edge, and the rate of mirroring.

    The rate is 1 where the lip is thick enough to mirror, and 0 where its last row is repeated.
    """
    edge = np.minimum(EDGE_SOFTNESS * unit, 0.5 * np.maximum(thick, 0))
    deep = np.maximum(inside + edge, 0)
    # The lip's height over the height that has to be filled.
    rate = np.clip((MIRRORED_SHARE * thick - edge) / np.maximum(0.5 * gap + edge, 1e-3), 0, 1)
    return deep, rate


def _smoothed_sideways(lip: Floats, hole: npt.NDArray[np.bool_], width: float) -> Floats:
    """A lip's continuation blurred sideways: the few rows of a thin lip would continue as vertical bars."""
    weight = hole.astype(np.float32)
    size = 2 * round(2 * width) + 1

    def blur(image: Floats) -> Floats:
        return np.asarray(cv2.GaussianBlur(image, (size, 1), width, borderType=cv2.BORDER_REPLICATE))

    return np.asarray(blur(lip * weight[..., None]) / np.maximum(blur(weight), 1e-3)[..., None], np.float32)


def _blended(upper: Floats, lower: Floats, place: Floats, gap: Floats) -> Floats:
    """Both continuations blended, dark where they meet; ``place`` is 0 at the upper lip's edge and 1 at the lower."""
    mix = np.clip((place - 0.5) / 0.3 + 0.5, 0, 1)[..., None]
    lips = upper + mix * (lower - upper)
    line = np.exp(-0.5 * ((place - 0.5) / SEAM_SIGMA) ** 2)[..., None] * (gap > 0)[..., None]
    return np.asarray(lips * (1 - SEAM_DARKNESS * line), np.float32)
