"""Texture from another picture of the person, for a head that turns further than the portrait's.

The portrait shows the far cheek in a few columns of pixels, which a warp stretches over half a face. Where another
picture shows a part of the face larger, its detail is blended in, in the portrait's light.
"""

from collections.abc import Sequence
from typing import Final

import cv2
import numpy as np
import numpy.typing as npt

from avatar_stream.face import geometry, mesh
from avatar_stream.face.mesh import Floats, Ints
from avatar_stream.face.motion import mirrored
from avatar_stream.portrait.triangle_raster import Grid, areas

Image = npt.NDArray[np.uint8]

GRID_CELLS: Final = 64  # across the crop
SIZE_RATIO_RANGE: Final = (1.4, 2.6)  # size of a part there over its size in the portrait: no blending, full blending
MIN_AREA_SHARE: Final = 0.02  # of the median area; smaller triangles count as seen edge-on
SKIN_DISTANCE_RANGE: Final = (0.35, 0.8)  # log colour distance from skin: full blending, none
MIRRORED_YAW_DEGREES: Final = (8.0, 28.0)  # a portrait turned within this range uses its mirror image
BLEND_YAW_DEGREES: Final = (4.0, 12.0)  # turn away from the portrait's own: no blending, full blending


class TurnedTexture:
    """Another picture of a portrait's person: RGB ``(h, w, 3)`` and its landmarks ``(478, 3)``."""

    def __init__(self, portrait: Floats, picture: Image, landmarks: Floats) -> None:
        """``portrait (478, 3)`` are the landmarks of the portrait itself."""
        self.yaw = _yaw(landmarks)
        self._own_yaw = _yaw(portrait)
        self._picture, self._landmarks = picture, landmarks
        self._triangles = mesh.skin_triangles()
        here, there = (
            _facing(one, self._triangles) / geometry.head_pose(one).scale ** 2 for one in (portrait, landmarks)
        )
        ratio = there / np.maximum(here, MIN_AREA_SHARE * np.median(np.abs(here)))
        lips = np.isin(self._triangles, [*mesh.LIPS_RING, *mesh.INNER_LIP_UPPER, *mesh.INNER_LIP_LOWER]).any(1)
        # Hair or the rim of glasses must not be blended over a cheek.
        self._share = (
            _smoothstep(*SIZE_RATIO_RANGE, ratio)
            * (1 - _smoothstep(*SKIN_DISTANCE_RANGE, _unlike_skin(picture, landmarks, there)))
            * ~lips
        )

    @staticmethod
    def mirrored(picture: Image, landmarks: Floats) -> "TurnedTexture":
        """The portrait's mirror image, which shows the far side as large as the near one."""
        across = np.array([picture.shape[1] - 1, 0, 0], np.float32)
        return TurnedTexture(landmarks, np.ascontiguousarray(picture[:, ::-1]), mirrored(landmarks) + across)

    @staticmethod
    def all_of(
        picture: Image, landmarks: Floats, others: Sequence[tuple[Image, Floats]]
    ) -> "tuple[TurnedTexture, ...]":
        """Of each of ``others``, and of the mirror image if the portrait is turned and none shows its far side."""
        found = [TurnedTexture(landmarks, *other) for other in others]
        own = _yaw(landmarks)
        if MIRRORED_YAW_DEGREES[0] < abs(own) < MIRRORED_YAW_DEGREES[1] and not any(
            one.yaw * np.sign(own) < 0 for one in found
        ):
            found.append(TurnedTexture.mirrored(picture, landmarks))
        return tuple(found)

    def draw(self, picture: Image, target: Floats) -> None:
        """Blend the parts that this picture shows better into a portrait warped to ``target (478, 3)`` (in place)."""
        turn = (_yaw(target) - self._own_yaw) * np.sign(self.yaw - self._own_yaw)
        whole = float(geometry.smoothstep(*BLEND_YAW_DEGREES, turn))
        if whole == 0:
            return
        height, width = picture.shape[:2]
        front = _facing(target, self._triangles) > 0
        grid = Grid(GRID_CELLS, np.array([width, height], np.float32))
        cells, sources, seen = grid.flow(target, self._landmarks, self._triangles[front])
        flow, share = (
            np.zeros((GRID_CELLS, GRID_CELLS, 2), np.float32),
            np.zeros((GRID_CELLS, GRID_CELLS), np.float32),
        )
        covered = np.zeros((GRID_CELLS, GRID_CELLS), bool)
        flow.reshape(-1, 2)[cells], share.reshape(-1)[cells] = sources, self._share[front][seen]
        covered.reshape(-1)[cells] = True
        # No blending at the outline, where the two faces differ, nor beside a cell that is not covered.
        inside = cv2.erode(covered.astype(np.uint8), np.ones((3, 3), np.uint8)).astype(np.float32)
        known = covered * (1 - cv2.dilate(share, np.ones((3, 3), np.uint8)))
        share = np.minimum(cv2.blur(share, (5, 5)) * 1.5, 1) * cv2.blur(inside, (3, 3)) * np.float32(whole)
        if share.max() < 0.02:
            return
        size = (width, height)
        around = cv2.blur(np.dstack([flow * covered[..., None], covered.astype(np.float32)]), (5, 5))
        flow = np.where(covered[..., None], flow, around[..., :2] / np.maximum(around[..., 2:], 1e-3))
        other = cv2.remap(
            self._picture, cv2.resize(flow, size), None, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE
        )
        alpha = cv2.resize(share, size)[..., None]
        picture[:] = np.clip(picture + alpha * (other + self._light(picture, other, known) - picture) + 0.5, 0, 255)

    def _light(self, picture: Image, other: Image, known: Floats) -> Floats:
        """The portrait's light less the other picture's, low-passed; ``known (64, 64)`` weights the cells."""
        size = (GRID_CELLS, GRID_CELLS)
        here, there = (
            cv2.resize(one, size, interpolation=cv2.INTER_AREA).astype(np.float32) for one in (picture, other)
        )
        near = np.maximum(cv2.GaussianBlur(known, (0, 0), GRID_CELLS / 7), 1e-3)[..., None]
        light = cv2.GaussianBlur((here - there) * known[..., None], (0, 0), GRID_CELLS / 7) / near
        return np.asarray(cv2.resize(light, picture.shape[1::-1]), np.float32)


def _unlike_skin(picture: Image, landmarks: Floats, areas: Floats) -> Floats:
    """Distance of each triangle's colour from the face's skin, ``(t,)``, in log units."""
    smooth = cv2.GaussianBlur(picture, (0, 0), max(1.0, 0.05 * geometry.eye_distance(landmarks)))
    middles = landmarks[mesh.skin_triangles(), :2].mean(1)
    x, y = np.clip(np.round(middles).astype(int), 0, np.array(picture.shape[1::-1]) - 1).T
    colours = np.log(smooth[y, x].astype(np.float32) + 12)
    skin = np.median(colours[areas > np.median(areas)], axis=0)
    return np.asarray(np.abs(colours - skin).mean(1), np.float32)


def _smoothstep(low: float, high: float, values: Floats) -> Floats:
    return np.asarray(geometry.ease(np.clip((values - low) / (high - low), 0, 1)), np.float32)


def _yaw(landmarks: Floats) -> float:
    return geometry.euler_degrees(geometry.head_pose(landmarks).rotation)[1]


def _facing(points: Floats, triangles: Ints) -> Floats:
    """Projected areas of triangles, ``(t,)``; negative where seen from behind."""
    found = areas(points, triangles)
    return np.asarray(found * np.sign(np.median(found)), np.float32)
