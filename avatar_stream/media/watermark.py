"""An invisible watermark in the pixels that says that a picture was generated.

A fixed band-limited pattern is added to the luma, weak in flat regions and stronger in textured ones (spread-spectrum
watermarking; Cox, Kilian, Leighton and Shamoon, IEEE TIP 1997). Anyone can read it without a key. It does not resist
deliberate removal. ``docs/identity.md`` says what it survives.
"""

from collections.abc import Iterable
from functools import lru_cache
from typing import Any, Final

import cv2
import numpy as np
import numpy.typing as npt

Luma = npt.NDArray[np.uint8]
Floats = npt.NDArray[np.float32]

PATTERN_SIDE: Final = 256  # cells; pictures of any size are resized to this before reading
PATTERN_WAVELENGTHS: Final = (5.0, 11.0)  # cells, shortest and longest of the pattern
MIN_STRENGTH, MAX_STRENGTH = 0.36, 0.9  # standard deviation in grey levels, in flat and in textured regions
TEXTURE_SHARE: Final = 0.11  # strength of the watermark relative to the local standard deviation
TEXTURE_SIGMA: Final = 6.0  # cells, of the Gaussian window for local statistics
DETECTION_THRESHOLD: Final = 5.0
"""Standard deviations above chance, from which on a picture counts as marked. By chance, one in a thousand reaches
3.1."""


@lru_cache(1)
def pattern() -> Floats:
    """The pattern, ``(256, 256)``, with standard deviation 1."""
    waves = _band_pass(np.random.default_rng(20261125).normal(size=(PATTERN_SIDE, PATTERN_SIDE)))
    return np.asarray(waves / waves.std(), np.float32)


class Watermark:
    """Marks pictures of one size. The first picture of a portrait sets the local strength of the pattern."""

    def __init__(self) -> None:
        self._mark: tuple[Luma, Luma] | None = None  # positive and negative part

    def fit(self, luma: Luma) -> None:
        """Set the local strength of the watermark from a picture that is similar to the next ones."""
        height, width = luma.shape
        small = cv2.resize(luma, (PATTERN_SIDE, PATTERN_SIDE), interpolation=cv2.INTER_AREA).astype(np.float32)
        mean = cv2.GaussianBlur(small, (0, 0), TEXTURE_SIGMA)
        texture = np.sqrt(np.maximum(cv2.GaussianBlur(small * small, (0, 0), TEXTURE_SIGMA) - mean * mean, 0))
        strength = np.clip(TEXTURE_SHARE * texture, MIN_STRENGTH, MAX_STRENGTH)
        mark = cv2.resize(pattern() * strength, (width, height), interpolation=cv2.INTER_CUBIC)
        self._mark = (
            np.rint(np.maximum(mark, 0)).astype(np.uint8),
            np.rint(np.maximum(-mark, 0)).astype(np.uint8),
        )

    def __call__(self, luma: Luma) -> Luma:
        """The luma plane ``(h, w)`` with the watermark."""
        if self._mark is None or self._mark[0].shape != luma.shape:
            self.fit(luma)
        assert self._mark is not None
        more, less = self._mark
        return np.asarray(cv2.subtract(cv2.add(luma, more), less), np.uint8)


def detection_score(lumas: Iterable[Luma]) -> float:
    """Correlation of luma planes ``(h, w)`` of one video with the pattern, in standard deviations above chance."""
    total, count = np.zeros((PATTERN_SIDE, PATTERN_SIDE), np.float32), 0
    for luma in lumas:
        total += cv2.resize(luma, (PATTERN_SIDE, PATTERN_SIDE), interpolation=cv2.INTER_AREA)
        count += 1
    if count == 0:
        return 0.0
    picture = total / count
    # Keep the pattern's band only, and normalise its local amplitude.
    waves = _band_pass(picture)
    amplitude = np.sqrt(cv2.GaussianBlur(waves * waves, (0, 0), TEXTURE_SIGMA / 2)) + 0.6
    normalised = _band_pass(waves / amplitude)
    length = max(float(np.sqrt((normalised**2).sum())), 1e-9)
    return float((normalised * pattern()).sum() / length / np.sqrt(_SCORE_VARIANCE))


def _band_pass(picture: npt.NDArray[np.floating[Any]]) -> Floats:
    """Band-pass a picture to the pattern's wavelengths."""
    spectrum = np.fft.rfft2(picture)
    f = np.hypot(*np.meshgrid(np.fft.fftfreq(PATTERN_SIDE), np.fft.rfftfreq(PATTERN_SIDE), indexing="ij"))
    spectrum *= (f > 1 / PATTERN_WAVELENGTHS[1]) & (f < 1 / PATTERN_WAVELENGTHS[0])
    return np.asarray(np.fft.irfft2(spectrum, (PATTERN_SIDE, PATTERN_SIDE)), np.float32)


# Variance of the inner product of the pattern with an unrelated band-passed picture of length 1: the mean power of
# the pattern per dimension of the band.
_SCORE_VARIANCE: Final = 1 / (np.pi * (1 / PATTERN_WAVELENGTHS[0] ** 2 - 1 / PATTERN_WAVELENGTHS[1] ** 2))
