"""An invisible mark in the picture itself: this was generated.

A fixed pattern of fine waves, weak where a picture is flat and stronger where it is busy, is added to its luma
(spread-spectrum marking; Cox, Kilian, Leighton and Shamoon, IEEE TIP 1997). Reading it needs no key: it is there to
be found by anybody, and does not withstand somebody who wants it gone. ``docs/identity.md`` says what it survives.
"""

from collections.abc import Iterable
from functools import lru_cache
from typing import Any, Final

import cv2
import numpy as np
import numpy.typing as npt

Luma = npt.NDArray[np.uint8]
Floats = npt.NDArray[np.float32]

PATTERN_SIDE: Final = 256  # the pattern's own side: pictures of any size are read at this one
WAVELENGTHS: Final = (5.0, 11.0)  # shortest and longest wave, in cells of it
MIN_STRENGTH, MAX_STRENGTH = 0.36, 0.9  # grey levels (deviation) in flat and in busy places
TEXTURE_SHARE: Final = 0.11  # of the deviation nearby that the mark may have
TEXTURE_SIGMA: Final = 6.0  # cells: what counts as nearby
DETECTION_THRESHOLD: Final = 5.0
"""Deviations from what chance gives above which a picture is marked; one in a thousand reaches 3.1."""


@lru_cache(1)
def pattern() -> Floats:
    """The waves, ``(256, 256)``, of deviation 1."""
    waves = _band_pass(np.random.default_rng(20261125).normal(size=(PATTERN_SIDE, PATTERN_SIDE)))
    return np.asarray(waves / waves.std(), np.float32)


class Watermark:
    """Marks the pictures of one size; the strength by place is taken from the first of a portrait."""

    def __init__(self) -> None:
        self._added_removed: tuple[Luma, Luma] | None = None  # what is added and what is taken away

    def fit(self, luma: Luma) -> None:
        """Find how strong the mark may be where, from a picture like those to come."""
        height, width = luma.shape
        small = cv2.resize(luma, (PATTERN_SIDE, PATTERN_SIDE), interpolation=cv2.INTER_AREA).astype(np.float32)
        mean = cv2.GaussianBlur(small, (0, 0), TEXTURE_SIGMA)
        busy = np.sqrt(np.maximum(cv2.GaussianBlur(small * small, (0, 0), TEXTURE_SIGMA) - mean * mean, 0))
        strength = np.clip(TEXTURE_SHARE * busy, MIN_STRENGTH, MAX_STRENGTH)
        mark = cv2.resize(pattern() * strength, (width, height), interpolation=cv2.INTER_CUBIC)
        self._added_removed = (
            np.rint(np.maximum(mark, 0)).astype(np.uint8),
            np.rint(np.maximum(-mark, 0)).astype(np.uint8),
        )

    def __call__(self, luma: Luma) -> Luma:
        """The luma plane ``(h, w)`` with the mark."""
        if self._added_removed is None or self._added_removed[0].shape != luma.shape:
            self.fit(luma)
        assert self._added_removed is not None
        more, less = self._added_removed
        return np.asarray(cv2.subtract(cv2.add(luma, more), less), np.uint8)


def detection_score(lumas: Iterable[Luma]) -> float:
    """How sure it is that luma planes ``(h, w)``, of one piece of video, carry the mark: deviations from chance."""
    total, count = np.zeros((PATTERN_SIDE, PATTERN_SIDE), np.float32), 0
    for luma in lumas:
        total += cv2.resize(luma, (PATTERN_SIDE, PATTERN_SIDE), interpolation=cv2.INTER_AREA)
        count += 1
    if count == 0:
        return 0.0
    picture = total / count
    # What is no wave of the pattern's kind is taken out, and loud places are made as quiet as the others.
    waves = _band_pass(picture)
    loud = np.sqrt(cv2.GaussianBlur(waves * waves, (0, 0), TEXTURE_SIGMA / 2)) + 0.6
    whole = _band_pass(waves / loud)
    return float((whole * pattern()).sum() / max(float(np.sqrt((whole**2).sum())), 1e-9) / np.sqrt(_SCORE_VARIANCE))


def _band_pass(picture: npt.NDArray[np.floating[Any]]) -> Floats:
    """What of a picture is waves of the pattern's lengths."""
    spectrum = np.fft.rfft2(picture)
    f = np.hypot(*np.meshgrid(np.fft.fftfreq(PATTERN_SIDE), np.fft.rfftfreq(PATTERN_SIDE), indexing="ij"))
    spectrum *= (f > 1 / WAVELENGTHS[1]) & (f < 1 / WAVELENGTHS[0])
    return np.asarray(np.fft.irfft2(spectrum, (PATTERN_SIDE, PATTERN_SIDE)), np.float32)


# Of the product of two unrelated pictures of waves, the second of deviation 1, over the first one's length: its
# variance is the mean power of the pattern in a direction of the band.
_SCORE_VARIANCE: Final = 1 / (np.pi * (1 / WAVELENGTHS[0] ** 2 - 1 / WAVELENGTHS[1] ** 2))
