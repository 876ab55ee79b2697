"""Chooses one of several people, and follows that person until they have been gone for a while."""

from typing import Final

import numpy as np

from avatar_stream.face.mesh import Floats
from avatar_stream.face.small_faces import Box

WAIT_SECONDS: Final = 2.0
"""How long to wait for a person who is out of sight; after that the largest face is followed."""
MAX_STEP_WIDTHS: Final = 0.7  # how far a head may move between two frames
MAX_SPEED_WIDTHS: Final = 2.0  # and more per second, if frames are missed
SIZE_RATIOS: Final = (0.6, 1.7)  # of a face's width to its last width


class FollowedPerson:
    """Distinguishes the followed face from others by its position and size; not thread-safe.

    Positions and sizes are in widths of the picture, because its size in pixels may change.
    """

    def __init__(self) -> None:
        self._middle = np.zeros(2, np.float32)
        self._width = self._seen_at = 0.0

    def update(self, landmarks: Floats, time: float) -> None:
        """Record that the followed person's ``landmarks (478, 3)`` were seen at ``time`` seconds."""
        self._middle, self._width = _middle_and_width(landmarks)
        self._seen_at = time

    def matches(self, landmarks: Floats, time: float) -> bool:
        """Whether ``landmarks (478, 3)`` may belong to the followed person."""
        return self._near(*_middle_and_width(landmarks), time)

    def choose(self, boxes: list[Box], time: float) -> int | None:
        """Index of the face in ``boxes`` (largest first) to follow now.

        None if there is no face, or if all faces are other people's and the followed person may still come back.
        """
        for number, (left, top, width, height) in enumerate(boxes):
            if self._near(np.array([left + width / 2, top + height / 2]), width, time):
                return number
        return 0 if boxes and not self.is_waiting(time) else None

    def is_waiting(self, time: float) -> bool:
        """Whether the followed person may still come back."""
        return self._width > 0 and 0 <= time - self._seen_at <= WAIT_SECONDS

    def _near(self, middle: Floats, width: float, time: float) -> bool:
        if not self.is_waiting(time):
            return True
        away = float(np.linalg.norm(middle - self._middle)) / self._width
        return (
            away < MAX_STEP_WIDTHS + MAX_SPEED_WIDTHS * (time - self._seen_at)
            and SIZE_RATIOS[0] < width / self._width < SIZE_RATIOS[1]
        )


def _middle_and_width(landmarks: Floats) -> tuple[Floats, float]:
    """The middle ``(2,)`` and the width of a face."""
    low, high = landmarks[:468, :2].min(0), landmarks[:468, :2].max(0)
    return (low + high) / 2, float(high[0] - low[0])
