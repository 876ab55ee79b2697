"""The quality ladder: steps down when a machine cannot keep up with the frame rate, and up again when it can."""

from typing import Final

from avatar_stream.portrait.drawing_quality import DRAWING_QUALITIES, DrawingQuality

COST_AVERAGE_FRAMES: Final = 25  # time constant of the mean time of a frame
STARTUP_SECONDS: Final = 4.0  # at the start of a session no step is taken: everything else starts too
STEP_DOWN_SECONDS: Final = 1.0  # at one quality before the next step down
STEP_UP_SECONDS: Final = 5.0  # at one quality before a step up; doubled when that step was too much
MAX_STEP_UP_SECONDS: Final = 120.0
MAX_PERIOD_SHARE: Final = 0.95  # of a frame's period that drawing may take
MAX_COST_RATIO: Final = 1.6  # assumed cost of the quality above, relative to this one


class QualityLadder:
    """Chooses the quality by the time that drawing takes. It steps down soon, and up only after a while."""

    def __init__(self, period: float, qualities: tuple[DrawingQuality, ...] = DRAWING_QUALITIES) -> None:
        """``period`` is the time for one frame, in seconds."""
        self.qualities = qualities
        self._period = period
        self._level = 0
        self._cost = 0.0
        self._level_since: float | None = None
        self._stepped_up_at: float | None = None
        self._step_up_seconds = STEP_UP_SECONDS

    @property
    def quality(self) -> DrawingQuality:
        """The quality to draw at now."""
        return self.qualities[self._level]

    def observe(self, seconds: float, now: float) -> bool:
        """Take in the seconds that a frame took; True if the quality changed. ``now`` is the monotonic time."""
        if self._level_since is None:
            self._level_since, self._cost = now + STARTUP_SECONDS - STEP_DOWN_SECONDS, seconds
        self._cost += (seconds - self._cost) / COST_AVERAGE_FRAMES
        stayed = now - self._level_since
        if (
            self._cost > MAX_PERIOD_SHARE * self._period
            and stayed >= STEP_DOWN_SECONDS
            and self._level < len(self.qualities) - 1
        ):
            if self._stepped_up_at is not None and now - self._stepped_up_at < 2 * self._step_up_seconds:
                self._step_up_seconds = min(2 * self._step_up_seconds, MAX_STEP_UP_SECONDS)
            return self._step(1, now)
        # The cost of the quality above is not remembered: other work may have been running when it was measured.
        if (
            self._level
            and stayed >= self._step_up_seconds
            and MAX_COST_RATIO * self._cost < MAX_PERIOD_SHARE * self._period
        ):
            self._stepped_up_at = now
            return self._step(-1, now)
        return False

    def _step(self, by: int, now: float) -> bool:
        self._level += by
        self._level_since, self._cost = now, min(self._cost, self._period * MAX_PERIOD_SHARE)
        return True
