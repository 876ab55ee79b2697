"""Computes 100 frames of mel energies a second from sound, normalized for the level of voice and microphone.

Mel filters as in Davis and Mermelstein (IEEE ASSP 28, 1980).
"""

from functools import cache
from typing import Final

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float32]

SAMPLE_RATE: Final = 16_000  # Hz
HOP_SAMPLES, WINDOW_SAMPLES, FFT_SIZE = 160, 400, 512
MEL_BANDS: Final = 24
MEL_RANGE_HERTZ: Final = (80.0, 7600.0)
MIN_BAND_POWER: Final = 1e-7  # added to each band before its logarithm is taken
MIN_VOICE_NEPERS: Final = 1.2  # sound this far above the noise floor counts as voice
# Time constants of the rising noise floor and of the voice's mean level.
FLOOR_RISE_SECONDS, MEAN_LEVEL_SECONDS = 12.0, 3.0


@cache
def mel_filters() -> Floats:
    """Triangular filters ``(24, 257)`` over the bins of a frame's power spectrum."""

    def mel(hertz: npt.ArrayLike) -> npt.NDArray[np.float64]:
        return 2595 * np.log10(1 + np.asarray(hertz, np.float64) / 700)

    lowest, highest = (float(edge) for edge in mel(MEL_RANGE_HERTZ))
    edges = 700 * (10 ** (np.linspace(lowest, highest, MEL_BANDS + 2) / 2595) - 1)
    at = np.arange(FFT_SIZE // 2 + 1) * SAMPLE_RATE / FFT_SIZE
    rising = (at - edges[:-2, None]) / (edges[1:-1] - edges[:-2])[:, None]
    falling = (edges[2:, None] - at) / (edges[2:] - edges[1:-1])[:, None]
    return np.clip(np.minimum(rising, falling), 0, None).astype(np.float32)


class MelBands:
    """Computes one voice's mel frames; not thread-safe."""

    def __init__(self) -> None:
        self._remaining = np.zeros(0, np.float32)
        self._floor: float | None = None
        self._mean: Floats | None = None
        self._voiced_frames = 0

    def __call__(self, samples: Floats) -> Floats:
        """The frames ``(n, 25)`` that ``samples`` (16 kHz, -1 to 1) complete, in nepers of power.

        A frame has 24 bands minus the voice's mean level, then the loudness above the noise floor.
        """
        sound = np.concatenate([self._remaining, samples.astype(np.float32)])
        count = max((len(sound) - WINDOW_SAMPLES) // HOP_SAMPLES + 1, 0)
        self._remaining = sound[count * HOP_SAMPLES :]
        if count == 0:
            return np.zeros((0, MEL_BANDS + 1), np.float32)
        cut = np.lib.stride_tricks.sliding_window_view(sound, WINDOW_SAMPLES)[::HOP_SAMPLES][:count]
        power = (
            np.abs(np.fft.rfft(cut * np.hanning(WINDOW_SAMPLES).astype(np.float32), FFT_SIZE)) ** 2 / WINDOW_SAMPLES
        )
        bands = np.log(power.astype(np.float32) @ mel_filters().T + MIN_BAND_POWER)
        return np.stack([self._normalized(frame) for frame in bands])

    def _normalized(self, frame: Floats) -> Floats:
        loud = float(np.log(np.exp(frame).sum()))
        if self._floor is None:
            self._floor = loud
        # The noise floor falls at once and rises slowly, so that it hardly rises while somebody speaks.
        self._floor = min(loud, self._floor + (loud - self._floor) * HOP_SAMPLES / SAMPLE_RATE / FLOOR_RISE_SECONDS)
        over = loud - self._floor
        if self._mean is None:
            self._mean = frame.copy()
        if over > MIN_VOICE_NEPERS:
            self._voiced_frames += 1
            share = max(1 / self._voiced_frames, HOP_SAMPLES / SAMPLE_RATE / MEAN_LEVEL_SECONDS)
            self._mean = (self._mean + (frame - self._mean) * np.float32(share)).astype(np.float32)
        return np.append(frame - self._mean, np.float32(over)).astype(np.float32)
