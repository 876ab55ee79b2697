"""The inside of an open mouth: teeth, gums, tongue and the dark throat, at the picture's own resolution.

The face model's fit places them. If a camera sees the driver's mouth, they are relit to match it.
"""

from collections.abc import Callable
from typing import Final

import cv2
import numpy as np
import numpy.typing as npt

from avatar_stream.face import geometry
from avatar_stream.face.fit import Fit, fit_still
from avatar_stream.face.mesh import Floats
from avatar_stream.face.model import COEFFICIENT_INDEX
from avatar_stream.face.tone import skin_tone, softness
from avatar_stream.portrait.interior.dental_arch import PlacedArch
from avatar_stream.portrait.interior.mouth_light import relight
from avatar_stream.portrait.interior.mouth_opening import MouthOpening, find_mouth_opening
from avatar_stream.portrait.interior.palette import Palette
from avatar_stream.portrait.interior.teeth import Teeth

Image = npt.NDArray[np.uint8]

# Colours in a mouth, relative to the portrait's skin.
TONGUE_COLOUR: Final = np.array([0.94, 0.71, 0.75], np.float32)
DARK_COLOUR: Final = np.array([0.27, 0.14, 0.15], np.float32)
# Light on the teeth just under the upper lip, and how far down the lip's shadow reaches (eye distances).
LIGHT_UNDER_LIP, LIP_SHADOW_REACH = 0.55, 0.035
# Lips drawn back by a smile let in more light than lips that only part.
LIGHT_PARTED, LIGHT_SMILING = 0.43, 0.50
# A wider mouth lets in more light: share in a narrow one, and the gaps (eye distances) of a narrow and a wide one.
LIGHT_NARROW, NARROW_GAP_RANGE = 0.62, (0.05, 0.15)
LIP_REFLECTANCE: Final = np.array([0.45, 0.32, 0.31], np.float32)  # light reflected by the lips, relative to the skin
TONGUE_SIZE: Final = (0.24, 0.34)  # half its width and its visible length, eye distances
# How much more of the tongue a gaping mouth shows, and the gaps of an open and a gaping mouth (eye distances).
GAPING_TONGUE_EXTENSION, GAPING_GAP_RANGE = 0.14, (0.26, 0.40)
TONGUE_FALLOFF: Final = (0.8, 0.45)  # light lost from tip to back of the tongue, in an open and in a gaping mouth
_SMILE_COEFFICIENTS: Final = [COEFFICIENT_INDEX[name] for name in ("mouthSmileLeft", "mouthSmileRight")]

PIXEL_SIGMA: Final = 0.6  # pixels: the blur of a camera's pixel
MIN_SHOWN_TEETH_GAP: Final = 0.025  # eye distances between the lips from which a portrait may show its teeth
# Error of a fit's lips, eye distances: trusted below, not above. Of 366 frames of dev clips none had more than 0.055.
FIT_ERROR_RANGE: Final = (0.07, 0.11)


class Mouth:
    """The inside of one portrait's mouth.

    ``picture`` is RGB ``(h, w, 3)`` with ``landmarks (478, 3)`` in its pixels, their ``fit``, and the person's
    ``identity``. If it shows no teeth, they come from ``teeth``, another picture of the person with its landmarks.
    """

    def __init__(
        self,
        picture: Image,
        landmarks: Floats,
        fit: Fit,
        identity: Floats,
        teeth: tuple[Image, Floats] | None = None,
    ) -> None:
        self.skin = skin_tone(picture, landmarks)
        self._palette = Palette(picture, landmarks)
        self._gaps = geometry.lip_gaps(landmarks)
        self._shows_teeth = bool(self._gaps.max() > MIN_SHOWN_TEETH_GAP)
        # A pixel averages the area it covers; finer detail would turn into specks.
        soft = float(np.hypot(softness(picture, landmarks), PIXEL_SIGMA)) / geometry.eye_distance(landmarks)
        self._teeth = Teeth(identity, self.skin, soft, self.skin * LIP_REFLECTANCE)
        hole = find_mouth_opening(landmarks, picture.shape[1], picture.shape[0])
        if hole is not None and self._shows_teeth:
            self._teeth.adopt_teeth(picture, landmarks, hole, fit, self._light(hole, fit))
        elif teeth is not None:
            self._adopt_teeth_from(*teeth)

    def _adopt_teeth_from(self, picture: Image, landmarks: Floats) -> None:
        """Take the teeth from another picture of the same person, in this one's light."""
        hole = find_mouth_opening(landmarks, picture.shape[1], picture.shape[0])
        if hole is not None:
            tint = self.skin / np.maximum(skin_tone(picture, landmarks), 1)
            lit = np.clip(picture * tint, 0, 255).astype(np.uint8)
            fit, _ = fit_still(landmarks)
            self._teeth.adopt_teeth(lit, landmarks, hole, fit, self._light(hole, fit))

    def draw(
        self, picture: Image, target: Floats, fit_of: Callable[[Floats], Fit], view: Floats | None = None
    ) -> MouthOpening | None:
        """Draw the inside of the mouth of ``target (478, 3)`` into ``picture`` (in place); ``fit_of`` fits it.

        ``view`` is what a camera sees of the driver's mouth (see ``read_mouth``). Returns the opening that was drawn.
        """
        height, width = picture.shape[:2]
        # A mouth that is open as in the portrait needs no drawing: the warp shows it better.
        share = geometry.smoothstep(
            *geometry.LIP_GAP_CHANGE_RANGE, float(np.abs(geometry.lip_gaps(target) - self._gaps).max())
        )
        hole = find_mouth_opening(target, width, height) if share > 0 else None
        if hole is None:
            return None
        left, top, right, bottom = hole.box
        fit = fit_of(target)
        arches = self._teeth.placed(fit, target, view)
        inside = self._throat_and_tongue(hole, arches["lower"], fit.pose.scale)
        # If the fit fails, teeth would be misplaced: then only the throat is drawn.
        confidence = 1 - geometry.smoothstep(*FIT_ERROR_RANGE, fit.mouth_error)
        self._teeth.draw(inside, arches, self._light(hole, fit), (left, top), confidence)
        if view is not None:
            relight(inside, view, target, hole.box, self._teeth.tooth)
        inside = self._palette.toned(inside)
        region = picture[top:bottom, left:right]
        region[:] = np.clip(region + (hole.alpha * np.float32(share))[..., None] * (inside - region) + 0.5, 0, 255)
        return hole

    def _light(self, hole: MouthOpening, fit: Fit) -> Floats:
        smiling = float(fit.coefficients[_SMILE_COEFFICIENTS].mean())
        light = _light(hole, fit.pose.scale)
        opened = geometry.smoothstep(*NARROW_GAP_RANGE, hole.gap / fit.pose.scale)
        light *= np.float32(LIGHT_NARROW + (1 - LIGHT_NARROW) * opened)
        return light * np.float32(LIGHT_PARTED + LIGHT_SMILING * min(smiling * 1.6, 1.0))

    def _throat_and_tongue(self, hole: MouthOpening, lower: PlacedArch, unit: float) -> Floats:
        """The dark throat, and the tongue behind the ``lower`` arch; ``unit`` is the eye distance in pixels."""
        left, top, right, bottom = hole.box
        width, height = right - left, bottom - top
        gaping = geometry.smoothstep(*GAPING_GAP_RANGE, hole.gap / unit)
        dark = DARK_COLOUR * self.skin
        x = np.arange(left, left + width, dtype=np.float32)
        y = np.arange(top, top + height, dtype=np.float32)[:, None]
        # The tongue rests behind the lower teeth and moves with the jaw. It is lightest at its tip, which is nearest.
        down = lower.down / max(float(np.linalg.norm(lower.down)), 1e-6)
        tip = lower.line[len(lower.line) // 2] + 0.55 * lower.down
        across = ((x - tip[0]) * down[1] - (y - tip[1]) * down[0]) / np.float32(TONGUE_SIZE[0] * unit)
        back = -((x - tip[0]) * down[0] + (y - tip[1]) * down[1]) / np.float32(
            (TONGUE_SIZE[1] + GAPING_TONGUE_EXTENSION * gaping) * unit
        )
        inside = 1 - across**2 - np.maximum(back, 0) ** 2
        alpha = np.clip(inside * 2.5, 0, 1)[..., None]
        groove = 1 - 0.06 * np.exp(-((across / 0.2) ** 2))
        lit = (
            np.clip(
                1 - (TONGUE_FALLOFF[0] + (TONGUE_FALLOFF[1] - TONGUE_FALLOFF[0]) * gaping) * np.clip(back, 0, 1), 0, 1
            )
            * groove
            * (1 - 0.3 * across**2)
        )
        tongue = TONGUE_COLOUR * self.skin * lit[..., None]
        return np.asarray(dark + alpha * (tongue - dark), np.float32)


def _light(hole: MouthOpening, unit: float) -> Floats:
    """Light behind the lips, ``(h, w)``; their shadow is deepest under the upper one."""
    inside = (hole.alpha > 0.5).astype(np.uint8)
    height = inside.shape[0]
    rows = np.arange(height, dtype=np.float32)[:, None]
    first = np.where(inside.any(0), inside.argmax(0), height)
    under = np.clip((rows - first) / np.float32(LIP_SHADOW_REACH * unit), 0, 1)
    around = np.clip(cv2.distanceTransform(inside, cv2.DIST_L2, 3) / np.float32(0.4 * LIP_SHADOW_REACH * unit), 0, 1)
    light = LIGHT_UNDER_LIP + (1 - LIGHT_UNDER_LIP) * under * (0.5 + 0.5 * around)
    return np.asarray(light, np.float32)
