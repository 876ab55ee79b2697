"""A head with ICT-FaceKit's layout for tests: the shipped face model's skin with simple teeth, eyes and lashes."""

from pathlib import Path

import numpy as np
import numpy.typing as npt

from avatar_stream.face import mesh
from avatar_stream.face.model import COEFFICIENT_NAMES, face_model
from engines.data.face_model import ICT_AXES, ict_name
from engines.made import head

VERTICES, SHAPES, PEOPLE = 26719, 57, 100
EYE_DISTANCE_CM = 8.9  # between the outer corners of the eyes
UPPER_LIP_CM = np.array([0, -3.3, 11.3])  # middle of the upper lip of ICT's head


class Parts:
    """Collects vertices, quads and texture coordinates."""

    def __init__(self) -> None:
        self.at = np.tile(np.array([0, -16, 0], np.float32), (VERTICES, 1))
        self.uv = np.zeros((VERTICES, 2), np.float32)
        self.faces: list[npt.NDArray[np.int64]] = []

    def sheet(self, first: int, points: npt.NDArray[np.float64], uv: tuple[float, float] = (0, 0)) -> int:
        """Add a grid of points ``(rows, columns, 3)`` from vertex ``first`` on, which faces the front."""
        rows, columns = points.shape[:2]
        count = rows * columns
        self.at[first : first + count] = points.reshape(-1, 3)
        v, u = np.mgrid[0:rows, 0:columns] / [[[rows]], [[columns]]]
        self.uv[first : first + count] = np.column_stack([u.ravel() * 0.9 + uv[0], v.ravel() * 0.9 + uv[1]])
        index = np.arange(count).reshape(rows, columns) + first
        corners = (index[:-1, :-1], index[1:, :-1], index[1:, 1:], index[:-1, 1:])
        self.faces.append(np.stack([c.ravel() for c in corners], 1))
        return first + count


def plane(left: float, right: float, top: float, bottom: float, depth: float, rows: int, columns: int):  # type: ignore[no-untyped-def]
    """A flat grid that faces the viewer, with its first row on top."""
    y, x = np.meshgrid(np.linspace(top, bottom, rows), np.linspace(left, right, columns), indexing="ij")
    return np.stack([x, y, np.full_like(x, depth)], -1)


def write_head(folder: Path) -> None:
    """Write ``folder/ict-facekit.npz``."""
    model, parts = face_model(), Parts()
    offset = UPPER_LIP_CM - model.neutral[13] * ICT_AXES * EYE_DISTANCE_CM
    skin = model.neutral * ICT_AXES * EYE_DISTANCE_CM + offset
    parts.at[:468] = skin
    parts.uv[:468] = (skin[:, :2] + [10, 16]) / [20, 32]
    triangles = mesh.skin_triangles()[:, [0, 2, 1]]  # ICT has y up
    parts.faces.append(np.column_stack([triangles, triangles[:, 2]]).astype(np.int64))
    parts.sheet(head.SOCKET.start, plane(-3.5, 3.5, -0.5, -6, 7, 6, 6))
    parts.sheet(head.GUMS.start, plane(-1.5, 1.5, -3.5, -4.5, 8.5, 8, 8))
    for span, top, bottom in ((head.UPPER_TEETH, -2.0, -3.3), (head.LOWER_TEETH, -3.4, -4.6)):
        at = span.start
        for k in range(8):
            left = (k - 4) * 0.5
            at = parts.sheet(at, plane(left, left + 0.46, top, bottom, 10.6, 4, 4))
        parts.at[at : span.stop] = parts.at[span.start]
    for side, eye in enumerate((head.RIGHT_EYE, head.LEFT_EYE)):
        centre, radius = (
            model.eyeballs[side] * ICT_AXES * EYE_DISTANCE_CM + offset,
            model.eyeball_radius * EYE_DISTANCE_CM,
        )
        flat = plane(-0.7, 0.7, 0.7, -0.7, 0, 28, 28)
        flat[..., 2] = np.sqrt(np.maximum(1 - (flat[..., :2] ** 2).sum(-1), 0))
        parts.at[eye] = centre - [0, 0, radius]
        parts.sheet(eye.start + head.CORNEA, flat * radius + centre)
    for card in range(12):
        x = np.linspace(-4, 4, 12)[card]
        parts.sheet(head.LASHES.start + 114 * card, plane(x - 0.2, x + 0.2, 3.6, 3.8, 9.6 + 0.1, 6, 19), (6, 0))
    names = [ict_name(name) for name in COEFFICIENT_NAMES]
    names += [f"{name}_{side}" for name in (*head.GAZE_SHAPES, "PupilDilate", "cheekRaiser") for side in "LR"]
    expressions = np.zeros((len(names), VERTICES, 3), np.float16)
    expressions[: len(COEFFICIENT_NAMES), :468] = model.expressions * ICT_AXES * EYE_DISTANCE_CM
    jaw = [*range(head.LOWER_TEETH.start, head.LOWER_TEETH.stop), *range(head.GUMS.start, head.GUMS.stop)]
    expressions[names.index("jawOpen"), jaw] = [0, -2, -0.5]
    identities = np.zeros((PEOPLE, VERTICES, 3), np.float16)
    identities[: len(model.identities), :468] = model.identities * ICT_AXES * EYE_DISTANCE_CM
    faces = np.concatenate(parts.faces)
    folder.mkdir(parents=True, exist_ok=True)
    np.savez(
        folder / "ict-facekit.npz",
        neutral=parts.at,
        expressions=expressions,
        expression_names=np.array(names),
        identities=identities,
        faces=faces,
        face_uvs=faces,
        uvs=parts.uv,
        mediapipe_to_ict=np.arange(468),
    )
