"""Points around a face that follow it less and less: hair, neck, shoulders, and the border.

The border holds a person where the crop cuts them off. Elsewhere it holds nothing: only the person moves, over a
still background, and what is pinned there would pull a horn out of their hair.
"""

import cv2
import numpy as np
import numpy.typing as npt
from scipy.spatial import Delaunay

from avatar_stream.face import mesh
from avatar_stream.face.mesh import Floats, Ints

EDGE = 0.16  # of the crop over which what follows the shoulders comes to rest
ANCHOR_DISTANCE = 0.6  # of the crop's sides from its edge to the points outside it that never move
CUT_MATTE = 16  # of 255: a matte from which on a person reaches the edge
HALF_BORDER_STEP = 1 / 16  # of a side: half a step between two points of the border
# Rings around the face oval: distance from its centre in oval radii; how far they follow the head above the
# face (hair) and below it (neck, then shoulders); how far they follow the oval's expression (jaw).
RINGS = (
    (1.10, 1.0, 0.95, 0.75),
    (1.25, 1.0, 0.85, 0.45),
    (1.50, 1.0, 0.55, 0.15),
    (1.90, 0.95, 0.22, 0.0),
    (2.50, 0.65, 0.0, 0.0),
    (3.30, 0.20, 0.0, 0.0),
)


def rings_around(landmarks: Floats) -> tuple[Floats, Floats, Floats, npt.NDArray[np.intp]]:
    """Ring points, how far each follows the head and its oval point, and that point's index."""
    index = np.array(mesh.FACE_OVAL)
    oval = landmarks[index]
    centre = oval.mean(0)
    down = landmarks[152, :2] - landmarks[10, :2]
    down = down / np.linalg.norm(down)
    width = float(np.linalg.norm(landmarks[234] - landmarks[454]))
    spoke = oval - centre
    slope = spoke[:, :2] @ down / np.maximum(np.linalg.norm(spoke[:, :2], axis=1), 1e-6)
    t = np.clip((slope - 0.1) / 0.6, 0, 1)
    lower = t * t * (3 - 2 * t)
    points, follow, flex = [], [], []
    for distance, above, below, expression in RINGS:
        ring = centre + distance * spoke
        # Ears, hair and nape lie further back than the oval.
        ring[:, 2] = oval[:, 2] + min(distance - 1, 0.5) * 0.5 * width
        points.append(ring)
        follow.append(above + (below - above) * lower)
        flex.append(np.full(len(index), expression))
    return (
        np.concatenate(points).astype(np.float32),
        np.concatenate(follow).astype(np.float32),
        np.concatenate(flex).astype(np.float32),
        np.tile(index, len(RINGS)),
    )


def body_points(shoulders: Floats, landmarks: Floats) -> Floats:
    """Points on a person's shoulders and chest, ``(n, 3)``."""
    right, left = shoulders
    across = left - right
    down = np.array([-across[1], across[0]], np.float32)
    places = [right + s * across + d * down for d in (0.0, 0.3) for s in (0.0, 0.25, 0.5, 0.75, 1.0)]
    depth = np.full((len(places), 1), float(landmarks[234, 2]), np.float32)
    return np.concatenate([np.array(places, np.float32), depth], 1)


def held_by_shoulders(points: Floats, landmarks: Floats, shoulders: Floats, extent: Floats) -> Floats:
    """How much each point goes with the shoulders, ``(n, 1)``: not at the chin, wholly from them on down, and less
    and less towards the edge of what moves.
    """
    chin, line = float(landmarks[152, 1]), float(shoulders[:, 1].mean())
    share = np.clip((points[:, 1] - chin) / max(line - chin, 1.0), 0, 1)
    edge = np.minimum(points[:, :2], extent - 1 - points[:, :2]) / (EDGE * extent)
    share = share * share * (3 - 2 * share) * np.clip(edge.min(1), 0, 1)
    return np.asarray(share, np.float32)[:, None]


class Border:
    """Where the edge of a crop cuts a person off, by their ``matte (h, w)``."""

    def __init__(self, matte: npt.NDArray[np.uint8]) -> None:
        height, width = matte.shape
        self._extent = np.array([width, height], np.float32)
        sides = matte[:, 0], matte[:, -1], matte[0], matte[-1]
        self._cut = [
            cv2.dilate(side.reshape(1, -1), np.ones((1, max(1, round(2 * HALF_BORDER_STEP * len(side))) | 1)))
            for side in sides
        ]

    def hold(self, points: Floats, reach: float) -> Floats:
        """How much the edge holds each of ``points (n, 2)`` in pixels, ``(n,)``.

        1 at the edge where it cuts the person off, 0 from ``reach`` of the crop's side on, or with background there.
        """
        places = points[:, :2] / (self._extent - 1)
        held = np.zeros(len(points), np.float32)
        for side, cut in enumerate(self._cut):
            axis = side // 2
            away = np.abs(places[:, axis] - side % 2) / reach
            along = np.clip(places[:, 1 - axis] * (cut.shape[1] - 1), 0, cut.shape[1] - 1).round().astype(int)
            held = np.maximum(
                held, (cut[0, along] > CUT_MATTE) * (1 - np.clip(away, 0, 1) ** 2 * (3 - 2 * np.clip(away, 0, 1)))
            )
        return held

    def points(self, landmarks: Floats) -> Floats:
        """Points that never move, ``(n, 3)``: along the edge where it cuts the person off, but not in the face, and
        around the crop.
        """
        steps = np.linspace(0, 1, 9)
        unit = [(s, e) for s in steps for e in (0.0, 1.0)] + [(e, s) for s in steps[1:-1] for e in (0.0, 1.0)]
        places = np.array(unit, np.float32)
        edge = places * (self._extent - 1)
        oval = landmarks[list(mesh.FACE_OVAL), :2].copy()
        outside = [cv2.pointPolygonTest(oval, (float(x), float(y)), False) < 0 for x, y in edge]
        cut = edge[outside & (self.hold(edge, HALF_BORDER_STEP) > 0.5)]
        around = (places * (1 + 2 * ANCHOR_DISTANCE) - ANCHOR_DISTANCE) * (self._extent - 1)
        return np.pad(np.concatenate([cut, around]), ((0, 0), (0, 1))).astype(np.float32)


def between_rings(outside: Ints, limit: int) -> Ints:
    """Those triangles around the face that touch no ring point from ``limit`` on."""
    return outside[((outside < limit) & (outside != mesh.NOSE_BASE)).all(1)]


def outer_triangles(points: Floats, landmarks: Floats) -> Ints:
    """Delaunay triangles between the face oval, the rings and the border; the oval filled by a fan."""
    oval = np.array(mesh.FACE_OVAL)
    outer = np.concatenate([oval, np.arange(len(landmarks), len(points))])
    # One more vertex inside the oval collects the triangles that belong to the face itself.
    inside = landmarks[oval, :2].mean(0)
    found = Delaunay(np.concatenate([points[outer, :2], inside[None]])).simplices
    found = found[(found < len(outer)).all(1)]
    around = outer[found[~(found < len(oval)).all(1)]]
    fan = [(mesh.NOSE_BASE, a, b) for a, b in zip(oval, np.roll(oval, -1), strict=True)]
    return np.concatenate([np.array(fan), around]).astype(np.int32)
