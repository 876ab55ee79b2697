"""Tracks one person's 478 landmarks in video frames, and reports whether there is a face."""

import contextlib
import os
from collections import deque
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import numpy as np
import numpy.typing as npt

from avatar_stream.face import geometry
from avatar_stream.face.filters import OneEuro
from avatar_stream.face.followed_person import FollowedPerson
from avatar_stream.face.mesh import Floats
from avatar_stream.face.small_faces import Crop, FullResolution, SmallFaceSearch, detect_boxes, face_detector
from avatar_stream.native_output import BLANK_PICTURE, quiet_graph, quiet_reset, quietly

Image = npt.NDArray[np.uint8]

# Silences MediaPipe's own log. ``quiet_graph`` removes the warnings that come before it reads these variables.
os.environ.setdefault("GLOG_minloglevel", "2")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")


class FaceState(StrEnum):
    """Whether the tracker sees the driver's face."""

    SEARCHING = "searching"  # no face seen yet
    FOUND = "found"
    HELD = "held"  # missed for a moment: the last landmarks are used
    LOST = "lost"  # gone for longer than the hold time


@dataclass(frozen=True, slots=True)
class Tracking:
    """One frame's result; ``landmarks`` is ``(478, 3)`` in pixels, or None if there is no face."""

    state: FaceState
    landmarks: Floats | None
    fresh: bool  # whether the landmarks are from this frame
    crop: Crop | None = None  # the crop in which they were found


class LandmarkFilter:
    """Smooths landmarks ``(478, 3)`` in pixels over time."""

    def __init__(self) -> None:
        # In eye distances: a blink moves a lid at about 1 a second, tracking noise at about 0.03.
        self._filter = OneEuro(min_cutoff=2.5, beta=14.0)
        self.reset = self._filter.reset

    def __call__(self, landmarks: Floats, time: float) -> Floats:
        """Filtered landmarks at ``time`` seconds."""
        unit = geometry.eye_distance(landmarks)
        # Scaled to eye distances, so that the filter's settings hold at any distance from the camera.
        return np.asarray(self._filter(landmarks / unit, time) * unit, np.float32)


def detect_faces(image: Image, *, far: bool = False) -> list[tuple[float, float, float, float]]:
    """Boxes ``(left, top, width, height)`` in pixels of the faces in an RGB image, largest first.

    ``far`` uses the detector trained for faces up to 5 m away, which also finds small ones.
    """
    with _detector(far) as detector:
        return detect_boxes(detector, image)


def landmarks_of_still(image: Image) -> Floats | None:
    """Landmarks ``(478, 3)`` of the one face of a still RGB image, or None."""
    with _face_mesh(static=True) as face_mesh:
        return _landmarks(face_mesh, image)


class StillTracker:
    """Like :func:`landmarks_of_still`, for many stills with one network."""

    def __init__(self) -> None:
        self._face_mesh = _face_mesh(static=True)

    def __call__(self, image: Image) -> Floats | None:
        """Landmarks ``(478, 3)`` of the one face of an RGB image, or None."""
        return _landmarks(self._face_mesh, image)

    def close(self) -> None:
        """Free the network."""
        self._face_mesh.close()


class FaceTracker:
    """Tracks one face of a stream; not thread-safe, one per session.

    Misses of up to ``hold`` seconds are bridged with the last landmarks. Of several faces, the largest is chosen when
    tracking starts and followed until it is lost (see :mod:`.followed_person`). If no face is found, small ones are
    searched for tile by tile (see :mod:`.small_faces`).
    """

    FRAMES_PER_COUNT = 30  # how often to count all faces

    def __init__(self, *, smooth: bool = True, hold: float = 0.2) -> None:
        self.hold = hold
        self.state = FaceState.SEARCHING
        self._face_mesh, self._detector = _borrow()
        self._filter = LandmarkFilter() if smooth else None
        self._last: Floats | None = None
        self._last_seen = 0.0
        self._frames = 0
        self._small_faces = SmallFaceSearch()
        self._followed = FollowedPerson()
        self._shape: tuple[int, ...] = (1, 1)
        self.faces = 0
        """Number of faces at the last count."""

    @property
    def too_small(self) -> int:
        """Width in pixels of a recently seen face that is too small to be tracked; 0 if there is none."""
        return self._small_faces.too_small

    def update(self, image: Image, time: float, full_resolution: FullResolution = None) -> Tracking:
        """Track an RGB frame taken at ``time`` seconds; sizes may change between frames.

        Where ``image`` was scaled down, ``full_resolution`` returns the same frame with all its pixels, in which a
        small face is searched for. Landmarks are in pixels of ``image``.
        """
        crop = self._small_faces.crop(image, full_resolution)
        if image.shape[0] * self._shape[1] != image.shape[1] * self._shape[0]:  # turned: old positions are wrong
            self.follow_largest()
        self._shape = image.shape
        raw = self._find(crop, time)
        if raw is None:
            if self._last is not None and time - self._last_seen <= self.hold:
                self.state = FaceState.HELD
                return Tracking(self.state, self._last, False)
            if self.state is not FaceState.SEARCHING:
                self.state = FaceState.LOST
            self._last = None
            if self._filter:
                self._filter.reset()
            if self._small_faces.active:
                self._small_faces.clear_window()
            else:
                self._small_faces.search(image, full_resolution)
            return Tracking(self.state, None, False)
        self._followed.update(raw / image.shape[1], time)
        if self._small_faces.update_window(raw, image):
            quiet_reset(self._face_mesh)  # it would search where the face was in the last window
        if self._filter:
            raw = self._filter(raw, time)
        self._last, self._last_seen, self.state = raw, time, FaceState.FOUND
        return Tracking(self.state, raw, True, crop)

    def follow_largest(self) -> None:
        """Follow the largest face from the next frame on, whoever was followed before."""
        self._followed = FollowedPerson()
        self._last = None

    def close(self) -> None:
        """Return the networks to the idle ones."""
        _give_back(self._face_mesh, self._detector)
        self._small_faces.close()

    def _find(self, crop: Crop, time: float) -> Floats | None:
        """Landmarks in pixels of the whole picture, or None."""
        self._frames += 1
        if self._last is None:
            return self._acquire(crop, time)
        raw = _landmarks(self._face_mesh, crop.image)
        if self._frames % self.FRAMES_PER_COUNT == 0:
            self.faces = len(detect_boxes(self._detector, crop.image))
        if raw is None:
            return None
        raw = crop.to_picture(raw)
        if self._followed.matches(raw / self._shape[1], time):
            return raw
        return self._acquire(crop, time)  # MediaPipe has switched to another person

    def _acquire(self, crop: Crop, time: float) -> Floats | None:
        image = crop.image
        boxes = detect_boxes(self._detector, image)
        self.faces = len(boxes)
        number = self._followed.choose([crop.box_in_picture(box, self._shape[1]) for box in boxes], time)
        if boxes and number is None:
            return None
        if number is not None and len(boxes) > 1:
            # MediaPipe takes the most confident face, so the others are painted over.
            image = image.copy()
            keep = _box_slices(boxes[number], image.shape)
            kept = image[keep].copy()
            for box in boxes[:number] + boxes[number + 1 :]:
                image[_box_slices(box, image.shape)] = 0
            image[keep] = kept
            quiet_reset(self._face_mesh)
            if self._filter:
                self._filter.reset()
        raw = _landmarks(self._face_mesh, image)
        if raw is None:
            return None
        raw = crop.to_picture(raw)
        return raw if self._followed.matches(raw / self._shape[1], time) else None


# MediaPipe leaks memory when it closes a graph (147 MB after 120 graphs), so trackers reuse graphs.
_IDLE_NETWORKS: deque[tuple[Any, Any]] = deque()
_MAX_IDLE_NETWORKS = 8
_face_seen = False  # in this process: MediaPipe logs a warning with the first one


def _borrow() -> tuple[Any, Any]:
    try:
        return _IDLE_NETWORKS.pop()
    except IndexError:
        return _face_mesh(static=False), _detector(False)


def _give_back(face_mesh: Any, detector: Any) -> None:
    if len(_IDLE_NETWORKS) >= _MAX_IDLE_NETWORKS:
        face_mesh.close()
        detector.close()
        return
    _landmarks(face_mesh, BLANK_PICTURE)  # so that it forgets the face it tracked
    _IDLE_NETWORKS.append((face_mesh, detector))


def _box_slices(box: tuple[float, float, float, float], shape: tuple[int, ...]) -> tuple[slice, slice]:
    left, top, width, height = box
    pad = 0.25 * width
    return (
        slice(max(0, int(top - pad)), min(shape[0], int(top + height + pad))),
        slice(max(0, int(left - pad)), min(shape[1], int(left + width + pad))),
    )


def _face_mesh(*, static: bool) -> Any:
    from mediapipe.python.solutions.face_mesh import FaceMesh

    return quiet_graph(
        lambda: FaceMesh(
            static_image_mode=static,
            max_num_faces=1,
            refine_landmarks=True,
            min_detection_confidence=0.5,
            min_tracking_confidence=0.5,
        )
    )


def _detector(far: bool) -> Any:
    return face_detector(far=far)


def _landmarks(face_mesh: Any, image: Image) -> Floats | None:
    global _face_seen
    with contextlib.nullcontext() if _face_seen else quietly():
        found = face_mesh.process(image).multi_face_landmarks
    if not found:
        return None
    _face_seen = True
    height, width = image.shape[:2]
    points = np.array([(p.x, p.y, p.z) for p in found[0].landmark], np.float32)
    return points * np.array([width, height, width], np.float32)
