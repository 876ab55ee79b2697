"""Skin from a photograph: mapped to the head's texture, with hidden parts filled in; and the photograph's light."""

from typing import Final

import cv2
import numpy as np
import numpy.typing as npt
from scipy.spatial import cKDTree

from avatar_stream.face import mesh
from avatar_stream.face.mesh import Floats
from avatar_stream.face.model import COEFFICIENT_INDEX
from engines.made.head import SKIN, HeadModel
from engines.made.raster import SKIN_TEXTURE_SIZE, Canvas

Image = npt.NDArray[np.uint8]

VISIBILITY_COSINES: Final = (
    0.25,
    0.5,
)  # between normal and viewer: hidden below the first, fully visible above the second
OCCLUSION_DEPTH: Final = 0.035  # eye distances that visible skin may lie behind the foremost surface
LID_MOTION_RANGE: Final = (0.14, 0.28)  # share of a blink's largest motion: below no lid, above all lid
INNER_LIP_DARKENING: Final = np.array([0.10, 0.26, 0.24], np.float32)  # share of light lost per channel
CREASE_DARKENING: Final = 0.06  # share of light that a pout's crease loses
GRAIN_DEVIATION: Final = 0.02  # share of the skin's brightness, on synthetic skin


class SkinLayout:
    """Which parts of the skin texture are the insides of lips, lids and eyes; computed once per head."""

    def __init__(self, canvas: Canvas) -> None:
        self.canvas = canvas
        self._mouth, self._lids, self._eyes, self._lips = _regions(canvas)
        y, x = np.nonzero(self._lips > 0.5)
        down, right = np.mgrid[0:SKIN_TEXTURE_SIZE, 0:SKIN_TEXTURE_SIZE].astype(np.float32)
        self._angle = np.arctan2((down - y.mean()) / max(np.ptp(y), 1), (right - x.mean()) / max(np.ptp(x), 1))

    def textures(
        self, picture: Image, matte: Image, points: Floats, normals: Floats, scale: float, random: np.random.Generator
    ) -> tuple[Image, Image]:
        """Two skin textures of an RGB ``picture``: as it is, and with lids over the eyes and creases in the lips.

        ``points`` and ``normals (n, 3)`` of the vertices in the picture, ``scale`` in pixels per eye distance.
        """
        height, width = picture.shape[:2]
        laid = self.canvas.skin_map(np.column_stack([points, -normals[:, 2]]))
        z, facing = laid[..., 2], laid[..., 3]
        covered = np.isfinite(z)
        at = np.where(np.isfinite(laid[..., :2]), laid[..., :2], 0).astype(np.float32)
        colours = cv2.remap(picture, at, None, cv2.INTER_CUBIC, borderMode=cv2.BORDER_REPLICATE)
        front = self.canvas.depth(points, (width, height))
        foremost = cv2.remap(front, at, None, cv2.INTER_NEAREST, borderMode=cv2.BORDER_REPLICATE)
        low, high = VISIBILITY_COSINES
        weight = np.clip((np.nan_to_num(facing) - low) / (high - low), 0, 1)
        weight *= covered & (np.nan_to_num(z) - foremost < OCCLUSION_DEPTH * scale)
        inside = (at[..., 0] > 1) & (at[..., 1] > 1) & (at[..., 0] < width - 2) & (at[..., 1] < height - 2)
        # Pixels outside the person's matte are never skin, even where the mesh covers them.
        own = cv2.remap(cv2.erode(matte, np.ones((5, 5), np.uint8)), at, None, cv2.INTER_LINEAR)
        weight = (weight * inside * np.clip((own - 150.0) / 90, 0, 1)).astype(np.float32)
        plain = weight * (1 - np.clip(1.5 * self._mouth, 0, 1)) * (1 - 0.98 * np.clip(1.5 * self._eyes, 0, 1))
        lid = weight * (1 - np.clip(1.5 * self._mouth, 0, 1)) * (1 - np.clip(1.3 * self._lids, 0, 1))
        filled = [push_pull(colours.astype(np.float32), weight) for weight in (plain, lid)]
        # The inside of lips is wet and red, whatever their colour outside.
        wet = 1 - np.clip(1.2 * self._mouth, 0, 1)[..., None] * INNER_LIP_DARKENING
        filled = [one * wet for one in filled]
        # Add grain to synthetic skin.
        grain = cv2.GaussianBlur(random.normal(0, 1, lid.shape).astype(np.float32), (0, 0), 1.6)
        filled[1] += (self._lids * grain / grain.std() * GRAIN_DEVIATION * colours[weight > 0.9].mean())[..., None]
        filled[1] *= 1 - self._creases(random)[..., None]
        seen, lidded = (np.clip(one, 0, 255).astype(np.uint8) for one in filled)
        return seen, lidded

    def _creases(self, random: np.random.Generator) -> Floats:
        """How much a pout's creases darken the skin, ``(s, s)``; creases are radial to the mouth."""
        waves = range(16, 64, 2)
        size, phase = random.normal(0, 1, len(waves)), random.uniform(0, 6.28, len(waves))
        lines = sum(s * np.cos(k * self._angle + p) for k, s, p in zip(waves, size, phase, strict=True))
        return np.asarray(CREASE_DARKENING * self._lips * np.clip(lines / lines.std(), 0, 2), np.float32)


def fit_light(picture: Image, points: Floats, normals: Floats, head: HeadModel) -> tuple[Floats, float]:
    """The light on the face: spherical harmonics ``(9,)`` fitted to skin brightness, and the median brightness."""
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
    """Fill ``picture (h, w, 3)`` where ``weight (h, w)`` is 0, smoothly from its surroundings."""
    levels = [(picture * weight[..., None], weight)]
    while min(levels[-1][1].shape) > 2:
        size = (levels[-1][1].shape[1] // 2, levels[-1][1].shape[0] // 2)
        levels.append(tuple(cv2.resize(one, size, interpolation=cv2.INTER_AREA) for one in levels[-1]))
    colour, weight = levels[-1]
    now = colour / np.maximum(weight, 1e-6)[..., None]
    for colour, weight in levels[-2::-1]:
        wide = cv2.resize(now, weight.shape[::-1], interpolation=cv2.INTER_LINEAR)
        share = np.clip(weight, 0, 1)[..., None]
        now = colour / np.maximum(weight, 1e-6)[..., None] * share + wide * (1 - share)
    return np.asarray(now, np.float32)


def _regions(canvas: Canvas) -> Floats:
    """Masks of the skin texture, ``(4, s, s)``: inside of the mouth and lips, lids with eyes, eyes alone, lips."""
    head = canvas.head
    blink = np.linalg.norm(
        head.expressions[[COEFFICIENT_INDEX["eyeBlinkLeft"], COEFFICIENT_INDEX["eyeBlinkRight"]]], axis=-1
    ).sum(0)
    values = np.zeros((len(head.raw), 4), np.float32)
    values[:, 0] = blink / blink[SKIN].max()
    laid = np.nan_to_num(canvas.skin_map(values)[..., 0])
    places = np.full((len(head.raw), 2), np.nan, np.float32)
    own = (head.corner_kind == 0) & head.face[head.corner_vertex] & (head.corner_uv[:, 0] <= 1)
    places[head.corner_vertex[own]] = head.corner_uv[own] * SKIN_TEXTURE_SIZE
    places = _fill_from_nearest(places, head)

    rings = (mesh.RIGHT_EYE_RING, mesh.LEFT_EYE_RING)

    def polygon(ring: tuple[int, ...], grow: int, blur: float) -> Floats:
        out = np.zeros((SKIN_TEXTURE_SIZE, SKIN_TEXTURE_SIZE), np.uint8)
        corners = np.round(places[head.landmarks[list(ring)]]).astype(np.int32)
        cv2.fillConvexPoly(out, cv2.convexHull(corners), 255)
        out = cv2.dilate(out, np.ones((grow, grow), np.uint8))
        return np.asarray(cv2.GaussianBlur(out.astype(np.float32) / 255, (0, 0), blur), np.float32)

    eyes = np.maximum(polygon(rings[0], 3, 1.2), polygon(rings[1], 3, 1.2))
    wide = np.maximum(polygon(rings[0], 9, 1.5), polygon(rings[1], 9, 1.5))
    low, high = LID_MOTION_RANGE
    lids = np.maximum(np.clip((laid - low) / (high - low), 0, 1), wide)
    mouth = polygon(mesh.MOUTH_RING, 9, 2.0)
    return np.stack([mouth, lids, eyes, polygon(mesh.LIPS_RING, 3, 4.0)]).astype(np.float32)


def _fill_from_nearest(places: Floats, head: HeadModel) -> Floats:
    """Fill missing texture places from the nearest skin vertex: some landmarks lie inside the mouth."""
    known = np.flatnonzero(np.isfinite(places[:, 0]) & head.face)
    missing = np.flatnonzero(~np.isfinite(places[:, 0]))
    places[missing] = places[known[cKDTree(head.raw[known]).query(head.raw[missing])[1]]]
    return places
