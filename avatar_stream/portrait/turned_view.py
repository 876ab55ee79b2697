"""A face that turns: what another picture, turned that way, shows better than the portrait does.

The portrait's far cheek is a few columns of pixels, which a warp spreads over half a face. Where another picture of
the same person shows a part of the face larger, its detail is laid there, in the portrait's light.
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

CELLS: Final = 64  # across the crop
BETTER: Final = (1.4, 2.6)  # how much larger a part must be shown to be taken: not at all, whole
FLAT: Final = 0.02  # share of a triangle's largest area below which it is seen from its edge
FOREIGN: Final = (0.35, 0.8)  # how far from the skin's colour (log) a part is taken whole, and not at all
ASIDE: Final = (8.0, 28.0)  # degrees from which a portrait is turned, and from which its mirror image is of no use
TURN: Final = (4.0, 12.0)  # degrees the head is turned away from the portrait's: not at all, whole


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
        ratio = there / np.maximum(here, FLAT * np.median(np.abs(here)))
        lips = np.isin(self._triangles, [*mesh.LIPS_RING, *mesh.INNER_LIP_UPPER, *mesh.INNER_LIP_LOWER]).any(1)
        # What is no skin there, hair or the rim of glasses, is not laid on a cheek.
        self._share = _steps(*BETTER, ratio) * (1 - _steps(*FOREIGN, _unlike_skin(picture, landmarks, there))) * ~lips

    @staticmethod
    def mirrored(picture: Image, landmarks: Floats) -> "TurnedTexture":
        """The portrait's own better side, for the side that it turns away."""
        across = np.array([picture.shape[1] - 1, 0, 0], np.float32)
        return TurnedTexture(landmarks, np.ascontiguousarray(picture[:, ::-1]), mirrored(landmarks) + across)

    @staticmethod
    def all_of(
        picture: Image, landmarks: Floats, others: Sequence[tuple[Image, Floats]]
    ) -> "tuple[TurnedTexture, ...]":
        """Of the ``others`` of a portrait, and of its mirror image where it is turned and none shows its far side."""
        found = [TurnedTexture(landmarks, *other) for other in others]
        own = _yaw(landmarks)
        if ASIDE[0] < abs(own) < ASIDE[1] and not any(one.yaw * np.sign(own) < 0 for one in found):
            found.append(TurnedTexture.mirrored(picture, landmarks))
        return tuple(found)

    def draw(self, picture: Image, target: Floats) -> None:
        """Lay what this picture shows better over a portrait warped to ``target (478, 3)`` (in place)."""
        turn = (_yaw(target) - self._own_yaw) * np.sign(self.yaw - self._own_yaw)
        whole = float(geometry.smoothstep(*TURN, turn))
        if whole == 0:
            return
        height, width = picture.shape[:2]
        front = _facing(target, self._triangles) > 0
        grid = Grid(CELLS, np.array([width, height], np.float32))
        cells, sources, seen = grid.flow(target, self._landmarks, self._triangles[front])
        flow, share = np.zeros((CELLS, CELLS, 2), np.float32), np.zeros((CELLS, CELLS), np.float32)
        covered = np.zeros((CELLS, CELLS), bool)
        flow.reshape(-1, 2)[cells], share.reshape(-1)[cells] = sources, self._share[front][seen]
        covered.reshape(-1)[cells] = True
        # Nothing at the outline, where the two faces differ, nor beside a cell that is not covered.
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
        """How much lighter the portrait is than the other picture, in large; ``known`` is where it can be told."""
        size = (CELLS, CELLS)
        here, there = (
            cv2.resize(one, size, interpolation=cv2.INTER_AREA).astype(np.float32) for one in (picture, other)
        )
        near = np.maximum(cv2.GaussianBlur(known, (0, 0), CELLS / 7), 1e-3)[..., None]
        light = cv2.GaussianBlur((here - there) * known[..., None], (0, 0), CELLS / 7) / near
        return np.asarray(cv2.resize(light, picture.shape[1::-1]), np.float32)


def _unlike_skin(picture: Image, landmarks: Floats, areas: Floats) -> Floats:
    """How far the colour of each triangle is from that of the face's skin, ``(t,)`` in log units."""
    smooth = cv2.GaussianBlur(picture, (0, 0), max(1.0, 0.05 * geometry.eye_distance(landmarks)))
    middles = landmarks[mesh.skin_triangles(), :2].mean(1)
    x, y = np.clip(np.round(middles).astype(int), 0, np.array(picture.shape[1::-1]) - 1).T
    colours = np.log(smooth[y, x].astype(np.float32) + 12)
    skin = np.median(colours[areas > np.median(areas)], axis=0)
    return np.asarray(np.abs(colours - skin).mean(1), np.float32)


def _steps(low: float, high: float, values: Floats) -> Floats:
    t = np.clip((values - low) / (high - low), 0, 1)
    return np.asarray(t * t * (3 - 2 * t), np.float32)


def _yaw(landmarks: Floats) -> float:
    return geometry.euler_degrees(geometry.head_pose(landmarks).rotation)[1]


def _facing(points: Floats, triangles: Ints) -> Floats:
    """Areas of triangles as they are seen, ``(t,)``; negative where seen from behind."""
    found = areas(points, triangles)
    return np.asarray(found * np.sign(np.median(found)), np.float32)
