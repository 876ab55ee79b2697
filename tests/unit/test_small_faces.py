"""A small head in a large picture is found in tiles, and tracked in a window."""

from itertools import pairwise
from unittest import mock

import cv2
import numpy as np
import pytest

from avatar_stream.face import geometry, small_faces
from avatar_stream.face.mesh import Floats
from avatar_stream.face.small_faces import MIN_FACE_PIXELS, MIN_TILE_PIXELS, SmallFaceSearch, tiles
from avatar_stream.face.tracker import FaceState, FaceTracker, landmarks_of_still
from avatar_stream.identity.library import sample_pictures
from avatar_stream.portrait.portrait import Image, read_picture


@pytest.fixture(scope="module")
def head() -> tuple[Image, Floats]:
    """A picture of a head, and its landmarks."""
    picture = read_picture(sample_pictures()["noor"])
    landmarks = landmarks_of_still(picture)
    assert landmarks is not None
    return picture, landmarks


def distant_head(
    head: tuple[Image, Floats], face: int, place: tuple[int, int], size: tuple[int, int]
) -> tuple[Image, Floats]:
    """The head, with a face ``face`` pixels wide, at ``place`` in a plain picture of ``size`` (width, height)."""
    picture, landmarks = head
    scale = face / float(np.ptp(landmarks[:468, 0]))
    small = cv2.resize(picture, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
    out = np.full((size[1], size[0], 3), (95, 110, 105), np.uint8)
    x, y = place
    out[y : y + small.shape[0], x : x + small.shape[1]] = small
    return out, (landmarks * scale + [x, y, 0]).astype(np.float32)


def distance(found: Floats | None, right: Floats) -> float:
    """The distance of landmarks from the right ones, in eye distances."""
    assert found is not None
    return float(np.linalg.norm((found - right)[:, :2], axis=1).mean()) / geometry.eye_distance(right)


def test_tiles_cover_a_picture_and_overlap_by_a_face() -> None:
    for height, width in ((2160, 3840), (3840, 2160), (1080, 1920), (480, 640), (700, 700)):
        sides = [side for _, _, side in tiles(height, width)]
        assert sides == sorted(sides, reverse=True)
        assert sides[0] == max(height, width)
        for side in set(sides[1:]):
            assert side >= MIN_TILE_PIXELS
            ones = [(x, y) for x, y, one in tiles(height, width) if one == side]
            for along, length in ((sorted({x for x, _ in ones}), width), (sorted({y for _, y in ones}), height)):
                assert (along[0], along[-1]) == (0, length - side)
                # The overlap of two tiles holds the largest face that the next larger tiles may miss.
                assert all(b - a <= 0.75 * side for a, b in pairwise(along))


def test_a_small_head_is_found_followed_and_lost(head: tuple[Image, Floats]) -> None:
    tracker = FaceTracker(smooth=False)
    try:
        states, time = [], 0.0
        picture, right = distant_head(head, 100, (1350, 500), (1920, 1080))
        for time in np.arange(12) / 25:
            found = tracker.update(picture, float(time))
            states.append(found.state)
            if found.state is FaceState.FOUND:
                break
        assert states[0] is FaceState.SEARCHING  # the whole picture's detector does not find it
        assert found.state is FaceState.FOUND
        for step in range(1, 30):  # it moves aside, out of the window in which it was found
            picture, right = distant_head(head, 100, (1350 - 12 * step, 500 + 4 * step), (1920, 1080))
            found = tracker.update(picture, float(time) + step / 25)
            assert found.state in (FaceState.FOUND, FaceState.HELD)
        assert found.fresh
        assert distance(found.landmarks, right) < 0.06
        assert found.crop is not None
        assert found.crop.image.shape[0] < 700
        assert found.landmarks is not None
        assert np.allclose(found.crop.to_picture(found.crop.to_crop(found.landmarks)), found.landmarks, atol=0.01)
        for step in range(30, 50):
            found = tracker.update(np.full_like(picture, 100), float(time) + step / 25)
        assert found.state is FaceState.LOST
        assert not tracker._small_faces.active
    finally:
        tracker.close()


def test_a_downscaled_live_picture_is_searched_at_full_size(head: tuple[Image, Floats]) -> None:
    large, right = distant_head(head, 100, (1350, 500), (1920, 1080))
    small = np.asarray(cv2.resize(large, (640, 360), interpolation=cv2.INTER_AREA), np.uint8)
    tracker = FaceTracker(smooth=False)
    try:
        for step in range(12):
            found = tracker.update(small, step / 25, lambda: large)
        assert found.state is FaceState.FOUND
        assert distance(found.landmarks, right / 3) < 0.06  # in pixels of the downscaled picture
        assert found.crop is not None
        assert found.crop.scale == 3
    finally:
        tracker.close()


def test_a_too_small_head_is_reported(head: tuple[Image, Floats]) -> None:
    tracker = FaceTracker()
    try:
        picture, _ = distant_head(head, 26, (800, 500), (1280, 720))
        for step in range(40):
            found = tracker.update(picture, step / 25)
            assert found.landmarks is None
        assert 0 < tracker.too_small < MIN_FACE_PIXELS
    finally:
        tracker.close()


def test_a_found_face_needs_no_search_and_a_missing_one_a_single_detection(head: tuple[Image, Floats]) -> None:
    tracker = FaceTracker()
    calls: list[Image] = []

    def nobody(look: SmallFaceSearch, image: Image) -> list[small_faces.Box]:
        calls.append(image)
        return []

    with mock.patch.object(SmallFaceSearch, "_detect", nobody):
        try:
            detail = mock.Mock(return_value=head[0])
            for step in range(5):
                assert tracker.update(head[0], step / 25, detail).state is FaceState.FOUND
            assert not calls
            assert not detail.called
            for step in range(5, 200):
                before = len(calls)
                tracker.update(np.zeros((1080, 1920, 3), np.uint8), step / 25)
                assert len(calls) <= before + 1
            # Without a face: after two full searches, a search in every fifth frame.
            everything = len(list(tiles(1080, 1920)))
            assert 2 * everything < len(calls) < 2 * everything + 40
        finally:
            tracker.close()


def test_the_window_is_dropped_when_the_face_fills_the_picture(
    head: tuple[Image, Floats], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(small_faces, "_IDLE_DETECTORS", [])  # receives its detector
    look, image = SmallFaceSearch(), np.zeros((480, 640, 3), np.uint8)
    with mock.patch.object(small_faces, "detect_boxes", return_value=[(300.0, 200.0, 60.0, 60.0)]):
        look._detector = mock.Mock()
        look.search(image, None)
    assert look.active
    assert look.crop(image, None).image.shape == (192, 192, 3)
    near = head[1] / float(np.ptp(head[1][:468, 0])) * 220
    assert look.update_window(near, image)
    assert not look.active
    assert look.crop(image, None).image is image


def test_the_report_of_a_file_without_a_face() -> None:
    assert small_faces.no_face_message("far.mp4", 0).startswith("no face found in far.mp4: ")
    message = small_faces.no_face_message("far.mp4", 31)
    assert "31 pixels wide" in message
    assert f"at least {MIN_FACE_PIXELS} wide" in message
