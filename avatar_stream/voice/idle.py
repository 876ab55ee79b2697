"""Idle motion of a face without a camera: it sways, blinks, glances about, and nods on stressed syllables.

People blink every 2 to 6 seconds for about 0.2 s, more often while they speak (Bentivoglio et al., Movement Disorders
12, 1997). Heads nod and brows rise on stressed syllables (Munhall et al., Psychological Science 15, 2004).
"""

import math
from dataclasses import dataclass
from typing import Final

import numpy as np

BLINK_SECONDS: Final = 0.22  # from open to open
BLINK_INTERVAL_SECONDS: Final = (1.6, 5.5)
GLANCE_SECONDS: Final = (0.8, 2.8)  # how long a glance lasts
GLANCE_AWAY_SHARE: Final = 0.3  # of the glances; the others look at the camera
GLANCE_DEVIATION: Final = (0.16, 0.07)  # standard deviation sideways, and up or down, in eyeLook coefficients
HEAD_SWAY: Final = (  # for nod, turn and tilt: two waves, each a period in seconds and an amplitude in radians
    ((6.1, 0.022), (9.7, 0.018)),
    ((7.3, 0.035), (12.9, 0.030)),
    ((8.3, 0.014), (11.3, 0.012)),
)
STRESS_NOD_RADIANS, STRESS_BROW_RAISE = 0.05, 0.45  # down, and in browInnerUp, at the strongest stress
STRESS_RISE_SECONDS, STRESS_FALL_SECONDS = 0.08, 0.35


@dataclass(frozen=True, slots=True)
class IdleFrame:
    """One frame of idle motion.

    ``turn``: nod, turn and tilt in radians. ``blink``: 0 to 1. ``look``: right and down, in eyeLook coefficients.
    ``brows``: 0 to 1.
    """

    turn: tuple[float, float, float]
    blink: float
    look: tuple[float, float]
    brows: float


class IdleMotion:
    """Generates idle motion of one face; ``seed`` makes it reproducible."""

    def __init__(self, seed: int | None = None) -> None:
        self._random = np.random.default_rng(seed)
        self._phases = self._random.uniform(0, 2 * math.pi, (3, 2))
        self._time: float | None = None
        self._blinks_at = self._glances_at = 0.0
        self._look = self._shown = (0.0, 0.0)
        self._stress = self._level = 0.0

    def __call__(self, time: float, loudness: float) -> IdleFrame:
        """The idle motion at ``time`` seconds, which must not decrease; ``loudness`` is the voice's, 0 to 1."""
        if self._time is None:
            self._time = time
            self._blinks_at = time + float(self._random.uniform(*BLINK_INTERVAL_SECONDS))
            self._glances_at = time + float(self._random.uniform(*GLANCE_SECONDS))
        step = min(max(time - self._time, 0.0), 0.25)
        self._time = time
        # Stress is loudness above the mean of about the last second.
        self._level += (loudness - self._level) * min(step / 1.2, 1.0)
        wanted = min(max(2.5 * (loudness - self._level), 0.0), 1.0)
        self._stress += (wanted - self._stress) * min(
            step / (STRESS_RISE_SECONDS if wanted > self._stress else STRESS_FALL_SECONDS), 1.0
        )
        turn = [
            sum(
                size * math.sin(2 * math.pi * time / period + phase)
                for (period, size), phase in zip(waves, phases, strict=True)
            )
            for waves, phases in zip(HEAD_SWAY, self._phases, strict=True)
        ]
        turn[0] += STRESS_NOD_RADIANS * self._stress
        return IdleFrame(
            (turn[0], turn[1], turn[2]), self._blink(time), self._glance(time, step), STRESS_BROW_RAISE * self._stress
        )

    def _blink(self, time: float) -> float:
        since = time - self._blinks_at
        if since > BLINK_SECONDS:
            self._blinks_at = time + float(self._random.uniform(*BLINK_INTERVAL_SECONDS))
        # Lids close twice as fast as they open.
        if not 0 <= since <= BLINK_SECONDS:
            return 0.0
        share = since / BLINK_SECONDS
        return (
            math.sin(math.pi / 2 * min(share * 3, 1.0))
            if share < 1 / 3
            else math.cos(math.pi / 2 * (share * 1.5 - 0.5))
        )

    def _glance(self, time: float, step: float) -> tuple[float, float]:
        if time >= self._glances_at:
            self._glances_at = time + float(self._random.uniform(*GLANCE_SECONDS))
            self._look = (0.0, 0.0)
            if self._random.random() < GLANCE_AWAY_SHARE:
                right, down = (float(self._random.normal(0, deviation)) for deviation in GLANCE_DEVIATION)
                self._look = (right, down)
        share = min(step / 0.04, 1.0)  # saccades are fast
        self._shown = (
            self._shown[0] + share * (self._look[0] - self._shown[0]),
            self._shown[1] + share * (self._look[1] - self._shown[1]),
        )
        return self._shown
