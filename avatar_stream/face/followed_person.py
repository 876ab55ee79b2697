"""Who is followed of several people: one of them, until they have been gone for a while."""

from typing import Final

import numpy as np

from avatar_stream.face.mesh import Floats
from avatar_stream.face.small_faces import Box

WAIT_SECONDS: Final = 2.0
"""Seconds for which somebody who is not seen any more is waited for; then the largest face is followed."""
MAX_STEP_WIDTHS: Final = 0.7  # face widths that a head moves from one frame to the next, at most
MAX_SPEED_WIDTHS: Final = 2.0  # and face widths a second, where frames are missed
SIZE_RATIOS: Final = (0.6, 1.7)  # a face's width over what it was


class FollowedPerson:
    """Tells the face that is followed from others, by its place and size; not thread-safe.

    Places are in widths of the picture, whose size in pixels may change.
    """

    def __init__(self) -> None:
        self._middle = np.zeros(2, np.float32)
        self._width = self._seen_at = 0.0

    def update(self, landmarks: Floats, time: float) -> None:
        """``landmarks (478, 3)`` were followed at ``time`` seconds."""
        self._middle, self._width = _middle_and_width(landmarks)
        self._seen_at = time

    def matches(self, landmarks: Floats, time: float) -> bool:
        """Whether landmarks ``(478, 3)`` can be of the person who was followed."""
        return self._near(*_middle_and_width(landmarks), time)

    def choose(self, boxes: list[Box], time: float) -> int | None:
        """Which of the faces in ``boxes``, largest first, is to be followed now.

        None where there is none, or somebody else only and who was followed has not been gone for long.
        """
        for number, (left, top, width, height) in enumerate(boxes):
            if self._near(np.array([left + width / 2, top + height / 2]), width, time):
                return number
        return 0 if boxes and not self.is_waiting(time) else None

    def is_waiting(self, time: float) -> bool:
        """Who was followed may come back."""
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
