"""A driver's motion in terms that apply to any face: head motion, absolute expression, lids, gaze and fit residual.

The driver's face at rest (how far the eyes open, where the brows are, where the camera stands) is estimated slowly
and throughout the session, so that the first frames soon lose their influence.
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

REST_RATE_PER_FRAME: Final = 0.001  # share of the way from the rest pose to a frame's: two thirds in 40 s
MAX_AHEAD_DEGREES: Final = 25.0  # a face turned less than this looks ahead
MAX_FRAMES_TURNED_ASIDE: Final = 50  # then any frame can start rest: some cameras stand at the side
# Tracked gap of the lips in eye distances: up to the first value they count as closed; from the second the gap counts
# in full.
CLOSED_LIP_GAP, OPEN_LIP_GAP = 0.004, 0.016
MIN_GAZE_OPENING: Final = 0.55  # in shares of the usual opening: below it, tracked gaze is unreliable

# Opening of the wider eye: below the first value both eyes blink; above the second each eye moves on its own.
WINK_OPENING_RANGE: Final = (0.5, 0.9)
LID_SEAM_SHARE: Final = 0.75  # where the closing lids meet, in shares of the opening from the upper lid down
LID_LANDMARKS: Final = (
    (mesh.RIGHT_LID_UPPER, mesh.RIGHT_LID_LOWER),
    (mesh.LEFT_LID_UPPER, mesh.LEFT_LID_LOWER),
)
LID_POINTS: Final = len(mesh.RIGHT_LID_UPPER) - 2

MOUTH_COEFFICIENTS: Final = coefficient_indices("jaw", "mouth")
CALM_DECAY: Final = 0.5  # sum of mouth coefficients at which a frame's weight in the face at rest is 1/e

RELATIVE_COEFFICIENTS: Final = coefficient_indices("brow", "cheekPuff", "noseSneer")
"""Coefficients taken relative to the driver's usual level, because brows at rest differ between people."""


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
        """The face at rest: it looks ahead, with closed lips."""
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
    """A running quantile of each element of an array, which adapts fast at first and slowly later.

    Stochastic approximation (Robbins and Monro, 1951): memory and time per frame stay constant.
    """

    def __init__(self, quantile: float, step: float, slowest: float = 0.004) -> None:
        """``step``: rough spread of the numbers; ``slowest``: smallest change per frame, in shares of ``step``."""
        self.quantile, self.step, self.slowest = quantile, step, slowest
        self.value: Floats | None = None
        self._count = 0

    def update(self, numbers: Floats) -> Floats:
        """Add a frame's numbers and return the quantile."""
        if self.value is None:
            self.value = numbers.astype(np.float32).copy()
        self._count += 1
        rate = self.step * max(1.0 / self._count, self.slowest)
        pull = np.where(numbers > self.value, self.quantile, self.quantile - 1) * rate
        # A step never passes its target; otherwise the first frames would overshoot.
        room = numbers - self.value
        self.value = np.asarray(self.value + np.clip(pull, np.minimum(room, 0), np.maximum(room, 0)), np.float32)
        return self.value


class RestHeadPose:
    """The head pose at rest: first that of the first frame that looks ahead, later a running mean of such frames.

    The mean adapts slowly: two sessions of one driver reach the same rest, and rest follows a laptop that was moved,
    but a look aside of some seconds hardly changes it.
    """

    def __init__(self) -> None:
        self.pose: Pose | None = None
        self._first: Pose | None = None
        self._frames_left = MAX_FRAMES_TURNED_ASIDE
        self._offset = np.zeros(7, np.float32)

    def update(self, pose: Pose) -> Pose:
        """Add a frame's head pose and return the pose at rest."""
        pitch, yaw, _ = geometry.euler_degrees(pose.rotation)
        ahead = max(abs(pitch), abs(yaw)) < MAX_AHEAD_DEGREES
        if self._first is None:
            if not ahead and self._frames_left > 0:
                self._frames_left -= 1
                return pose
            self._first = self.pose = pose
        if ahead:
            # Turn (radians), shift (face widths) and size (log) relative to the first frame.
            first, width = self._first, self._first.scale * _TEMPLATE_WIDTH
            turn = geometry.to_rotation_vector(pose.rotation @ first.rotation.T)
            place = (pose.translation - first.translation) / width
            offset = np.concatenate([turn, place, [math.log(max(pose.scale / first.scale, 1e-3))]])
            self._offset = self._offset + (offset - self._offset) * REST_RATE_PER_FRAME
            self.pose = Pose(
                first.scale * math.exp(float(self._offset[6])),
                geometry.from_rotation_vector(self._offset[:3]) @ first.rotation,
                np.asarray(first.translation + self._offset[3:6] * width, np.float32),
            )
        assert self.pose is not None
        return self.pose


class MotionEstimator:
    """Estimates one driver's motion from landmarks, frame by frame; one per session."""

    def __init__(self) -> None:
        self.fitter = Fitter()
        self.fit: Fit | None = None
        """The last frame's fit."""
        self.recalibrate()

    def recalibrate(self) -> None:
        """Forget rest and identity, and estimate them again from the next frames."""
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
        """Whether the head pose at rest is known."""
        return self._head.pose is not None

    def __call__(self, landmarks: Floats) -> Motion:
        """The motion of ``landmarks (478, 3)`` in pixels."""
        fit = self.fit = self.fitter(landmarks)
        rest = self._head.update(fit.pose)
        middle = self.fitter.neutral[list(mesh.STABLE_LANDMARKS)].mean(0)[None]
        width = rest.scale * float(np.linalg.norm(self.fitter.neutral[234] - self.fitter.neutral[454]))
        shift = (fit.pose.apply(middle)[0] - rest.apply(middle)[0])[:2] / width
        openings = np.array(geometry.eye_openings(fit.face), np.float32)
        lids = openings / np.maximum(self._levels["openings"].update(openings), 0.08)
        # In a blink, trackers often report one eye as half open; in a wink, the other eye is wide open.
        blinking = 1 - geometry.smoothstep(*WINK_OPENING_RANGE, float(lids.max()))
        lids = lids + 0.8 * blinking * (lids.min() - lids)
        coefficients = fit.coefficients.copy()
        coefficients[RELATIVE_COEFFICIENTS] -= self._levels["brows"].update(fit.coefficients[RELATIVE_COEFFICIENTS])
        return Motion(
            geometry.to_rotation_vector(fit.pose.rotation @ rest.rotation.T),
            np.asarray(shift, np.float32),
            math.log(max(fit.pose.scale / rest.scale, 1e-3)),
            coefficients,
            lip_gap(fit.face),
            lids.astype(np.float32),
            self._lid_shape(fit, lids),
            self._gaze_change(fit, lids),
            self._fit_residual(fit),
        )

    def _lid_shape(self, fit: Fit, lids: Floats) -> Floats:
        """The lids' gap minus the usual gap times the opening, and their seam minus the usual seam."""
        seen = np.stack([lid_lines(fit.face, side) for side in (0, 1)])
        usual = self._levels["lids"].update(seen)
        out = seen - usual
        out[:, 0] -= (lids[:, None] - 1) * usual[:, 0]
        return np.asarray(out, np.float32)

    def _gaze_change(self, fit: Fit, lids: Floats) -> Floats:
        """Gaze relative to its usual direction; nearly closed eyes keep the last value.

        Half of the difference between the eyes is removed, because much of it is tracking noise.
        """
        if lids.min() > MIN_GAZE_OPENING:
            usual = self._levels["look"].update(fit.gaze)
            look = fit.gaze - usual
            self._look = np.asarray(0.5 * look + 0.5 * look.mean(0), np.float32)
        return self._look

    def _fit_residual(self, fit: Fit) -> Floats:
        """Landmarks minus the fitted model, minus the usual value of that difference.

        Frames with a calm mouth dominate the usual value: the model's error grows as a mouth moves, and that error is
        not part of the face at rest.
        """
        residual = fit.face[:MESH_POINTS] - fit.shape
        if self._residual is None:
            self._residual, self._calm_weight = residual, 1.0
        calm = math.exp(-float(fit.coefficients[MOUTH_COEFFICIENTS].sum()) / CALM_DECAY)
        self._calm_weight += calm
        self._residual = self._residual + (residual - self._residual) * max(calm / self._calm_weight, 0.01 * calm)
        return np.asarray(residual - self._residual, np.float32)


def lid_lines(face: Floats, side: int) -> Floats:
    """Gap between the lids, and the seam where they meet relative to the eye's corners: ``(2, 7)``, downwards."""
    upper, lower = LID_LANDMARKS[side]
    above, below = face[list(upper[1:-1]), 1], face[list(lower[1:-1]), 1]
    corners = (face[upper[0], 1] + face[upper[-1], 1]) / 2
    return np.stack([below - above, LID_SEAM_SHARE * below + (1 - LID_SEAM_SHARE) * above - corners])


def lip_gap(face: Floats) -> Floats:
    """Vectors from the upper to the lower inner lip ``(11, 3)``, for landmarks in the head's axes.

    The small gap that trackers report for closed lips is removed.
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
    """The landmarks mirrored about x = 0; left and right indices change places."""
    return np.asarray(landmarks[_MIRRORED_LANDMARKS] * _MIRROR_X, np.float32)
