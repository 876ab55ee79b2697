"""A frame number drawn into the picture as black and white blocks, to measure motion-to-photon latency.

Eleven bits and an even-parity bit, in a strip along the top edge. The test client draws a number into the camera
frame. With ``--frame-marks`` the server reads it and draws it on the avatar picture that shows the same motion.
"""

from typing import Final

import numpy as np
import numpy.typing as npt

NUMBER_BITS: Final = 11
STRIP_HEIGHT: Final = 1 / 16  # of the picture's height

Image = npt.NDArray[np.uint8]


def draw_mark(image: Image, number: int) -> None:
    """Draw ``number`` (0..2047) into an RGB picture, in place."""
    height, width = image.shape[:2]
    bits = [(number >> k) & 1 for k in range(NUMBER_BITS)]
    bits.append(sum(bits) & 1)
    strip = round(height * STRIP_HEIGHT)
    for k, bit in enumerate(bits):
        image[:strip, k * width // len(bits) : (k + 1) * width // len(bits)] = 255 * bit


def read_mark(image: Image) -> int | None:
    """The number in an RGB picture, or None if it cannot be read."""
    height, width = image.shape[:2]
    count = NUMBER_BITS + 1
    if width < 4 * count:
        return None
    rows = slice(round(height * STRIP_HEIGHT * 0.3), max(round(height * STRIP_HEIGHT * 0.7), 1))
    levels = [
        float(image[rows, round((k + 0.3) * width / count) : round((k + 0.7) * width / count)].mean())
        for k in range(count)
    ]
    if any(80 < level < 175 for level in levels):
        return None
    bits = [level > 128 for level in levels]
    if sum(bits) % 2:
        return None
    return sum(1 << k for k, bit in enumerate(bits[:NUMBER_BITS]) if bit)
