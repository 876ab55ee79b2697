"""Driver landmarks in, retargeted landmarks out, frame by frame; no jumps when the driver leaves or changes."""

import math

import numpy as np

from avatar_stream.face import geometry
from avatar_stream.face.expression import Expression
from avatar_stream.face.mesh import Floats
from avatar_stream.face.motion import Motion, MotionEstimator, mirrored
from avatar_stream.face.retarget import Retargeter

EASE_SECONDS = 0.6  # from a followed face to the portrait at rest, and back
SOURCE_CHANGE_SECONDS = 0.35  # from one source of motion to another, such as from a camera to a voice
BREATH_PERIOD_SECONDS = 4.2


class Animator:
    """Moves a portrait's landmarks with a driver.

    While the driver's face is tracked, the portrait follows it. When the face is lost, the portrait eases to its face
    at rest and breathes slowly; when the driver returns, it eases back.
    """

    def __init__(self, retargeter: Retargeter) -> None:
        self.retargeter = retargeter
        self.estimator = MotionEstimator()
        self.mirror = False
        self.expression = Expression()
        """Limits on what the portrait shows of the driver's expression."""
        self._shown: Floats | None = None
        self._before_change: Floats | None = None  # landmarks shown when the source changed
        self._change_progress = 0.0  # 0 to 1
        self._weight = 0.0
        self._motion = Motion.neutral()
        self._time: float | None = None

    @property
    def motion(self) -> Motion:
        """The latest motion of the driver."""
        return self._motion

    def recalibrate(self) -> None:
        """Forget the driver's face at rest and learn it again."""
        self.estimator.recalibrate()

    def change_source(self) -> None:
        """The source of motion changes, such as from a camera to a voice: ease from the landmarks shown now."""
        self._before_change, self._change_progress = self._shown, 0.0

    def change_portrait(self, retargeter: Retargeter) -> None:
        """Animate another portrait with the same driver."""
        retargeter.gain, retargeter.keep = self.retargeter.gain, self.retargeter.keep
        self.retargeter = retargeter
        self._shown = self._before_change = None

    def __call__(self, landmarks: Floats | None, time: float) -> Floats:
        """Retargeted landmarks for the driver's ``landmarks`` (None if there is no face) at ``time`` seconds.

        Landmarks with NaN or infinity count as no face: the driver's running levels would never recover from them.
        """
        if landmarks is None or not np.isfinite(landmarks).all():
            return self.follow_motion(None, time)
        return self.follow_motion(self.estimator(mirrored(landmarks) if self.mirror else landmarks), time)

    def follow_motion(self, motion: Motion | None, time: float) -> Floats:
        """Retargeted landmarks for ``motion`` (None if there is no driver) at ``time`` seconds."""
        step = 0.0 if self._time is None else min(max(time - self._time, 0.0), 0.25)
        first = self._time is None
        self._time = time
        if motion is not None:
            self._motion = motion
        goal = 0.0 if motion is None else 1.0
        if first:
            self._weight = goal
        else:
            change = step / EASE_SECONDS
            self._weight += min(max(goal - self._weight, -change), change)
        followed = geometry.ease(self._weight)
        shown, retargeter = self.expression(self._motion), self.retargeter
        face = retargeter.fit.face
        if followed > 0:
            face = face + followed * (retargeter.with_expression(shown) - face)
        # The face at rest breathes: about a pixel up and down, and half a degree of nod, at 256 pixels.
        wave = (1 - followed) * math.sin(2 * math.pi * time / BREATH_PERIOD_SECONDS)
        placed = retargeter.with_head_pose(
            np.asarray(face, np.float32),
            np.asarray(followed * shown.turn + np.array([0.008 * wave, 0, 0]), np.float32),
            np.asarray(followed * shown.shift + np.array([0, 0.008 * wave]), np.float32),
            followed * shown.scale + 0.003 * wave,
        )
        if self._before_change is not None:
            progress = self._change_progress = min(self._change_progress + step / SOURCE_CHANGE_SECONDS, 1.0)
            share = np.float32(geometry.ease(progress))
            placed = np.asarray(self._before_change + share * (placed - self._before_change), np.float32)
            if progress == 1:
                self._before_change = None
        self._shown = placed
        return placed
