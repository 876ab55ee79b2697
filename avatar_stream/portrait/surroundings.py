"""The warp's points around a face: rings over hair, neck and shoulders that follow it less and less, and the border.

The border is fixed where the crop cuts the person off. Elsewhere nothing is fixed: the person moves over a still
background, and a fixed point there would pull a horn out of their hair.
"""

import cv2
import numpy as np
import numpy.typing as npt
from scipy.spatial import Delaunay

from avatar_stream.face import geometry, mesh
from avatar_stream.face.mesh import Floats, Ints

EDGE_SHARE = 0.16  # of the crop, over which motion fades towards its edge
ANCHOR_DISTANCE = 0.6  # of the crop's sides, from its edge to the fixed points outside
MIN_CUT_MATTE = 16  # of 255: the person counts as cut off where the matte at the edge is higher
HALF_BORDER_STEP = 1 / 16  # of a side: half the distance between two points of the border
# Rings around the face oval: distance from its centre in oval radii; how much they follow the head above the face
# (hair) and below it (neck, then shoulders); how much they follow the oval's expression (jaw).
RINGS = (
    (1.10, 1.0, 0.95, 0.75),
    (1.25, 1.0, 0.85, 0.45),
    (1.50, 1.0, 0.55, 0.15),
    (1.90, 0.95, 0.22, 0.0),
    (2.50, 0.65, 0.0, 0.0),
    (3.30, 0.20, 0.0, 0.0),
)


def rings_around(landmarks: Floats) -> tuple[Floats, Floats, Floats, npt.NDArray[np.intp]]:
    """Ring points ``(n, 3)``, how much each follows the head and its oval point ``(n,)``, and that point's index."""
    index = np.array(mesh.FACE_OVAL)
    oval = landmarks[index]
    centre = oval.mean(0)
    down = landmarks[152, :2] - landmarks[10, :2]
    down = down / np.linalg.norm(down)
    width = float(np.linalg.norm(landmarks[234] - landmarks[454]))
    spoke = oval - centre
    slope = spoke[:, :2] @ down / np.maximum(np.linalg.norm(spoke[:, :2], axis=1), 1e-6)
    lower = geometry.ease(np.clip((slope - 0.1) / 0.6, 0, 1))
    points, follow, flex = [], [], []
    for distance, above, below, expression in RINGS:
        ring = centre + distance * spoke
        # Ears, hair and nape are further back than the oval.
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


def shoulder_weights(points: Floats, landmarks: Floats, shoulders: Floats, extent: Floats) -> Floats:
    """How much each point follows the shoulders, ``(n, 1)``: 0 at the chin, 1 from the shoulders down, and less
    towards the edge of the moved region.
    """
    chin, line = float(landmarks[152, 1]), float(shoulders[:, 1].mean())
    share = np.clip((points[:, 1] - chin) / max(line - chin, 1.0), 0, 1)
    edge = np.minimum(points[:, :2], extent - 1 - points[:, :2]) / (EDGE_SHARE * extent)
    share = geometry.ease(share) * np.clip(edge.min(1), 0, 1)
    return np.asarray(share, np.float32)[:, None]


class Border:
    """Where the edge of a crop cuts the person off, by their ``matte (h, w)``."""

    def __init__(self, matte: npt.NDArray[np.uint8]) -> None:
        height, width = matte.shape
        self._extent = np.array([width, height], np.float32)
        sides = matte[:, 0], matte[:, -1], matte[0], matte[-1]
        self._cut = [
            cv2.dilate(side.reshape(1, -1), np.ones((1, max(1, round(2 * HALF_BORDER_STEP * len(side))) | 1)))
            for side in sides
        ]

    def weights(self, points: Floats, reach: float) -> Floats:
        """How much the edge fixes each of ``points (n, 2)`` in pixels, ``(n,)``.

        1 at an edge that cuts the person off; 0 from ``reach`` of the crop's side on, and near background.
        """
        places = points[:, :2] / (self._extent - 1)
        held = np.zeros(len(points), np.float32)
        for side, cut in enumerate(self._cut):
            axis = side // 2
            away = np.abs(places[:, axis] - side % 2) / reach
            along = np.clip(places[:, 1 - axis] * (cut.shape[1] - 1), 0, cut.shape[1] - 1).round().astype(int)
            held = np.maximum(held, (cut[0, along] > MIN_CUT_MATTE) * (1 - geometry.ease(np.clip(away, 0, 1))))
        return held

    def points(self, landmarks: Floats) -> Floats:
        """The fixed points ``(n, 3)``: along the edge where it cuts the person off, except in the face, and around
        the crop.
        """
        steps = np.linspace(0, 1, 9)
        unit = [(s, e) for s in steps for e in (0.0, 1.0)] + [(e, s) for s in steps[1:-1] for e in (0.0, 1.0)]
        places = np.array(unit, np.float32)
        edge = places * (self._extent - 1)
        oval = landmarks[list(mesh.FACE_OVAL), :2].copy()
        outside = [cv2.pointPolygonTest(oval, (float(x), float(y)), False) < 0 for x, y in edge]
        cut = edge[outside & (self.weights(edge, HALF_BORDER_STEP) > 0.5)]
        around = (places * (1 + 2 * ANCHOR_DISTANCE) - ANCHOR_DISTANCE) * (self._extent - 1)
        return np.pad(np.concatenate([cut, around]), ((0, 0), (0, 1))).astype(np.float32)


def triangles_within_rings(outside: Ints, limit: int) -> Ints:
    """The triangles around the face without a vertex from ``limit`` on."""
    return outside[((outside < limit) & (outside != mesh.NOSE_BASE)).all(1)]


def outer_triangles(points: Floats, landmarks: Floats) -> Ints:
    """Delaunay triangles of the face oval, the rings and the border; a fan fills the oval."""
    oval = np.array(mesh.FACE_OVAL)
    outer = np.concatenate([oval, np.arange(len(landmarks), len(points))])
    # An extra vertex inside the oval takes the triangles of the face itself.
    inside = landmarks[oval, :2].mean(0)
    found = Delaunay(np.concatenate([points[outer, :2], inside[None]])).simplices
    found = found[(found < len(outer)).all(1)]
    around = outer[found[~(found < len(oval)).all(1)]]
    fan = [(mesh.NOSE_BASE, a, b) for a, b in zip(oval, np.roll(oval, -1), strict=True)]
    return np.concatenate([np.array(fan), around]).astype(np.int32)
