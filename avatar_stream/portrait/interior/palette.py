"""A portrait's colours: measures how colourful its face is, and matches drawn pixels to it.

A black-and-white picture has no hue. A sepia or blue one has a single hue for each brightness. In a faded or
painted one lips and skin differ less than in a photograph. Pixels drawn into it must not have more colour.
"""

from typing import Final

import cv2
import numpy as np
import numpy.typing as npt

from avatar_stream.face import geometry, mesh
from avatar_stream.face.mesh import Floats

Image = npt.NDArray[np.uint8]

LUMA_WEIGHTS: Final = np.array([0.299, 0.587, 0.114], np.float32)  # ITU-R BT.601
BLUR_EYE_DISTANCES: Final = 0.08  # removes noise and compression, which are finer than a face's colours
BRIGHTNESS_BINS: Final = 32  # with a tone each
MIN_BIN_PIXELS: Final = 20  # fewer are ignored
MIN_BRIGHTNESS: Final = 16.0  # grey levels; darker pixels are compared as if they were this bright
# Spread of a face's colours around its tones, over their brightness. Tinted greys, compressed at quality 60, have up
# to 0.014, two brown paintings 0.021, the photographs among the samples at least 0.031.
TONED_SPREAD, COLOURED_SPREAD = 0.012, 0.030


class Palette:
    """The colours of the face in RGB ``picture (h, w, 3)`` with ``landmarks (478, 3)`` in its pixels.

    ``tones (256, 3)`` is its usual RGB for each brightness. ``colourfulness`` is how much its colours differ from
    them: 1 for an ordinary photograph, 0 for black-and-white and sepia.
    """

    def __init__(self, picture: Image, landmarks: Floats) -> None:
        pixels = _face_pixels(picture, landmarks)
        bright = pixels @ LUMA_WEIGHTS
        chroma = pixels - bright[:, None]
        usual = _chroma_curve(bright, chroma)
        off = (chroma - _interpolated(usual, bright)) / np.maximum(bright, MIN_BRIGHTNESS)[:, None]
        spread = float(np.sqrt((off[:, [0, 2]] ** 2).sum(1).mean())) if len(off) else COLOURED_SPREAD
        self.colourfulness = float(np.clip((spread - TONED_SPREAD) / (COLOURED_SPREAD - TONED_SPREAD), 0, 1))
        self.tones: Floats = (np.arange(256, dtype=np.float32)[:, None] + usual).astype(np.float32)

    def toned(self, colours: Floats) -> Floats:
        """RGB ``colours (..., 3)``, brought to this portrait's hues at their own brightness."""
        if self.colourfulness == 1:
            return colours
        tone = _interpolated(self.tones, colours @ LUMA_WEIGHTS)
        return np.asarray(tone + np.float32(self.colourfulness) * (colours - tone), np.float32)

    def toned_picture(self, picture: Image) -> Image:
        """``toned`` for an RGB picture ``uint8 (h, w, 3)``."""
        if self.colourfulness == 1:
            return picture
        return np.asarray(np.clip(self.toned(picture.astype(np.float32)) + 0.5, 0, 255), np.uint8)

    def toned_change(self, change: Floats, shown: Image) -> Floats:
        """A ``change (h, w, 3)`` to the picture ``shown`` that keeps its hues.

        If the portrait has no colours of its own, only the brightness changes.
        """
        if self.colourfulness == 1:
            return change
        bright = shown.astype(np.float32) @ LUMA_WEIGHTS
        tone = _interpolated(self.tones, bright + change @ LUMA_WEIGHTS) - _interpolated(self.tones, bright)
        return np.asarray(tone + np.float32(self.colourfulness) * (change - tone), np.float32)


def _face_pixels(picture: Image, landmarks: Floats) -> Floats:
    """The face's pixels ``(n, 3)``, smoothed."""
    smooth = cv2.GaussianBlur(picture, (0, 0), max(1.0, BLUR_EYE_DISTANCES * geometry.eye_distance(landmarks)))
    oval = np.round(landmarks[list(mesh.FACE_OVAL), :2]).astype(np.int32)
    return np.asarray(smooth[cv2.fillPoly(np.zeros(picture.shape[:2], np.uint8), [oval], 1) > 0], np.float32)


def _chroma_curve(bright: Floats, chroma: Floats) -> Floats:
    """The median ``chroma (n, 3)``, which is colour less brightness, at each level of brightness: ``(256, 3)``."""
    step = 256 / BRIGHTNESS_BINS
    number = np.clip(bright / step, 0, BRIGHTNESS_BINS - 1).astype(int)
    known = [k for k in range(BRIGHTNESS_BINS) if (number == k).sum() >= MIN_BIN_PIXELS]
    if not known:
        return np.zeros((256, 3), np.float32)
    places = [float(bright[number == k].mean()) for k in known]
    tones = np.array([np.median(chroma[number == k], axis=0) for k in known], np.float32)
    # Black has no hue. Above the brightest known level the curve is constant.
    levels = np.arange(256, dtype=np.float32)
    places, tones = [0.0, *places], np.concatenate([np.zeros((1, 3), np.float32), tones])
    curve = np.stack([np.interp(levels, places, tones[:, k]) for k in range(3)], 1)
    return np.asarray(curve - (curve @ LUMA_WEIGHTS)[:, None], np.float32)


def _interpolated(table: Floats, bright: Floats) -> Floats:
    """``table (256, k)`` at brightness ``(...)``, interpolated between its levels."""
    place = np.clip(bright, 0, 255)
    low = np.minimum(place.astype(np.int32), 254)
    part = (place - low)[..., None].astype(np.float32)
    return np.asarray(table[low] + part * (table[low + 1] - table[low]), np.float32)
