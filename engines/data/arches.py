"""The dental arches of the shipped face model: ICT-FaceKit's teeth and gums unrolled into small pictures.

Each arch is a curve seen from above, swept downwards; its picture has the position along the curve as x, the height
as y. This module draws the outermost surface (tooth or gum) with its shading; the live path only draws the picture
behind the lips (``avatar_stream.portrait.interior.mouth``).
"""

from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

from avatar_stream.face.mesh import Floats

TOOTH_VERTICES = {"upper": (17039, 19247), "lower": (19247, 21451)}
TOOTH_FACES, GUM_FACES = (17006, 21496), (14034, 17006)
PICTURE_HEIGHTS = {"upper": (1.3, 3.7), "lower": (2.85, 5.1)}  # of the pictures, in ICT's centimetres downwards
GUM_SPLIT_HEIGHT = 3.3  # ICT's centimetres downwards; gums above it belong to the upper arch
PICTURE_SIZE = (320, 80)  # width along the arch, height
SAMPLES_PER_PIXEL = 3
ANGLE_COUNT = 121


@dataclass(frozen=True, slots=True)
class Arch:
    """One arch: ``curve (n, 2)``, x and z of its front at equal steps; ``top`` and ``bottom`` of the picture; all
    in ICT's units with y down and z away from the viewer. ``picture uint8 (80, 320, 3)``: share of tooth (the rest is
    gum), shade, alpha.
    """

    curve: Floats
    top: float
    bottom: float
    picture: npt.NDArray[np.uint8]


def triangles_of(faces: npt.NDArray[np.int32], span: tuple[int, int]) -> npt.NDArray[np.int64]:
    """Triangles of a range of quads; a quad that repeats an index gives one triangle."""
    quads = faces[slice(*span)].astype(np.int64)
    cut = np.concatenate([quads[:, :3], quads[:, [0, 2, 3]]])
    return cut[(cut[:, 0] != cut[:, 1]) & (cut[:, 1] != cut[:, 2]) & (cut[:, 0] != cut[:, 2])]


def unroll(points: Floats, faces: npt.NDArray[np.int32], which: str) -> Arch:
    """The arch ``which`` (``upper`` or ``lower``) of the mesh ``points (n, 3)``."""
    first, end = TOOTH_VERTICES[which]
    teeth = triangles_of(faces, TOOTH_FACES)
    teeth = teeth[((teeth >= first) & (teeth < end)).all(1)]
    gums = triangles_of(faces, GUM_FACES)
    middle = points[gums, 1].mean(1)
    gums = gums[middle < GUM_SPLIT_HEIGHT] if which == "upper" else gums[middle >= GUM_SPLIT_HEIGHT]
    top, bottom = PICTURE_HEIGHTS[which]
    crowns = points[first:end]
    low, high = (2.6, 3.4) if which == "upper" else (3.1, 3.9)
    crowns = crowns[(crowns[:, 1] > low) & (crowns[:, 1] < high)]
    centre = -6.2
    angle = np.arctan2(crowns[:, 0], centre - crowns[:, 2])
    radius = np.hypot(crowns[:, 0], centre - crowns[:, 2])
    steps = np.linspace(-1.5, 1.5, ANGLE_COUNT)
    outer = np.array([_outermost(angle, radius, step) for step in steps])
    outer = (outer + outer[::-1]) / 2
    outer = cv2.GaussianBlur(outer[None].astype(np.float32), (0, 0), 5, borderType=cv2.BORDER_REPLICATE)[0]
    curve = np.stack([outer * np.sin(steps), centre - outer * np.cos(steps)], 1)
    along = np.concatenate([[0], np.cumsum(np.linalg.norm(np.diff(curve, axis=0), axis=1))])
    even = np.linspace(0, along[-1], ANGLE_COUNT)
    even_curve = np.stack([np.interp(even, along, curve[:, k]) for k in (0, 1)], 1)

    triangles = np.concatenate([gums, teeth])
    tooth = np.arange(len(triangles)) >= len(gums)
    normals = _normals(points, triangles)
    width, height = PICTURE_SIZE[0] * SAMPLES_PER_PIXEL, PICTURE_SIZE[1] * SAMPLES_PER_PIXEL
    theta = np.arctan2(points[:, 0], centre - points[:, 2])
    far = np.hypot(points[:, 0], centre - points[:, 2])
    u = np.interp(theta, steps, along) / along[-1] * width
    v = (points[:, 1] - top) / (bottom - top) * height
    facing = normals[:, 0] * np.sin(theta) - normals[:, 2] * np.cos(theta)
    nearest = np.full((height, width), -np.inf, np.float32)
    kind = np.zeros((height, width), np.float32)
    shade = np.zeros((height, width), np.float32)
    for t, is_tooth in zip(triangles, tooth, strict=True):
        _draw_triangle(nearest, kind, shade, u[t], v[t], far[t], np.abs(facing[t]), float(is_tooth))
    alpha = np.isfinite(nearest).astype(np.float32)
    depth = np.where(alpha > 0, nearest, 0)
    around = cv2.GaussianBlur(depth, (0, 0), 4 * SAMPLES_PER_PIXEL) / np.maximum(
        cv2.GaussianBlur(alpha, (0, 0), 4 * SAMPLES_PER_PIXEL), 1e-3
    )
    crevice = np.clip(1 + 2.2 * np.minimum(depth - around, 0), 0.35, 1)
    shade = (0.55 + 0.45 * shade) * crevice
    alpha *= _tooth_side_mask(kind * alpha, which == "upper")
    picture = np.dstack([kind * 255, shade * 255 * alpha, alpha * 255]).astype(np.float32)
    small = cv2.resize(picture, PICTURE_SIZE, interpolation=cv2.INTER_AREA)
    share = np.maximum(small[..., 2:] / 255, 1e-3)
    small[..., :2] /= share
    out = np.clip(small, 0, 255).astype(np.uint8)
    out = ((out.astype(np.float32) + out[:, ::-1]) / 2).astype(np.uint8)
    return Arch(even_curve.astype(np.float32), top, bottom, out)


def _tooth_side_mask(tooth: Floats, upper: bool) -> Floats:
    """Mask that is 1 from the roots to the edge of the teeth; it removes the palate and the floor of the mouth."""
    rows = np.arange(tooth.shape[0], dtype=np.float32)[:, None]
    seen = tooth > 0.5
    edge = np.where(seen, rows, -1).max(0) if upper else np.where(seen, rows, 1e6).min(0)
    known = seen.any(0)
    columns = np.arange(tooth.shape[1])
    edge = np.interp(columns, columns[known], edge[known])
    return np.asarray(rows <= edge if upper else rows >= edge, np.float32)


def _outermost(angle: Floats, radius: Floats, at: float) -> float:
    near = np.abs(angle - at) < 0.09
    return float(np.quantile(radius[near], 0.9)) if near.any() else float(radius[np.argmin(np.abs(angle - at))])


def _normals(points: Floats, triangles: npt.NDArray[np.int64]) -> Floats:
    a, b, c = (points[triangles[:, k]] for k in range(3))
    flat = np.cross(b - a, c - a)
    out = np.zeros_like(points)
    for k in range(3):
        np.add.at(out, triangles[:, k], flat)
    return np.asarray(out / np.maximum(np.linalg.norm(out, axis=1, keepdims=True), 1e-9), np.float32)


def _draw_triangle(
    nearest: Floats, kind: Floats, shade: Floats, u: Floats, v: Floats, far: Floats, facing: Floats, tooth: float
) -> None:
    """Draw one triangle into the unrolled picture where it is outermost (in place)."""
    height, width = nearest.shape
    left, right = max(int(np.floor(u.min())), 0), min(int(np.ceil(u.max())) + 1, width)
    top, bottom = max(int(np.floor(v.min())), 0), min(int(np.ceil(v.max())) + 1, height)
    area = (u[1] - u[0]) * (v[2] - v[0]) - (u[2] - u[0]) * (v[1] - v[0])
    if left >= right or top >= bottom or abs(area) < 1e-6 or right - left > width / 3:
        return
    y, x = np.mgrid[top:bottom, left:right] + 0.5
    second = ((x - u[0]) * (v[2] - v[0]) - (y - v[0]) * (u[2] - u[0])) / area
    third = ((y - v[0]) * (u[1] - u[0]) - (x - u[0]) * (v[1] - v[0])) / area
    first = 1 - second - third
    reach = first * far[0] + second * far[1] + third * far[2] - 0.05 * (1 - tooth)
    region = np.s_[top:bottom, left:right]
    over = (first >= -1e-6) & (second >= -1e-6) & (third >= -1e-6) & (reach > nearest[region])
    nearest[region][over] = reach[over]
    kind[region][over] = tooth
    shade[region][over] = (first * facing[0] + second * facing[1] + third * facing[2])[over]
