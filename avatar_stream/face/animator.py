"""Driver landmarks in, portrait landmarks out, frame after frame, whatever the driver does."""

import math

import numpy as np

from avatar_stream.face.expression import Expression
from avatar_stream.face.mesh import Floats
from avatar_stream.face.motion import Motion, MotionEstimator, mirrored
from avatar_stream.face.retarget import Retargeter

EASE_SECONDS = 0.6  # between a followed face and rest
SOURCE_CHANGE_SECONDS = 0.35  # from one kind of driver to another
BREATH_PERIOD_SECONDS = 4.2


class Animator:
    """Follows a driver with a portrait.

    While a face is followed its motion is used; when it is lost the portrait eases to its own face, and back when the
    driver returns. A slow breath goes on all the time the driver is away.
    """

    def __init__(self, retargeter: Retargeter) -> None:
        self.retargeter = retargeter
        self.estimator = MotionEstimator()
        self.mirror = False
        self.expression = Expression()
        """What the face may do, whatever the driver does."""
        self._shown: Floats | None = None
        self._before: Floats | None = None  # what was shown when another kind of driver took over
        self._taken = 0.0
        self._weight = 0.0
        self._motion = Motion.neutral()
        self._time: float | None = None

    @property
    def motion(self) -> Motion:
        """The last motion that was followed."""
        return self._motion

    def recalibrate(self) -> None:
        """Learn anew what the driver is like at rest."""
        self.estimator.recalibrate()

    def change_source(self) -> None:
        """Another kind of driver takes over, a voice after a camera: ease from what is shown now to what it does."""
        self._before, self._taken = self._shown, 0.0

    def change_portrait(self, retargeter: Retargeter) -> None:
        """Go on with the same driver on another portrait."""
        retargeter.gain, retargeter.keep = self.retargeter.gain, self.retargeter.keep
        self.retargeter = retargeter
        self._shown = self._before = None

    def __call__(self, landmarks: Floats | None, time: float) -> Floats:
        """Portrait landmarks for driver ``landmarks`` (None: nobody there) at ``time`` seconds.

        Landmarks that are no numbers are nobody's: what is learnt of a driver would keep them for good.
        """
        if landmarks is None or not np.isfinite(landmarks).all():
            return self.follow_motion(None, time)
        return self.follow_motion(self.estimator(mirrored(landmarks) if self.mirror else landmarks), time)

    def follow_motion(self, motion: Motion | None, time: float) -> Floats:
        """Portrait landmarks for a motion that is read already (None: nobody there)."""
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
        followed = self._weight * self._weight * (3 - 2 * self._weight)
        shown, retargeter = self.expression(self._motion), self.retargeter
        face = retargeter.fit.face
        if followed > 0:
            face = face + followed * (retargeter.with_expression(shown) - face)
        # A still face breathes: about a pixel up and down and half a degree of nod at 256 pixels.
        wave = (1 - followed) * math.sin(2 * math.pi * time / BREATH_PERIOD_SECONDS)
        placed = retargeter.with_head_pose(
            np.asarray(face, np.float32),
            np.asarray(followed * shown.turn + np.array([0.008 * wave, 0, 0]), np.float32),
            np.asarray(followed * shown.shift + np.array([0, 0.008 * wave]), np.float32),
            followed * shown.scale + 0.003 * wave,
        )
        if self._before is not None:
            self._taken = min(self._taken + step / SOURCE_CHANGE_SECONDS, 1.0)
            share = np.float32(self._taken * self._taken * (3 - 2 * self._taken))
            placed = np.asarray(self._before + share * (placed - self._before), np.float32)
            if self._taken == 1:
                self._before = None
        self._shown = placed
        return placed
