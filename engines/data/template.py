"""Build ``avatar_stream/face/face_mesh.npz``: mesh triangles and the mean face of the training stills.

``python -m engines.data.template runs/packs``. The mean of 818 people's landmarks identifies nobody.
"""

import argparse
import itertools
from collections import Counter, defaultdict
from pathlib import Path

import numpy as np
import numpy.typing as npt
from mediapipe.python.solutions.face_mesh_connections import FACEMESH_TESSELATION

import avatar_stream.face
from avatar_stream.face import geometry
from avatar_stream.face.mesh import STABLE_LANDMARKS
from engines.data.packs import load_packs

EYE_CORNERS = (33, 263)


def triangles() -> npt.NDArray[np.int32]:
    """Triangles ``(t, 3)`` of MediaPipe's mesh, which publishes only edges: all 3-cycles except the few that span
    three other triangles.
    """
    edges = {tuple(sorted(e)) for e in FACEMESH_TESSELATION}
    near: dict[int, set[int]] = defaultdict(set)
    for a, b in edges:
        near[a].add(b)
        near[b].add(a)
    cycles = {tuple(sorted((a, b, c))) for a, b in edges for c in near[a] & near[b]}
    uses = Counter(e for t in cycles for e in itertools.combinations(t, 2))
    spanning = {t for t in cycles if all(uses[e] > 2 for e in itertools.combinations(t, 2))}
    return np.array(sorted(cycles - spanning), np.int32)


def mean_face(packs: Path) -> npt.NDArray[np.float32]:
    """Mean shape ``(478, 3)`` after Procrustes alignment, made symmetric, with eye corners level and 1 apart."""
    shapes = np.stack([still.landmarks[0] for still in load_packs(packs, "train", "still")])
    stable = list(STABLE_LANDMARKS)
    mean = shapes[0]
    for _ in range(5):
        aligned = []
        for shape in shapes:
            aligned.append(geometry.similarity(shape[stable], mean[stable]).apply(shape))
        mean = np.mean(aligned, 0)
        mean = mean - mean[list(EYE_CORNERS)].mean(0)
        # Align the mirrored face to the face itself to find the plane of symmetry.
        mean /= np.linalg.norm(mean[33] - mean[263])
        twins = _mirror_indices(mean)
        mirrored = mean[twins] * [-1, 1, 1]
        mirrored = geometry.similarity(mirrored, mean).apply(mirrored.astype(np.float32))
        mean = (mean + mirrored) / 2
        x = mean[263] - mean[33]
        x /= np.linalg.norm(x)
        down = mean[152] - mean[10]
        y = down - x * (down @ x)
        y /= np.linalg.norm(y)
        mean = mean @ np.stack([x, y, np.cross(x, y)], 1)
        mean -= mean[list(EYE_CORNERS)].mean(0)
        mean /= np.linalg.norm(mean[33] - mean[263])
    return mean.astype(np.float32)


def _mirror_indices(face: npt.NDArray[np.float32]) -> npt.NDArray[np.intp]:
    mirrored = face * [-1, 1, 1]
    return np.argmin(np.linalg.norm(face[:, None] - mirrored[None], axis=-1), 1)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("packs", type=Path)
    arguments = parser.parse_args()
    out = Path(avatar_stream.face.__path__[0]) / "face_mesh.npz"
    faces, face = triangles(), mean_face(arguments.packs)
    v = face[faces]
    area = np.cross(v[:, 1, :2] - v[:, 0, :2], v[:, 2, :2] - v[:, 0, :2])
    faces[area < 0] = faces[area < 0][:, ::-1]
    np.savez_compressed(out, triangles=faces.astype(np.int16), template=face)
    print(len(faces), "triangles;", "eyes to chin", face[152], "nose", face[1])


if __name__ == "__main__":
    main()
