"""A photographed person doing something else: the photograph moved by the live path's warp, the head drawn on it."""

from typing import Final

import cv2
import numpy as np
import numpy.typing as npt

from avatar_stream.face import geometry, mesh
from avatar_stream.face.mesh import Floats
from avatar_stream.face.model import COEFFICIENT_INDEX
from avatar_stream.portrait.portrait import inpaint_background
from avatar_stream.portrait.warp import PortraitWarp
from engines.made.head import HeadModel
from engines.made.person import Look, Person, Posed
from engines.made.raster import FINER, Canvas

Image = npt.NDArray[np.uint8]

FEATHER: Final = 0.05  # eye distances over which the drawn face runs out into the photograph
LASH_LINE: Final = 0.016  # eye distances: how thick the line is where lids meet
LIDS: Final = ((mesh.RIGHT_LID_UPPER, "eyeBlinkRight"), (mesh.LEFT_LID_UPPER, "eyeBlinkLeft"))


class Studio:
    """One person before the camera."""

    def __init__(self, canvas: Canvas, person: Person) -> None:
        self.canvas, self.person = canvas, person
        sitter = person.sitter
        plate = inpaint_background(sitter.picture, sitter.matte)
        self._warp = PortraitWarp(sitter.picture, plate, sitter.matte, sitter.landmarks)

    def shot(self, look: Look) -> Image:
        """RGB of the photograph's size."""
        posed = self.person.posed(look)
        behind = self._warp(posed.landmarks).image.astype(np.float32)
        left, top, right, bottom = box = _box(posed, self.canvas.head, behind.shape)
        self.canvas.use(self.person.paint)
        gap = float(geometry.lip_gaps(posed.landmarks).max())
        drawn = self.canvas.draw(posed.points, posed.normals, posed.lights, box, posed.scale, posed.lip_depth, gap)
        alpha = (drawn[..., 3] > 0).astype(np.float32)
        reach = max(3, round(FEATHER * posed.scale * FINER)) | 1
        soft = cv2.GaussianBlur(cv2.erode(alpha, np.ones((reach, reach))), (0, 0), reach / 2.5)
        soft = np.minimum(soft, alpha)[..., None]
        size = (right - left, bottom - top)
        colour = cv2.resize(drawn[..., :3] * soft, size, interpolation=cv2.INTER_AREA)
        share = cv2.resize(soft, size, interpolation=cv2.INTER_AREA)[..., None]
        part = behind[top:bottom, left:right]
        behind[top:bottom, left:right] = colour + part * (1 - share)
        self._lash_lines(behind, posed, look)
        return np.clip(behind + 0.5, 0, 255).astype(np.uint8)

    def _lash_lines(self, picture: Floats, posed: Posed, look: Look) -> None:
        """Where lids meet their lashes make one dark line (in place)."""
        head, own = self.canvas.head, self.person.own
        for ring, name in LIDS:
            change = float(look.coefficients[COEFFICIENT_INDEX[name]] - own[COEFFICIENT_INDEX[name]])
            if change < 0.25:
                continue
            line = np.zeros(picture.shape[:2], np.uint8)
            points = np.round((posed.points[head.landmarks[list(ring)], :2] + 0.5) * 16).astype(np.int32)
            width = max(1, round(LASH_LINE * posed.scale))
            cv2.polylines(line, [points[1:]], False, 255, width, cv2.LINE_AA, 4)
            alpha = cv2.GaussianBlur(line, (0, 0), 0.5 + 0.004 * posed.scale).astype(np.float32)[..., None] / 255
            alpha *= (0.35 + 0.4 * self.person.paint.lashes) * min((change - 0.25) / 0.4, 1)
            picture += alpha * (0.22 * self.person.skin - picture)


def _box(posed: Posed, head: HeadModel, shape: tuple[int, ...]) -> tuple[int, int, int, int]:
    """What of the picture the drawn face may cover, in steps of 32 pixels."""
    at = posed.points[head.face, :2]
    low, high = np.floor(at.min(0) - 2), np.ceil(at.max(0) + 2)
    extent = np.array(shape[1::-1])
    size = np.minimum(np.ceil((high - low) / 32) * 32, extent).astype(int)
    corner = np.clip(low, 0, extent - size).astype(int)
    return int(corner[0]), int(corner[1]), int(corner[0] + size[0]), int(corner[1] + size[1])
