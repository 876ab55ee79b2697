"""Shoulders: where they are in a picture, and how a driver's shoulders move.

MediaPipe's pose network (BlazePose; Bazarevsky et al., 2020) finds them, five times a second: it takes as long as all
other work on a frame, and shoulders move slowly.
"""

import math
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from avatar_stream.face.mesh import Floats
from avatar_stream.native_output import quiet_graph

Image = npt.NDArray[np.uint8]

_SHOULDERS: Final = (12, 11)  # the person's right and left, which are left and right in the picture
MIN_VISIBILITY: Final = 0.6
FRAMES_PER_DETECTION: Final = 5
SMOOTHING_PER_FRAME: Final = 0.2  # share of the way to the last detection
REST_RATE_PER_DETECTION: Final = 0.02  # share of the way from rest to the detection: nobody keeps one position
MAX_SHIFT_WIDTHS: Final = (0.22, 0.14)  # in shoulder widths: sideways, and up or down
MAX_ROLL_RADIANS: Final = 0.18


@dataclass(frozen=True, slots=True)
class Torso:
    """How shoulders have moved from rest.

    ``shift``: to the right and down, in shoulder widths. ``roll``: radians, clockwise in the picture.
    """

    shift: tuple[float, float] = (0.0, 0.0)
    roll: float = 0.0

    def displacement(self, points: Floats, shoulders: Floats) -> Floats:
        """How far ``points (n, 2)`` move that are fixed to a body with ``shoulders (2, 2)`` at rest."""
        width = float(np.linalg.norm(shoulders[1] - shoulders[0]))
        middle = shoulders.mean(0)
        cos, sin = math.cos(self.roll), math.sin(self.roll)
        turned = (points - middle) @ np.array([[cos, sin], [-sin, cos]], np.float32)
        return np.asarray(turned + middle + np.float32(width) * np.array(self.shift, np.float32) - points, np.float32)

    @property
    def mirrored(self) -> "Torso":
        """The torso mirrored left to right."""
        return Torso((-self.shift[0], self.shift[1]), -self.roll)


def find_shoulders(image: Image) -> Floats | None:
    """Both shoulders ``(2, 2)`` in pixels of a still RGB image, the picture's left one first; None if hidden."""
    with _pose_network(static=True) as network:
        return _detect_shoulders(network, image)


class TorsoTracker:
    """Follows one driver's shoulders; not thread-safe."""

    def __init__(self) -> None:
        self._network: Any = None
        self._frames = 0
        self._rest: Floats | None = None
        self._target: Floats | None = None
        self._smoothed = np.zeros(3, np.float32)

    def update(self, image: Image | None) -> Torso:
        """The torso in the next RGB frame; without a frame (None) it eases to rest."""
        if image is None:
            self._target = None
        elif self._frames % FRAMES_PER_DETECTION == 0:
            if self._network is None:
                self._network = _pose_network(static=False)
            found = _detect_shoulders(self._network, image)
            if found is not None:
                self._set_target(found / image.shape[0])
        self._frames += 1
        wanted = np.zeros(3, np.float32) if self._target is None else self._target
        self._smoothed = self._smoothed + np.float32(SMOOTHING_PER_FRAME) * (wanted - self._smoothed)
        right, down, roll = (float(value) for value in self._smoothed)
        return Torso((right, down), roll)

    def recalibrate(self) -> None:
        """Use the next detection as rest."""
        self._rest = None

    def close(self) -> None:
        """Free the network."""
        if self._network is not None:
            self._network.close()

    def _set_target(self, shoulders: Floats) -> None:
        if self._rest is None:
            self._rest = shoulders
        self._rest = self._rest + np.float32(REST_RATE_PER_DETECTION) * (shoulders - self._rest)
        line, before = shoulders[1] - shoulders[0], self._rest[1] - self._rest[0]
        shift = (shoulders.mean(0) - self._rest.mean(0)) / max(float(np.linalg.norm(before)), 1e-3)
        roll = math.atan2(line[1], line[0]) - math.atan2(before[1], before[0])
        limits = np.array([*MAX_SHIFT_WIDTHS, MAX_ROLL_RADIANS])
        self._target = np.asarray(limits * np.tanh(np.array([*shift, roll]) / limits), np.float32)


def _pose_network(static: bool) -> Any:
    from mediapipe.python.solutions.pose import Pose

    return quiet_graph(lambda: Pose(static_image_mode=static, model_complexity=1))


def _detect_shoulders(network: Any, image: Image) -> Floats | None:
    landmarks = network.process(np.ascontiguousarray(image)).pose_landmarks
    if landmarks is None:
        return None
    both = [landmarks.landmark[k] for k in _SHOULDERS]
    if min(one.visibility for one in both) < MIN_VISIBILITY:
        return None
    height, width = image.shape[:2]
    return np.array([[one.x * width, one.y * height] for one in both], np.float32)
