"""Which person is tracked when several are in the picture, and a driver who moves."""

import cv2
import numpy as np
import pytest

from avatar_stream.face.followed_person import WAIT_SECONDS, FollowedPerson
from avatar_stream.face.mesh import Floats
from avatar_stream.face.tracker import FaceState, FaceTracker, Image
from avatar_stream.identity.library import sample_pictures
from avatar_stream.portrait.portrait import read_picture
from tests.unit.faces import face

FRAME_PERIOD = 1 / 25  # seconds


def landmarks(x: float, y: float, width: float) -> Floats:
    """Landmarks ``(478, 3)`` of a face with its centre at ``x, y`` and ``width``, in widths of the picture."""
    points = face()
    low, high = points[:468, :2].min(0), points[:468, :2].max(0)
    out = (points - [*(low + high) / 2, 0]) * width / (high[0] - low[0]) + [x, y, 0]
    return out.astype(np.float32)


def box(x: float, y: float, width: float) -> tuple[float, float, float, float]:
    return x - width / 2, y - width / 2, width, width


def test_a_moved_head_is_the_same_and_a_distant_one_is_not() -> None:
    followed = FollowedPerson()
    followed.update(landmarks(0.3, 0.4, 0.2), 0.0)
    assert followed.matches(landmarks(0.4, 0.4, 0.21), FRAME_PERIOD)
    assert not followed.matches(landmarks(0.6, 0.4, 0.2), FRAME_PERIOD)
    assert not followed.matches(landmarks(0.32, 0.4, 0.4), FRAME_PERIOD)


def test_a_lost_person_is_awaited_before_the_largest_is_followed() -> None:
    followed = FollowedPerson()
    assert followed.choose([], 0.0) is None
    assert followed.choose([box(0.7, 0.4, 0.3), box(0.2, 0.4, 0.2)], 0.0) == 0
    followed.update(landmarks(0.2, 0.4, 0.2), 0.0)
    assert followed.choose([box(0.8, 0.4, 0.4), box(0.22, 0.4, 0.2)], 0.4) == 1
    assert followed.choose([box(0.9, 0.4, 0.4)], 0.1) is None
    assert followed.choose([box(0.9, 0.4, 0.4)], WAIT_SECONDS + 0.1) == 0


@pytest.fixture(scope="module")
def people() -> tuple[Image, Image]:
    noor, mateo = (read_picture(sample_pictures()[name]) for name in ("noor", "mateo"))
    return cv2.resize(noor, (256, 256), interpolation=cv2.INTER_AREA).astype(np.uint8), mateo


def picture_with(small: Image | None, large: Image | None) -> Image:
    """A picture with up to two people, one of them further away."""
    picture = np.full((512, 800, 3), 140, np.uint8)
    if small is not None:
        picture[200:456, 10:266] = small
    if large is not None:
        picture[:, 280:792] = large
    return picture


@pytest.mark.slow
def test_a_larger_face_takes_over_only_after_the_first_is_gone(people: tuple[Image, Image]) -> None:
    small, large = people
    tracker = FaceTracker(smooth=False)
    time = 0.0
    places: list[float | None] = []

    def show(picture: Image, seconds: float) -> None:
        nonlocal time
        places.clear()
        for _ in range(round(seconds / FRAME_PERIOD)):
            found = tracker.update(picture, time).landmarks
            places.append(None if found is None else float(found[1, 0]))
            time += FRAME_PERIOD

    show(picture_with(small, None), 0.4)
    assert tracker.faces == 1
    show(picture_with(small, large), 2.0)
    assert tracker.faces == 2
    assert all(place is not None and place < 270 for place in places)
    show(picture_with(None, large), 1.6)
    assert places[-1] is None
    assert tracker.state is FaceState.LOST
    show(picture_with(None, large), 1.0)
    assert places[-1] is not None
    assert places[-1] > 280
    show(picture_with(small, large), 0.4)
    assert all(place is not None and place > 280 for place in places)
    tracker.close()


@pytest.mark.slow
def test_recalibration_chooses_the_followed_person_again(people: tuple[Image, Image]) -> None:
    small, large = people
    tracker = FaceTracker(smooth=False)
    for k in range(5):
        tracker.update(picture_with(small, None), k * FRAME_PERIOD)
    tracker.follow_largest()
    found = tracker.update(picture_with(small, large), 5 * FRAME_PERIOD).landmarks
    tracker.close()
    assert found is not None
    assert found[1, 0] > 280
