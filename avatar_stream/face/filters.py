"""One-Euro filter: smooths strongly while a signal is still, and hardly delays it while it moves.

Casiez, Roussel and Vogel, "1 EUR filter: a simple speed-based low-pass filter", CHI 2012.
"""

import math

import numpy as np

from avatar_stream.face.mesh import Floats


class OneEuro:
    """Filters an array of any fixed shape, each element by its own speed.

    ``min_cutoff`` (Hz): cut-off frequency of a still signal. ``beta`` (Hz per unit/s): how much the cut-off rises
    with speed. ``speed_cutoff`` (Hz): cut-off frequency of the speed estimate.
    """

    def __init__(self, min_cutoff: float, beta: float, speed_cutoff: float = 3.0) -> None:
        self.min_cutoff = min_cutoff
        self.beta = beta
        self.speed_cutoff = speed_cutoff
        self._value: Floats | None = None
        self._speed: Floats | None = None
        self._time = 0.0

    def reset(self) -> None:
        """Forget all state: the next value passes unchanged."""
        self._value = self._speed = None

    def __call__(self, value: Floats, time: float) -> Floats:
        """Filtered ``value`` at ``time`` seconds; a time that does not advance counts as 1 ms later."""
        if self._value is None or self._speed is None:
            self._value, self._speed, self._time = value.copy(), np.zeros_like(value), time
            return value
        step = max(time - self._time, 1e-3)
        self._time += step
        speed = (value - self._value) / step
        self._speed = self._speed + _alpha(self.speed_cutoff, step) * (speed - self._speed)
        cutoff = self.min_cutoff + self.beta * np.abs(self._speed)
        smoothing = 1 / (1 + 1 / (2 * math.pi * cutoff * step))
        self._value = np.asarray(self._value + smoothing * (value - self._value), np.float32)
        return self._value


def _alpha(cutoff: float, step: float) -> float:
    return 1 / (1 + 1 / (2 * math.pi * cutoff * step))
