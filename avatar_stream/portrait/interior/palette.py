"""The colours of a portrait: whether its face has any of its own, and what a drawn mouth becomes in them.

A black-and-white picture has no hue, a sepia or blue one has a single hue for each brightness, a faded or painted one
has less of a difference between lips and skin than a photograph. What is drawn or painted into it must not have more.
"""

from typing import Final

import cv2
import numpy as np
import numpy.typing as npt

from avatar_stream.face import geometry, mesh
from avatar_stream.face.mesh import Floats

Image = npt.NDArray[np.uint8]

LUMA: Final = np.array([0.299, 0.587, 0.114], np.float32)  # ITU-R BT.601
BLUR: Final = 0.08  # eye distances: noise and compression of colours are finer than what a face has
BINS: Final = 32  # of brightness, that have a tone each
LEAST_PIXELS: Final = 20  # of a bin that counts
DARKEST: Final = 16.0  # grey levels: what is darker is compared as if it were so bright
# Spread of a face's colours around its tones, in shares of their brightness: tinted greys, compressed at quality 60,
# have up to 0.014, two brown paintings 0.021, the photographs among the samples at least 0.031.
TONED, COLOURED = 0.012, 0.030


class Palette:
    """Of the face in RGB ``picture (h, w, 3)`` with ``landmarks (478, 3)`` in its pixels.

    ``colourful`` is how much colour beside its tones it has: 1 for an ordinary photograph, 0 for black-and-white and
    sepia. ``tones (256, 3)`` is its usual RGB of each brightness.
    """

    def __init__(self, picture: Image, landmarks: Floats) -> None:
        pixels = _face(picture, landmarks)
        bright = pixels @ LUMA
        chroma = pixels - bright[:, None]
        usual = _curve(bright, chroma)
        off = (chroma - _at(usual, bright)) / np.maximum(bright, DARKEST)[:, None]
        spread = float(np.sqrt((off[:, [0, 2]] ** 2).sum(1).mean())) if len(off) else COLOURED
        self.colourful = float(np.clip((spread - TONED) / (COLOURED - TONED), 0, 1))
        self.tones: Floats = (np.arange(256, dtype=np.float32)[:, None] + usual).astype(np.float32)

    def toned(self, colours: Floats) -> Floats:
        """RGB ``colours (..., 3)`` with their own brightness and this portrait's hues."""
        if self.colourful == 1:
            return colours
        tone = _at(self.tones, colours @ LUMA)
        return np.asarray(tone + np.float32(self.colourful) * (colours - tone), np.float32)

    def toned_picture(self, picture: Image) -> Image:
        """The same for a whole picture."""
        if self.colourful == 1:
            return picture
        return np.asarray(np.clip(self.toned(picture.astype(np.float32)) + 0.5, 0, 255), np.uint8)

    def toned_change(self, change: Floats, shown: Image) -> Floats:
        """A ``change (h, w, 3)`` of picture ``shown`` that leaves its hues as they are: only brightness where it has
        no colours of its own.
        """
        if self.colourful == 1:
            return change
        bright = shown.astype(np.float32) @ LUMA
        tone = _at(self.tones, bright + change @ LUMA) - _at(self.tones, bright)
        return np.asarray(tone + np.float32(self.colourful) * (change - tone), np.float32)


def _face(picture: Image, landmarks: Floats) -> Floats:
    """The face's pixels ``(n, 3)``, smoothed."""
    smooth = cv2.GaussianBlur(picture, (0, 0), max(1.0, BLUR * geometry.eye_distance(landmarks)))
    oval = np.round(landmarks[list(mesh.FACE_OVAL), :2]).astype(np.int32)
    return np.asarray(smooth[cv2.fillPoly(np.zeros(picture.shape[:2], np.uint8), [oval], 1) > 0], np.float32)


def _curve(bright: Floats, chroma: Floats) -> Floats:
    """The usual ``chroma (n, 3)``, colour less brightness, at each level of brightness: ``(256, 3)``."""
    step = 256 / BINS
    number = np.clip(bright / step, 0, BINS - 1).astype(int)
    known = [k for k in range(BINS) if (number == k).sum() >= LEAST_PIXELS]
    if not known:
        return np.zeros((256, 3), np.float32)
    places = [float(bright[number == k].mean()) for k in known]
    tones = np.array([np.median(chroma[number == k], axis=0) for k in known], np.float32)
    # Black has no hue. Beyond the brightest that is known it is taken to go on.
    levels = np.arange(256, dtype=np.float32)
    places, tones = [0.0, *places], np.concatenate([np.zeros((1, 3), np.float32), tones])
    curve = np.stack([np.interp(levels, places, tones[:, k]) for k in range(3)], 1)
    return np.asarray(curve - (curve @ LUMA)[:, None], np.float32)


def _at(table: Floats, bright: Floats) -> Floats:
    """``table (256, k)`` at any brightness ``(...)``, between its levels too."""
    place = np.clip(bright, 0, 255)
    low = np.minimum(place.astype(np.int32), 254)
    part = (place - low)[..., None].astype(np.float32)
    return np.asarray(table[low] + part * (table[low + 1] - table[low]), np.float32)
