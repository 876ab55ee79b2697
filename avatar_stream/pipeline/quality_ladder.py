"""The quality ladder: what is given up first when a machine cannot keep up, and when it comes back."""

from typing import Final

from avatar_stream.portrait.drawing_quality import DRAWING_QUALITIES, DrawingQuality

MEMORY: Final = 25  # frames over which the cost of drawing is averaged
GRACE: Final = 4.0  # seconds at the start of a session, when everything else starts too
SETTLE: Final = 1.0  # seconds at a quality before the next step down
PATIENCE: Final = 5.0  # seconds at a quality before a step up is tried; doubled when it proves too much
MOST_PATIENCE: Final = 120.0
TOO_MUCH: Final = 0.95  # of the time there is for a frame
DEARER: Final = 1.6  # what the quality above may cost, relative to this one


class Ladder:
    """Chooses the quality from how long drawing takes: down at once, up with patience."""

    def __init__(self, period: float, qualities: tuple[DrawingQuality, ...] = DRAWING_QUALITIES) -> None:
        """``period``: seconds there are for a frame."""
        self.qualities = qualities
        self._period = period
        self._level = 0
        self._cost = 0.0
        self._since: float | None = None
        self._climbed: float | None = None
        self._patience = PATIENCE

    @property
    def quality(self) -> DrawingQuality:
        """How to draw now."""
        return self.qualities[self._level]

    def observe(self, seconds: float, now: float) -> bool:
        """Take in what a frame took; True if the quality changed. ``now`` is a monotonic clock's time."""
        if self._since is None:
            self._since, self._cost = now + GRACE - SETTLE, seconds
        self._cost += (seconds - self._cost) / MEMORY
        stayed = now - self._since
        if self._cost > TOO_MUCH * self._period and stayed >= SETTLE and self._level < len(self.qualities) - 1:
            if self._climbed is not None and now - self._climbed < 2 * self._patience:
                self._patience = min(2 * self._patience, MOST_PATIENCE)
            return self._step(1, now)
        # What the quality above cost when it was left says little: others may have been busy then.
        if self._level and stayed >= self._patience and DEARER * self._cost < TOO_MUCH * self._period:
            self._climbed = now
            return self._step(-1, now)
        return False

    def _step(self, by: int, now: float) -> bool:
        self._level += by
        self._since, self._cost = now, min(self._cost, self._period * TOO_MUCH)
        return True
