"""Mouth shapes from sound, by a small network that sees about a tenth of a second.

``engines.voice`` trains it on synthetic speech in several languages, whose sounds are known to the millisecond, and
reports its accuracy on voices outside the training data.
"""

from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt

from avatar_stream.voice.mel import MEL_BANDS, MelBands

Floats = npt.NDArray[np.float32]

MOUTH_SHAPES: Final = ("open", "wide", "round", "pucker", "closed")
"""Jaw open, lips drawn wide, lips rounded, lips pushed forward, lips pressed together; each from 0 to 1."""
FRAMES_BEFORE, FRAMES_AFTER = 8, 3  # context of 10 ms frames around a frame
INPUT_SCALE: Final = 0.3  # scales nepers to about 1
SMOOTHING_PER_FRAME: Final = 0.35  # share of the way to the network's output, per 10 ms


@dataclass(frozen=True, slots=True)
class VisemeNetwork:
    """A network of two layers: weights ``first (12 * 25, h)`` and ``second (h, 5)``, and their biases."""

    first: Floats
    first_offset: Floats
    second: Floats
    second_offset: Floats

    def __call__(self, context: Floats) -> Floats:
        """Mouth shapes ``(n, 5)`` for contexts ``(n, 12 * 25)``."""
        hidden = np.maximum(context @ self.first + self.first_offset, 0)
        return np.asarray(1 / (1 + np.exp(-(hidden @ self.second + self.second_offset))), np.float32)


@cache
def viseme_network() -> VisemeNetwork:
    """The shipped network."""
    with np.load(Path(__file__).parent / "visemes.npz") as stored:
        return VisemeNetwork(*(stored[name].astype(np.float32) for name in sorted(stored.files)))


def contexts(frames: Floats) -> Floats:
    """Each frame of ``(n, 25)`` with its context, ``(n - 11, 300)``; the first row is for frame 8."""
    view = np.lib.stride_tricks.sliding_window_view(frames, FRAMES_BEFORE + FRAMES_AFTER + 1, axis=0)
    return np.ascontiguousarray(view.transpose(0, 2, 1).reshape(len(view), -1) * np.float32(INPUT_SCALE))


class LipSync:
    """One speaker's mouth shapes from sound; not thread-safe."""

    def __init__(self) -> None:
        self._mel = MelBands()
        self._frames = np.zeros((FRAMES_BEFORE + FRAMES_AFTER, MEL_BANDS + 1), np.float32)
        self._shape = np.zeros(len(MOUTH_SHAPES), np.float32)
        self.loudness = 0.0
        """The last frame's loudness above the noise floor, in nepers."""

    def __call__(self, samples: Floats) -> Floats:
        """The mouth shapes ``(n, 5)``, 100 a second, that ``samples`` (16 kHz, -1 to 1) complete."""
        new = self._mel(samples)
        if not len(new):
            return np.zeros((0, len(MOUTH_SHAPES)), np.float32)
        frames = np.concatenate([self._frames, new])
        self._frames = frames[-(FRAMES_BEFORE + FRAMES_AFTER) :]
        self.loudness = float(new[-1, -1])
        out = []
        for wanted in viseme_network()(contexts(frames)):
            self._shape = self._shape + np.float32(SMOOTHING_PER_FRAME) * (wanted - self._shape)
            out.append(self._shape)
        return np.stack(out).astype(np.float32)
