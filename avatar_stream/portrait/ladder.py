"""The quality ladder: what is given up first when a machine cannot keep up, and when it comes back."""

from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True)
class Rung:
    """One way to draw.

    ``slots`` of the window (0: the warp alone), ``scale`` of the moved region's resolution, the network on every
    ``every``-th frame (between them the last residual is painted once more).
    """

    name: str
    slots: int
    scale: float = 1
    every: int = 1


RUNGS: Final = (
    Rung("full", 2),
    Rung("one step", 1),
    Rung("smaller", 1, scale=0.7),
    Rung("half rate", 1, scale=0.7, every=2),
    Rung("warp", 0),
)

MEMORY: Final = 25  # frames over which the cost of drawing is averaged
SETTLE: Final = 1.0  # seconds on a rung before the next step down
PATIENCE: Final = 5.0  # seconds on a rung before a step up is tried; doubled when it proves too much
MOST_PATIENCE: Final = 120.0
TOO_MUCH: Final = 0.95  # of the time there is for a frame
ENOUGH: Final = 0.9  # of that time a higher rung may cost, by what it cost last
UNKNOWN_COST: Final = 1.5  # what a rung that was never run may cost, relative to the one below it


class Ladder:
    """Chooses the rung from how long drawing takes: down at once, up with patience."""

    def __init__(self, period: float, rungs: tuple[Rung, ...] = RUNGS) -> None:
        """``period``: seconds there are for a frame."""
        self.rungs = rungs
        self._period = period
        self._level = 0
        self._cost = 0.0
        self._costs: dict[int, float] = {}
        self._since: float | None = None
        self._climbed: float | None = None
        self._patience = PATIENCE

    @property
    def rung(self) -> Rung:
        """How to draw now."""
        return self.rungs[self._level]

    def observe(self, seconds: float, now: float) -> bool:
        """Take in what a frame took; True if the rung changed. ``now`` is a monotonic clock's time."""
        if self._since is None:
            self._since, self._cost = now, seconds
        self._cost += (seconds - self._cost) / MEMORY
        stayed = now - self._since
        if self._cost > TOO_MUCH * self._period and stayed >= SETTLE and self._level < len(self.rungs) - 1:
            if self._climbed is not None and now - self._climbed < 2 * self._patience:
                self._patience = min(2 * self._patience, MOST_PATIENCE)
            return self._step(1, now)
        if self._level and stayed >= self._patience:
            above = self._costs.get(self._level - 1, UNKNOWN_COST * self._cost)
            # What a rung cost when others were busy says little for ever: after long patience it is tried anyhow.
            if above < ENOUGH * self._period or (stayed > 4 * self._patience and self._cost < 0.6 * self._period):
                self._climbed = now
                return self._step(-1, now)
        return False

    def _step(self, by: int, now: float) -> bool:
        self._costs[self._level] = self._cost
        self._level += by
        self._since, self._cost = now, min(self._cost, self._period * TOO_MUCH)
        return True
