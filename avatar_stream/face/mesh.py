"""The face mesh: 478 landmarks, the triangles between them, and named groups of landmark indices.

Landmark numbering is MediaPipe's (468 mesh points, then ten iris points). A landmark array is
``float32 (478, 3)`` in pixels of its image: x right, y down, z towards the back of the head in the same scale.
"Left" and "right" are the subject's own, as in MediaPipe.
"""

from functools import cache
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float32]
Ints = npt.NDArray[np.int32]

LANDMARK_COUNT: Final = 478

FACE_OVAL: Final = (
    10, 338, 297, 332, 284, 251, 389, 356, 454, 323, 361, 288, 397, 365, 379, 378, 400, 377,
    152, 148, 176, 149, 150, 136, 172, 58, 132, 93, 234, 127, 162, 21, 54, 103, 67, 109,
)  # fmt: skip
# Upper and lower lip run from the right corner (78, 61) to the left one (308, 291).
INNER_LIP_UPPER: Final = (78, 191, 80, 81, 82, 13, 312, 311, 310, 415, 308)
INNER_LIP_LOWER: Final = (78, 95, 88, 178, 87, 14, 317, 402, 318, 324, 308)
OUTER_LIP_UPPER: Final = (61, 185, 40, 39, 37, 0, 267, 269, 270, 409, 291)
OUTER_LIP_LOWER: Final = (61, 146, 91, 181, 84, 17, 314, 405, 321, 375, 291)
# Lids run from the outer corner to the inner one; both tuples share their ends.
RIGHT_LID_UPPER: Final = (33, 246, 161, 160, 159, 158, 157, 173, 133)
RIGHT_LID_LOWER: Final = (33, 7, 163, 144, 145, 153, 154, 155, 133)
LEFT_LID_UPPER: Final = (263, 466, 388, 387, 386, 385, 384, 398, 362)
LEFT_LID_LOWER: Final = (263, 249, 390, 373, 374, 380, 381, 382, 362)
RIGHT_IRIS: Final = (468, 469, 470, 471, 472)  # centre first
LEFT_IRIS: Final = (473, 474, 475, 476, 477)
RIGHT_BROW: Final = (70, 63, 105, 66, 107)
LEFT_BROW: Final = (300, 293, 334, 296, 336)
NOSE_LINE: Final = (168, 6, 197, 195, 5, 4, 1)
NOSE_BASE: Final = 2
# Chin, and skin between chin and lower lip: these points go down as the jaw opens.
JAW_LANDMARKS: Final = (152, 148, 377, 176, 400, 149, 378, 150, 379, 175, 199, 200, 18, 83, 313, 201, 421, 208, 428)
# Points that hardly move with expression: forehead, temples, nose bridge, eye corners.
STABLE_LANDMARKS: Final = (
    10, 338, 297, 332, 284, 109, 67, 103, 54, 151, 9, 8, 168, 6, 197, 195, 5, 33, 133, 263, 362,
    127, 356, 162, 389, 21, 251, 108, 337, 69, 299, 104, 333, 234, 454, 98, 327,
)  # fmt: skip

RIGHT_EYE_RING: Final = RIGHT_LID_UPPER + RIGHT_LID_LOWER[-2:0:-1]
LEFT_EYE_RING: Final = LEFT_LID_UPPER + LEFT_LID_LOWER[-2:0:-1]
MOUTH_RING: Final = INNER_LIP_UPPER + INNER_LIP_LOWER[-2:0:-1]
LIPS_RING: Final = OUTER_LIP_UPPER + OUTER_LIP_LOWER[-2:0:-1]


@cache
def _mesh_arrays() -> dict[str, npt.NDArray[np.generic]]:
    with np.load(Path(__file__).parent / "face_mesh.npz") as stored:
        return {name: stored[name] for name in stored.files}


def skin_triangles() -> Ints:
    """The 852 triangles of the 468-point mesh, with holes for eyes and mouth; ``int32 (852, 3)``."""
    return _mesh_arrays()["triangles"].astype(np.int32)


def template() -> Floats:
    """Mean face: symmetric, frontal, centred, outer eye corners 1 apart; ``float32 (478, 3)``."""
    return _mesh_arrays()["template"].astype(np.float32)


def eye_triangles() -> Ints:
    """Triangle fans from each iris centre to the lids, so that the iris can move in the eye; ``int32 (32, 3)``."""
    fans = []
    for centre, ring in ((RIGHT_IRIS[0], RIGHT_EYE_RING), (LEFT_IRIS[0], LEFT_EYE_RING)):
        fans += [(centre, a, b) for a, b in zip(ring, ring[1:] + ring[:1], strict=True)]
    return np.array(fans, np.int32)


def mouth_triangles() -> Ints:
    """The triangle strip between the inner lips, which a warp stretches when a mouth opens; ``int32 (18, 3)``."""
    strip = []
    for i in range(len(INNER_LIP_UPPER) - 1):
        upper, lower = INNER_LIP_UPPER[i : i + 2], INNER_LIP_LOWER[i : i + 2]
        if i > 0:
            strip.append((upper[0], upper[1], lower[0]))
        if i < len(INNER_LIP_UPPER) - 2:
            strip.append((upper[1], lower[1], lower[0]))
    return np.array(strip, np.int32)
