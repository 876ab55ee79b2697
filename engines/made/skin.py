"""Skin from a photograph: laid out on the head's texture, with what the photograph hides filled in, and its light."""

from typing import Final

import cv2
import numpy as np
import numpy.typing as npt
from scipy.spatial import cKDTree

from avatar_stream.face import mesh
from avatar_stream.face.mesh import Floats
from avatar_stream.face.model import COEFFICIENT_INDEX
from engines.made.head import SKIN, HeadModel
from engines.made.raster import SKIN_TEXTURE, Canvas

Image = npt.NDArray[np.uint8]

SEEN_FROM: Final = (0.25, 0.5)  # cosine to the viewer: below, skin is unseen; above, well seen
HIDDEN_BY: Final = 0.035  # eye distances that skin may lie behind what is foremost
LID_MOVES: Final = (0.14, 0.28)  # share of the most that a blink moves: from there skin is lid
WET: Final = np.array([0.10, 0.26, 0.24], np.float32)  # share of its light that the inside of lips loses
CREASED: Final = 0.06  # share of its light that a pout's crease loses
GRAIN: Final = 0.02  # of the skin's brightness, on skin that is made


class SkinLayout:
    """Which parts of the skin's texture are lips' insides, lids and eyes; made once a head."""

    def __init__(self, canvas: Canvas) -> None:
        self.canvas = canvas
        self._mouth, self._lids, self._eyes, self._lips = _regions(canvas)
        y, x = np.nonzero(self._lips > 0.5)
        down, right = np.mgrid[0:SKIN_TEXTURE, 0:SKIN_TEXTURE].astype(np.float32)
        self._angle = np.arctan2((down - y.mean()) / max(np.ptp(y), 1), (right - x.mean()) / max(np.ptp(x), 1))

    def pictures(
        self, picture: Image, matte: Image, points: Floats, normals: Floats, scale: float, random: np.random.Generator
    ) -> tuple[Image, Image]:
        """RGB ``picture`` laid out as skin, and the same with lids in place of eyes and creases in its lips.

        ``points`` and ``normals (n, 3)`` of the vertices in the picture, ``scale`` pixels an eye distance.
        """
        height, width = picture.shape[:2]
        laid = self.canvas.skin_map(np.column_stack([points, -normals[:, 2]]))
        z, facing = laid[..., 2], laid[..., 3]
        covered = np.isfinite(z)
        at = np.where(np.isfinite(laid[..., :2]), laid[..., :2], 0).astype(np.float32)
        colours = cv2.remap(picture, at, None, cv2.INTER_CUBIC, borderMode=cv2.BORDER_REPLICATE)
        front = self.canvas.depth(points, (width, height))
        foremost = cv2.remap(front, at, None, cv2.INTER_NEAREST, borderMode=cv2.BORDER_REPLICATE)
        low, high = SEEN_FROM
        sure = np.clip((np.nan_to_num(facing) - low) / (high - low), 0, 1)
        sure *= covered & (np.nan_to_num(z) - foremost < HIDDEN_BY * scale)
        inside = (at[..., 0] > 1) & (at[..., 1] > 1) & (at[..., 0] < width - 2) & (at[..., 1] < height - 2)
        # What is not the person is not their cheek, wherever the mesh ends.
        own = cv2.remap(cv2.erode(matte, np.ones((5, 5), np.uint8)), at, None, cv2.INTER_LINEAR)
        sure = (sure * inside * np.clip((own - 150.0) / 90, 0, 1)).astype(np.float32)
        plain = sure * (1 - np.clip(1.5 * self._mouth, 0, 1)) * (1 - 0.98 * np.clip(1.5 * self._eyes, 0, 1))
        lid = sure * (1 - np.clip(1.5 * self._mouth, 0, 1)) * (1 - np.clip(1.3 * self._lids, 0, 1))
        filled = [push_pull(colours.astype(np.float32), weight) for weight in (plain, lid)]
        # The inside of lips is wet and red, whatever colour they have outside.
        wet = 1 - np.clip(1.2 * self._mouth, 0, 1)[..., None] * WET
        filled = [one * wet for one in filled]
        # Skin that is made has a grain as well.
        grain = cv2.GaussianBlur(random.normal(0, 1, lid.shape).astype(np.float32), (0, 0), 1.6)
        filled[1] += (self._lids * grain / grain.std() * GRAIN * colours[sure > 0.9].mean())[..., None]
        filled[1] *= 1 - self._creases(random)[..., None]
        seen, lidded = (np.clip(one, 0, 255).astype(np.uint8) for one in filled)
        return seen, lidded

    def _creases(self, random: np.random.Generator) -> Floats:
        """How much darker the creases of a pout are, ``(s, s)``: they run out from the mouth."""
        waves = range(16, 64, 2)
        size, phase = random.normal(0, 1, len(waves)), random.uniform(0, 6.28, len(waves))
        lines = sum(s * np.cos(k * self._angle + p) for k, s, p in zip(waves, size, phase, strict=True))
        return np.asarray(CREASED * self._lips * np.clip(lines / lines.std(), 0, 2), np.float32)


def light_of(picture: Image, points: Floats, normals: Floats, head: HeadModel) -> tuple[Floats, float]:
    """The light on the face: harmonics that explain how bright its skin is, and its usual brightness."""
    chosen = np.flatnonzero(head.face & (normals[:, 2] < -0.4))[::3]
    at = points[chosen, :2].astype(np.float32)
    bright = cv2.remap(picture, at[None], None, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)[0]
    bright = ((bright / 255.0) ** 2.2).mean(1)
    usual = float(np.median(bright))
    ok = (bright > 0.45 * usual) & (bright < 1.8 * usual)
    basis = harmonics(normals[chosen][ok])
    prior = np.diag([0] + [0.003 * ok.sum()] * 8)
    return np.linalg.solve(basis.T @ basis + prior, basis.T @ bright[ok]).astype(np.float32), usual


def harmonics(n: Floats) -> Floats:
    """Real spherical harmonics up to order 2, not normalised, ``(..., 9)``."""
    x, y, z = n[..., 0], n[..., 1], n[..., 2]
    return np.stack([np.ones_like(x), x, y, z, x * y, x * z, y * z, x * x - y * y, 3 * z * z - 1], -1)


def push_pull(picture: Floats, weight: Floats) -> Floats:
    """Fill ``picture (h, w, 3)`` where ``weight (h, w)`` is 0 from what is around, smoothly."""
    levels = [(picture * weight[..., None], weight)]
    while min(levels[-1][1].shape) > 2:
        size = (levels[-1][1].shape[1] // 2, levels[-1][1].shape[0] // 2)
        levels.append(tuple(cv2.resize(one, size, interpolation=cv2.INTER_AREA) for one in levels[-1]))
    colour, sure = levels[-1]
    now = colour / np.maximum(sure, 1e-6)[..., None]
    for colour, sure in levels[-2::-1]:
        wide = cv2.resize(now, sure.shape[::-1], interpolation=cv2.INTER_LINEAR)
        share = np.clip(sure, 0, 1)[..., None]
        now = colour / np.maximum(sure, 1e-6)[..., None] * share + wide * (1 - share)
    return np.asarray(now, np.float32)


def _regions(canvas: Canvas) -> Floats:
    """Of the skin's picture, ``(4, s, s)``: between and just inside the lips, lids with eyes, eyes alone, lips."""
    head = canvas.head
    blink = np.linalg.norm(
        head.expressions[[COEFFICIENT_INDEX["eyeBlinkLeft"], COEFFICIENT_INDEX["eyeBlinkRight"]]], axis=-1
    ).sum(0)
    values = np.zeros((len(head.raw), 4), np.float32)
    values[:, 0] = blink / blink[SKIN].max()
    laid = np.nan_to_num(canvas.skin_map(values)[..., 0])
    places = np.full((len(head.raw), 2), np.nan, np.float32)
    own = (head.corner_kind == 0) & head.face[head.corner_vertex] & (head.corner_uv[:, 0] <= 1)
    places[head.corner_vertex[own]] = head.corner_uv[own] * SKIN_TEXTURE
    places = _nearest(places, head)

    rings = (mesh.RIGHT_EYE_RING, mesh.LEFT_EYE_RING)

    def polygon(ring: tuple[int, ...], grow: int, blur: float) -> Floats:
        out = np.zeros((SKIN_TEXTURE, SKIN_TEXTURE), np.uint8)
        corners = np.round(places[head.landmarks[list(ring)]]).astype(np.int32)
        cv2.fillConvexPoly(out, cv2.convexHull(corners), 255)
        out = cv2.dilate(out, np.ones((grow, grow), np.uint8))
        return np.asarray(cv2.GaussianBlur(out.astype(np.float32) / 255, (0, 0), blur), np.float32)

    eyes = np.maximum(polygon(rings[0], 3, 1.2), polygon(rings[1], 3, 1.2))
    wide = np.maximum(polygon(rings[0], 9, 1.5), polygon(rings[1], 9, 1.5))
    low, high = LID_MOVES
    lids = np.maximum(np.clip((laid - low) / (high - low), 0, 1), wide)
    mouth = polygon(mesh.MOUTH_RING, 9, 2.0)
    return np.stack([mouth, lids, eyes, polygon(mesh.LIPS_RING, 3, 4.0)]).astype(np.float32)


def _nearest(places: Floats, head: HeadModel) -> Floats:
    """Some landmarks lie inside the mouth, where there is no skin: theirs is the nearest."""
    known = np.flatnonzero(np.isfinite(places[:, 0]) & head.face)
    missing = np.flatnonzero(~np.isfinite(places[:, 0]))
    places[missing] = places[known[cKDTree(head.raw[known]).query(head.raw[missing])[1]]]
    return places
