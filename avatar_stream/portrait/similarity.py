"""Similarity transforms from two pairs of points, and resampling by a transform."""

import cv2
import numpy as np

from avatar_stream.face.mesh import Floats


def similarity_between(here: Floats, there: Floats) -> Floats:
    """The 2x3 similarity that takes the two points ``here`` to ``there``."""
    a, b = complex(*(here[1] - here[0])), complex(*(there[1] - there[0]))
    ratio = b / a if abs(a) > 1e-6 else 1
    linear = np.array([[ratio.real, -ratio.imag], [ratio.imag, ratio.real]])
    return np.asarray(np.column_stack([linear, there[0] - linear @ here[0]]), np.float32)


def resample(image: Floats, back: Floats, width: int, height: int) -> Floats:
    """``image`` resampled to ``width`` x ``height``; ``back`` (2x3) takes output pixels to pixels of ``image``."""
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    return np.asarray(cv2.warpAffine(image, back, (width, height), flags=flags, borderMode=cv2.BORDER_REPLICATE))
