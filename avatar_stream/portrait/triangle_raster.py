"""Rasterises a small triangle mesh to the visible triangle of each cell, vectorised over triangles."""

import numpy as np
import numpy.typing as npt

from avatar_stream.face.mesh import Floats, Ints

_MAX_BOX_SIDES = (4, 9, 24, 1 << 14)  # triangles by the side of their box; each class costs a dozen array operations


def triangle_map(vertices: Floats, triangles: Ints, size: int) -> npt.NDArray[np.int32]:
    """Index of the last triangle covering each cell centre of a ``size`` x ``size`` grid, -1 where none.

    ``vertices`` ``(n, 2)`` are in cells (the centre of cell ``i`` is at ``i``). Later triangles cover
    earlier ones, so order them back to front.
    """
    ax, bx, cx = vertices[triangles.T, 0]  # one contiguous row for each corner: reductions over pairs are slow
    ay, by, cy = vertices[triangles.T, 1]
    left = np.maximum(np.ceil(np.minimum(np.minimum(ax, bx), cx)), 0).astype(np.int32)
    top = np.maximum(np.ceil(np.minimum(np.minimum(ay, by), cy)), 0).astype(np.int32)
    right = np.minimum(np.floor(np.maximum(np.maximum(ax, bx), cx)), size - 1).astype(np.int32)
    bottom = np.minimum(np.floor(np.maximum(np.maximum(ay, by), cy)), size - 1).astype(np.int32)
    extent = np.maximum(right - left, bottom - top) + 1
    seen = np.flatnonzero((right >= left) & (bottom >= top))
    # Barycentric coordinates of the second and third corner, as slopes along x and y.
    area = (bx - ax) * (cy - ay) - (by - ay) * (cx - ax)
    area = np.where(np.abs(area) < 1e-6, 1e-6, area)
    second_x, second_y = (cy - ay) / area, (ax - cx) / area
    third_x, third_y = (ay - by) / area, (bx - ax) / area
    result = np.full(size * size, -1, np.int32)
    smallest = 0
    for largest in _MAX_BOX_SIDES:
        chosen = seen[(extent[seen] > smallest) & (extent[seen] <= largest)]
        smallest = largest
        if not len(chosen):
            continue
        steps = np.arange(min(int(extent[chosen].max()), size), dtype=np.float32)
        x0, y0 = left[chosen], top[chosen]
        dx = (x0 - ax[chosen])[:, None] + steps  # (k, w)
        dy = (y0 - ay[chosen])[:, None] + steps
        second = (dx * second_x[chosen, None])[:, None, :] + (dy * second_y[chosen, None])[:, :, None]
        third = (dx * third_x[chosen, None])[:, None, :] + (dy * third_y[chosen, None])[:, :, None]
        inside = (second >= -1e-4) & (third >= -1e-4) & (second + third <= 1.0001)
        which, row, column = inside.nonzero()
        x, y = x0[which] + column, y0[which] + row
        keep = (x < size) & (y < size)
        np.maximum.at(result, (y * size + x)[keep], chosen[which[keep]].astype(np.int32))
    return result.reshape(size, size)


def inverse_affines(target: Floats, source: Floats, triangles: Ints) -> Floats:
    """The 2x3 affine from target to source coordinates of each triangle: ``(t, 6)``, row-major."""
    (ax, bx, cx), (ay, by, cy) = target[triangles.T, 0], target[triangles.T, 1]
    e1x, e2x, e1y, e2y = bx - ax, cx - ax, by - ay, cy - ay
    det = e1x * e2y - e1y * e2x
    det = np.where(np.abs(det) < 1e-4, np.copysign(1e-4, det), det)
    out = np.empty((len(triangles), 6), np.float32)
    for row in range(2):
        a, b, c = source[triangles.T, row]
        out[:, 3 * row] = ((b - a) * e2y - (c - a) * e1y) / det
        out[:, 3 * row + 1] = ((c - a) * e1x - (b - a) * e2x) / det
        out[:, 3 * row + 2] = a - out[:, 3 * row] * ax - out[:, 3 * row + 1] * ay
    return out


class Grid:
    """A square grid of cells over the crop."""

    def __init__(self, cells: int, extent: Floats) -> None:
        self.cells = cells
        self.pixels = extent / cells  # of one cell
        steps = np.arange(cells, dtype=np.float32)
        x, y = np.meshgrid(steps, steps)
        self.x, self.y = x.reshape(-1), y.reshape(-1)
        self.identity = ((np.stack([x, y], -1) + 0.5) * self.pixels - 0.5).astype(np.float32)

    def flow(self, points: Floats, source: Floats, triangles: Ints) -> tuple[Ints, Floats, Ints]:
        """Flat indices of the covered cells ``(k,)``, the source position of each ``(k, 2)``, and its triangle."""
        in_cells = (points[:, :2] + 0.5) / self.pixels - 0.5
        seen = triangle_map(in_cells, triangles, self.cells).reshape(-1)
        covered = np.flatnonzero(seen >= 0).astype(np.int32)
        seen = seen[covered]
        affine = inverse_affines(in_cells, source[:, :2], triangles)[seen]  # (k, 6)
        x, y = self.x[covered], self.y[covered]
        at = np.empty((len(covered), 2), np.float32)
        at[:, 0] = affine[:, 0] * x + affine[:, 1] * y + affine[:, 2]
        at[:, 1] = affine[:, 3] * x + affine[:, 4] * y + affine[:, 5]
        return covered, at, seen


def areas(points: Floats, triangles: Ints) -> Floats:
    """Twice the projected area of triangles of ``points (n, 2 or 3)``, ``(t,)``; its sign is their winding."""
    ax, bx, cx = points[triangles.T, 0]
    ay, by, cy = points[triangles.T, 1]
    return np.asarray((bx - ax) * (cy - ay) - (by - ay) * (cx - ax), np.float32)
