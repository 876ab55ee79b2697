"""Motion in ARKit's terms, the language of other rigs: 52 blend shapes, the head's pose, and where the eyes look.

Names are those of ARKit's ``ARFaceAnchor.BlendShapeLocation`` (left and right are the person's own). Axes are
ARKit's: x to the viewer's right, y up, z towards the viewer; metres, and unit quaternions ``(x, y, z, w)``.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
from scipy.spatial.transform import Rotation

from avatar_stream.errors import BadInput
from avatar_stream.face.mesh import Floats
from avatar_stream.face.model import COEFFICIENTS, INDEX, face_model
from avatar_stream.face.motion import Motion, lip_gap

_SPLIT: Final = ("browInnerUp", "cheekPuff")  # one each in ARKit, one a side in the face model
_LOOKS: Final = [f"eyeLook{way}{side}" for way in ("Down", "In", "Out", "Up") for side in ("Left", "Right")]
NAMES: Final = tuple(
    sorted({*(name for name in COEFFICIENTS if not name.startswith(_SPLIT)), *_SPLIT, *_LOOKS, "tongueOut"})
)
MAX_NUMBER: Final = 1000
"""The largest number in a frame of motion: a shape's share, a quaternion's part, a metre."""
FACE_WIDTH: Final = 0.14  # metres, an adult's
DISTANCE: Final = 0.6  # metres from a face at rest to its camera
LOOK: Final = np.array([0.6, 0.5])  # radians that an eye turns, sideways and up or down, at coefficient 1
WIDE: Final = 0.25  # of its usual opening that an eye opens further at eyeWide 1
_UPRIGHT: Final = np.array([1, -1, -1])  # landmarks have y down and z away from the viewer
_SIDES: Final = (("Right", 1.0), ("Left", -1.0))  # and which way the nose lies, to the viewer's right
_STILL: Final = (0.0, 0.0, 0.0, 1.0)

Vector = tuple[float, float, float]
Quaternion = tuple[float, float, float, float]


@dataclass(frozen=True, slots=True)
class ArkitFrame:
    """One frame of a face: ``shapes`` by ARKit's names in 0..1 (missing ones are 0), ``rotation`` and ``position``
    of the head.
    """

    shapes: Mapping[str, float] = field(default_factory=dict)
    rotation: Quaternion = _STILL
    position: Vector = (0.0, 0.0, 0.0)

    def to_json(self, time: float) -> dict[str, Any]:
        """As a JSON object with its time in seconds; coefficients of 0 are left out."""
        shapes = {name: round(value, 3) for name, value in self.shapes.items() if value > 0.0005}
        head = {
            "rotation": [round(x, 4) for x in self.rotation],
            "position": [round(x, 4) for x in self.position],
        }
        return {"time": round(time, 3), "blendShapes": shapes, "head": head}

    @staticmethod
    def from_json(message: Any) -> "ArkitFrame":
        """Of a JSON object as :meth:`to_json` makes it; raises :class:`BadInput`."""
        if not isinstance(message, dict) or not isinstance(message.get("blendShapes"), dict):
            raise BadInput('a frame of motion is a JSON object with "blendShapes"')
        shapes = message["blendShapes"]
        if unknown := sorted(str(name) for name in shapes if name not in _KNOWN):
            raise BadInput(f"{unknown[0][:40]!r} is none of ARKit's blend shapes")
        head = message.get("head", {})
        if not isinstance(head, dict):
            raise BadInput('"head" is an object with "rotation" and "position"')
        rotation = _numbers(head.get("rotation", _STILL), 4, "rotation")
        size = math.sqrt(sum(x * x for x in rotation))
        if not 0.5 < size < 2:
            raise BadInput('"rotation" is a unit quaternion x, y, z, w')
        values = _numbers(list(shapes.values()), len(shapes), "blendShapes")
        x, y, z, w = (v / size for v in rotation)
        px, py, pz = _numbers(head.get("position", (0, 0, 0)), 3, "position")
        named = {name: min(max(value, 0.0), 1.0) for name, value in zip(shapes, values, strict=True)}
        return ArkitFrame(named, (x, y, z, w), (px, py, pz))


_KNOWN: Final = frozenset(NAMES)


def _numbers(values: Any, count: int, name: str) -> list[float]:
    if not isinstance(values, list | tuple) or len(values) != count:
        raise BadInput(f'"{name}" needs {count} numbers')
    for value in values:
        # NaN is within no bounds, and an integer of any length can be compared, though not made a float.
        if isinstance(value, bool) or not isinstance(value, int | float) or not abs(value) <= MAX_NUMBER:
            raise BadInput(f'"{name}" needs {count} numbers from -{MAX_NUMBER} to {MAX_NUMBER}')
    return [float(value) for value in values]


def to_arkit(motion: Motion) -> ArkitFrame:
    """A driver's motion for other rigs, from the face at rest as the driver was read."""
    by_name = {name: float(value) for name, value in zip(COEFFICIENTS, motion.coefficients, strict=True)}
    shapes: dict[str, float] = {name: min(max(by_name[name], 0.0), 1.0) for name in NAMES if name in by_name}
    for name in _SPLIT:
        shapes[name] = min(max((by_name[f"{name}Left"] + by_name[f"{name}Right"]) / 2, 0.0), 1.0)
    for (side, inwards), opening, look in zip(_SIDES, motion.lids, motion.look, strict=True):
        shapes[f"eyeBlink{side}"] = float(np.clip(1 - opening, 0, 1))
        shapes[f"eyeWide{side}"] = float(np.clip((opening - 1) / WIDE, 0, 1))
        inward, down = (float(x) for x in np.clip(look / LOOK, -1, 1) * [inwards, 1])
        shapes |= {f"eyeLookIn{side}": max(inward, 0.0), f"eyeLookOut{side}": max(-inward, 0.0)}
        shapes |= {f"eyeLookDown{side}": max(down, 0.0), f"eyeLookUp{side}": max(-down, 0.0)}
    shapes["tongueOut"] = 0.0
    x, y, z, w = (float(v) for v in Rotation.from_rotvec(motion.turn * _UPRIGHT).as_quat())
    right, down = (float(v) * FACE_WIDTH for v in motion.shift)
    return ArkitFrame(shapes, (x, y, z, w), (right, -down, DISTANCE * (1 - math.exp(-motion.scale))))


def to_motion(frame: ArkitFrame) -> Motion:
    """The motion of a frame whose pose is relative to the head at rest (see :class:`Rest`).

    What a camera would see and blend shapes do not say, the small and personal, is left out.
    """
    shapes = frame.shapes
    coefficients = np.zeros(len(COEFFICIENTS), np.float32)
    for name, value in shapes.items():
        for full in (f"{name}Left", f"{name}Right") if name in _SPLIT else (name,):
            if full in INDEX:
                coefficients[INDEX[full]] = value
    model = face_model()
    face = model.neutral + np.tensordot(coefficients, model.expressions, 1)
    lids, look = [], []
    for side, inwards in _SIDES:
        lids.append(1 - shapes.get(f"eyeBlink{side}", 0.0) + WIDE * shapes.get(f"eyeWide{side}", 0.0))
        inward = shapes.get(f"eyeLookIn{side}", 0.0) - shapes.get(f"eyeLookOut{side}", 0.0)
        look.append([inward * inwards, shapes.get(f"eyeLookDown{side}", 0.0) - shapes.get(f"eyeLookUp{side}", 0.0)])
    still = Motion.neutral()
    return Motion(
        np.asarray(Rotation.from_quat(frame.rotation).as_rotvec() * _UPRIGHT, np.float32),
        np.array([frame.position[0], -frame.position[1]], np.float32) / np.float32(FACE_WIDTH),
        -math.log(min(max(1 - frame.position[2] / DISTANCE, 0.2), 5.0)),
        coefficients,
        _closed(lip_gap(np.asarray(face, np.float32))),
        np.array(lids, np.float32),
        still.lid_shape,
        np.asarray(np.array(look) * LOOK, np.float32),
        still.residual,
    )


def _closed(gap: Floats) -> Floats:
    """Lips that would pass through each other touch: mouthClose often says more than jawOpen asks for."""
    gap[gap[:, 1] < 0] = 0
    return gap


def mirrored_frame(frame: ArkitFrame) -> ArkitFrame:
    """The frame as a mirror shows it."""
    shapes = {_TWIN[name]: value for name, value in frame.shapes.items()}
    (x, y, z, w), (right, up, near) = frame.rotation, frame.position
    return ArkitFrame(shapes, (x, -y, -z, w), (-right, up, near))


def _twin(name: str) -> str:
    for one, other in (("Left", "Right"), ("Right", "Left")):
        if name.endswith(one):
            return name.removesuffix(one) + other
    return name


_TWIN: Final = {name: _twin(name) for name in NAMES}


class Rest:
    """Takes the head's pose of the first frame as rest: phones and rigs send it as their camera sees it."""

    def __init__(self) -> None:
        self.recalibrate()

    def recalibrate(self) -> None:
        """Take the next frame's pose."""
        self._first: tuple[Rotation, Floats] | None = None

    @property
    def calibrated(self) -> bool:
        """Rest is known."""
        return self._first is not None

    def __call__(self, frame: ArkitFrame) -> ArkitFrame:
        """The frame with its pose from rest."""
        rotation, position = Rotation.from_quat(frame.rotation), np.array(frame.position, np.float32)
        if self._first is None:
            self._first = rotation, position
        x, y, z, w = (float(v) for v in (rotation * self._first[0].inv()).as_quat())
        px, py, pz = (float(v) for v in position - self._first[1])
        return ArkitFrame(frame.shapes, (x, y, z, w), (px, py, pz))
