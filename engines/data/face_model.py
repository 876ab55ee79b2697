"""Makes the shipped face model: ``python -m engines.data.face_model ICT_FOLDER --packs runs/packs``.

Extracts the used parts of ICT-FaceKit and moves its neutral face to MediaPipe's landmarks: the two meshes name
slightly different places. The difference is the median residual of fits to hundreds of calm faces.
"""

import argparse
from pathlib import Path

import numpy as np
import numpy.typing as npt

from avatar_stream.face import mesh
from avatar_stream.face.fit import Solver, rigid_pose
from avatar_stream.face.mesh import Floats
from avatar_stream.face.model import COEFFICIENT_NAMES, MESH_POINTS, FaceModel, coefficient_indices, landmark_weights
from engines.data.arches import TOOTH_VERTICES, unroll
from engines.data.packs import load_packs

IDENTITY_COUNT = 60
# Eye distances by which real teeth are above ICT's (ICT's lips differ from MediaPipe's). Lower teeth: median of the
# shifts that correlate best with 1,073 open mouths of the training people. Upper teeth: halfway from that median to
# the visible edge in 450 mouths.
ARCH_LIFT = {"upper": 0.02, "lower": 0.09}
JAW_SHAPES = ("jawOpen", "jawForward", "jawLeft", "jawRight")
CALMEST_SHARE = 0.12  # share of the faces that define the neutral face
ICT_AXES = np.array([1, -1, -1], np.float32)  # ICT: y up, z towards the viewer
RIGHT_EYEBALL, LEFT_EYEBALL = slice(23021, 24591), slice(21451, 23021)
MIRROR_INDICES = np.argmin(
    np.linalg.norm(
        mesh.template()[:MESH_POINTS, None] - (mesh.template()[:MESH_POINTS] * np.array([-1, 1, 1]))[None], axis=-1
    ),
    axis=1,
)


def ict_name(coefficient: str) -> str:
    """ICT's name of a coefficient."""
    for side in ("Left", "Right"):
        if coefficient.endswith(side) and coefficient not in ("jawLeft", "jawRight", "mouthLeft", "mouthRight"):
            return f"{coefficient.removesuffix(side)}_{side[0]}"
    return coefficient


def extract_model(stored: dict[str, npt.NDArray[np.generic]]) -> tuple[FaceModel, float]:
    """The landmarks and eyeballs from ICT's arrays, in the model's axes and unit; and that unit in centimetres."""
    at = np.asarray(stored["mediapipe_to_ict"], np.int64)
    neutral = np.asarray(stored["neutral"], np.float32) * ICT_AXES
    unit = float(np.linalg.norm(neutral[at[33]] - neutral[at[263]]))
    names = [str(name) for name in stored["expression_names"]]
    chosen = [names.index(ict_name(name)) for name in COEFFICIENT_NAMES]
    moves = np.asarray(stored["expressions"], np.float32)[chosen] * ICT_AXES / unit
    people = np.asarray(stored["identities"][:IDENTITY_COUNT], np.float32) * ICT_AXES / unit
    origin = neutral[at[list(mesh.STABLE_LANDMARKS)]].mean(0)
    points = (neutral - origin) / unit
    balls = [RIGHT_EYEBALL, LEFT_EYEBALL]
    model = FaceModel(
        points[at],
        moves[:, at],
        people[:, at],
        np.stack([_centre(points[ball]) for ball in balls]),
        np.stack([people[:, ball].mean(1) for ball in balls], 1),
        float(np.ptp(points[LEFT_EYEBALL, 1]) / 2),
        landmark_weights(),
    )
    return model, unit


def arches(stored: dict[str, npt.NDArray[np.generic]], unit: float) -> dict[str, npt.NDArray[np.generic]]:
    """Both dental arches in the model's axes and unit, and how identity and jaw coefficients ``c`` move them:
    ``x + sum c (A x + b)``.
    """
    neutral = np.asarray(stored["neutral"], np.float32) * ICT_AXES
    at = np.asarray(stored["mediapipe_to_ict"], np.int64)
    origin = neutral[at[list(mesh.STABLE_LANDMARKS)]].mean(0)
    names = [str(name) for name in stored["expression_names"]]
    jaw = np.asarray(stored["expressions"], np.float32)[[names.index(name) for name in JAW_SHAPES]] * ICT_AXES / unit
    people = np.asarray(stored["identities"][:IDENTITY_COUNT], np.float32) * ICT_AXES / unit
    out: dict[str, npt.NDArray[np.generic]] = {}
    for which in ("upper", "lower"):
        arch = unroll(neutral, np.asarray(stored["faces"], np.int32), which)
        curve = np.column_stack([arch.curve[:, 0], np.full(len(arch.curve), arch.top), arch.curve[:, 1]])
        first, end = TOOTH_VERTICES[which]
        teeth = (neutral[first:end] - origin) / unit
        known = np.column_stack([teeth, np.ones(len(teeth))])
        moves = np.concatenate([people[:, first:end], jaw[:, first:end]])
        affine = np.stack([np.linalg.lstsq(known, move, rcond=None)[0].T for move in moves])  # (k, 3, 4)
        out[f"{which}_curve"] = ((curve - origin) / unit - [0, ARCH_LIFT[which], 0]).astype(np.float32)
        out[f"{which}_height"] = np.array((arch.bottom - arch.top) / unit, np.float32)
        out[f"{which}_moves"] = affine.astype(np.float32)
        out[f"{which}_picture"] = arch.picture
    return out


def _centre(ball: Floats) -> Floats:
    return np.asarray((ball.min(0) + ball.max(0)) / 2, np.float32)


def load_faces(packs: Path) -> list[Floats]:
    """Landmarks of every training still, and of a few calm frames of every clip."""
    faces = []
    for footage in load_packs(packs, "train"):
        good = footage.has_face.nonzero()[0]
        if len(footage) > 1:
            good = good[np.argsort(footage.mouth[good])][: len(good) // 2 : max(len(good) // 12, 1)]
        faces += [footage.landmarks[k] for k in good]
    return faces


def align_to_mediapipe(model: FaceModel, faces: list[Floats], rounds: int = 4) -> FaceModel:
    """The model with its neutral face moved to the average of MediaPipe's landmarks of calm faces."""
    calm = coefficient_indices("mouthSmile", "jawOpen", "mouthUpperUp", "mouthFunnel", "mouthStretch")
    for turn in range(rounds):
        solver = Solver(model)
        left, errors, excited = [], [], []
        for landmarks in faces:
            w = np.zeros(len(COEFFICIENT_NAMES), np.float32)
            a = np.zeros(len(model.identities), np.float32)
            for _ in range(4):
                pose = rigid_pose(model.shape(a, w), landmarks)
                face = pose.apply_inverse(landmarks[:MESH_POINTS])
                w, a = solver.expression_and_identity(face - model.neutral, w, a)
            off = face - model.shape(a, w)
            errors.append(float(np.sqrt((off[:, :2] ** 2).sum(1).mean())))
            left.append(off)
            excited.append(float(w[calm].sum()))
        calmest = np.argsort(excited)[: round(CALMEST_SHARE * len(faces))]
        mean = np.median(np.stack(left)[calmest], axis=0)
        mean = (mean + mean[MIRROR_INDICES] * np.array([-1, 1, 1])) / 2
        # The neutral mouth is closed.
        neutral = model.neutral + mean.astype(np.float32)
        neutral = close_lips(neutral)
        print(
            f"round {turn}: error {np.mean(errors):.4f}, calmest below {excited[calmest[-1]]:.2f}, "
            f"moved by {np.linalg.norm(mean, axis=1).mean():.4f}",
            flush=True,
        )
        model = FaceModel(
            neutral.astype(np.float32),
            model.expressions,
            model.identities,
            model.eyeballs,
            model.eyeball_identities,
            model.eyeball_radius,
            model.weights,
        )
    return model


def close_lips(neutral: Floats) -> Floats:
    """The face with the inner lips moved together."""
    out = neutral.copy()
    upper, lower = list(mesh.INNER_LIP_UPPER), list(mesh.INNER_LIP_LOWER)
    middle = (out[upper] + out[lower]) / 2
    out[upper] = out[lower] = middle
    return out


def main(given: list[str] | None = None) -> None:
    """Write ``avatar_stream/face/face_model.npz``."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("ict", type=Path, help="folder with ict-facekit.npz")
    parser.add_argument("--packs", type=Path, required=True)
    parser.add_argument("--out", type=Path, default=Path("avatar_stream/face/face_model.npz"))
    arguments = parser.parse_args(given)
    with np.load(arguments.ict / "ict-facekit.npz") as opened:
        stored = {name: opened[name] for name in opened.files}
    model, unit = extract_model(stored)
    model = align_to_mediapipe(model, load_faces(arguments.packs))
    np.savez_compressed(
        arguments.out,
        neutral=model.neutral,
        expressions=model.expressions.astype(np.float16),
        identities=model.identities.astype(np.float16),
        eyeballs=model.eyeballs,
        eyeball_identities=model.eyeball_identities.astype(np.float16),
        eyeball_radius=np.float32(model.eyeball_radius),
        **arches(stored, unit),
    )
    print(arguments.out, f"{arguments.out.stat().st_size / 1e6:.2f} MB")


if __name__ == "__main__":
    main()
