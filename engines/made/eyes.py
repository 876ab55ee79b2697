"""The eye texture of a person: iris and white from the photograph, drawn where lids cover them."""

from dataclasses import dataclass
from typing import Final

import cv2
import numpy as np
import numpy.typing as npt

from avatar_stream.face import mesh
from avatar_stream.face.geometry import Pose, from_rotation_vector
from avatar_stream.face.mesh import Floats
from engines.made.head import EYE_PICTURE_CENTIMETRES, KINDS, LASHES, LEFT_EYE, RIGHT_EYE, HeadModel
from engines.made.raster import EYE_TEXTURE_SHAPE, Canvas

Image = npt.NDArray[np.uint8]
EYE_PICTURE_SIZE = EYE_TEXTURE_SHAPE[0]
EYE_VERTICES: Final = (RIGHT_EYE, LEFT_EYE)
IRIS_LANDMARKS: Final = (mesh.RIGHT_IRIS, mesh.LEFT_IRIS)
EYE_RINGS: Final = (mesh.RIGHT_EYE_RING, mesh.LEFT_EYE_RING)
VERTICES_PER_LASH_CARD = 114  # a card is a strip of triangles that shows lashes


@dataclass(frozen=True, slots=True)
class PhotographedEyes:
    """The eyes of a photograph, the right one first.

    ``landmarks (478, 3)``, head ``pose``, vertices of the head ``shape (n, 3)``, offset of each eye in pixels
    ``offsets (2, 2)``, and ``gaze (2, 2)`` in radians.
    """

    picture: Image
    landmarks: Floats
    pose: Pose
    shape: Floats
    offsets: Floats
    gaze: Floats


def eye_rotation(right: float, down: float) -> Floats:
    """Rotation matrix that turns an eye (looking to -z) by the given radians."""
    return np.asarray(from_rotation_vector([0, -right, 0]) @ from_rotation_vector([down, 0, 0]), np.float32)


def eye_picture(canvas: Canvas, eyes: PhotographedEyes, skin: Floats, random: np.random.Generator) -> Image:
    """Eye texture ``(256, 512, 3)``, the right eye first; ``skin (3,)`` is the skin's tone."""
    head, pose, picture, landmarks = canvas.head, eyes.pose, eyes.picture, eyes.landmarks
    points = np.zeros((len(head.raw), 4), np.float32)
    for side, eye in enumerate(EYE_VERTICES):
        ball = eyes.shape[eye]
        centre = (ball.min(0) + ball.max(0)) / 2
        points[eye, :3] = pose.apply((ball - centre) @ eye_rotation(*eyes.gaze[side]).T + centre)
        points[eye, :2] += eyes.offsets[side]
        points[eye, 3] = 1
    laid = canvas.eye_map(points)
    known = np.isfinite(laid[..., 0])
    at = np.where(known[..., None], laid[..., :2], 0).astype(np.float32)
    colours = cv2.remap(picture, at, None, cv2.INTER_CUBIC, borderMode=cv2.BORDER_REPLICATE).astype(np.float32)
    # Mask well inside the lids, at sub-pixel resolution.
    fine = 4
    mask = np.zeros((picture.shape[0] * fine, picture.shape[1] * fine), np.uint8)
    for ring in EYE_RINGS:
        cv2.fillPoly(mask, [np.round((landmarks[list(ring), :2] + 0.5) * fine).astype(np.int32)], 255)
    reach = max(3, round(0.022 * pose.scale * fine)) | 1
    mask = cv2.erode(mask, np.ones((reach, reach), np.uint8))
    seen = cv2.remap(mask, (at + 0.5) * fine - 0.5, None, cv2.INTER_LINEAR).astype(np.float32) / 255 * known
    out = np.zeros((*EYE_TEXTURE_SHAPE, 3), np.float32)
    for side in (0, 1):
        part = np.s_[:, EYE_PICTURE_SIZE * side : EYE_PICTURE_SIZE * (side + 1)]
        iris = landmarks[list(IRIS_LANDMARKS[side])]
        radius = float(np.linalg.norm(iris[1:, :2] - iris[0, :2], axis=1).mean())
        radius *= head.unit / pose.scale / EYE_PICTURE_CENTIMETRES * EYE_PICTURE_SIZE  # in pixels of the texture
        drawn, middle, white = _draw_eye(radius, random)
        own = colours[part]
        sure = cv2.erode(seen[part], np.ones((3, 3), np.uint8))
        whites = (sure > 0.9) & white
        irises = (sure > 0.9) & middle
        # Use the brighter part of the white, without shadow and eyeliner, and limit its saturation.
        light = np.percentile(own[whites], 70, axis=0) if whites.sum() > 60 else skin
        light = np.maximum(light, 0.8 * light.mean() + 0.1 * skin.mean())
        tone = np.median(own[irises], axis=0) if irises.sum() > 60 else np.array([70, 50, 40], np.float32)
        made = drawn[0][..., None] * light + drawn[1][..., None] * tone + drawn[2][..., None] * 8
        share = cv2.GaussianBlur(sure, (0, 0), 2.5)[..., None] * sure[..., None]
        out[part] = made + share * (own - made)
    return np.clip(out, 0, 255).astype(np.uint8)


def _draw_eye(
    radius: float, random: np.random.Generator
) -> tuple[Floats, npt.NDArray[np.bool_], npt.NDArray[np.bool_]]:
    """Shares of white, iris and pupil ``(3, s, s)``; masks of the middle of the iris and of plain white."""
    y, x = np.mgrid[0:EYE_PICTURE_SIZE, 0:EYE_PICTURE_SIZE].astype(np.float32) + 0.5 - EYE_PICTURE_SIZE / 2
    r, angle = np.minimum(np.hypot(x, y) / radius, 3), np.arctan2(y, x)
    count = np.arange(1, 40)
    size = random.normal(0, 1, 39) / np.sqrt(count)
    phase = random.uniform(0, 6.28, 39)
    rays = sum(
        s * np.cos((k + 3) * angle + p + 2 * np.sin(5 * r + k)) for k, s, p in zip(count, size, phase, strict=True)
    )
    rays = rays / np.abs(rays).max()
    pupil_size = random.uniform(0.3, 0.42)
    iris = 1 / (1 + np.exp((r - 1) / 0.04))
    pupil = 1 / (1 + np.exp(np.clip((r - pupil_size) / 0.03, -50, 50)))
    rim = 1 / (1 + np.exp((r - 0.88) / 0.05))
    texture = (1 + 0.35 * rays) * (0.55 + 0.45 * rim)
    shade = 1 - 0.12 * np.clip(r - 1.2, 0, 2)
    shares = np.stack([(1 - iris) * shade, iris * (1 - pupil) * texture, iris * pupil])
    return shares.astype(np.float32), (r > 0.5) & (r < 0.85), (r > 1.15) & (r < 1.9)


def lash_picture(head: HeadModel) -> Image:
    """Lash strands on the model's lash cards, ``(1024, 1024)``; the geometry says which side is the root."""
    side, random = 1024, np.random.default_rng(3)
    out = np.zeros((side, side), np.float32)
    mine = head.corner_kind == KINDS["lash"]
    vertex, uv = head.corner_vertex[mine], head.corner_uv[mine]
    for card in range((LASHES.stop - LASHES.start) // VERTICES_PER_LASH_CARD):
        first = LASHES.start + VERTICES_PER_LASH_CARD * card
        here = (vertex >= first) & (vertex < first + VERTICES_PER_LASH_CARD)
        depth, (u, v) = head.raw[vertex[here], 2], uv[here].T
        low, high = v.min(), v.max()
        root_high = depth[v > high - 0.01].mean() < depth[v < low + 0.01].mean()
        for k in range(count := 46 if card % 6 < 3 else 30):
            x = (u.min() + np.ptp(u) * (k + random.uniform(0.1, 0.9)) / count) * side
            length, bend = random.uniform(0.55, 0.95), random.normal(0, 9)
            along = np.linspace(0, 1, max(int((high - low) * side * length), 2))
            steps = np.arange(len(along))
            y = (high * side - steps if root_high else low * side + steps).astype(int).clip(0, side - 1)
            across, width = x + bend * along**2, 2.0 * (1 - along) + 0.35
            for d in range(-3, 4):
                column = (across + d).astype(int).clip(0, side - 1)
                out[y, column] = np.maximum(out[y, column], np.clip(width - np.abs(column - across) + 0.5, 0, 1))
    return np.asarray(out * 255, np.uint8)
