"""The interior layer: mouth and eyes, drawn where a warp finds a hole, posed by the face model's fit."""

import numpy as np
import numpy.typing as npt

from avatar_stream.face.fit import fit_still
from avatar_stream.face.mesh import Floats
from avatar_stream.portrait.interior.eyes import Eyes
from avatar_stream.portrait.interior.mouth import Mouth

Image = npt.NDArray[np.uint8]


class Interior:
    """Mouth and eyes of one portrait at one resolution; not thread-safe.

    ``picture`` RGB ``(h, w, 3)`` with ``landmarks (478, 3)`` in its pixels. ``teeth`` and ``asleep``
    are other pictures of the same person with their landmarks, which show their teeth and their shut eyes.
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
        """Draw them where landmarks ``target (478, 3)`` have them, over the portrait warped there (in place).

        ``view`` is what the driver's mouth shows (see ``read_mouth``), where a camera sees it.
        """
        self._eyes.draw(picture, target)
        self._mouth.draw(picture, target, self._fitter, view)
