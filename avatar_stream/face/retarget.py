"""Retargets a driver's motion to a portrait's face.

The 3-D face model gives both faces' absolute expressions. The portrait's own expression is subtracted and the
driver's added, so that a smiling portrait says "O" when its driver does. The driver's fit residual is added too.
Expression is added before the head is turned ("expression before rotation", PerformRecast), so a turned head opens
its mouth along its own axis.
"""

import math
from typing import Final

import numpy as np
import numpy.typing as npt

from avatar_stream.face import geometry, mesh
from avatar_stream.face.fit import Fit, fit_still
from avatar_stream.face.geometry import Pose
from avatar_stream.face.mesh import Floats
from avatar_stream.face.model import COEFFICIENT_INDEX, MESH_POINTS, coefficient_indices, face_model
from avatar_stream.face.motion import LID_LANDMARKS, LID_SEAM_SHARE, RELATIVE_COEFFICIENTS, Motion

DEFAULT_KEEP: Final = 0.2  # share of the portrait's own mood that stays

# Limits beyond which the portrait looks implausible. They are soft: motion flattens towards them.
MAX_TURN: Final = np.radians([24.0, 34.0, 30.0])  # pitch, yaw, roll relative to the portrait's own
TURNED_PORTRAIT_DEGREES: Final = (15.0, 35.0)  # yaw of the portrait between which MAX_TURN for yaw shrinks
MAX_TURN_REDUCTION: Final = 0.8  # share of MAX_TURN for yaw that is gone then
MAX_SHIFT: Final = np.array([0.42, 0.3])  # face widths sideways, and up or down: a neck's range over still shoulders
MIN_SHIFT: Final = 0.05  # face widths that a face at the edge of its crop may still move
MAX_ROOM_SHARE: Final = 0.8  # share of the distance from the face to the edge of its crop
SCALE_RANGE: Final = 1.3
MAX_FIT_RESIDUAL: Final = 0.16  # eye distances, per landmark
MAX_LIP_GAP: Final = 0.75  # eye distances between the lips
MAX_GAZE_RADIANS: Final = 0.6
# Trackers report a gap between the lids of a closed eye. In shares of the usual opening: up to the first value the
# portrait's eye is shut; from the second it opens as far as the driver's.
CLOSED_EYE_OPENING, MIN_EXACT_EYE_OPENING = 0.3, 0.6
MAX_EYE_OPENING: Final = 1.25  # in shares of the portrait's own opening

MOOD_COEFFICIENTS: Final = coefficient_indices("mouthSmile", "mouthFrown", "mouthDimple", "cheekSquint")
"""What may stay of a portrait's own expression. An open mouth may not stay, or lips would not close."""
_POUT_COEFFICIENTS: Final = [COEFFICIENT_INDEX["mouthPucker"], COEFFICIENT_INDEX["mouthFunnel"]]
_BLINK_COEFFICIENTS: Final = coefficient_indices("eyeBlink")
# Lids follow their measured opening instead.
_NOT_ADDED: Final = coefficient_indices("eyeBlink", "eyeSquint", "eyeWide")

_STABLE = list(mesh.STABLE_LANDMARKS)
_IRISES = (list(mesh.RIGHT_IRIS), list(mesh.LEFT_IRIS))
_LIPS = (
    (list(mesh.INNER_LIP_UPPER), -0.4), (list(mesh.INNER_LIP_LOWER), 0.6),
    (list(mesh.OUTER_LIP_UPPER), -0.36), (list(mesh.OUTER_LIP_LOWER), 0.54),
)  # fmt: skip


class Retargeter:
    """Retargets motion to one portrait; one per session and portrait.

    ``rest (478, 3)``: the portrait's landmarks in crop pixels. ``size``: the crop's width and height; the face stays
    inside. ``gain``: scales expression; 1 leaves it as driven. ``keep`` (0 to 1): share of the portrait's own mood
    that stays.
    """

    def __init__(
        self, rest: Floats, size: tuple[int, int] | None = None, *, gain: float = 1.0, keep: float = DEFAULT_KEEP
    ) -> None:
        self.rest = rest
        self.gain = gain
        self.keep = keep
        self.fit, fitter = fit_still(rest)
        self._model = fitter.model
        self._expressions = fitter.solver.expressions
        self._width = self.fit.pose.scale * float(np.linalg.norm(self.fit.face[234] - self.fit.face[454]))
        self._lid_skin = _lid_skin_moves(self.fit)
        oval = rest[list(mesh.FACE_OVAL), :2]
        room = np.full((2, 2), np.inf) if size is None else np.stack([oval.min(0), np.array(size) - oval.max(0)])
        # Left and up in the first row, right and down in the second.
        self._max_shift = np.minimum(MAX_SHIFT, np.maximum(MAX_ROOM_SHARE * room / self._width, MIN_SHIFT))
        # A portrait that looks aside hides a cheek, which would be missing if the head turned to the viewer.
        _, yaw, _ = geometry.euler_degrees(self.fit.pose.rotation)
        self._max_turn = MAX_TURN * np.array(
            [1, 1 - MAX_TURN_REDUCTION * geometry.smoothstep(*TURNED_PORTRAIT_DEGREES, abs(yaw)), 1]
        )

    def __call__(self, motion: Motion) -> Floats:
        """Retargeted landmarks ``(478, 3)`` in crop pixels for ``motion``."""
        return self.with_head_pose(self.with_expression(motion), motion.turn, motion.shift, motion.scale)

    def with_expression(self, motion: Motion) -> Floats:
        """The portrait's face ``(478, 3)`` in the model's axes with the motion's expression."""
        own = self.fit.coefficients
        change = self._target_coefficients(motion.coefficients) - own
        change[RELATIVE_COEFFICIENTS] = np.clip(self.gain * motion.coefficients[RELATIVE_COEFFICIENTS], -0.5, 1)
        change[_NOT_ADDED] = 0
        face = self.fit.face.copy()
        face[:MESH_POINTS] += (change @ self._expressions).reshape(-1, 3).astype(np.float32)
        size = np.linalg.norm(motion.fit_residual, axis=1, keepdims=True)
        limited = MAX_FIT_RESIDUAL * np.tanh(size * self.gain / MAX_FIT_RESIDUAL) / np.maximum(size, 1e-6)
        face[:MESH_POINTS] += motion.fit_residual * limited
        self._part_lips(face, motion.gap)
        self._move_lids(face, motion)
        self._turn_eyes(face, motion.look)
        return face

    def with_head_pose(self, face: Floats, turn: Floats, shift: Floats, scale: float) -> Floats:
        """``face (478, 3)``, in the model's axes, moved from the portrait's own head pose; result in crop pixels."""
        pose = self.fit.pose
        rotation = geometry.from_rotation_vector(_soft_limit(turn, self._max_turn)) @ pose.rotation
        size = pose.scale * math.exp(float(_soft_limit(scale, math.log(SCALE_RANGE))))
        # Turn about the middle of the stable landmarks, then shift as the driver did.
        middle = self.fit.face[_STABLE].mean(0)
        where = pose.apply(middle[None])[0]
        where[:2] += _soft_limit(shift, np.where(shift < 0, *self._max_shift)) * self._width
        offset = where - size * rotation @ middle
        return Pose(size, np.asarray(rotation, np.float32), np.asarray(offset, np.float32)).apply(face)

    def _target_coefficients(self, driver: Floats) -> Floats:
        """Absolute coefficients of the portrait for the driver's, clipped to 0..1, with ``keep`` of its own mood."""
        wanted = np.clip(self.gain * driver, 0, 1)
        if self.keep > 0:
            # Nobody smiles and pouts at once: a pouting driver removes the portrait's smile.
            kept = self.keep * (1 - wanted[_POUT_COEFFICIENTS].max()) * self.fit.coefficients[MOOD_COEFFICIENTS]
            wanted[MOOD_COEFFICIENTS] = 1 - (1 - wanted[MOOD_COEFFICIENTS]) * (1 - kept)
        return wanted

    def _part_lips(self, face: Floats, gap: Floats) -> None:
        """Open the lips exactly as far as the driver's, whatever the portrait's own gap (in place)."""
        size = float(np.abs(gap[:, 1]).max()) * self.gain
        wanted = gap * (self.gain * float(_soft_limit(size, MAX_LIP_GAP)) / max(size, 1e-6))
        now = face[list(mesh.INNER_LIP_LOWER)] - face[list(mesh.INNER_LIP_UPPER)]
        for ring, share in _LIPS:
            face[ring] += share * (wanted - now)

    def _move_lids(self, face: Floats, motion: Motion) -> None:
        """Open each eye to the driver's share of its usual opening (in place)."""
        rest = self.fit.face
        for side, (upper, lower) in enumerate(LID_LANDMARKS):
            share = 1 + (float(motion.lids[side]) - 1) * min(self.gain, 1.3)
            share = min(
                share * geometry.smoothstep(CLOSED_EYE_OPENING, MIN_EXACT_EYE_OPENING, share), MAX_EYE_OPENING
            )
            above, below, corners = list(upper[1:-1]), list(lower[1:-1]), [upper[0], upper[-1]]
            face[:MESH_POINTS] += self._lid_skin[side] * (1 - share)
            # The shape of the lids counts less the further they are shut.
            gap, seam_moved = motion.lid_shape[side] * (self.gain * min(share, 1.0))
            seam = (
                LID_SEAM_SHARE * rest[below]
                + (1 - LID_SEAM_SHARE) * rest[above]
                + (face[corners] - rest[corners]).mean(0)
            )
            seam[:, 1] += seam_moved
            open_by = share * (rest[below] - rest[above])
            open_by[:, 1] = np.maximum(open_by[:, 1] + gap, 0)
            face[above] = seam - LID_SEAM_SHARE * open_by
            face[below] = seam + (1 - LID_SEAM_SHARE) * open_by

    def _turn_eyes(self, face: Floats, look: Floats) -> None:
        """Turn the irises with their eyeballs (in place)."""
        radius = self._model.eyeball_radius
        for side, ((upper, _), iris) in enumerate(zip(LID_LANDMARKS, _IRISES, strict=True)):
            corners = face[[upper[0], upper[-1]]]
            moved = (corners - self.fit.face[[upper[0], upper[-1]]]).mean(0)
            own = self.fit.gaze[side]
            turned = own + _soft_limit(look[side] * self.gain, MAX_GAZE_RADIANS)
            step = radius * (np.sin(turned) - np.sin(own))
            middle = self.fit.face[iris[0]] + moved
            # An iris stays between the eye's corners, at most half hidden.
            reach = 0.36 * abs(float(corners[1, 0] - corners[0, 0]))
            centre = float(corners[:, 0].mean())
            step[0] = (
                np.clip(middle[0] + step[0], *_range_including(centre - reach, centre + reach, middle[0])) - middle[0]
            )
            face[iris] = self.fit.face[iris] + moved
            face[iris, :2] += step.astype(np.float32)


def _range_including(low: float, high: float, own: float) -> tuple[float, float]:
    return min(low, own), max(high, own)


def _lid_skin_moves(fit: Fit) -> Floats:
    """How the skin around each eye moves as it shuts, ``(2, 468, 3)``, scaled with the eye's opening."""
    moves = face_model().expressions[[_BLINK_COEFFICIENTS[1], _BLINK_COEFFICIENTS[0]]].copy()
    openings = geometry.eye_openings(fit.face)
    usual = geometry.eye_openings(np.concatenate([face_model().neutral, np.zeros((10, 3), np.float32)]))
    for side, (now, then) in enumerate(zip(openings, usual, strict=True)):
        moves[side] *= min(now / max(then, 1e-3), 1.5)
    return np.asarray(moves, np.float32)


def _soft_limit(value: npt.ArrayLike, limit: npt.ArrayLike) -> npt.NDArray[np.float64]:
    """A soft limit: the identity up to two thirds of ``limit``, then flattening towards it."""
    v, top = np.asarray(value, np.float64), np.asarray(limit, np.float64)
    size = np.abs(v)
    knee = top / 1.5
    bent = knee + (top - knee) * np.tanh(np.maximum(size - knee, 0) / (top - knee))
    return np.asarray(np.sign(v) * np.where(size <= knee, size, bent))
