"""How well a picture serves as a portrait, with advice for a better one."""

from dataclasses import asdict, dataclass
from typing import Any, Final

import cv2
import numpy as np

from avatar_stream.face import geometry
from avatar_stream.face.fit import fit_still
from avatar_stream.portrait.aligned import ALIGNED_SIZE, to_aligned
from avatar_stream.portrait.portrait import Portrait

MIN_EYE_DISTANCE_PIXELS: Final = 75  # between the outer corners, in a picture of 512; a smaller face is coarse
# Ratio of fine to medium detail: 0.54 in sharp portraits, 0.33 in portraits blurred by three pixels of 512.
MIN_DETAIL: Final = 0.34
MAX_YAW_DEGREES: Final = 18.0  # beyond it a cheek is hidden
MIN_EYE_OPENING: Final = 0.16  # of the narrower eye, over its width
MAX_LIP_GAP: Final = 0.08  # in eye distances
MAX_LIP_FIT_ERROR: Final = 0.06  # of the fitted face model, in eye distances


@dataclass(frozen=True, slots=True)
class PictureQuality:
    """Measures of one picture, and ``advice``, a sentence for each measure out of its range.

    ``eyes``: pixels between the outer corners of the eyes. ``detail``: ratio of fine to medium detail. ``yaw`` and
    ``pitch``: degrees. ``opening``: of the narrower eye, over its width. ``mouth``: lip gap in eye distances.
    ``covered``: error of the lips in the fitted face model, in eye distances. ``score``: 0 to 1.
    """

    eyes: float
    detail: float
    yaw: float
    pitch: float
    opening: float
    mouth: float
    covered: float
    score: float
    advice: tuple[str, ...]

    def report(self) -> dict[str, Any]:
        """As JSON."""
        found = {key: round(value, 3) if isinstance(value, float) else value for key, value in asdict(self).items()}
        return found | {"advice": list(self.advice)}


def assess_portrait(portrait: Portrait) -> PictureQuality:
    """The quality of a prepared picture."""
    landmarks = portrait.landmarks
    pitch, yaw, _ = geometry.euler_degrees(geometry.head_pose(landmarks).rotation)
    eyes = geometry.eye_distance(landmarks)
    detail = _detail(portrait)
    opening = float(min(geometry.eye_openings(landmarks)))
    mouth = float(geometry.lip_gaps(landmarks).max())
    covered = fit_still(landmarks)[0].mouth_error
    rules = (
        (eyes < MIN_EYE_DISTANCE_PIXELS, "the face is small: use a picture that is closer to the head"),
        (detail < MIN_DETAIL, "the picture is soft: a sharper one shows more of the skin"),
        (abs(yaw) > MAX_YAW_DEGREES, "the head is turned: a face towards the camera moves better"),
        (opening < MIN_EYE_OPENING, "the eyes are nearly shut: use a picture that shows their colour"),
        (mouth > MAX_LIP_GAP, "the mouth is open: use a picture that shows the lips at rest"),
        (covered > MAX_LIP_FIT_ERROR, "something covers the mouth, perhaps a hand: it would move with the mouth"),
    )
    parts = (
        np.clip(eyes / MIN_EYE_DISTANCE_PIXELS, 0, 1),
        np.clip(detail / MIN_DETAIL, 0, 1),
        np.clip(1.3 - abs(yaw) / MAX_YAW_DEGREES * 0.5, 0, 1),
        np.clip(opening / MIN_EYE_OPENING, 0, 1),
        np.clip(1.1 - mouth / MAX_LIP_GAP * 0.1, 0.4, 1),
        np.clip(1.3 - covered / MAX_LIP_FIT_ERROR * 0.3, 0, 1),
    )
    advice = tuple(sentence for bad, sentence in rules if bad)
    return PictureQuality(
        eyes, detail, float(yaw), float(pitch), opening, mouth, covered, float(np.prod(parts)), advice
    )


def _detail(portrait: Portrait) -> float:
    """Ratio of fine to medium detail of a face, at a fixed size of the face."""
    face = to_aligned(portrait.crop, geometry.aligned_frame(portrait.landmarks, ALIGNED_SIZE))
    grey = cv2.cvtColor(face, cv2.COLOR_RGB2GRAY).astype(np.float32)
    grey = grey[ALIGNED_SIZE // 4 : 3 * ALIGNED_SIZE // 4, ALIGNED_SIZE // 6 : 5 * ALIGNED_SIZE // 6]
    one, two, five = (cv2.GaussianBlur(grey, (0, 0), sigma) for sigma in (1, 2, 5))
    return float((one - two).std() / max(float((two - five).std()), 1e-3))
