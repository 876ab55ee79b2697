"""Measures a picture's skin tone and softness."""

from typing import Final

import cv2
import numpy as np
import numpy.typing as npt

from avatar_stream.face import geometry
from avatar_stream.face.mesh import Floats

Image = npt.NDArray[np.uint8]
SKIN_LANDMARKS: Final = (50, 280, 205, 425, 195)  # on plain skin
FACE_CORNERS: Final = (33, 263, 61, 291)  # of eyes and mouth: edges to measure lie between them
# Colour of the brightest third of the teeth from skin colour: least squares over 614 training stills.
TOOTH_SHARE: Final = np.array([0.78, 0.81, 0.77], np.float32)
TOOTH_OFFSET: Final = np.array([58, 78, 82], np.float32)
# Ratio of fine to medium detail, and the blur in pixels that gives it on the training stills. With hardly any fine
# detail left, the ratio of medium to coarse detail.
FINE_DETAIL_TO_BLUR: Final = ((0.56, 0.64, 0.76, 0.90), (1.4, 1.0, 0.7, 0.0))
COARSE_DETAIL_TO_BLUR: Final = ((0.33, 0.40, 0.47, 0.53), (4.5, 3.0, 2.0, 1.4))


def skin_tone(picture: Image, landmarks: Floats) -> Floats:
    """Mean RGB ``(3,)`` of cheeks and nose."""
    height, width = picture.shape[:2]
    reach = max(1, round(float(np.linalg.norm(landmarks[33, :2] - landmarks[263, :2])) / 20))
    tones = []
    for x, y in np.round(landmarks[list(SKIN_LANDMARKS), :2]).astype(int):
        patch = picture[max(y - reach, 0) : y + reach + 1, max(x - reach, 0) : x + reach + 1]
        if 0 <= x < width and 0 <= y < height and patch.size:
            tones.append(patch.reshape(-1, 3).mean(0))
    return np.asarray(np.mean(tones, axis=0) if tones else [170, 130, 110], np.float32)


def tooth_tone(skin: Floats) -> Floats:
    """Teeth's RGB ``(3,)`` in the light in which skin has the RGB ``skin``."""
    return np.asarray(np.minimum(TOOTH_SHARE * skin + TOOTH_OFFSET, 245), np.float32)


def softness(picture: Image, landmarks: Floats) -> float:
    """Blur of a face compared with a sharp one, as the standard deviation of a Gaussian in pixels.

    Estimated from the ratio of detail at neighbouring scales.
    """
    unit = geometry.eye_distance(landmarks)
    corners = landmarks[list(FACE_CORNERS), :2]
    left, top = np.maximum((corners.min(0) - 0.2 * unit).astype(int), 0)
    right, bottom = (corners.max(0) + 0.2 * unit).astype(int)
    grey = cv2.cvtColor(picture[top:bottom, left:right], cv2.COLOR_RGB2GRAY).astype(np.float32)
    if min(grey.shape) < 16:
        return 0.0
    one, two, four = (cv2.GaussianBlur(grey, (0, 0), sigma) for sigma in (1, 2, 4))
    fine, middling, coarse = (
        float(np.sqrt(((a - b) ** 2).mean())) for a, b in ((grey, one), (one, two), (two, four))
    )
    if fine > FINE_DETAIL_TO_BLUR[0][0] * middling:
        return float(np.interp(fine / max(middling, 1e-3), *FINE_DETAIL_TO_BLUR))
    return float(np.interp(middling / max(coarse, 1e-3), *COARSE_DETAIL_TO_BLUR))
