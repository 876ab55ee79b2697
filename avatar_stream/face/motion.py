"""What a driver does, in terms that fit any face: head motion, absolute expression, lids, gaze and what is left over.

What a face is like at rest (how far it opens its eyes, where its brows are, where its camera stands) is learnt while
it is watched, slowly and for as long as it is: whatever it does in the first frames is soon outweighed.
"""

import math
from dataclasses import dataclass
from typing import Final

import numpy as np

from avatar_stream.face import geometry, mesh
from avatar_stream.face.fit import Fit, Fitter
from avatar_stream.face.geometry import Pose
from avatar_stream.face.mesh import Floats
from avatar_stream.face.model import COEFFICIENT_NAMES, MESH_POINTS, coefficient_indices

REST_RATE_PER_FRAME: Final = 0.001  # the share of the way to a frame's pose that rest goes: two thirds in 40 s
MAX_AHEAD_DEGREES: Final = 25.0  # degrees a face may be turned and still count as looking ahead
MAX_FRAMES_TURNED_ASIDE: Final = 50  # frames that look elsewhere before any will do: some cameras stand at the side
CLOSED_LIP_GAP, OPEN_LIP_GAP = (
    0.004,
    0.016,
)  # gap of the lips that is closed to a tracker, and from which it is taken as it is
MIN_GAZE_OPENING: Final = 0.55  # of the opening at rest: where an eye below it looks is the tracker's guess

WINK_OPENING_RANGE: Final = (0.5, 0.9)  # opening of the wider eye: below, both blink together; above, each for itself
LID_SEAM_SHARE: Final = 0.75  # how far down from the upper lid the lids of an open eye will meet
LID_LANDMARKS: Final = (
    (mesh.RIGHT_LID_UPPER, mesh.RIGHT_LID_LOWER),
    (mesh.LEFT_LID_UPPER, mesh.LEFT_LID_LOWER),
)
LID_POINTS: Final = len(mesh.RIGHT_LID_UPPER) - 2

MOUTH_COEFFICIENTS: Final = coefficient_indices("jaw", "mouth")
CALM_DECAY: Final = 0.5  # sum of these coefficients at which a frame says e times less of the face at rest

RELATIVE_COEFFICIENTS: Final = coefficient_indices("brow", "cheekPuff", "noseSneer")
"""Coefficients followed from the driver's usual level: brows sit differently on everybody."""


@dataclass(frozen=True, slots=True)
class Motion:
    """One frame of a driver.

    ``turn (3,)``: head rotation vector from rest, in radians. ``shift (2,)``: head shift from rest to the right and
    down, in face widths. ``scale``: logarithm of the face's size over its size at rest. ``coefficients (45,)``:
    expression, 0 to 1; those in ``RELATIVE_COEFFICIENTS`` are minus their usual level. ``gap (11, 3)``: vectors from
    the upper to the lower inner lip, corner to corner, in the head's axes and eye distances. ``lids (2,)``: openings
    of the right and the left eye over their usual openings. ``lid_shape (2, 2, 7)``: how the gap between the lids and
    the height of their seam differ from what ``lids`` gives, in eye distances, downwards. ``look (2, 2)``: radians
    right and down from where each eye usually looks. ``fit_residual (468, 3)``: landmarks minus the fitted face
    model, minus the usual value of that difference.
    """

    turn: Floats
    shift: Floats
    scale: float
    coefficients: Floats
    gap: Floats
    lids: Floats
    lid_shape: Floats
    look: Floats
    fit_residual: Floats

    @staticmethod
    def neutral() -> "Motion":
        """A calm face that looks ahead, lips closed."""
        zero = np.zeros
        return Motion(
            zero(3, np.float32),
            zero(2, np.float32),
            0.0,
            zero(len(COEFFICIENT_NAMES), np.float32),
            zero((len(mesh.INNER_LIP_UPPER), 3), np.float32),
            np.ones(2, np.float32),
            zero((2, 2, LID_POINTS), np.float32),
            zero((2, 2), np.float32),
            zero((MESH_POINTS, 3), np.float32),
        )


class RunningQuantile:
    """A running quantile of some numbers: quick at first, slow and steady later.

    Stochastic approximation (Robbins and Monro, 1951), so that neither memory nor time grows.
    """

    def __init__(self, quantile: float, step: float, slowest: float = 0.004) -> None:
        """``step`` is about the spread of the numbers; ``slowest`` the share of it moved a frame in the end."""
        self.quantile, self.step, self.slowest = quantile, step, slowest
        self.value: Floats | None = None
        self._count = 0

    def update(self, numbers: Floats) -> Floats:
        """Take a frame's numbers in and return the level."""
        if self.value is None:
            self.value = numbers.astype(np.float32).copy()
        self._count += 1
        rate = self.step * max(1.0 / self._count, self.slowest)
        pull = np.where(numbers > self.value, self.quantile, self.quantile - 1) * rate
        # A step never passes the number it goes to: the first frames would overshoot.
        room = numbers - self.value
        self.value = np.asarray(self.value + np.clip(pull, np.minimum(room, 0), np.maximum(room, 0)), np.float32)
        return self.value


class RestHeadPose:
    """The head's usual place: that of the first frame which looks roughly ahead, in time the middle of all that do.

    It moves slowly, so that two sessions of one driver come to the same rest wherever they began, and a laptop that
    is pushed aside is forgiven; a look aside of some seconds stays one.
    """

    def __init__(self) -> None:
        self.pose: Pose | None = None
        self._first: Pose | None = None
        self._patience = MAX_FRAMES_TURNED_ASIDE
        self._away = np.zeros(7, np.float32)

    def update(self, pose: Pose) -> Pose:
        """Take a frame's pose in and return the pose at rest."""
        pitch, yaw, _ = geometry.euler_degrees(pose.rotation)
        ahead = max(abs(pitch), abs(yaw)) < MAX_AHEAD_DEGREES
        if self._first is None:
            if not ahead and self._patience > 0:
                self._patience -= 1
                return pose
            self._first = self.pose = pose
        if ahead:
            # Turn (radians), place (face widths) and size (log) from the first frame's.
            first, width = self._first, self._first.scale * _TEMPLATE_WIDTH
            turn = geometry.to_rotation_vector(pose.rotation @ first.rotation.T)
            place = (pose.translation - first.translation) / width
            away = np.concatenate([turn, place, [math.log(max(pose.scale / first.scale, 1e-3))]])
            self._away = self._away + (away - self._away) * REST_RATE_PER_FRAME
            self.pose = Pose(
                first.scale * math.exp(float(self._away[6])),
                geometry.from_rotation_vector(self._away[:3]) @ first.rotation,
                np.asarray(first.translation + self._away[3:6] * width, np.float32),
            )
        assert self.pose is not None
        return self.pose


class MotionEstimator:
    """Reads one driver, frame after frame; one per session."""

    def __init__(self) -> None:
        self.fitter = Fitter()
        self.fit: Fit | None = None
        """The last frame's."""
        self.recalibrate()

    def recalibrate(self) -> None:
        """Take rest and identity anew from the next frames."""
        self.fitter.reset()
        self._head = RestHeadPose()
        self._levels = {
            "openings": RunningQuantile(0.6, 0.03),
            "lids": RunningQuantile(0.5, 0.006),
            "look": RunningQuantile(0.5, 0.03),
            "brows": RunningQuantile(0.5, 0.06),
        }
        self._residual: Floats | None = None
        self._calm_weight = 0.0
        self._look = np.zeros((2, 2), np.float32)

    @property
    def calibrated(self) -> bool:
        """Rest is known well enough."""
        return self._head.pose is not None

    def __call__(self, landmarks: Floats) -> Motion:
        """The motion of ``landmarks (478, 3)`` in pixels."""
        fit = self.fit = self.fitter(landmarks)
        rest = self._head.update(fit.pose)
        middle = self.fitter.neutral[list(mesh.STABLE_LANDMARKS)].mean(0)[None]
        width = rest.scale * float(np.linalg.norm(self.fitter.neutral[234] - self.fitter.neutral[454]))
        moved = (fit.pose.apply(middle)[0] - rest.apply(middle)[0])[:2] / width
        openings = np.array(geometry.eye_openings(fit.face), np.float32)
        lids = openings / np.maximum(self._levels["openings"].update(openings), 0.08)
        # Trackers often see one eye of a blink half open still; a wink leaves the other one wide.
        blinking = 1 - geometry.smoothstep(*WINK_OPENING_RANGE, float(lids.max()))
        lids = lids + 0.8 * blinking * (lids.min() - lids)
        coefficients = fit.coefficients.copy()
        coefficients[RELATIVE_COEFFICIENTS] -= self._levels["brows"].update(fit.coefficients[RELATIVE_COEFFICIENTS])
        return Motion(
            geometry.to_rotation_vector(fit.pose.rotation @ rest.rotation.T),
            np.asarray(moved, np.float32),
            math.log(max(fit.pose.scale / rest.scale, 1e-3)),
            coefficients,
            lip_gap(fit.face),
            lids.astype(np.float32),
            self._lid_shape(fit, lids),
            self._gaze_change(fit, lids),
            self._fit_residual(fit),
        )

    def _lid_shape(self, fit: Fit, lids: Floats) -> Floats:
        """Gap and seam of the lids, less the usual gap times the opening and the usual seam."""
        seen = np.stack([lid_lines(fit.face, side) for side in (0, 1)])
        usual = self._levels["lids"].update(seen)
        out = seen - usual
        out[:, 0] -= (lids[:, None] - 1) * usual[:, 0]
        return np.asarray(out, np.float32)

    def _gaze_change(self, fit: Fit, lids: Floats) -> Floats:
        """Gaze from its usual direction; eyes that are all but shut keep the last one.

        Half of what an eye does is its own: the rest, the tracker's noise more likely, is shared.
        """
        if lids.min() > MIN_GAZE_OPENING:
            usual = self._levels["look"].update(fit.gaze)
            look = fit.gaze - usual
            self._look = np.asarray(0.5 * look + 0.5 * look.mean(0), np.float32)
        return self._look

    def _fit_residual(self, fit: Fit) -> Floats:
        """What the model does not say of the face, less its usual value: that of calm faces, above all.

        The further a mouth moves the more the model misses, and none of that belongs to the face at rest.
        """
        residual = fit.face[:MESH_POINTS] - fit.shape
        if self._residual is None:
            self._residual, self._calm_weight = residual, 1.0
        calm = math.exp(-float(fit.coefficients[MOUTH_COEFFICIENTS].sum()) / CALM_DECAY)
        self._calm_weight += calm
        self._residual = self._residual + (residual - self._residual) * max(calm / self._calm_weight, 0.01 * calm)
        return np.asarray(residual - self._residual, np.float32)


def lid_lines(face: Floats, side: int) -> Floats:
    """Gap between the lids and height of the seam where they meet, over the eye's corners, ``(2, 7)``, downwards."""
    upper, lower = LID_LANDMARKS[side]
    above, below = face[list(upper[1:-1]), 1], face[list(lower[1:-1]), 1]
    corners = (face[upper[0], 1] + face[upper[-1], 1]) / 2
    return np.stack([below - above, LID_SEAM_SHARE * below + (1 - LID_SEAM_SHARE) * above - corners])


def lip_gap(face: Floats) -> Floats:
    """From upper to lower inner lip ``(11, 3)`` of landmarks in the head's axes; what a tracker leaves of closed lips
    is taken away.
    """
    gap = face[list(mesh.INNER_LIP_LOWER)] - face[list(mesh.INNER_LIP_UPPER)]
    size = float(np.abs(gap[2:-2, 1]).mean())
    return np.asarray(gap * geometry.smoothstep(CLOSED_LIP_GAP, OPEN_LIP_GAP, size), np.float32)


_TEMPLATE_WIDTH = float(np.linalg.norm(mesh.template()[234] - mesh.template()[454]))
_MIRROR_X = np.array([-1, 1, 1], np.float32)
_MIRRORED_LANDMARKS = np.argmin(
    np.linalg.norm(mesh.template()[:, None] - (mesh.template() * _MIRROR_X)[None], axis=-1), axis=1
)


def mirrored(landmarks: Floats) -> Floats:
    """The landmarks as a mirror shows them (about x = 0): left and right change places."""
    return np.asarray(landmarks[_MIRRORED_LANDMARKS] * _MIRROR_X, np.float32)
