"""A closer look for a small face in a large picture: crop by crop until one is found, then only where it is.

A detector sees a whole picture at 192 pixels, so a head of 190 pixels in a 4K picture is nine of them to it.
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
"""The same picture with more pixels, made when it is asked for; None where there is none."""

MIN_FACE_PIXELS: Final = 48
"""Width of a face that can be followed: below it landmarks are wrong by more than 2 % of the eye distance."""
# The detector finds every face that is 0.08 of its picture wide, and half of those of 0.05.
MIN_TILE_PIXELS: Final = round(MIN_FACE_PIXELS / 0.08)
TILE_STEP: Final = 0.7  # of a tile's side from one to the next: what one of them cuts is whole in its neighbour
WINDOW_FACE_WIDTHS: Final = 3.2  # side of what is looked at, in widths of the face that is followed
MIN_WINDOW_FACE_WIDTHS, MAX_WINDOW_FACE_WIDTHS = 2.2, 4.6  # the same, at which it is chosen anew
MAX_OFF_CENTRE_SHARE: Final = 0.18  # of a window's side by which its face may be beside the middle
MAX_WINDOW_SHARE: Final = 0.9  # of the picture's shorter side from which a window is no closer look
FAST_SEARCHES: Final = 2  # searches of the whole picture in vain, after which they go on slowly
FRAMES_PER_SLOW_SEARCH: Final = 5  # frames from one crop to the next then


@dataclass(frozen=True, slots=True)
class Crop:
    """A crop of a picture, RGB ``(h, w, 3)``, perhaps with more pixels: ``scale`` of its for one of the picture's.

    Its corner is at ``corner (2,)`` in the picture's pixels.
    """

    image: Image
    corner: Floats
    scale: float

    def to_crop(self, landmarks: Floats) -> Floats:
        """Landmarks ``(n, 3)`` of the picture in this crop's pixels."""
        return np.asarray((landmarks - [*self.corner, 0]) * self.scale, np.float32)

    def to_picture(self, landmarks: Floats) -> Floats:
        """Landmarks ``(n, 3)`` of this crop in the picture's pixels."""
        return np.asarray(landmarks / self.scale + [*self.corner, 0], np.float32)

    def box_in_picture(self, box: Box, width: int) -> Box:
        """A box in this crop's pixels, in widths of the picture, which is ``width`` pixels wide."""
        left, top, across, down = (value / self.scale / width for value in box)
        return left + float(self.corner[0]) / width, top + float(self.corner[1]) / width, across, down


class SmallFaceSearch:
    """Finds and follows one small face; not thread-safe.

    Each frame begins with :meth:`crop`, which is the whole picture while no window is set. Where no face is found
    in it, :meth:`search` looks at one tile; where one is, :meth:`keep` moves the window with it.
    """

    def __init__(self) -> None:
        self.too_small = 0
        """Width in pixels of a face that was found lately and is too small to be followed; 0 where there is none."""
        self._window: tuple[float, float, float] | None = None  # middle and side, in shares of the width
        self._tiles: Iterator[tuple[int, int, int]] = iter(())
        self._shape: tuple[int, ...] = ()
        self._rounds = self._frames = 0
        self._detector: Any = None

    @property
    def active(self) -> bool:
        """A window is looked at, not the whole picture."""
        return self._window is not None

    def crop(self, image: Image, full_resolution: FullResolution) -> Crop:
        """What of RGB ``image (h, w, 3)`` to look at for a face."""
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
        """Keep the window around ``landmarks (478, 3)`` of ``image``. True where it moved."""
        self._rounds = self.too_small = 0
        self.close()  # others may have the detector
        if self._window is None:
            return False
        height, width = image.shape[:2]
        low, high = landmarks[:468, :2].min(0), landmarks[:468, :2].max(0)
        face, middle = float(high[0] - low[0]) / width, (low + high) / 2 / width
        x, y, side = self._window
        off = max(abs(float(middle[0]) - x), abs(float(middle[1]) - y))
        if off < MAX_OFF_CENTRE_SHARE * side and MIN_WINDOW_FACE_WIDTHS * face < side < MAX_WINDOW_FACE_WIDTHS * face:
            return False
        self._set(float(middle[0]), float(middle[1]), face, height / width)
        return True

    def clear_window(self) -> None:
        """Nothing is found in the window any more."""
        self._window = None

    def search(self, image: Image, full_resolution: FullResolution) -> None:
        """Look for a face in the next tile of ``image``, and set the window where one is. One detection at most."""
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
            self._set((left + x + across / 2) / width, (top + y + down / 2) / width, across / width, height / width)

    def close(self) -> None:
        """Hand the detector on."""
        if self._detector is not None:
            _IDLE_DETECTORS.append(self._detector)
            self._detector = None

    def _set(self, x: float, y: float, face: float, height: float) -> None:
        side = WINDOW_FACE_WIDTHS * face
        self._window = (x, y, side) if side < MAX_WINDOW_SHARE * min(height, 1.0) else None

    def _detect(self, image: Image) -> list[Box]:
        if self._detector is None:
            try:
                self._detector = _IDLE_DETECTORS.pop()
            except IndexError:
                self._detector = face_detector(far=True)
        return detect_boxes(self._detector, image)


# MediaPipe does not give back all of a graph it closes: see ``tracker``.
_IDLE_DETECTORS: deque[Any] = deque()


def tiles(height: int, width: int) -> Iterator[tuple[int, int, int]]:
    """Squares ``(left, top, side)`` that cover a picture, larger ones first and those in its middle before others.

    The first is as large as the picture is wide or high; none is smaller than ``MIN_TILE_PIXELS`` but that one.
    """
    yield 0, 0, max(height, width)
    side = min(height, width) if height != width else height // 2
    while side >= MIN_TILE_PIXELS:
        places = [(x, y) for y in _tile_offsets(height, side) for x in _tile_offsets(width, side)]
        middle = np.array([width - side, height - side]) / 2
        places.sort(key=lambda place: float(np.abs(np.array(place) - middle).sum()))
        yield from ((x, y, side) for x, y in places)
        # A last step that makes little difference is not worth its tiles.
        side = max(side // 2, MIN_TILE_PIXELS) if side > 1.25 * MIN_TILE_PIXELS else 0


def no_face_message(source: object, too_small: int) -> str:
    """A sentence on a file in which no face was followed; ``too_small`` is the width of one that was seen, or 0."""
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
    """MediaPipe's face detector for faces nearby, or ``far`` for those up to 5 m away."""
    from mediapipe.python.solutions.face_detection import FaceDetection

    return quiet_graph(lambda: FaceDetection(model_selection=int(far), min_detection_confidence=0.5))


def detect_boxes(detector: Any, image: Image) -> list[Box]:
    """Faces that ``detector`` finds in an RGB image, largest first."""
    height, width = image.shape[:2]
    found = []
    for one in detector.process(image).detections or []:
        box = one.location_data.relative_bounding_box
        found.append((box.xmin * width, box.ymin * height, box.width * width, box.height * height))
    return sorted(found, key=lambda box: -box[2])
