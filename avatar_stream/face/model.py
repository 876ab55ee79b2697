"""The 3-D face model: landmarks, free of head pose, as a sum of a mean face, identity and expression.

ICT-FaceKit (Li et al., "Learning Formation of Physically-Based Face Attributes", CVPR 2020; MIT licence), reduced by
``engines.data.face_model`` to the 468 landmarks and the insides of mouth and eyes. Axes are those of landmarks (x
right, y down, z away from the viewer); the unit is the mean face's distance between the outer eye corners.
"""

from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt

from avatar_stream.face import mesh
from avatar_stream.face.mesh import Floats

MESH_POINTS: Final = 468  # landmarks without the irises
DEPTH_WEIGHT: Final = 0.15  # low, because MediaPipe estimates depth from one picture
LANDMARK_NOISE: Final = 0.02  # standard deviation of a landmark from the model, in eye distances
INDEPENDENT_SHARE: Final = 0.1  # of a landmark's information: errors of neighbours are correlated
# Prior standard deviations. Of the values tried, these make a person's fitted neutral face vary least over time.
EXPRESSION_DEVIATION: Final = 0.5  # of an expression coefficient
IDENTITY_DEVIATION: Final = 0.5  # of an identity coefficient

COEFFICIENT_NAMES: Final = (
    "browDownLeft", "browDownRight", "browInnerUpLeft", "browInnerUpRight", "browOuterUpLeft", "browOuterUpRight",
    "cheekPuffLeft", "cheekPuffRight", "cheekSquintLeft", "cheekSquintRight", "eyeBlinkLeft", "eyeBlinkRight",
    "eyeSquintLeft", "eyeSquintRight", "eyeWideLeft", "eyeWideRight", "jawForward", "jawLeft", "jawOpen", "jawRight",
    "mouthClose", "mouthDimpleLeft", "mouthDimpleRight", "mouthFrownLeft", "mouthFrownRight", "mouthFunnel",
    "mouthLeft", "mouthLowerDownLeft", "mouthLowerDownRight", "mouthPressLeft", "mouthPressRight", "mouthPucker",
    "mouthRight", "mouthRollLower", "mouthRollUpper", "mouthShrugLower", "mouthShrugUpper", "mouthSmileLeft",
    "mouthSmileRight", "mouthStretchLeft", "mouthStretchRight", "mouthUpperUpLeft", "mouthUpperUpRight",
    "noseSneerLeft", "noseSneerRight",
)  # fmt: skip
"""ARKit's names. browInnerUp and cheekPuff, which ARKit has once, have two sides here. Gaze is not among them."""

COEFFICIENT_INDEX: Final = {name: k for k, name in enumerate(COEFFICIENT_NAMES)}


def coefficient_indices(*stems: str) -> list[int]:
    """Indices of the coefficients whose names begin with one of ``stems``."""
    return [k for k, name in enumerate(COEFFICIENT_NAMES) if name.startswith(stems)]


def coefficients(**named: float) -> Floats:
    """Coefficients ``(45,)`` by name, the others 0; a name without Left or Right sets both sides."""
    out = np.zeros(len(COEFFICIENT_NAMES), np.float32)
    for name, value in named.items():
        for full in (name, f"{name}Left", f"{name}Right"):
            if full in COEFFICIENT_INDEX:
                out[COEFFICIENT_INDEX[full]] = value
    return out


@dataclass(frozen=True)
class FaceModel:
    """The model's arrays.

    ``neutral (468, 3)``: the mean face. ``expressions (45, 468, 3)``: offsets at coefficient 1. ``identities (k, 468,
    3)``: offsets at one standard deviation. ``eyeballs (2, 3)``: centres of the right and the left eyeball.
    ``eyeball_identities (k, 2, 3)``: their offsets by identity. ``eyeball_radius``. ``weights (468, 3)``: each
    landmark's weight in a fit, by axis of the head.
    """

    neutral: Floats
    expressions: Floats
    identities: Floats
    eyeballs: Floats
    eyeball_identities: Floats
    eyeball_radius: float
    weights: Floats

    def shape(self, identity: Floats, coefficients: Floats) -> Floats:
        """Landmarks ``(468, 3)`` for these coefficients."""
        flat = self.neutral.ravel() + identity @ self.identities.reshape(len(self.identities), -1)
        flat = flat + coefficients @ self.expressions.reshape(len(self.expressions), -1)
        return np.asarray(flat.reshape(-1, 3), np.float32)


@cache
def model_arrays() -> dict[str, npt.NDArray[np.generic]]:
    """The arrays of ``face_model.npz``."""
    with np.load(Path(__file__).parent / "face_model.npz") as stored:
        return {name: stored[name] for name in stored.files}


@cache
def face_model() -> FaceModel:
    """The shipped model."""
    stored = model_arrays()

    def array(name: str) -> Floats:
        return np.asarray(stored[name], np.float32)

    return FaceModel(
        array("neutral"),
        array("expressions"),
        array("identities"),
        array("eyeballs"),
        array("eyeball_identities"),
        float(stored["eyeball_radius"]),
        landmark_weights(),
    )


def landmark_weights() -> Floats:
    """Weight of each landmark in a fit, ``(468, 3)`` by axis: high at mouth and lids, low at the outline."""
    weights = np.ones(MESH_POINTS, np.float32)
    forehead = mesh.template()[:MESH_POINTS, 1] < -0.35
    weights[forehead] = 0.4
    weights[list(mesh.FACE_OVAL)] = 0.25
    weights[[*mesh.LIPS_RING, *mesh.MOUTH_RING]] = 3.0
    weights[[*mesh.RIGHT_EYE_RING, *mesh.LEFT_EYE_RING]] = 2.0
    weights[[*mesh.RIGHT_BROW, *mesh.LEFT_BROW]] = 1.5
    return np.asarray(weights[:, None] * np.array([1, 1, DEPTH_WEIGHT], np.float32), np.float32)
