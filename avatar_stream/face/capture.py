"""A face's motion for other programs: camera frames in, ARKit's blend shapes and head out, no portrait needed."""

import numpy as np
import numpy.typing as npt

from avatar_stream.face.arkit import ArkitFrame, to_arkit
from avatar_stream.face.motion import MotionEstimator, mirrored
from avatar_stream.face.tracker import FaceTracker


class FaceCapture:
    """Reads one driver, frame after frame; ``mirror`` reads them as a mirror shows them. Not thread-safe."""

    def __init__(self, *, mirror: bool = False) -> None:
        self.mirror = mirror
        self._tracker, self._driver = FaceTracker(), MotionEstimator()

    def __call__(self, image: npt.NDArray[np.uint8], time: float) -> ArkitFrame | None:
        """The motion in an RGB frame ``(h, w, 3)`` taken at ``time`` seconds; None where nobody is seen."""
        landmarks = self._tracker.update(image, time).landmarks
        if landmarks is None:
            return None
        return to_arkit(self._driver(mirrored(landmarks) if self.mirror else landmarks))

    @property
    def too_small(self) -> int:
        """Width in pixels of a face that is too small to be followed; 0 where there is none."""
        return self._tracker.too_small

    def recalibrate(self) -> None:
        """Take the next frames for the face at rest."""
        self._driver.recalibrate()

    def close(self) -> None:
        """Free the tracker."""
        self._tracker.close()
