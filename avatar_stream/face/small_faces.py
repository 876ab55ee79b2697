"""Searches a large picture for a small face: tile by tile until one is found, then in a window around it.

The detector scales a whole picture to 192 pixels, so a head of 190 pixels in a 4K picture is nine pixels wide there.
"""

from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from avatar_stream.face.mesh import Floats
from avatar_stream.native_output import quiet_graph

Image = npt.NDArray[np.uint8]
Box = tuple[float, float, float, float]
"""Left, top, width and height in pixels."""
FullResolution = Callable[[], Image] | None
"""Returns the same picture with all its pixels, made when called; None if the picture has them already."""

MIN_FACE_PIXELS: Final = 48
"""Smallest face that can be tracked: below this width, landmark errors exceed 2 % of the eye distance."""
# The detector finds all faces of 0.08 of the picture's width, and half of those of 0.05.
MIN_TILE_PIXELS: Final = round(MIN_FACE_PIXELS / 0.08)
TILE_STEP: Final = 0.7  # of a tile's side: a face cut by one tile is whole in the next
WINDOW_FACE_WIDTHS: Final = 3.2  # side of the window
MIN_WINDOW_FACE_WIDTHS, MAX_WINDOW_FACE_WIDTHS = 2.2, 4.6  # beyond these the window is set again
MAX_OFF_CENTRE_SHARE: Final = 0.18  # of a window's side, from its middle to the face's
MAX_WINDOW_SHARE: Final = 0.9  # of the picture's shorter side: a larger window brings nothing
FAST_SEARCHES: Final = 2  # unsuccessful searches of the whole picture; later ones are slow
FRAMES_PER_SLOW_SEARCH: Final = 5  # frames per tile in a slow search


@dataclass(frozen=True, slots=True)
class Crop:
    """A crop of a picture, RGB ``(h, w, 3)``, perhaps with a higher resolution.

    ``corner (2,)``: its corner in the picture's pixels. ``scale``: pixels of the crop per pixel of the picture.
    """

    image: Image
    corner: Floats
    scale: float

    def to_crop(self, landmarks: Floats) -> Floats:
        """Convert landmarks ``(n, 3)`` from the picture's pixels to this crop's."""
        return np.asarray((landmarks - [*self.corner, 0]) * self.scale, np.float32)

    def to_picture(self, landmarks: Floats) -> Floats:
        """Convert landmarks ``(n, 3)`` from this crop's pixels to the picture's."""
        return np.asarray(landmarks / self.scale + [*self.corner, 0], np.float32)

    def box_in_picture(self, box: Box, width: int) -> Box:
        """Convert a box from this crop's pixels to widths of the picture, which is ``width`` pixels wide."""
        left, top, across, down = (value / self.scale / width for value in box)
        return left + float(self.corner[0]) / width, top + float(self.corner[1]) / width, across, down


class SmallFaceSearch:
    """Finds and follows one small face; not thread-safe.

    Each frame begins with :meth:`crop`, which returns the whole picture while no window is set. If the crop shows no
    face, :meth:`search` searches one tile; otherwise :meth:`update_window` moves the window with the face.
    """

    def __init__(self) -> None:
        self.too_small = 0
        """Width in pixels of a recently found face that is too small to be tracked; 0 if there is none."""
        self._window: tuple[float, float, float] | None = None  # middle and side, in picture widths
        self._tiles: Iterator[tuple[int, int, int]] = iter(())
        self._shape: tuple[int, ...] = ()
        self._rounds = self._frames = 0
        self._detector: Any = None

    @property
    def active(self) -> bool:
        """Whether a window is set."""
        return self._window is not None

    def crop(self, image: Image, full_resolution: FullResolution) -> Crop:
        """The crop of RGB ``image (h, w, 3)`` in which to track a face."""
        if self._window is None:
            return Crop(image, np.zeros(2, np.float32), 1.0)
        large = image if full_resolution is None else full_resolution()
        height, width = large.shape[:2]
        side = round(min(self._window[2] * width, height, width))
        left = round(min(max(self._window[0] * width - side / 2, 0), width - side))
        top = round(min(max(self._window[1] * width - side / 2, 0), height - side))
        scale = width / image.shape[1]
        cut = np.ascontiguousarray(large[top : top + side, left : left + side])
        return Crop(cut, np.array([left / scale, top / scale], np.float32), scale)

    def update_window(self, landmarks: Floats, image: Image) -> bool:
        """Keep the window around ``landmarks (478, 3)`` of ``image``; returns whether it moved."""
        self._rounds = self.too_small = 0
        self.close()  # frees the detector for other trackers
        if self._window is None:
            return False
        height, width = image.shape[:2]
        low, high = landmarks[:468, :2].min(0), landmarks[:468, :2].max(0)
        face, middle = float(high[0] - low[0]) / width, (low + high) / 2 / width
        x, y, side = self._window
        off = max(abs(float(middle[0]) - x), abs(float(middle[1]) - y))
        if off < MAX_OFF_CENTRE_SHARE * side and MIN_WINDOW_FACE_WIDTHS * face < side < MAX_WINDOW_FACE_WIDTHS * face:
            return False
        self._set_window(float(middle[0]), float(middle[1]), face, height / width)
        return True

    def clear_window(self) -> None:
        """Drop the window, after its face was lost."""
        self._window = None

    def search(self, image: Image, full_resolution: FullResolution) -> None:
        """Search the next tile of ``image``, and set the window if it shows a face. Runs at most one detection."""
        self._frames += 1
        if self._rounds >= FAST_SEARCHES and self._frames % FRAMES_PER_SLOW_SEARCH:
            return
        large = image if full_resolution is None else full_resolution()
        if large.shape != self._shape:
            self._shape, self._tiles = large.shape, tiles(*large.shape[:2])
        tile = next(self._tiles, None)
        if tile is None:
            self._rounds += 1
            self._tiles = tiles(*large.shape[:2])
            tile = next(self._tiles)
        left, top, side = tile
        found = self._detect(np.ascontiguousarray(large[top : top + side, left : left + side]))
        if not found:
            return
        height, width = large.shape[:2]
        x, y, across, down = found[0]
        if across < MIN_FACE_PIXELS:
            self.too_small = max(round(across), 1)
        else:
            self._set_window(
                (left + x + across / 2) / width, (top + y + down / 2) / width, across / width, height / width
            )

    def close(self) -> None:
        """Return the detector to the idle ones."""
        if self._detector is not None:
            _IDLE_DETECTORS.append(self._detector)
            self._detector = None

    def _set_window(self, x: float, y: float, face: float, height: float) -> None:
        side = WINDOW_FACE_WIDTHS * face
        self._window = (x, y, side) if side < MAX_WINDOW_SHARE * min(height, 1.0) else None

    def _detect(self, image: Image) -> list[Box]:
        if self._detector is None:
            try:
                self._detector = _IDLE_DETECTORS.pop()
            except IndexError:
                self._detector = face_detector(far=True)
        return detect_boxes(self._detector, image)


# MediaPipe leaks memory when it closes a graph: see ``tracker``.
_IDLE_DETECTORS: deque[Any] = deque()


def tiles(height: int, width: int) -> Iterator[tuple[int, int, int]]:
    """Squares ``(left, top, side)`` that cover a picture: larger ones first, and those in its middle before others.

    The first has the picture's longer side; only that one may be smaller than ``MIN_TILE_PIXELS``.
    """
    yield 0, 0, max(height, width)
    side = min(height, width) if height != width else height // 2
    while side >= MIN_TILE_PIXELS:
        places = [(x, y) for y in _tile_offsets(height, side) for x in _tile_offsets(width, side)]
        middle = np.array([width - side, height - side]) / 2
        places.sort(key=lambda place: float(np.abs(np.array(place) - middle).sum()))
        yield from ((x, y, side) for x, y in places)
        # The last step is left out if the tiles would hardly shrink.
        side = max(side // 2, MIN_TILE_PIXELS) if side > 1.25 * MIN_TILE_PIXELS else 0


def no_face_message(source: object, too_small: int) -> str:
    """An error message for a file without a tracked face; ``too_small``: width of a face that was seen, or 0."""
    if too_small:
        return (
            f"the face in {source} is too small, {too_small} pixels wide: "
            f"film it closer, so that it is at least {MIN_FACE_PIXELS} wide"
        )
    return f"no face found in {source}: the driving clip must show one, facing the camera"


def _tile_offsets(length: int, side: int) -> list[int]:
    count = int(np.ceil((length - side) / (TILE_STEP * side))) + 1
    return [round(at) for at in np.linspace(0, length - side, count)]


def face_detector(*, far: bool) -> Any:
    """MediaPipe's face detector: for near faces, or with ``far`` for faces up to 5 m away."""
    from mediapipe.python.solutions.face_detection import FaceDetection

    return quiet_graph(lambda: FaceDetection(model_selection=int(far), min_detection_confidence=0.5))


def detect_boxes(detector: Any, image: Image) -> list[Box]:
    """Boxes of the faces that ``detector`` finds in an RGB image, largest first."""
    height, width = image.shape[:2]
    found = []
    for one in detector.process(image).detections or []:
        box = one.location_data.relative_bounding_box
        found.append((box.xmin * width, box.ymin * height, box.width * width, box.height * height))
    return sorted(found, key=lambda box: -box[2])
