"""One-Euro filter: smooth when still, quick when moving.

Casiez, Roussel and Vogel, "1 EUR filter: a simple speed-based low-pass filter", CHI 2012.
"""

import math

import numpy as np

from avatar_stream.face.mesh import Floats


class OneEuro:
    """Filters an array of any fixed shape, each element by its own speed.

    ``min_cutoff`` (Hz) is the cut-off of a still signal; ``beta`` (Hz per unit a second) how fast it opens;
    ``speed_cutoff`` (Hz) smooths the speed estimate itself.
    """

    def __init__(self, min_cutoff: float, beta: float, speed_cutoff: float = 3.0) -> None:
        self.min_cutoff = min_cutoff
        self.beta = beta
        self.speed_cutoff = speed_cutoff
        self._value: Floats | None = None
        self._speed: Floats | None = None
        self._time = 0.0

    def reset(self) -> None:
        """Forget everything: the next value passes unchanged."""
        self._value = self._speed = None

    def __call__(self, value: Floats, time: float) -> Floats:
        """Filtered ``value`` at ``time`` seconds; times that do not advance are taken as 1 ms later."""
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
