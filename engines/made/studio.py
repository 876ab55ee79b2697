"""A photographed person with another expression: the head drawn over the live path's warp of the photograph."""

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
from engines.made.person import FaceGeometry, FaceState, Person
from engines.made.raster import SAMPLES_PER_PIXEL, Canvas

Image = npt.NDArray[np.uint8]

FEATHER_WIDTH: Final = 0.05  # eye distances over which the drawn face blends into the photograph
LASH_LINE_WIDTH: Final = 0.016  # eye distances; the line where shut lids meet
LIDS_AND_BLINKS: Final = ((mesh.RIGHT_LID_UPPER, "eyeBlinkRight"), (mesh.LEFT_LID_UPPER, "eyeBlinkLeft"))


class Studio:
    """Renders one person in any face state."""

    def __init__(self, canvas: Canvas, person: Person) -> None:
        self.canvas, self.person = canvas, person
        sitter = person.sitter
        plate = inpaint_background(sitter.picture, sitter.matte)
        self._warp = PortraitWarp(sitter.picture, plate, sitter.matte, sitter.landmarks)

    def render(self, state: FaceState) -> Image:
        """RGB picture of the photograph's size."""
        face = self.person.face_geometry(state)
        behind = self._warp(face.landmarks).image.astype(np.float32)
        left, top, right, bottom = box = _box(face, self.canvas.head, behind.shape)
        self.canvas.use(self.person.paint)
        gap = float(geometry.lip_gaps(face.landmarks).max())
        drawn = self.canvas.draw(face.points, face.normals, face.lights, box, face.scale, face.lip_depth, gap)
        alpha = (drawn[..., 3] > 0).astype(np.float32)
        reach = max(3, round(FEATHER_WIDTH * face.scale * SAMPLES_PER_PIXEL)) | 1
        soft = cv2.GaussianBlur(cv2.erode(alpha, np.ones((reach, reach))), (0, 0), reach / 2.5)
        soft = np.minimum(soft, alpha)[..., None]
        size = (right - left, bottom - top)
        colour = cv2.resize(drawn[..., :3] * soft, size, interpolation=cv2.INTER_AREA)
        share = cv2.resize(soft, size, interpolation=cv2.INTER_AREA)[..., None]
        part = behind[top:bottom, left:right]
        behind[top:bottom, left:right] = colour + part * (1 - share)
        self._lash_lines(behind, face, state)
        return np.clip(behind + 0.5, 0, 255).astype(np.uint8)

    def _lash_lines(self, picture: Floats, face: FaceGeometry, state: FaceState) -> None:
        """Draw the dark line that lashes make where lids meet (in place)."""
        head, own = self.canvas.head, self.person.photo_coefficients
        for ring, name in LIDS_AND_BLINKS:
            change = float(state.coefficients[COEFFICIENT_INDEX[name]] - own[COEFFICIENT_INDEX[name]])
            if change < 0.25:
                continue
            line = np.zeros(picture.shape[:2], np.uint8)
            points = np.round((face.points[head.landmarks[list(ring)], :2] + 0.5) * 16).astype(np.int32)
            width = max(1, round(LASH_LINE_WIDTH * face.scale))
            cv2.polylines(line, [points[1:]], False, 255, width, cv2.LINE_AA, 4)
            alpha = cv2.GaussianBlur(line, (0, 0), 0.5 + 0.004 * face.scale).astype(np.float32)[..., None] / 255
            alpha *= (0.35 + 0.4 * self.person.paint.lashes) * min((change - 0.25) / 0.4, 1)
            picture += alpha * (0.22 * self.person.skin - picture)


def _box(face: FaceGeometry, head: HeadModel, shape: tuple[int, ...]) -> tuple[int, int, int, int]:
    """The box that the drawn face may cover: left, top, right, bottom; its size is a multiple of 32 pixels."""
    at = face.points[head.face, :2]
    low, high = np.floor(at.min(0) - 2), np.ceil(at.max(0) + 2)
    extent = np.array(shape[1::-1])
    size = np.minimum(np.ceil((high - low) / 32) * 32, extent).astype(int)
    corner = np.clip(low, 0, extent - size).astype(int)
    return int(corner[0]), int(corner[1]), int(corner[0] + size[0]), int(corner[1] + size[1])
