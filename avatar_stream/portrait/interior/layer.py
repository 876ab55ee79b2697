"""The interior layer: draws mouth and eyes into a warped portrait, placed by the face model's fit."""

import numpy as np
import numpy.typing as npt

from avatar_stream.face.fit import fit_still
from avatar_stream.face.mesh import Floats
from avatar_stream.portrait.interior.eyes import Eyes
from avatar_stream.portrait.interior.mouth import Mouth

Image = npt.NDArray[np.uint8]


class Interior:
    """Mouth and eyes of one portrait at one resolution; not thread-safe.

    ``picture`` is RGB ``(h, w, 3)`` with ``landmarks (478, 3)`` in its pixels. ``teeth`` and ``asleep`` are other
    pictures of the same person, with landmarks, that show their teeth and their shut eyes.
    """

    def __init__(
        self,
        picture: Image,
        landmarks: Floats,
        teeth: tuple[Image, Floats] | None = None,
        asleep: tuple[Image, Floats] | None = None,
    ) -> None:
        fit, self._fitter = fit_still(landmarks)
        self._mouth = Mouth(picture, landmarks, fit, self._fitter.identity, teeth)
        self._eyes = Eyes(picture, landmarks, asleep)

    def draw(self, picture: Image, target: Floats, view: Floats | None = None) -> None:
        """Draw mouth and eyes at ``target (478, 3)`` into a portrait warped to it (in place).

        ``view`` is what a camera sees of the driver's mouth (see ``read_mouth``).
        """
        self._eyes.draw(picture, target)
        self._mouth.draw(picture, target, self._fitter, view)
