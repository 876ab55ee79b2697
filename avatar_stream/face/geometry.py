"""Rotations, similarity transforms and face measurements, on plain arrays."""

from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import numpy.typing as npt

from avatar_stream.face import mesh
from avatar_stream.face.mesh import Floats


@dataclass(frozen=True, slots=True)
class Pose:
    """A head pose: the 3-D similarity ``x -> scale * rotation @ x + translation``, with the translation in pixels."""

    scale: float
    rotation: Floats  # (3, 3)
    translation: Floats  # (3,)

    def apply(self, points: Floats) -> Floats:
        """Map ``(n, 3)`` points."""
        return np.asarray(self.scale * points @ self.rotation.T + self.translation, np.float32)

    def apply_inverse(self, points: Floats) -> Floats:
        """Inverse of :meth:`apply`."""
        return np.asarray((points - self.translation) @ self.rotation / self.scale, np.float32)


def similarity(source: Floats, target: Floats, weights: Floats | None = None) -> Pose:
    """Least-squares similarity taking ``source`` to ``target``, both ``(n, 3)``, with ``weights (n,)`` of the points.

    Umeyama, "Least-squares estimation of transformation parameters between two point patterns", PAMI 1991.
    """
    weights = np.ones(len(source), np.float32) if weights is None else weights
    total = weights.sum()
    source_mean, target_mean = weights @ source / total, weights @ target / total
    s, t = source - source_mean, target - target_mean
    weighted = s * weights[:, None]
    u, d, vt = np.linalg.svd(t.T @ weighted)
    sign = np.ones(3)
    sign[2] = np.sign(np.linalg.det(u @ vt))
    rotation = ((u * sign) @ vt).astype(np.float32)
    scale = float((d * sign).sum() / max(float((s * weighted).sum()), 1e-12))
    return Pose(scale, rotation, np.asarray(target_mean - scale * rotation @ source_mean, np.float32))


def head_pose(landmarks: Floats) -> Pose:
    """Head pose that takes the frontal template face to ``landmarks``, fitted to the stable landmarks only."""
    stable = list(mesh.STABLE_LANDMARKS)
    return similarity(mesh.template()[stable], landmarks[stable])


def to_rotation_vector(rotation: Floats) -> Floats:
    """Axis times angle (radians) of a rotation matrix, ``(3,)``; x is pitch, y is yaw, z is roll."""
    cos = np.clip((np.trace(rotation) - 1) / 2, -1, 1)
    angle = float(np.arccos(cos))
    axis = np.array(
        [
            rotation[2, 1] - rotation[1, 2],
            rotation[0, 2] - rotation[2, 0],
            rotation[1, 0] - rotation[0, 1],
        ],
        np.float32,
    )
    norm = float(np.linalg.norm(axis))
    if norm < 1e-7:
        return np.zeros(3, np.float32)
    return np.asarray(axis / norm * angle, np.float32)


def from_rotation_vector(vector: npt.ArrayLike) -> Floats:
    """Rotation matrix of an axis-angle vector (Rodrigues' formula)."""
    v = np.asarray(vector, np.float64)
    angle = float(np.linalg.norm(v))
    if angle < 1e-9:
        return np.eye(3, dtype=np.float32)
    x, y, z = v / angle
    cross = np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]])
    return np.asarray(np.eye(3) + np.sin(angle) * cross + (1 - np.cos(angle)) * cross @ cross, np.float32)


def euler_degrees(rotation: Floats) -> tuple[float, float, float]:
    """(pitch, yaw, roll) in degrees for reports; yaw > 0 turns the face towards the image's right."""
    yaw = np.degrees(np.arcsin(np.clip(-rotation[0, 2], -1, 1)))
    pitch = np.degrees(np.arctan2(rotation[1, 2], rotation[2, 2]))
    roll = np.degrees(np.arctan2(rotation[1, 0], rotation[0, 0]))
    return float(pitch), float(yaw), float(roll)


def eye_distance(landmarks: Floats) -> float:
    """Distance between the outer eye corners, in pixels."""
    return float(np.linalg.norm(landmarks[33] - landmarks[263]))


def mouth_opening(landmarks: Floats) -> float:
    """Gap between the inner lips over the distance of the outer eye corners."""
    gap = np.linalg.norm(landmarks[[82, 13, 312]] - landmarks[[87, 14, 317]], axis=1).mean()
    return float(gap / max(eye_distance(landmarks), 1e-6))


# Change of the lips' gap in eye distances: below the first value, the portrait's own mouth is shown; above the
# second, a newly drawn one.
LIP_GAP_CHANGE_RANGE = (0.015, 0.05)


def lip_gaps(landmarks: Floats) -> Floats:
    """Gap between the inner lips at each point from corner to corner ``(11,)``, in eye distances."""
    gaps = landmarks[list(mesh.INNER_LIP_LOWER)] - landmarks[list(mesh.INNER_LIP_UPPER)]
    return np.asarray(np.linalg.norm(gaps, axis=1) / max(eye_distance(landmarks), 1e-6), np.float32)


def smoothstep(low: float, high: float, value: float) -> float:
    """0 up to ``low``, 1 from ``high``, and a smooth cubic between."""
    return ease(min(max((value - low) / (high - low), 0.0), 1.0))


Number = TypeVar("Number", float, Floats)


def ease(progress: Number) -> Number:
    """The smooth cubic from 0 to 1, level at both ends, for ``progress`` within 0 to 1."""
    return progress * progress * (3 - 2 * progress)


def eye_openings(landmarks: Floats) -> tuple[float, float]:
    """(right, left) lid gap over that eye's width."""

    def opening(upper: tuple[int, ...], lower: tuple[int, ...]) -> float:
        middle = slice(3, 6)
        gap = np.linalg.norm(landmarks[list(upper[middle])] - landmarks[list(lower[middle])], axis=1).mean()
        width = np.linalg.norm(landmarks[upper[0]] - landmarks[upper[-1]])
        return float(gap / max(float(width), 1e-6))

    return (
        opening(mesh.RIGHT_LID_UPPER, mesh.RIGHT_LID_LOWER),
        opening(mesh.LEFT_LID_UPPER, mesh.LEFT_LID_LOWER),
    )


def gaze(landmarks: Floats) -> Floats:
    """Iris centre relative to its eye's corners, mean of both eyes: ``(2,)``, in eye widths."""
    out = np.zeros(2, np.float32)
    for iris, a, b in ((468, 33, 133), (473, 362, 263)):
        axis = landmarks[b, :2] - landmarks[a, :2]
        width = max(float(np.linalg.norm(axis)), 1e-6)
        axis = axis / width
        offset = landmarks[iris, :2] - (landmarks[a, :2] + landmarks[b, :2]) / 2
        out += np.array([offset @ axis, offset @ np.array([-axis[1], axis[0]])], np.float32) / width / 2
    return out


ALIGNED_EYES_Y = 0.36
ALIGNED_NOSE_Y = 0.62


def aligned_frame(landmarks: Floats, size: int) -> Floats:
    """The 2x3 similarity from image pixels to the aligned face frame of ``size`` pixels.

    The face is upright and centred, with the eyes at 36 % of the height and the nose base at 62 %. The scale uses the
    mean of two eye-to-nose heights: in the picture, and in 3-D, which hardly changes as the head turns or nods.
    """
    eyes = landmarks[[33, 133, 362, 263], :2]
    right, left = eyes[:2].mean(0), eyes[2:].mean(0)
    middle = (right + left) / 2
    along = left - right
    roll = np.arctan2(along[1], along[0])
    c, s = np.cos(-roll), np.sin(-roll)
    upright = np.array([[c, -s], [s, c]])
    drop = float((upright @ (landmarks[mesh.NOSE_BASE, :2] - middle))[1])
    # In 3-D the distance hardly depends on the head pose.
    height = float(np.linalg.norm(landmarks[mesh.NOSE_BASE] - landmarks[[33, 133, 362, 263]].mean(0)))
    span = (ALIGNED_NOSE_Y - ALIGNED_EYES_Y) * size
    scale = span / max(0.5 * (max(drop, 0.5 * height) + height), 1e-6)
    linear = scale * upright
    # A nod shortens the nose in the picture: the middle between eyes and nose base keeps its position.
    anchor = middle + upright.T @ np.array([0.0, drop / 2])
    target = np.array([0.5, (ALIGNED_EYES_Y + ALIGNED_NOSE_Y) / 2]) * size
    # Pixel centres: index i is at i + 0.5 of the frame.
    offset = target - 0.5 - linear @ anchor
    return np.asarray(np.column_stack([linear, offset]), np.float32)


def transform_2d(matrix: Floats, points: Floats) -> Floats:
    """Apply a 2x3 affine to the x and y of ``(n, 2+)`` points; returns ``(n, 2)``."""
    return np.asarray(points[:, :2] @ matrix[:, :2].T + matrix[:, 2], np.float32)
