"""A dental arch as the camera sees it: a curve in space, extruded downwards, with a picture on it.

Without perspective all lines down the arch are parallel in the picture. So two look-ups in one dimension give a
pixel's place on the arch, and no mesh has to be drawn.
"""

from dataclasses import dataclass
from typing import Final

import numpy as np

from avatar_stream.face.fit import Fit
from avatar_stream.face.mesh import Floats
from avatar_stream.face.model import COEFFICIENT_INDEX, model_arrays

JAW_COEFFICIENTS: Final = [COEFFICIENT_INDEX[name] for name in ("jawOpen", "jawForward", "jawLeft", "jawRight")]


@dataclass(frozen=True, slots=True)
class PlacedArch:
    """An arch in one frame: ``line (n, 2)`` is its upper rim in pixels, ``down (2,)`` leads to the lower rim."""

    line: Floats
    down: Floats

    def arch_coordinates(self, left: int, top: int, width: int, height: int) -> tuple[Floats, Floats]:
        """Coordinates on the arch of a box's pixels: along it and down it, 0 to 1, ``(height, width)`` each.

        Beyond the visible part of the arch the first is far outside 0 to 1.
        """
        length = float(self.down @ self.down)
        across = np.array([self.down[1], -self.down[0]], np.float32) / max(length**0.5, 1e-6)
        if across[0] < 0:
            across = -across
        at = self.line @ across
        first, last = _visible_range(at)
        x = np.arange(left, left + width, dtype=np.float32)
        y = np.arange(top, top + height, dtype=np.float32)[:, None]
        beside = across[0] * x + across[1] * y
        n = len(at) - 1
        along = np.interp(beside, at[first : last + 1], np.arange(first, last + 1) / n, left=-9, right=9)
        rim = np.interp(beside, at[first : last + 1], self.line[first : last + 1] @ self.down)
        below = (self.down[0] * x + self.down[1] * y - rim) / max(length, 1e-6)
        return along.astype(np.float32), below.astype(np.float32)


def _visible_range(at: Floats) -> tuple[int, int]:
    """The range around the middle in which ``at`` grows: the part that the arch itself does not hide."""
    grows = np.diff(at) > 1e-4
    middle = len(grows) // 2
    back = np.flatnonzero(~grows[:middle])
    on = np.flatnonzero(~grows[middle:])
    first = int(back[-1]) + 1 if len(back) else 0
    last = middle + int(on[0]) if len(on) else len(at) - 1
    return first, max(last, first + 1)


class Arch:
    """The upper or lower arch of one person."""

    def __init__(self, which: str, identity: Floats) -> None:
        stored = model_arrays()
        moves = np.asarray(stored[f"{which}_moves"], np.float32)
        curve = np.asarray(stored[f"{which}_curve"], np.float32)
        down = np.array([0, float(stored[f"{which}_height"]), 0], np.float32)
        people = len(identity)
        own = np.tensordot(identity, moves[:people], 1)
        self.curve = np.asarray(curve + curve @ own[:, :3].T + own[:, 3], np.float32)
        self.down = np.asarray(down + own[:, :3] @ down, np.float32)
        self._jaw = moves[people:]
        self._moved_by_jaw = which == "lower"

    def placed(self, fit: Fit) -> PlacedArch:
        """The arch in the picture, with head and jaw as in ``fit``."""
        curve, down = self.curve, self.down
        if self._moved_by_jaw:
            jaw = np.tensordot(fit.coefficients[JAW_COEFFICIENTS], self._jaw, 1)
            curve = curve + curve @ jaw[:, :3].T + jaw[:, 3]
            down = down + jaw[:, :3] @ down
        turned = fit.pose.apply(curve.astype(np.float32))
        pointing = (fit.pose.scale * fit.pose.rotation @ down)[:2]
        return PlacedArch(turned[:, :2], pointing.astype(np.float32))

    def facing_viewer(self, fit: Fit) -> Floats:
        """How much each point faces the viewer, ``(n,)``; negative faces away. The jaw's turn is neglected."""
        steps = np.gradient(self.curve[:, [0, 2]], axis=0)
        normal = np.column_stack([steps[:, 1], np.zeros(len(steps)), -steps[:, 0]])
        facing = -(normal @ fit.pose.rotation[2]) / np.maximum(np.linalg.norm(normal, axis=1), 1e-9)
        return np.asarray(facing, np.float32)
