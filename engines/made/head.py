"""ICT-FaceKit's whole head as arrays for drawing: skin, mouth, single teeth, eyeballs, lashes.

Axes and unit are those of the project's face model (x right, y down, z away from the viewer, outer eye corners 1
apart), so that a fit of that model moves this head.
"""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt
from scipy.sparse import csr_matrix
from scipy.sparse.csgraph import connected_components
from scipy.spatial import cKDTree

from avatar_stream.errors import BadInput
from avatar_stream.face import mesh
from avatar_stream.face.mesh import Floats, Ints
from avatar_stream.face.model import COEFFICIENT_INDEX, COEFFICIENT_NAMES
from engines.data.face_model import ICT_AXES, IDENTITY_COUNT, ict_name

# Vertex ranges of ICT-FaceKit's mesh.
SKIN: Final = slice(0, 9409)
HEAD: Final = slice(0, 11248)
SOCKET: Final = slice(11248, 13294)
EYE_SOCKETS: Final = slice(13294, 14062)
GUMS: Final = slice(14062, 17039)
UPPER_TEETH, LOWER_TEETH = slice(17039, 19247), slice(19247, 21451)
LEFT_EYE, RIGHT_EYE = slice(21451, 23021), slice(23021, 24591)
CORNEA, BALL = 770, 1570  # vertices of an eye: the cornea's come first, then those of white and iris
UNUSED: Final = slice(24591, 25351)
LASHES: Final = slice(25351, 26719)
KINDS: Final = {"skin": 0, "socket": 1, "gum": 2, "tooth": 3, "eye": 4, "lash": 6}
ARCH_CENTRE_DEPTH: Final = 6.2  # ICT's centimetres; centre of the front teeth's curve
GAZE_SHAPES: Final = ("eyeLookDown", "eyeLookUp", "eyeLookIn", "eyeLookOut")


@dataclass(frozen=True)
class HeadModel:
    """The head as arrays.

    ``neutral (n, 3)``; ``expressions (45, n, 3)`` in the order of ``COEFFICIENTS``; ``gaze_shapes``: how lids move
    with the eyes, by name and side, ``(n, 3)`` each; ``identities (60, n, 3)``; ``landmarks (468,)``: the vertex of
    each landmark; ``raw (n, 3)``: ICT's own coordinates. Drawing uses corners, which are vertices with a texture
    place: ``corner_vertex (c,)``, ``corner_uv (c, 2)``, ``corner_kind (c,)``, and triangles over corners by kind.
    """

    neutral: Floats
    expressions: Floats
    gaze_shapes: dict[str, Floats]
    identities: Floats
    landmarks: Ints
    raw: Floats
    unit: float  # ICT's centimetres per eye distance
    corner_vertex: Ints
    corner_uv: Floats
    corner_kind: Floats
    triangles: dict[str, Ints]
    vertex_sums: csr_matrix  # (n, t) adds triangles' values up at their vertices
    all_triangles: Ints  # (t, 3) over vertices, for normals

    @staticmethod
    def load(folder: Path) -> "HeadModel":
        """Load ``folder/ict-facekit.npz``; raises :class:`BadInput` if the file is missing."""
        path = folder / "ict-facekit.npz"
        if not path.exists():
            raise BadInput(f"{path} is missing: name the data folder with --data")
        with np.load(path) as stored:
            d = {name: stored[name] for name in stored.files}
        at = np.asarray(d["mediapipe_to_ict"], np.int32)
        raw = np.asarray(d["neutral"], np.float32)
        turned = raw * ICT_AXES
        unit = float(np.linalg.norm(turned[at[33]] - turned[at[263]]))
        origin = turned[at[list(mesh.STABLE_LANDMARKS)]].mean(0)
        names = [str(name) for name in d["expression_names"]]

        def offsets_of(chosen: list[str]) -> Floats:
            picked = np.asarray(d["expressions"][[names.index(n) for n in chosen]], np.float32)
            return np.asarray(picked * ICT_AXES / unit, np.float32)

        gaze_shapes = {f"{name}_{side}": offsets_of([f"{name}_{side}"])[0] for name in GAZE_SHAPES for side in "LR"}
        corners = _corners(np.asarray(d["faces"], np.int64), np.asarray(d["face_uvs"], np.int64), d["uvs"], raw)
        all_triangles = corners.vertex[np.concatenate(list(corners.triangles.values()))]
        count = len(all_triangles)
        vertex_sums = csr_matrix(
            (np.ones(3 * count, np.float32), (all_triangles.ravel(), np.repeat(np.arange(count), 3))),
            (len(raw), count),
        )
        return HeadModel(
            np.asarray((turned - origin) / unit, np.float32),
            offsets_of([ict_name(name) for name in COEFFICIENT_NAMES]),
            gaze_shapes,
            np.asarray(np.asarray(d["identities"][:IDENTITY_COUNT], np.float32) * ICT_AXES / unit, np.float32),
            at,
            raw,
            unit,
            corners.vertex,
            corners.uv,
            corners.kind,
            corners.triangles,
            vertex_sums,
            all_triangles.astype(np.int32),
        )

    def normals(self, points: Floats) -> Floats:
        """Unit normals ``(n, 3)`` of vertices ``points (n, 3)``, pointing out of the skin."""
        a, b, c = (points[self.all_triangles[:, k]] for k in range(3))
        # AXES is a rotation of ICT's axes about x, which keeps the triangles' orientation.
        found = self.vertex_sums @ np.cross(b - a, c - a)
        return np.asarray(found / np.maximum(np.linalg.norm(found, axis=1, keepdims=True), 1e-9), np.float32)

    @cached_property
    def teeth(self) -> list[Ints]:
        """The vertices of each tooth; upper teeth come first, otherwise unordered."""
        span = slice(UPPER_TEETH.start, LOWER_TEETH.stop)
        inside = (
            self.all_triangles[((self.all_triangles >= span.start) & (self.all_triangles < span.stop)).all(1)]
            - span.start
        )
        size = span.stop - span.start
        rows, columns = np.concatenate([inside[:, 0], inside[:, 1]]), np.concatenate([inside[:, 1], inside[:, 2]])
        count, label = connected_components(csr_matrix((np.ones(len(rows)), (rows, columns)), (size, size)), False)
        parts = [(np.flatnonzero(label == k) + span.start).astype(np.int32) for k in range(count)]
        return [part for part in parts if len(part) > 8]

    @cached_property
    def lower_jaw(self) -> npt.NDArray[np.bool_]:
        """Mask ``(n,)`` of the vertices inside the mouth that move with the lower jaw."""
        out = np.zeros(len(self.raw), bool)
        out[LOWER_TEETH] = True
        down = self.expressions[COEFFICIENT_INDEX["jawOpen"]][:, 1]
        out[GUMS] = down[GUMS] > 0.5 * down[LOWER_TEETH].mean()
        return out

    @cached_property
    def tongue(self) -> Floats:
        """How much a vertex belongs to the tongue, ``(n,)``, 0 to 1."""
        out = np.zeros(len(self.raw), np.float32)
        x, y, z = self.raw[GUMS].T
        to_teeth, _ = cKDTree(self.raw[LOWER_TEETH]).query(self.raw[GUMS])
        out[GUMS] = (
            np.clip((1.9 - np.abs(x)) / 0.35, 0, 1)
            * np.clip((-2.85 - y) / 0.2, 0, 1)
            * np.clip((9.95 - z) / 0.3, 0, 1)
            * np.where((np.abs(x) > 0.9) | (y < -4.12), np.clip((to_teeth - 0.25) / 0.15, 0, 1), 1)
            * (y > -4.75)
        )
        return out

    @cached_property
    def gaps(self) -> Floats:
        """How near a tooth's vertex is to the next tooth, ``(n,)``: 0 in the tooth's middle, 1 between two teeth."""
        out = np.zeros(len(self.raw), np.float32)
        for tooth in self.teeth:
            along = np.arctan2(self.raw[tooth, 0], self.raw[tooth, 2] - ARCH_CENTRE_DEPTH)
            middle, half = (along.max() + along.min()) / 2, max(float(np.ptp(along)) / 2, 1e-3)
            out[tooth] = np.abs(along - middle) / half
        return out

    @cached_property
    def lash_roots(self) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.intp]]:
        """The vertices of lashes, and for each the nearest skin vertex (on the lids)."""
        lash, skin = np.arange(LASHES.start, LASHES.stop), np.flatnonzero(self.face)
        return lash, skin[cKDTree(self.raw[skin]).query(self.raw[lash])[1]]

    @cached_property
    def around_lips(self) -> tuple[npt.NDArray[np.intp], Floats, Floats]:
        """Vertices around the mouth, their nearness to the line between the lips (0 to 1), and their share of the
        jaw's motion (0 at the upper lip, 1 at the lower one).
        """
        skin = np.flatnonzero(self.face & (np.abs(self.raw[:, 0]) < 3.5))
        line = self.raw[self.landmarks[[*mesh.INNER_LIP_UPPER, *mesh.INNER_LIP_LOWER]]]
        away = np.abs(self.raw[skin, None, 1] - line[None, :, 1]).min(1)
        weight = np.exp(-((away / 0.9) ** 2)).astype(np.float32)
        near, weight = skin[weight > 0.01], weight[weight > 0.01]
        jaw = self.expressions[COEFFICIENT_INDEX["jawOpen"]][:, 1]
        upper, lower = (self.landmarks[k] for k in (13, 14))
        return near, weight, np.clip((jaw[near] - jaw[upper]) / (jaw[lower] - jaw[upper]), 0, 1)

    @cached_property
    def face(self) -> npt.NDArray[np.bool_]:
        """Mask ``(n,)`` of the face's vertices, without ears, skull and neck: those stay as in the photograph."""
        x, y, z = self.raw.T
        out = (np.abs(x) < 7.0) & (z > 3.2) & (y < 7.6) & (y > -8.6)
        out[SKIN.stop :] = False
        return out


@dataclass(frozen=True)
class _Corners:
    vertex: Ints
    uv: Floats
    kind: Floats
    triangles: dict[str, Ints]


def _corners(
    faces: npt.NDArray[np.int64], face_uvs: npt.NDArray[np.int64], uvs: npt.NDArray[np.generic], raw: Floats
) -> _Corners:
    """Each pair of vertex and texture place once, and the triangles over these corners."""
    drawn = ~((faces >= UNUSED.start) & (faces < UNUSED.stop)).any(1)
    faces, face_uvs = faces[drawn], face_uvs[drawn]
    kind = _kinds(faces)
    cut, of = [], []
    for a, b, c in ((0, 1, 2), (0, 2, 3)):
        ok = (faces[:, a] != faces[:, c]) & (faces[:, b] != faces[:, c]) & (kind >= 0)
        cut.append(np.stack([faces[ok][:, [a, b, c]], face_uvs[ok][:, [a, b, c]]], -1))
        of.append(kind[ok])
    triangles, kinds = np.concatenate(cut), np.concatenate(of)
    # Leave out skin triangles that span several tiles of the texture.
    spread = np.ptp(np.asarray(uvs, np.float32)[triangles[..., 1]], axis=1).max(1)
    kept = (kinds != KINDS["skin"]) | (spread < 0.2)
    # Leave out the back of eyeballs: it is never seen and would cover the front in the eye texture.
    for eye in (RIGHT_EYE, LEFT_EYE):
        middle = (raw[eye, 2].min() + raw[eye, 2].max()) / 2
        vertex = triangles[..., 0]
        mine = (vertex >= eye.start) & (vertex < eye.stop)
        kept &= ~(mine & (raw[vertex, 2] < middle)).any(1)
    triangles, kinds = triangles[kept], kinds[kept]
    keys, inverse = np.unique(triangles.reshape(-1, 2), axis=0, return_inverse=True)
    index = inverse.reshape(-1, 3).astype(np.int32)
    corner_kind = np.zeros(len(keys), np.float32)
    corner_kind[index.ravel()] = np.repeat(kinds, 3)
    uv = np.asarray(uvs, np.float32)[keys[:, 1]].copy()
    uv[corner_kind == KINDS["lash"], 0] -= 6
    vertex = keys[:, 0].astype(np.int32)
    # The eye texture is the front view of both eyes at rest, one half for each.
    for number, eye in enumerate((RIGHT_EYE, LEFT_EYE)):
        mine = (vertex >= eye.start) & (vertex < eye.stop)
        ball = raw[eye]
        centre = (ball.min(0) + ball.max(0)) / 2
        at = (raw[vertex[mine], :2] - centre[:2]) / EYE_PICTURE_CENTIMETRES
        uv[mine] = np.column_stack([(at[:, 0] + 0.5 + number) / 2, at[:, 1] + 0.5])
    by_kind = {name: index[kinds == k] for name, k in KINDS.items()}
    return _Corners(vertex, uv, corner_kind, by_kind)


EYE_PICTURE_CENTIMETRES: Final = 3.3  # across the texture of one eye


def _kinds(faces: npt.NDArray[np.int64]) -> Ints:
    """The kind of every polygon; -1 for the cornea, which is not drawn: the photograph has its highlights."""
    first = faces.min(1)
    kind = np.zeros(len(faces), np.int32)
    for span, name in (
        (SOCKET, "socket"),
        (EYE_SOCKETS, "socket"),
        (GUMS, "gum"),
        (slice(UPPER_TEETH.start, LOWER_TEETH.stop), "tooth"),
        (LASHES, "lash"),
    ):
        kind[(first >= span.start) & (first < span.stop)] = KINDS[name]
    for eye in (LEFT_EYE, RIGHT_EYE):
        kind[(first >= eye.start) & (first < eye.start + CORNEA)] = -1
        kind[(first >= eye.start + CORNEA) & (first < eye.stop)] = KINDS["eye"]
    return kind
