"""Parts of a face that are held fixed, whatever the driver does."""

from collections.abc import Collection
from dataclasses import replace
from typing import Final

import numpy as np

from avatar_stream.errors import BadInput
from avatar_stream.face.model import COEFFICIENT_INDEX, coefficient_indices
from avatar_stream.face.motion import Motion

HOLDABLE_PARTS: Final = ("gaze", "smile", "serious", "mouth", "teeth", "awake", "brows")
"""In this order: eyes look where the portrait looks; a gentle smile; no smile; lips stay shut; lips part too little
to show teeth; eyes never fully close; brows at rest."""
MIN_HELD_SMILE: Final = 0.4
MAX_COVERING_LIP_GAP: Final = 0.045  # gap of the lips in eye distances, up to which they cover the teeth
MIN_AWAKE_OPENING: Final = 0.62  # in shares of an eye's usual opening
_SMILE: Final = [COEFFICIENT_INDEX["mouthSmileLeft"], COEFFICIENT_INDEX["mouthSmileRight"]]
_AGAINST_SMILE: Final = coefficient_indices("mouthFrown", "mouthPucker")
_SMILE_AND_CHEEKS: Final = coefficient_indices("mouthSmile", "mouthDimple", "cheekSquint")
_SHOWS_TEETH: Final = coefficient_indices("mouthUpperUp", "mouthLowerDown", "mouthStretch")
_BROWS: Final = coefficient_indices("brow")
_MOUTH: Final = coefficient_indices("jaw", "mouth")
_JAW: Final = coefficient_indices("jawOpen")


def checked_hold(names: Collection[str]) -> frozenset[str]:
    """``names`` as a set; raises :class:`~avatar_stream.errors.BadInput` if one is not in ``HOLDABLE_PARTS``."""
    found = frozenset([names] if isinstance(names, str) else names)
    if not found <= set(HOLDABLE_PARTS):
        raise BadInput(f"hold takes only {', '.join(HOLDABLE_PARTS)}")
    return found


def hold_parts(motion: Motion, hold: Collection[str]) -> Motion:
    """The motion with the parts in ``hold`` held."""
    if not hold:
        return motion
    coefficients = motion.coefficients.copy()
    gap, look = motion.gap, motion.look
    if "mouth" in hold:
        coefficients[_MOUTH] = 0
        gap = np.zeros_like(gap)
    if "brows" in hold:
        coefficients[_BROWS] = 0
    if "smile" in hold:
        coefficients[_SMILE] = np.maximum(coefficients[_SMILE], MIN_HELD_SMILE)
        coefficients[_AGAINST_SMILE] = 0
    if "serious" in hold:
        coefficients[_SMILE_AND_CHEEKS] = 0
    if "teeth" in hold:
        coefficients[_SHOWS_TEETH] = 0
        coefficients[_JAW] = np.minimum(coefficients[_JAW], 0.1)
        gap = gap * np.float32(min(1.0, MAX_COVERING_LIP_GAP / max(float(np.abs(gap[:, 1]).max()), 1e-6)))
    if "gaze" in hold:
        look = np.zeros_like(look)
    lids = np.maximum(motion.lids, MIN_AWAKE_OPENING) if "awake" in hold else motion.lids
    residual = motion.fit_residual
    if "mouth" in hold or "teeth" in hold:  # the fit's residual is mostly at the mouth
        residual = np.zeros_like(residual)
    return replace(motion, coefficients=coefficients, gap=gap, lids=lids, look=look, fit_residual=residual)
