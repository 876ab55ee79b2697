"""Makes the basis of ``avatar_stream.rigs.face_packet``: principal components of the training faces in head axes.

``python -m engines.data.face_code --packs runs/packs`` writes ``avatar_stream/rigs/face_code.bin`` and prints the
error of decoded landmarks on the dev people, in distances between the eyes' outer corners.
"""

import argparse
from pathlib import Path

import numpy as np

from avatar_stream.face import mesh
from avatar_stream.face.mesh import Floats
from avatar_stream.face.motion import mirrored
from avatar_stream.face.tracked_face import TrackedFace
from avatar_stream.rigs.face_packet import code_file, face_axes, face_code, pack, unpack
from engines.data.packs import load_packs

COMPONENT_COUNT = 64
MAX_DEVIATIONS = 5.0  # standard deviations that the code 127 stands for
LIP_LANDMARKS = [*mesh.LIPS_RING, *mesh.MOUTH_RING, *mesh.INNER_LIP_UPPER, *mesh.INNER_LIP_LOWER]
EYE_LANDMARKS = [*mesh.RIGHT_EYE_RING, *mesh.LEFT_EYE_RING]
DEPTH_WEIGHT = 0.35  # low, because the tracker's depth is a guess


def weights() -> Floats:
    """Weights of landmark coordinates, ``(478 * 3,)``: lips, lids and irises count more than other places."""
    weight = np.ones((478, 3), np.float32)
    weight[LIP_LANDMARKS + EYE_LANDMARKS] = 3
    weight[468:] = 2.5
    weight[:, 2] *= DEPTH_WEIGHT
    return weight.reshape(-1)


def load_faces(packs: Path, split: str) -> list[Floats]:
    """Landmarks of every third frame of the clips, and of all stills."""
    found = []
    for kind, step in (("clip", 3), ("still", 1)):
        for footage in load_packs(packs, split, kind):
            found += [footage.landmarks[k] for k in footage.has_face.nonzero()[0][::step]]
    return found


def fit_basis(found: list[Floats]) -> bytes:
    """The basis of these faces and their mirror images, in the format of ``face_code.bin``."""
    rows = []
    for face in found:
        for one in (face, mirrored(face)):
            axes, middle, size = face_axes(one)
            rows.append(((one - middle) @ axes / np.float32(size)).reshape(-1))
    data, weight = np.stack(rows).astype(np.float64), weights().astype(np.float64)
    mean = data.mean(0)
    weighed = (data - mean) * weight
    values, vectors = np.linalg.eigh(weighed.T @ weighed / len(weighed))
    order = np.argsort(values)[::-1][:COMPONENT_COUNT]
    moves = (vectors[:, order] / weight[:, None]).T * (np.sqrt(values[order]) * MAX_DEVIATIONS / 127)[:, None]
    scale = np.abs(moves).max(1) / 32767
    head = np.array([COMPONENT_COUNT, data.shape[1]], np.int32).tobytes()
    body = np.concatenate([mean, weight**2, scale]).astype(np.float32).tobytes()
    return head + body + np.round(moves / scale[:, None]).astype(np.int16).tobytes()


def main(given: list[str] | None = None) -> None:
    """Fit the basis, write it and measure its error."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--packs", type=Path, required=True)
    arguments = parser.parse_args(given)
    code_file().write_bytes(fit_basis(load_faces(arguments.packs, "train")))
    face_code.cache_clear()
    errors = []
    for face in load_faces(arguments.packs, "dev"):
        found = unpack(pack(TrackedFace(face))).landmarks
        assert found is not None
        errors.append(np.linalg.norm((found - face)[:, :2], axis=1) / face_axes(face)[2])
    error = np.stack(errors)
    parts = {"face": list(range(468)), "lips": LIP_LANDMARKS, "eyes": EYE_LANDMARKS, "irises": list(range(468, 478))}
    for name, points in parts.items():
        of = error[:, points]
        print(f"{name}: mean {of.mean():.4f}, worst in a hundred {np.quantile(of, 0.99):.4f}")


if __name__ == "__main__":
    main()
