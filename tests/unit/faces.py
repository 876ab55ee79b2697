"""Faces for tests, made by the face model: any expression, head pose and size."""

import numpy as np

from avatar_stream.face import geometry, mesh
from avatar_stream.face.geometry import Pose
from avatar_stream.face.mesh import Floats
from avatar_stream.face.model import coefficients, face_model


def face(
    scale: float = 100,
    turn: tuple[float, float, float] = (0, 0, 0),
    look: tuple[float, float] = (0, 0),
    identity: Floats | None = None,
    expression: dict[str, float] | None = None,
    **named: float,
) -> Floats:
    """Landmarks ``(478, 3)`` of a face ``scale`` pixels between the eyes, turned (radians) and with an expression.

    ``look`` moves the irises right and down, in eye distances.
    """
    model = face_model()
    who = np.zeros(len(model.identities), np.float32) if identity is None else identity
    points = model.shape(who, coefficients(**(expression or {}), **named))
    irises = np.zeros((10, 3), np.float32)
    for side, corners in enumerate(([33, 133], [362, 263])):
        centre = points[corners].mean(0) + [*look, 0]
        ring = np.array([[0, 0, 0], [1, 0, 0], [0, -1, 0], [-1, 0, 0], [0, 1, 0]]) * 0.065
        irises[5 * side : 5 * side + 5] = centre + ring
    rotation = geometry.from_rotation_vector(turn)
    return Pose(scale, rotation, np.array([300, 200, 0], np.float32)).apply(np.concatenate([points, irises]))


def mouth_width(landmarks: Floats) -> float:
    """Between the corners of the mouth, in eye distances."""
    return float(np.linalg.norm(landmarks[61] - landmarks[291])) / geometry.eye_distance(landmarks)


def lips(landmarks: Floats) -> Floats:
    """The landmarks of both lips."""
    return landmarks[sorted({*mesh.LIPS_RING, *mesh.MOUTH_RING})]
