"""Parts of a face that stay as they are asked to, whatever the driver does."""

from collections.abc import Iterable
from dataclasses import replace
from typing import Final

import numpy as np

from avatar_stream.errors import BadInput
from avatar_stream.face.model import INDEX, indices
from avatar_stream.face.motion import Motion

HOLDS: Final = ("gaze", "smile", "mouth", "brows")
"""Eyes that look where the portrait looks; a gentle smile; lips that stay shut; brows at rest."""
SMILE: Final = 0.4
_SMILE: Final = [INDEX["mouthSmileLeft"], INDEX["mouthSmileRight"]]
_AGAINST: Final = indices("mouthFrown", "mouthPucker")
_BROWS: Final = indices("brow")
_MOUTH: Final = indices("jaw", "mouth")


def checked_holds(names: Iterable[str]) -> frozenset[str]:
    """These, each one of ``HOLDS``; raises :class:`~avatar_stream.errors.BadInput`."""
    found = frozenset(names)
    if not found <= set(HOLDS):
        raise BadInput(f"what can be held is {', '.join(HOLDS)}")
    return found


def held(motion: Motion, holds: frozenset[str]) -> Motion:
    """The motion with these parts held."""
    if not holds:
        return motion
    coefficients = motion.coefficients.copy()
    gap, look = motion.gap, motion.look
    if "mouth" in holds:
        coefficients[_MOUTH] = 0
        gap = np.zeros_like(gap)
    if "brows" in holds:
        coefficients[_BROWS] = 0
    if "smile" in holds:
        coefficients[_SMILE] = np.maximum(coefficients[_SMILE], SMILE)
        coefficients[_AGAINST] = 0
    if "gaze" in holds:
        look = np.zeros_like(look)
    residual = motion.residual
    if "mouth" in holds:  # what the model does not say is mostly about the mouth
        residual = np.zeros_like(residual)
    return replace(motion, coefficients=coefficients, gap=gap, look=look, residual=residual)
