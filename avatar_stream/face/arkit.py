"""Motion in ARKit's format, which other face rigs use: 52 blend shapes, among them gaze, and the head pose.

Names are those of ARKit's ``ARFaceAnchor.BlendShapeLocation`` (left and right are the person's own). Axes are
ARKit's: x to the viewer's right, y up, z towards the viewer; positions in metres, rotations as unit quaternions
``(x, y, z, w)``.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
from scipy.spatial.transform import Rotation

from avatar_stream.errors import BadInput
from avatar_stream.face.mesh import Floats
from avatar_stream.face.model import COEFFICIENT_INDEX, COEFFICIENT_NAMES, face_model
from avatar_stream.face.motion import Motion, lip_gap

_SPLIT_SHAPES: Final = ("browInnerUp", "cheekPuff")  # ARKit has one of each, the face model one per side
_EYE_LOOK_SHAPES: Final = [f"eyeLook{way}{side}" for way in ("Down", "In", "Out", "Up") for side in ("Left", "Right")]
BLEND_SHAPES: Final = tuple(
    sorted(
        {
            *(name for name in COEFFICIENT_NAMES if not name.startswith(_SPLIT_SHAPES)),
            *_SPLIT_SHAPES,
            *_EYE_LOOK_SHAPES,
            "tongueOut",
        }
    )
)
MAX_ABSOLUTE_VALUE: Final = 1000
"""The largest absolute number that a motion frame may contain, in a blend shape, a quaternion or a position."""
FACE_WIDTH_METRES: Final = 0.14  # of an adult
CAMERA_DISTANCE_METRES: Final = 0.6  # from a face at rest to its camera
EYE_TURN_RADIANS: Final = np.array([0.6, 0.5])  # sideways, and up or down, at coefficient 1
EXTRA_OPENING_AT_EYE_WIDE: Final = 0.25  # in shares of the eye's usual opening, at eyeWide 1
_LANDMARK_AXES_TO_ARKIT: Final = np.array([1, -1, -1])  # landmarks: y down, z away from the viewer
_EYE_SIDES: Final = (("Right", 1.0), ("Left", -1.0))  # and 1 where the viewer sees the nose on the eye's right
_NO_ROTATION: Final = (0.0, 0.0, 0.0, 1.0)

Vector = tuple[float, float, float]
Quaternion = tuple[float, float, float, float]


@dataclass(frozen=True, slots=True)
class ArkitFrame:
    """One frame of a face's motion.

    ``shapes``: blend shapes by ARKit's names, 0 to 1 (missing ones are 0). ``rotation``, ``position``: the head pose.
    """

    shapes: Mapping[str, float] = field(default_factory=dict)
    rotation: Quaternion = _NO_ROTATION
    position: Vector = (0.0, 0.0, 0.0)

    def to_json(self, time: float) -> dict[str, Any]:
        """The frame as a JSON object, with ``time`` in seconds; coefficients of 0 are left out."""
        shapes = {name: round(value, 3) for name, value in self.shapes.items() if value > 0.0005}
        head = {
            "rotation": [round(x, 4) for x in self.rotation],
            "position": [round(x, 4) for x in self.position],
        }
        return {"time": round(time, 3), "blendShapes": shapes, "head": head}

    @staticmethod
    def from_json(message: Any) -> "ArkitFrame":
        """The frame in a JSON object that :meth:`to_json` made; raises :class:`BadInput` if it is not valid."""
        if not isinstance(message, dict) or not isinstance(message.get("blendShapes"), dict):
            raise BadInput('a motion frame must be a JSON object with "blendShapes"')
        shapes = message["blendShapes"]
        if unknown := sorted(str(name) for name in shapes if name not in _BLEND_SHAPE_SET):
            raise BadInput(f"{unknown[0][:40]!r} is not an ARKit blend shape: see ARFaceAnchor.BlendShapeLocation")
        head = message.get("head", {})
        if not isinstance(head, dict):
            raise BadInput('"head" must be an object with "rotation" and "position"')
        rotation = _checked_numbers(head.get("rotation", _NO_ROTATION), 4, "rotation")
        size = math.sqrt(sum(x * x for x in rotation))
        if not 0.5 < size < 2:
            raise BadInput('"rotation" must be a unit quaternion x, y, z, w')
        values = _checked_numbers(list(shapes.values()), len(shapes), "blendShapes")
        x, y, z, w = (v / size for v in rotation)
        px, py, pz = _checked_numbers(head.get("position", (0, 0, 0)), 3, "position")
        named = {name: min(max(value, 0.0), 1.0) for name, value in zip(shapes, values, strict=True)}
        return ArkitFrame(named, (x, y, z, w), (px, py, pz))


_BLEND_SHAPE_SET: Final = frozenset(BLEND_SHAPES)


def _checked_numbers(values: Any, count: int, name: str) -> list[float]:
    if not isinstance(values, list | tuple) or len(values) != count:
        raise BadInput(f'"{name}" needs {count} numbers')
    for value in values:
        # "not abs(value) <= ..." also catches NaN, and integers too large to convert to float.
        if isinstance(value, bool) or not isinstance(value, int | float) or not abs(value) <= MAX_ABSOLUTE_VALUE:
            raise BadInput(f'"{name}" needs {count} numbers from -{MAX_ABSOLUTE_VALUE} to {MAX_ABSOLUTE_VALUE}')
    return [float(value) for value in values]


def to_arkit(motion: Motion) -> ArkitFrame:
    """Convert a driver's motion to ARKit's format; the head pose is relative to the driver at rest."""
    by_name = {name: float(value) for name, value in zip(COEFFICIENT_NAMES, motion.coefficients, strict=True)}
    shapes: dict[str, float] = {name: min(max(by_name[name], 0.0), 1.0) for name in BLEND_SHAPES if name in by_name}
    for name in _SPLIT_SHAPES:
        shapes[name] = min(max((by_name[f"{name}Left"] + by_name[f"{name}Right"]) / 2, 0.0), 1.0)
    for (side, inwards), opening, look in zip(_EYE_SIDES, motion.lids, motion.look, strict=True):
        shapes[f"eyeBlink{side}"] = float(np.clip(1 - opening, 0, 1))
        shapes[f"eyeWide{side}"] = float(np.clip((opening - 1) / EXTRA_OPENING_AT_EYE_WIDE, 0, 1))
        inward, down = (float(x) for x in np.clip(look / EYE_TURN_RADIANS, -1, 1) * [inwards, 1])
        shapes |= {f"eyeLookIn{side}": max(inward, 0.0), f"eyeLookOut{side}": max(-inward, 0.0)}
        shapes |= {f"eyeLookDown{side}": max(down, 0.0), f"eyeLookUp{side}": max(-down, 0.0)}
    shapes["tongueOut"] = 0.0
    x, y, z, w = (float(v) for v in Rotation.from_rotvec(motion.turn * _LANDMARK_AXES_TO_ARKIT).as_quat())
    right, down = (float(v) * FACE_WIDTH_METRES for v in motion.shift)
    return ArkitFrame(shapes, (x, y, z, w), (right, -down, CAMERA_DISTANCE_METRES * (1 - math.exp(-motion.scale))))


def to_motion(frame: ArkitFrame) -> Motion:
    """Convert a frame whose head pose is relative to rest (see :class:`HeadPoseCalibration`) to a motion.

    Detail that blend shapes cannot express (``lid_shape``, ``fit_residual``) stays neutral.
    """
    shapes = frame.shapes
    coefficients = np.zeros(len(COEFFICIENT_NAMES), np.float32)
    for name, value in shapes.items():
        for full in (f"{name}Left", f"{name}Right") if name in _SPLIT_SHAPES else (name,):
            if full in COEFFICIENT_INDEX:
                coefficients[COEFFICIENT_INDEX[full]] = value
    model = face_model()
    face = model.neutral + np.tensordot(coefficients, model.expressions, 1)
    lids, look = [], []
    for side, inwards in _EYE_SIDES:
        lids.append(
            1 - shapes.get(f"eyeBlink{side}", 0.0) + EXTRA_OPENING_AT_EYE_WIDE * shapes.get(f"eyeWide{side}", 0.0)
        )
        inward = shapes.get(f"eyeLookIn{side}", 0.0) - shapes.get(f"eyeLookOut{side}", 0.0)
        look.append([inward * inwards, shapes.get(f"eyeLookDown{side}", 0.0) - shapes.get(f"eyeLookUp{side}", 0.0)])
    still = Motion.neutral()
    return Motion(
        np.asarray(Rotation.from_quat(frame.rotation).as_rotvec() * _LANDMARK_AXES_TO_ARKIT, np.float32),
        np.array([frame.position[0], -frame.position[1]], np.float32) / np.float32(FACE_WIDTH_METRES),
        -math.log(min(max(1 - frame.position[2] / CAMERA_DISTANCE_METRES, 0.2), 5.0)),
        coefficients,
        _without_overlap(lip_gap(np.asarray(face, np.float32))),
        np.array(lids, np.float32),
        still.lid_shape,
        np.asarray(np.array(look) * EYE_TURN_RADIANS, np.float32),
        still.fit_residual,
    )


def _without_overlap(gap: Floats) -> Floats:
    """Clamp lips that would pass through each other: mouthClose is often larger than jawOpen needs."""
    gap[gap[:, 1] < 0] = 0
    return gap


def mirrored_frame(frame: ArkitFrame) -> ArkitFrame:
    """The frame mirrored left to right."""
    shapes = {_MIRRORED_NAMES[name]: value for name, value in frame.shapes.items()}
    (x, y, z, w), (right, up, near) = frame.rotation, frame.position
    return ArkitFrame(shapes, (x, -y, -z, w), (-right, up, near))


def _mirrored_name(name: str) -> str:
    for one, other in (("Left", "Right"), ("Right", "Left")):
        if name.endswith(one):
            return name.removesuffix(one) + other
    return name


_MIRRORED_NAMES: Final = {name: _mirrored_name(name) for name in BLEND_SHAPES}


class HeadPoseCalibration:
    """Makes head poses relative to that of the first frame: phones and rigs send poses in their camera's axes."""

    def __init__(self) -> None:
        self.recalibrate()

    def recalibrate(self) -> None:
        """Use the next frame's head pose as rest."""
        self._first: tuple[Rotation, Floats] | None = None

    @property
    def calibrated(self) -> bool:
        """Whether the pose at rest is known."""
        return self._first is not None

    def __call__(self, frame: ArkitFrame) -> ArkitFrame:
        """The frame with its head pose relative to rest."""
        rotation, position = Rotation.from_quat(frame.rotation), np.array(frame.position, np.float32)
        if self._first is None:
            self._first = rotation, position
        x, y, z, w = (float(v) for v in (rotation * self._first[0].inv()).as_quat())
        px, py, pz = (float(v) for v in position - self._first[1])
        return ArkitFrame(frame.shapes, (x, y, z, w), (px, py, pz))
