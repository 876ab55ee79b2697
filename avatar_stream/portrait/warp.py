"""The warp: moves the portrait's mesh to new landmarks, as a dense backward map, over a still background.

The face follows its 478 landmarks. Hair, ears and neck follow rings of extra points around the face oval, which move
rigidly with the head, and less towards the shoulders. The border never moves where the crop cuts the person off, so
the crop can be pasted back into its picture without a seam.
"""

from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

from avatar_stream.face import geometry, mesh
from avatar_stream.face.body import Torso
from avatar_stream.face.mesh import Floats, Ints
from avatar_stream.portrait.surroundings import (
    EDGE_SHARE,
    Border,
    body_points,
    outer_triangles,
    rings_around,
    shoulder_weights,
    triangles_within_rings,
)
from avatar_stream.portrait.triangle_raster import Grid, areas

Image = npt.NDArray[np.uint8]

_STABLE = np.array(mesh.STABLE_LANDMARKS)
_AROUND_MOUTH = np.array([*mesh.LIPS_RING, 152, 200])  # the lips, and the chin below them

FLOW_CELLS = 96  # across the crop, for the face: 2.7 px at 256. 128 costs 0.6 ms more for 0.02 dB
FADE_CELLS = 11  # over which the face's flow blends into the one around it
LIP_SMOOTHING_SIGMA_CELLS, LIP_SMOOTHING_PADDING_CELLS = 0.9, 4  # around the mouth
COARSE_FLOW_CELLS = 32  # across the crop, around the face, where the flow is smooth and the triangles are large


@dataclass(frozen=True, slots=True)
class WarpResult:
    """One warped crop.

    ``image`` is RGB ``(h, w, 3)``. ``stretch`` ``uint8 (FLOW_CELLS, FLOW_CELLS)`` is 0 where the source keeps its
    scale, and 255 where one source pixel covers four or more: the warp cannot know the detail there.
    """

    image: Image
    stretch: Image


class PortraitWarp:
    """Warps one portrait crop; built once per portrait, then called per frame.

    ``crop`` is RGB ``(h, w, 3)``, ``plate`` the same without the person, ``matte`` ``uint8 (h, w)`` the person.
    ``landmarks`` ``(478, 3)`` are in crop pixels, and so are ``shoulders`` ``(2, 2)`` if it shows them. If the inside
    of the mouth will be drawn in, ``closed_lips`` is the crop with its lips closed (see ``close_lips``).
    """

    def __init__(
        self,
        crop: Image,
        plate: Image,
        matte: Image,
        landmarks: Floats,
        shoulders: Floats | None = None,
        closed_lips: Image | None = None,
    ) -> None:
        self.size = (crop.shape[1], crop.shape[0])
        extent = np.array(self.size, np.float32)
        self.landmarks = landmarks
        self._rgba = np.dstack([crop, matte])
        self._closed_lips = None if closed_lips is None or closed_lips is crop else np.dstack([closed_lips, matte])
        self._gaps = geometry.lip_gaps(landmarks)
        self._plate = plate
        self._opaque = bool(matte.min() == 255)
        self._shoulders = shoulders
        rings, follow, flex, oval = rings_around(landmarks)
        if shoulders is not None:
            body = body_points(shoulders, landmarks)
            still = np.zeros(len(body), np.float32)
            rings, follow = np.concatenate([rings, body]), np.concatenate([follow, still])
            flex, oval = np.concatenate([flex, still]), np.concatenate([oval, np.full(len(body), oval[0])])
        margin = 0.02 * extent
        inside = ((rings[:, :2] > margin) & (rings[:, :2] < extent - 1 - margin)).all(1)
        self._rings, self._follow = rings[inside], follow[inside, None]
        self._flex, self._oval = flex[inside, None], oval[inside]
        self._shoulder_weights = (
            shoulder_weights(self._rings, landmarks, shoulders, extent) if shoulders is not None else None
        )
        border = Border(matte)
        self._follow *= 1 - border.weights(self._rings, EDGE_SHARE)[:, None]
        self._source = np.concatenate([landmarks, self._rings, border.points(landmarks)]).astype(np.float32)
        # The triangles around the face; a fan stands for the face, so that the coarse flow is continuous under it.
        self._outside = outer_triangles(self._source, landmarks)
        skin, eyes, mouth = mesh.skin_triangles(), mesh.eye_triangles(), mesh.mouth_triangles()
        # The strip to the second ring is in the fine grid too, behind the face, because cheek and jaw end in it.
        near = triangles_within_rings(self._outside, len(landmarks) + int(inside[: 2 * len(mesh.FACE_OVAL)].sum()))
        self._face = np.concatenate([near, skin, eyes, mouth])
        self._skin = slice(len(near), len(near) + len(skin))
        area = areas(self._source, self._face)
        self._face_area = np.copysign(np.maximum(np.abs(area), 0.05), area)
        self._fine, self._coarse = Grid(FLOW_CELLS, extent), Grid(COARSE_FLOW_CELLS, extent)
        self._motion_weights = (
            1 - border.weights(self._fine.identity.reshape(-1, 2), 1.0 / COARSE_FLOW_CELLS)
        ).reshape(FLOW_CELLS, FLOW_CELLS, 1)

    def __call__(self, target: Floats, torso: Torso | None = None) -> WarpResult:
        """Warp the portrait's landmarks to ``target (478, 3)``, in crop pixels, and its shoulders by ``torso``."""
        flow, stretch = self.flow(target, torso)
        flow = cv2.resize(flow, self.size, interpolation=cv2.INTER_LINEAR)
        moved = self._remapped(flow, target)
        if self._opaque:
            return WarpResult(np.ascontiguousarray(moved[..., :3]), stretch)
        matte = cv2.cvtColor(moved[..., 3], cv2.COLOR_GRAY2RGB)
        front = cv2.multiply(cv2.cvtColor(moved, cv2.COLOR_RGBA2RGB), matte, scale=1 / 255)
        back = cv2.multiply(self._plate, cv2.bitwise_not(matte), scale=1 / 255)
        return WarpResult(cv2.add(front, back).astype(np.uint8), stretch)

    def _remapped(self, flow: Floats, target: Floats) -> Image:
        """The crop and its matte along the backward map ``flow``; from closed lips if the mouth has moved."""
        share = 0.0
        if self._closed_lips is not None:
            change = float(np.abs(geometry.lip_gaps(target) - self._gaps).max())
            share = float(geometry.smoothstep(*geometry.LIP_GAP_CHANGE_RANGE, change))

        def along(source: Image) -> Image:
            return np.asarray(
                cv2.remap(source, flow, None, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE), np.uint8
            )

        if self._closed_lips is None or share == 0:
            return along(self._rgba)
        moved = along(self._closed_lips)
        if share < 1:
            moved = np.asarray(cv2.addWeighted(moved, share, along(self._rgba), 1 - share, 0), np.uint8)
        return moved

    def flow(self, target: Floats, torso: Torso | None = None) -> tuple[Floats, Image]:
        """Backward map ``(FLOW_CELLS, FLOW_CELLS, 2)`` in source pixels, and the stretch (see ``WarpResult``)."""
        points = self._moved_points(target, torso)
        around = self._coarse.identity.copy()
        covered, sources, _ = self._coarse.flow(points, self._source, self._outside)
        around.reshape(-1, 2)[covered] = sources
        # Centres of coarse cells end half a cell before the edge, where nothing may move.
        steps = cv2.resize(around - self._coarse.identity, (FLOW_CELLS, FLOW_CELLS), interpolation=cv2.INTER_LINEAR)
        flow = self._fine.identity + self._motion_weights * steps
        growth = areas(points, self._face) / self._face_area
        order = self._order(points, growth)
        covered, sources, seen = self._fine.flow(points, self._source, self._face[order])
        _merge_flow(flow, covered, sources)
        self._smooth_lips(flow, target)
        unknown = np.clip((np.abs(growth[order]) - 1.5) * (255 / 2.5), 0, 255).astype(np.uint8)
        stretch = np.zeros((FLOW_CELLS, FLOW_CELLS), np.uint8)
        stretch.reshape(-1)[covered] = unknown[seen]
        return np.asarray(flow, np.float32), stretch

    def _smooth_lips(self, flow: Floats, target: Floats) -> None:
        """Smooth the flow around the mouth (in place): the edge of a lower lip that covers the chin would show the
        cells.
        """
        cells = (target[_AROUND_MOUTH, :2] + 0.5) / self._fine.pixels
        left, top = np.maximum(np.floor(cells.min(0)).astype(int) - 1, 0)
        right, bottom = np.minimum(np.ceil(cells.max(0)).astype(int) + 2, FLOW_CELLS)
        if right - left > 2 and bottom - top > 2:
            # With a padding, so that the blur does not bend the flow at the region's edge.
            up, back = min(top, LIP_SMOOTHING_PADDING_CELLS), min(left, LIP_SMOOTHING_PADDING_CELLS)
            part = flow[
                top - up : bottom + LIP_SMOOTHING_PADDING_CELLS, left - back : right + LIP_SMOOTHING_PADDING_CELLS
            ]
            smooth = cv2.GaussianBlur(part, (0, 0), LIP_SMOOTHING_SIGMA_CELLS)
            flow[top:bottom, left:right] = smooth[up : up + bottom - top, back : back + right - left]

    def _moved_points(self, target: Floats, torso: Torso | None) -> Floats:
        head = geometry.similarity(self.landmarks[_STABLE], target[_STABLE])
        rigid = head.apply(self._rings) - self._rings
        expression = (target - head.apply(self.landmarks))[self._oval]
        moved = self._rings + self._follow * rigid + self._flex * expression
        if torso is not None and self._shoulders is not None and self._shoulder_weights is not None:
            moved[:, :2] += self._shoulder_weights * torso.displacement(self._rings[:, :2], self._shoulders)
        border = self._source[len(target) + len(moved) :]
        return np.concatenate([target, moved, border]).astype(np.float32)

    def _order(self, points: Floats, growth: Floats) -> npt.NDArray[np.intp]:
        """Triangles back to front, without those that are folded over: hidden skin must not cover visible skin."""
        keep = np.ones(len(self._face), bool)
        keep[self._skin] = growth[self._skin] > 0
        # On the far side of a turned head the strip folds behind the cheek; the coarse flow is better there.
        keep[: self._skin.start] = growth[: self._skin.start] > 0.8
        a, b, c = points[self._face.T, 2]
        depth = -(a + b + c)
        depth[: self._skin.start] = -np.inf
        nearest_last = np.argsort(depth)
        return nearest_last[keep[nearest_last]]


def _merge_flow(around: Floats, covered: Ints, sources: Floats) -> None:
    """Put the face's flow over the one around it (in place), and fade the difference at its edge outwards.

    Where a turned cheek folds away the two differ; without the fade the outline would show every cell as a step.
    """
    step = sources - around.reshape(-1, 2)[covered]
    excess = np.zeros((FLOW_CELLS * FLOW_CELLS, 3), np.float32)
    excess[covered, :2] = step
    excess[covered, 2] = 1
    spread = cv2.blur(excess.reshape(FLOW_CELLS, FLOW_CELLS, 3), (FADE_CELLS, FADE_CELLS))
    # The mean difference of covered cells nearby, with weight 1 at the edge, falling to 0 outwards.
    around += spread[..., :2] * np.minimum(2, 1 / np.maximum(spread[..., 2:], 1e-3))
    around.reshape(-1, 2)[covered] = sources
