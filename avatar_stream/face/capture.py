"""Face capture without a portrait: camera frames in, ARKit's blend shapes and head pose out, for other programs."""

import numpy as np
import numpy.typing as npt

from avatar_stream.face.arkit import ArkitFrame, to_arkit
from avatar_stream.face.motion import MotionEstimator, mirrored
from avatar_stream.face.tracker import FaceTracker


class FaceCapture:
    """Captures one driver's motion, frame by frame; ``mirror`` swaps left and right. Not thread-safe."""

    def __init__(self, *, mirror: bool = False) -> None:
        self.mirror = mirror
        self._tracker, self._driver = FaceTracker(), MotionEstimator()

    def __call__(self, image: npt.NDArray[np.uint8], time: float) -> ArkitFrame | None:
        """The motion in an RGB frame ``(h, w, 3)`` taken at ``time`` seconds; None if there is no face."""
        landmarks = self._tracker.update(image, time).landmarks
        if landmarks is None:
            return None
        return to_arkit(self._driver(mirrored(landmarks) if self.mirror else landmarks))

    @property
    def too_small(self) -> int:
        """Width in pixels of a face that is too small to be tracked; 0 if there is none."""
        return self._tracker.too_small

    def recalibrate(self) -> None:
        """Forget the face at rest and learn it again from the next frames."""
        self._driver.recalibrate()

    def close(self) -> None:
        """Free the tracker."""
        self._tracker.close()
