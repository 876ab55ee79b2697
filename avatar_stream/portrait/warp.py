"""The warp prior: the portrait's own mesh, moved, as a dense backward warp over a still background.

The face follows its 478 landmarks. Hair, ears and neck follow through rings of extra points around the face
oval, which move rigidly with the head and less and less towards the shoulders. Where the crop cuts the person off its
border never moves, so the crop can be pasted back into its picture without a seam.
"""

from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

from avatar_stream.face import geometry, mesh
from avatar_stream.face.body import Torso
from avatar_stream.face.mesh import Floats, Ints
from avatar_stream.portrait.surroundings import (
    EDGE,
    Border,
    between_rings,
    body_points,
    held_by_shoulders,
    outer_triangles,
    rings_around,
)
from avatar_stream.portrait.triangle_raster import Grid, areas

Image = npt.NDArray[np.uint8]

_STABLE = np.array(mesh.STABLE_LANDMARKS)
_AROUND_MOUTH = np.array([*mesh.LIPS_RING, 152, 200])  # the lips, and the chin below them

GRID = 96  # flow cells across the crop in the face: 2.7 px at 256. 128 costs 0.6 ms more for 0.02 dB
FADE = 11  # cells over which the face's flow runs out into the one around it
ROUNDED, PADDED = 0.9, 4  # cells: deviation of the smoothing around the mouth, and how far it reaches
COARSE = 32  # and around it, where the flow is smooth and the triangles are large


@dataclass(frozen=True, slots=True)
class WarpResult:
    """One warped crop.

    ``image`` is RGB ``(h, w, 3)``; ``stretch`` ``uint8 (GRID, GRID)`` is 0 where the source is shown at its own
    scale and 255 where one source pixel is spread over four or more: what the warp cannot know.
    """

    image: Image
    stretch: Image


class PortraitWarp:
    """Warps one portrait crop; built once per portrait, then called per frame.

    ``crop`` is RGB ``(h, w, 3)``, ``plate`` the same view without the person, ``matte`` ``uint8 (h, w)`` the person,
    ``landmarks`` ``(478, 3)`` in crop pixels, and so are ``shoulders`` ``(2, 2)``, where it shows them. Where
    somebody draws the inside of the mouth, ``meeting`` is the crop with lips that meet (see ``lips_meeting``).
    """

    def __init__(
        self,
        crop: Image,
        plate: Image,
        matte: Image,
        landmarks: Floats,
        shoulders: Floats | None = None,
        meeting: Image | None = None,
    ) -> None:
        self.size = (crop.shape[1], crop.shape[0])
        extent = np.array(self.size, np.float32)
        self.landmarks = landmarks
        self._rgba = np.dstack([crop, matte])
        self._meeting = None if meeting is None or meeting is crop else np.dstack([meeting, matte])
        self._gaps = geometry.lip_gaps(landmarks)
        self._plate = plate
        self._plain = bool(matte.min() == 255)
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
        self._hold = held_by_shoulders(self._rings, landmarks, shoulders, extent) if shoulders is not None else None
        border = Border(matte)
        self._follow *= 1 - border.hold(self._rings, EDGE)[:, None]
        self._source = np.concatenate([landmarks, self._rings, border.points(landmarks)]).astype(np.float32)
        # Around the face, and with the face as a plain fan, so that the coarse flow is continuous under it.
        self._outside = outer_triangles(self._source, landmarks)
        skin, eyes, mouth = mesh.skin_triangles(), mesh.eye_triangles(), mesh.mouth_triangles()
        # The strip to the second ring is drawn finely too, behind the face: the outline of cheek and jaw lies in it.
        near = between_rings(self._outside, len(landmarks) + int(inside[: 2 * len(mesh.FACE_OVAL)].sum()))
        self._face = np.concatenate([near, skin, eyes, mouth])
        self._skin = slice(len(near), len(near) + len(skin))
        area = areas(self._source, self._face)
        self._face_area = np.copysign(np.maximum(np.abs(area), 0.05), area)
        self._fine, self._coarse = Grid(GRID, extent), Grid(COARSE, extent)
        self._calm = (1 - border.hold(self._fine.identity.reshape(-1, 2), 1.0 / COARSE)).reshape(GRID, GRID, 1)

    def __call__(self, target: Floats, torso: Torso | None = None) -> WarpResult:
        """Move the portrait so that its landmarks come to ``target`` ``(478, 3)``, crop pixels, and its shoulders
        where ``torso`` has them.
        """
        flow, stretch = self.flow(target, torso)
        flow = cv2.resize(flow, self.size, interpolation=cv2.INTER_LINEAR)
        moved = self._moved(flow, target)
        if self._plain:
            return WarpResult(np.ascontiguousarray(moved[..., :3]), stretch)
        matte = cv2.cvtColor(moved[..., 3], cv2.COLOR_GRAY2RGB)
        front = cv2.multiply(cv2.cvtColor(moved, cv2.COLOR_RGBA2RGB), matte, scale=1 / 255)
        back = cv2.multiply(self._plate, cv2.bitwise_not(matte), scale=1 / 255)
        return WarpResult(cv2.add(front, back).astype(np.uint8), stretch)

    def _moved(self, flow: Floats, target: Floats) -> Image:
        """The crop and its matte along a backward map."""
        share = 0.0
        if self._meeting is not None:
            change = float(np.abs(geometry.lip_gaps(target) - self._gaps).max())
            share = float(geometry.smoothstep(*geometry.LIP_GAP_CHANGE_RANGE, change))

        def along(source: Image) -> Image:
            return np.asarray(
                cv2.remap(source, flow, None, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE), np.uint8
            )

        if self._meeting is None or share == 0:
            return along(self._rgba)
        moved = along(self._meeting)
        if share < 1:
            moved = np.asarray(cv2.addWeighted(moved, share, along(self._rgba), 1 - share, 0), np.uint8)
        return moved

    def flow(self, target: Floats, torso: Torso | None = None) -> tuple[Floats, Image]:
        """Backward map ``(GRID, GRID, 2)`` in source pixels, and the stretch (see :class:`WarpResult`)."""
        points = self._move(target, torso)
        around = self._coarse.identity.copy()
        covered, sources, _ = self._coarse.flow(points, self._source, self._outside)
        around.reshape(-1, 2)[covered] = sources
        # Coarse cells end half a cell short of the edge, where nothing may move.
        steps = cv2.resize(around - self._coarse.identity, (GRID, GRID), interpolation=cv2.INTER_LINEAR)
        flow = self._fine.identity + self._calm * steps
        growth = areas(points, self._face) / self._face_area
        order = self._order(points, growth)
        covered, sources, seen = self._fine.flow(points, self._source, self._face[order])
        _join(flow, covered, sources)
        self._round_lips(flow, target)
        unknown = np.clip((np.abs(growth[order]) - 1.5) * (255 / 2.5), 0, 255).astype(np.uint8)
        stretch = np.zeros((GRID, GRID), np.uint8)
        stretch.reshape(-1)[covered] = unknown[seen]
        return np.asarray(flow, np.float32), stretch

    def _round_lips(self, flow: Floats, target: Floats) -> None:
        """Smooth the flow around the mouth by a cell (in place): where a lower lip comes to lie over the chin, its
        edge would follow the cells.
        """
        cells = (target[_AROUND_MOUTH, :2] + 0.5) / self._fine.pixels
        left, top = np.maximum(np.floor(cells.min(0)).astype(int) - 1, 0)
        right, bottom = np.minimum(np.ceil(cells.max(0)).astype(int) + 2, GRID)
        if right - left > 2 and bottom - top > 2:
            # With what is around it, or the smoothing would bend the flow at the region's own edge.
            up, back = min(top, PADDED), min(left, PADDED)
            part = flow[top - up : bottom + PADDED, left - back : right + PADDED]
            smooth = cv2.GaussianBlur(part, (0, 0), ROUNDED)
            flow[top:bottom, left:right] = smooth[up : up + bottom - top, back : back + right - left]

    def _move(self, target: Floats, torso: Torso | None) -> Floats:
        head = geometry.similarity(self.landmarks[_STABLE], target[_STABLE])
        rigid = head.apply(self._rings) - self._rings
        expression = (target - head.apply(self.landmarks))[self._oval]
        moved = self._rings + self._follow * rigid + self._flex * expression
        if torso is not None and self._shoulders is not None and self._hold is not None:
            moved[:, :2] += self._hold * torso.moved(self._rings[:, :2], self._shoulders)
        border = self._source[len(target) + len(moved) :]
        return np.concatenate([target, moved, border]).astype(np.float32)

    def _order(self, points: Floats, growth: Floats) -> npt.NDArray[np.intp]:
        """Back to front, folded skin left out: what a turn hides must not lie over what it shows."""
        keep = np.ones(len(self._face), bool)
        keep[self._skin] = growth[self._skin] > 0
        # On the far side of a turn the strip folds behind the cheek; the soft flow draws that outline better.
        keep[: self._skin.start] = growth[: self._skin.start] > 0.8
        a, b, c = points[self._face.T, 2]
        depth = -(a + b + c)
        depth[: self._skin.start] = -np.inf
        nearest_last = np.argsort(depth)
        return nearest_last[keep[nearest_last]]


def _join(around: Floats, covered: Ints, sources: Floats) -> None:
    """Lay the face's flow over the one around it (in place) and let what differs at its edge fade outwards.

    Where a turned cheek folds away the two disagree; without the fade the outline shows every cell as a step.
    """
    step = sources - around.reshape(-1, 2)[covered]
    excess = np.zeros((GRID * GRID, 3), np.float32)
    excess[covered, :2] = step
    excess[covered, 2] = 1
    spread = cv2.blur(excess.reshape(GRID, GRID, 3), (FADE, FADE))
    # Mean difference of the covered cells nearby, times how near they are: whole at the edge, none further out.
    around += spread[..., :2] * np.minimum(2, 1 / np.maximum(spread[..., 2:], 1e-3))
    around.reshape(-1, 2)[covered] = sources
