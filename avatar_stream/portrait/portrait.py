"""Prepares a picture as a portrait: checks that it has one usable face, and cuts the person out of the background."""

import math
import os
from dataclasses import dataclass, replace
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt

from avatar_stream.errors import BadPicture
from avatar_stream.face import geometry, mesh, tracker
from avatar_stream.face.body import find_shoulders
from avatar_stream.face.mesh import Floats
from avatar_stream.native_output import quiet_graph
from avatar_stream.portrait.picture_files import formats as formats
from avatar_stream.portrait.picture_files import read_picture as read_picture

Image = npt.NDArray[np.uint8]

MIN_FACE_PIXELS = 44  # face width; smaller faces have too little detail to animate
MAX_YAW_DEGREES = 38.0  # turned further, half of the face cannot be seen
MIN_SHOULDER_WIDTH = 1.2  # face widths between the shoulders of a person who faces the camera
MIN_BODY_SHARE = 0.06  # of the moved region's height, below the shoulders
HEAD_CROP_FACE_HEIGHTS = 3.2  # side of the moved region


@dataclass(frozen=True, slots=True)
class Portrait:
    """A prepared portrait.

    ``picture`` is the whole RGB picture ``(H, W, 3)`` at output size. ``box`` ``(left, top, width, height)`` is the
    moved region. ``plate`` is that region without the person, RGB, and ``matte`` ``uint8`` its coverage by the
    person. ``landmarks`` ``(478, 3)`` are in pixels of the region, and so are ``shoulders`` ``(2, 2)``, if any.
    """

    picture: Image
    box: tuple[int, int, int, int]
    plate: Image
    matte: Image
    landmarks: Floats
    shoulders: Floats | None = None
    teeth: tuple[Image, Floats] | None = None
    """Another picture of the same person that shows their teeth, RGB, and its landmarks ``(478, 3)``."""
    asleep: tuple[Image, Floats] | None = None
    """Another picture of them with their eyes shut, and its landmarks."""
    turned: tuple[tuple[Image, Floats], ...] = ()
    """Pictures of them with the head turned another way, and their landmarks."""

    @property
    def crop(self) -> Image:
        """The moved region of the picture."""
        left, top, width, height = self.box
        return self.picture[top : top + height, left : left + width]

    @staticmethod
    def open(
        source: "str | os.PathLike[str] | bytes | Image", size: int = 512, *, square: bool = False
    ) -> "Portrait":
        """Prepare a picture: a file, its bytes (JPEG, PNG or WebP), or RGB pixels ``(h, w, 3)``.

        The portrait has at most ``size`` pixels on its longer side, or with ``square`` exactly ``size`` x ``size``,
        cropped around the head. Raises :class:`~avatar_stream.errors.BadPicture` with the reason.
        """
        if isinstance(source, np.ndarray):
            return prepare(source, size, square=square)
        if isinstance(source, bytes):
            return prepare(read_picture(source), size, square=square)
        path = Path(source)
        return prepare(read_picture(path), size, name=path.name, square=square)


def prepare(picture: Image, size: int, *, name: str = "the picture", square: bool = False) -> Portrait:
    """Check ``picture`` (RGB) for one usable face and prepare it at most ``size`` pixels on its longer side.

    With ``square`` it is exactly ``size`` x ``size``, cropped around the head, so that a live stream keeps one size
    for every portrait. Raises :class:`BadPicture` for no face, several, or one too small or turned too far.
    """
    boxes = _all_faces(picture)
    if not boxes:
        raise BadPicture(f"no face found in {name}: use a picture of one person looking at the camera")
    if len(boxes) > 1 and boxes[1][2] > 0.4 * boxes[0][2]:
        raise BadPicture(f"{len(boxes)} faces found in {name}: crop it to one person")
    landmarks = _landmarks_in(picture, boxes[0])
    if landmarks is None:
        raise BadPicture(
            f"no clear face found in {name}: use a sharp picture, face to the camera, nothing in front of it"
        )
    if np.linalg.norm(landmarks[234] - landmarks[454]) < MIN_FACE_PIXELS:
        raise BadPicture(f"the face in {name} is too small: crop the picture closer to the head and shoulders")
    _, yaw, _ = geometry.euler_degrees(geometry.head_pose(landmarks).rotation)
    if abs(yaw) > MAX_YAW_DEGREES:
        raise BadPicture(f"the face in {name} is turned too far away: use one that looks at the camera")
    if square:
        picture, landmarks = _cut_square(picture, landmarks, size)
    return with_shoulders(prepare_tracked(picture, landmarks, size))


def with_shoulders(portrait: Portrait) -> Portrait:
    """The portrait with ``shoulders``, if both are well inside its moved region and seen from the front."""
    found = find_shoulders(portrait.picture)
    if found is None:
        return portrait
    left, top, width, height = portrait.box
    local = found - np.array([left, top], np.float32)
    face = float(np.linalg.norm(portrait.landmarks[234, :2] - portrait.landmarks[454, :2]))
    below = local[:, 1].mean() - portrait.landmarks[152, 1]
    wide = local[1, 0] - local[0, 0] > MIN_SHOULDER_WIDTH * face
    inside = ((local > [0, 0]) & (local < [width, (1 - MIN_BODY_SHARE) * height])).all()
    return replace(portrait, shoulders=local) if inside and wide and below > 0 else portrait


def prepare_tracked(picture: Image, landmarks: Floats, size: int, matte: Image | None = None) -> Portrait:
    """Prepare a picture with known landmarks (in its pixels), and a known ``matte`` ``(H, W)`` if there is one."""
    height, width = picture.shape[:2]
    scale = min(1.0, size / max(width, height))
    # Even sides, because video codecs store colour at half resolution.
    out = (max(2, round(width * scale / 2) * 2), max(2, round(height * scale / 2) * 2))
    factor = np.array([out[0] / width, out[1] / height, scale], np.float32)
    if out != (width, height):
        picture = cv2.resize(picture, out, interpolation=cv2.INTER_AREA).astype(np.uint8)
        matte = None if matte is None else cv2.resize(matte, out, interpolation=cv2.INTER_AREA).astype(np.uint8)
    landmarks = (landmarks + [0.5, 0.5, 0]) * factor - [0.5, 0.5, 0]
    box = _head_box(landmarks, out)
    inside = np.s_[box[1] : box[1] + box[3], box[0] : box[0] + box[2]]
    crop = picture[inside]
    matte = segment_person(crop) if matte is None else matte[inside]
    plate = inpaint_background(crop, matte)
    local = (landmarks - [box[0], box[1], 0]).astype(np.float32)
    return Portrait(picture, box, plate, matte, local)


def segment_person(image: Image) -> Image:
    """Soft person matte ``uint8 (h, w)`` of an RGB image: MediaPipe's selfie segmentation, with the image's edges."""
    from mediapipe.python.solutions.selfie_segmentation import SelfieSegmentation

    with quiet_graph(lambda: SelfieSegmentation(model_selection=0)) as network:
        mask = np.asarray(network.process(np.ascontiguousarray(image)).segmentation_mask, np.float32)
    radius = max(2, image.shape[1] // 64)
    # The guided filter moves the edges of the 256-pixel mask to those of hair and collar (He et al., ECCV 2010).
    guided = cv2.ximgproc.guidedFilter(image, mask, radius, 1e-4 * 255**2)
    matte = np.clip((guided - 0.15) / 0.7, 0, 1)
    return np.asarray(matte * 255, np.uint8)


def inpaint_background(image: Image, matte: Image) -> Image:
    """``image`` with the person removed: unchanged where the matte is 0, smoothly filled elsewhere."""
    height, width = matte.shape
    reach = max(3, width // 40) | 1
    person = cv2.dilate((matte > 8).astype(np.uint8), np.ones((reach, reach), np.uint8))
    if person.all():
        return image
    small = (max(8, 96 * width // max(width, height)), max(8, 96 * height // max(width, height)))
    hole = (cv2.resize(person, small, interpolation=cv2.INTER_AREA) > 0).astype(np.uint8)
    filled = cv2.inpaint(cv2.resize(image, small, interpolation=cv2.INTER_AREA), hole, 3, cv2.INPAINT_TELEA)
    smooth = cv2.GaussianBlur(filled, (0, 0), 3)
    soft_hole = cv2.GaussianBlur(hole.astype(np.float32), (0, 0), 1.5)[..., None]
    filled = (filled * (1 - soft_hole) + smooth * soft_hole).astype(np.uint8)
    filled = cv2.resize(filled, (width, height), interpolation=cv2.INTER_CUBIC)
    blend = cv2.GaussianBlur(person.astype(np.float32), (0, 0), reach / 3)[..., None]
    blend = np.where(matte[..., None] > 8, 1.0, np.where(person[..., None] > 0, blend, 0.0))
    return np.asarray(image * (1 - blend) + filled * blend, np.uint8)


def _cut_square(picture: Image, landmarks: Floats, size: int) -> tuple[Image, Floats]:
    """The picture and landmarks cropped to a square around the head and scaled to ``size``."""
    height, width = picture.shape[:2]
    face = float(np.linalg.norm(landmarks[10, :2] - landmarks[152, :2]))
    side = round(min(height, width, max(4.0 * face, 64)))
    centre = landmarks[list(mesh.FACE_OVAL), :2].mean(0)
    # A little more room below the face (shoulders) than above it.
    left = int(np.clip(centre[0] - side / 2, 0, width - side))
    top = int(np.clip(centre[1] - 0.46 * side, 0, height - side))
    scale = size / side
    cut = picture[top : top + side, left : left + side]
    method = cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC
    scaled = cv2.resize(cut, (size, size), interpolation=method).astype(np.uint8)
    moved = (landmarks - [left, top, 0] + [0.5, 0.5, 0]) * scale - [0.5, 0.5, 0]
    return scaled, np.asarray(moved, np.float32)


def _head_box(landmarks: Floats, size: tuple[int, int]) -> tuple[int, int, int, int]:
    oval = landmarks[list(mesh.FACE_OVAL), :2]
    centre = oval.mean(0)
    face = float(np.linalg.norm(landmarks[10, :2] - landmarks[152, :2]))
    half = HEAD_CROP_FACE_HEIGHTS * face / 2
    left, top = (max(0, math.floor(c - half)) for c in centre)
    right, bottom = (min(limit, math.ceil(c + half)) for c, limit in zip(centre, size, strict=True))
    return left, top, right - left, bottom - top


def _all_faces(picture: Image) -> list[tuple[float, float, float, float]]:
    """Boxes of the faces that the near or the far detector finds, largest first, without duplicates."""
    found: list[tuple[float, float, float, float]] = []
    boxes = tracker.detect_faces(picture) + tracker.detect_faces(picture, far=True)
    for box in sorted(boxes, key=lambda b: -b[2]):
        x, y = box[0] + box[2] / 2, box[1] + box[3] / 2
        if not any(left < x < left + w and top < y < top + h for left, top, w, h in found):
            found.append(box)
    return found


def _landmarks_in(picture: Image, box: tuple[float, float, float, float]) -> Floats | None:
    """Landmarks of the face in ``box``, read from a crop around it, which shows small faces in full detail."""
    left, top, width, height = box
    half = 1.3 * max(width, height)
    x, y = left + width / 2, top + height / 2
    x0, y0 = max(0, int(x - half)), max(0, int(y - half))
    crop = picture[y0 : int(y + half) + 1, x0 : int(x + half) + 1]
    scale = min(1.0, 512 / max(crop.shape[:2]))
    if scale < 1:
        crop = cv2.resize(crop, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
    landmarks = tracker.landmarks_of_still(np.ascontiguousarray(crop, np.uint8))
    if landmarks is None:
        return None
    return np.asarray(landmarks / scale + [x0, y0, 0], np.float32)
