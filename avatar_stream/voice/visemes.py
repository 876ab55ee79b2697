"""What lips and jaw do for the sound that is heard: a small network over a tenth of a second of it.

Trained on synthetic speech in several languages, whose sounds are known to the millisecond (``engines.voice``, which
also says how well it does on voices it has not met).
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
"""How far the jaw is open, lips drawn wide, lips rounded, lips pushed forward, lips pressed together; 0 to 1 each."""
FRAMES_BEFORE, FRAMES_AFTER = 8, 3  # frames of 10 ms that are heard before and after the one that is spoken of
INPUT_SCALE: Final = 0.3  # brings nepers to about one
SMOOTHING_PER_FRAME: Final = 0.35  # share of the way to a new shape in 10 ms


@dataclass(frozen=True, slots=True)
class VisemeNetwork:
    """Two layers: ``first (12 * 25, h)`` and ``second (h, 5)`` with their offsets."""

    first: Floats
    first_offset: Floats
    second: Floats
    second_offset: Floats

    def __call__(self, context: Floats) -> Floats:
        """Shapes ``(n, 5)`` for contexts ``(n, 12 * 25)``."""
        hidden = np.maximum(context @ self.first + self.first_offset, 0)
        return np.asarray(1 / (1 + np.exp(-(hidden @ self.second + self.second_offset))), np.float32)


@cache
def viseme_network() -> VisemeNetwork:
    """The shipped one."""
    with np.load(Path(__file__).parent / "visemes.npz") as stored:
        return VisemeNetwork(*(stored[name].astype(np.float32) for name in sorted(stored.files)))


def contexts(frames: Floats) -> Floats:
    """Frames ``(n, 25)`` in their surroundings, ``(n - 11, 300)``; the first one is of frame 8."""
    view = np.lib.stride_tricks.sliding_window_view(frames, FRAMES_BEFORE + FRAMES_AFTER + 1, axis=0)
    return np.ascontiguousarray(view.transpose(0, 2, 1).reshape(len(view), -1) * np.float32(INPUT_SCALE))


class LipSync:
    """Shapes of one speaker's mouth as sound comes in; not thread-safe."""

    def __init__(self) -> None:
        self._mel = MelBands()
        self._frames = np.zeros((FRAMES_BEFORE + FRAMES_AFTER, MEL_BANDS + 1), np.float32)
        self._shape = np.zeros(len(MOUTH_SHAPES), np.float32)
        self.loudness = 0.0
        """Nepers over the quietest, of the last frame."""

    def __call__(self, samples: Floats) -> Floats:
        """Shapes ``(n, 5)``, a hundred a second, that ``samples`` (16 kHz, -1 to 1) complete."""
        heard = self._mel(samples)
        if not len(heard):
            return np.zeros((0, len(MOUTH_SHAPES)), np.float32)
        frames = np.concatenate([self._frames, heard])
        self._frames = frames[-(FRAMES_BEFORE + FRAMES_AFTER) :]
        self.loudness = float(heard[-1, -1])
        out = []
        for wanted in viseme_network()(contexts(frames)):
            self._shape = self._shape + np.float32(SMOOTHING_PER_FRAME) * (wanted - self._shape)
            out.append(self._shape)
        return np.stack(out).astype(np.float32)
