"""What is inside an opened mouth: teeth, gums, tongue and the dark behind them, at the picture's own resolution.

Posed by the face model's fit; where a camera sees the driver's mouth it is lit as that one is.
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
from avatar_stream.portrait.interior.dental_arch import Placed
from avatar_stream.portrait.interior.mouth_light import light_as
from avatar_stream.portrait.interior.mouth_opening import Hole, hole_between
from avatar_stream.portrait.interior.palette import Palette
from avatar_stream.portrait.interior.teeth import Teeth

Image = npt.NDArray[np.uint8]

# Colours of a mouth in the light of a portrait's skin.
TONGUE_SHARE: Final = np.array([0.94, 0.71, 0.75], np.float32)
DARK_SHARE: Final = np.array([0.27, 0.14, 0.15], np.float32)
# Light: how much reaches the teeth just under the upper lip, and how far down it is whole (eye distances).
UNDER_LIP, LIP_REACH = 0.55, 0.035
# Lips drawn back by a smile let more light in than lips that only part.
LIGHT_PARTED, LIGHT_SMILING = 0.43, 0.50
# A mouth that opens lets more light in: share of it at a gap that hardly shows teeth and at a good one.
LIGHT_NARROW, NARROW = 0.62, (0.05, 0.15)
GLOW: Final = np.array([0.45, 0.32, 0.31], np.float32)  # what lips throw back of the light, in shares of the skin
TONGUE: Final = (0.24, 0.34)  # half its width and how far up it is seen, eye distances
DEEPER, GAPING = 0.14, (0.26, 0.40)  # how much further up in a gaping mouth, and the gap from which and to which
FADES: Final = (0.8, 0.45)  # light that the tongue loses up to its back, in a mouth that is open and one that gapes
_SMILING: Final = [COEFFICIENT_INDEX[name] for name in ("mouthSmileLeft", "mouthSmileRight")]

PIXEL: Final = 0.6  # pixels: deviation of what one of them sees
SHOWN: Final = 0.025  # opening (eye distances) from which a portrait may show its teeth
# Error of a fit's lips, eye distances: of 366 frames of dev clips none had more than 0.055.
UNTRUSTED: Final = (0.07, 0.11)


class Mouth:
    """The inside of one portrait's mouth.

    ``picture`` RGB ``(h, w, 3)`` with ``landmarks (478, 3)`` in its pixels, read as ``fit`` of a person ``identity``.
    Where it shows no teeth, they are taken from ``teeth``, another picture of that person with its landmarks.
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
        self._shows_teeth = bool(self._gaps.max() > SHOWN)
        # A pixel shows the mean of what it covers: finer detail would come out as specks.
        soft = float(np.hypot(softness(picture, landmarks), PIXEL)) / geometry.eye_distance(landmarks)
        self._teeth = Teeth(identity, self.skin, soft, self.skin * GLOW)
        hole = hole_between(landmarks, picture.shape[1], picture.shape[0])
        if hole is not None and self._shows_teeth:
            self._teeth.take_own(picture, landmarks, hole, fit, self._light(hole, fit))
        elif teeth is not None:
            self._borrow(*teeth)

    def _borrow(self, picture: Image, landmarks: Floats) -> None:
        """Take the teeth of another picture of the same person, brought into this one's light."""
        hole = hole_between(landmarks, picture.shape[1], picture.shape[0])
        if hole is not None:
            tint = self.skin / np.maximum(skin_tone(picture, landmarks), 1)
            lit = np.clip(picture * tint, 0, 255).astype(np.uint8)
            fit, _ = fit_still(landmarks)
            self._teeth.take_own(lit, landmarks, hole, fit, self._light(hole, fit))

    def draw(
        self, picture: Image, target: Floats, read: Callable[[Floats], Fit], view: Floats | None = None
    ) -> Hole | None:
        """Draw the inside of the mouth of ``target (478, 3)``, which ``read`` fits, into ``picture`` (in place).

        ``view`` is what the driver's mouth shows (see ``read_mouth``), where a camera sees it.
        """
        height, width = picture.shape[:2]
        # What the portrait shows as it is needs no drawing: a warp has it better.
        share = geometry.smoothstep(
            *geometry.LIP_GAP_CHANGE_RANGE, float(np.abs(geometry.lip_gaps(target) - self._gaps).max())
        )
        hole = hole_between(target, width, height) if share > 0 else None
        if hole is None:
            return None
        left, top, right, bottom = hole.box
        fit = read(target)
        arches = self._teeth.placed(fit, target, view)
        inside = self._back(hole, arches["lower"], fit.pose.scale)
        # Where the fit fails teeth would stand anywhere: then there is only the dark.
        sure = 1 - geometry.smoothstep(*UNTRUSTED, fit.mouth_error)
        self._teeth.draw(inside, arches, self._light(hole, fit), (left, top), sure)
        if view is not None:
            light_as(inside, view, target, hole.box, self._teeth.tooth)
        inside = self._palette.toned(inside)
        region = picture[top:bottom, left:right]
        region[:] = np.clip(region + (hole.alpha * np.float32(share))[..., None] * (inside - region) + 0.5, 0, 255)
        return hole

    def _light(self, hole: Hole, fit: Fit) -> Floats:
        smiling = float(fit.coefficients[_SMILING].mean())
        light = _light(hole, fit.pose.scale)
        opened = geometry.smoothstep(*NARROW, hole.gap / fit.pose.scale)
        light *= np.float32(LIGHT_NARROW + (1 - LIGHT_NARROW) * opened)
        return light * np.float32(LIGHT_PARTED + LIGHT_SMILING * min(smiling * 1.6, 1.0))

    def _back(self, hole: Hole, lower: Placed, unit: float) -> Floats:
        """The dark of the mouth, and the tongue in it, behind the ``lower`` arch; ``unit`` pixels an eye distance."""
        left, top, right, bottom = hole.box
        width, height = right - left, bottom - top
        gaping = geometry.smoothstep(*GAPING, hole.gap / unit)
        dark = DARK_SHARE * self.skin
        x = np.arange(left, left + width, dtype=np.float32)
        y = np.arange(top, top + height, dtype=np.float32)[:, None]
        # The tongue rests behind the lower teeth and goes with the jaw: nearest, and lightest, at its tip.
        down = lower.down / max(float(np.linalg.norm(lower.down)), 1e-6)
        tip = lower.line[len(lower.line) // 2] + 0.55 * lower.down
        across = ((x - tip[0]) * down[1] - (y - tip[1]) * down[0]) / np.float32(TONGUE[0] * unit)
        back = -((x - tip[0]) * down[0] + (y - tip[1]) * down[1]) / np.float32((TONGUE[1] + DEEPER * gaping) * unit)
        inside = 1 - across**2 - np.maximum(back, 0) ** 2
        alpha = np.clip(inside * 2.5, 0, 1)[..., None]
        groove = 1 - 0.06 * np.exp(-((across / 0.2) ** 2))
        lit = (
            np.clip(1 - (FADES[0] + (FADES[1] - FADES[0]) * gaping) * np.clip(back, 0, 1), 0, 1)
            * groove
            * (1 - 0.3 * across**2)
        )
        tongue = TONGUE_SHARE * self.skin * lit[..., None]
        return np.asarray(dark + alpha * (tongue - dark), np.float32)


def _light(hole: Hole, unit: float) -> Floats:
    """Shadow of the lips on what is behind them, deepest under the upper one."""
    inside = (hole.alpha > 0.5).astype(np.uint8)
    height = inside.shape[0]
    rows = np.arange(height, dtype=np.float32)[:, None]
    first = np.where(inside.any(0), inside.argmax(0), height)
    under = np.clip((rows - first) / np.float32(LIP_REACH * unit), 0, 1)
    around = np.clip(cv2.distanceTransform(inside, cv2.DIST_L2, 3) / np.float32(0.4 * LIP_REACH * unit), 0, 1)
    light = UNDER_LIP + (1 - UNDER_LIP) * under * (0.5 + 0.5 * around)
    return np.asarray(light, np.float32)
