"""Eyes that turn and close: the iris follows the landmarks, stays round, and only the eye changes."""

import cv2
import numpy as np
import pytest

from avatar_stream.face.mesh import Floats
from avatar_stream.face.tone import skin_tone
from avatar_stream.identity.library import sample_pictures
from avatar_stream.portrait.interior.eyes import EYE_LANDMARKS, Eyes, Image, decompose_eye, fill_polygon
from avatar_stream.portrait.portrait import Portrait, prepare, read_picture
from avatar_stream.portrait.warp import PortraitWarp


@pytest.fixture(scope="module")
def portrait() -> Portrait:
    return prepare(read_picture(sample_pictures()["noor"]), 512)


def eye_opening(points: Floats, eye: int, shape: tuple[int, ...]) -> Floats:
    upper, lower, _ = EYE_LANDMARKS[eye]
    return fill_polygon(points[upper + lower[-2:0:-1], :2], shape[0], shape[1])


def dark_centre(picture: Image, points: Floats, eye: int) -> Floats:
    """Mean position (x, y) of the dark pixels in an eye."""
    inside = eye_opening(points, eye, picture.shape) > 0.9
    grey = cv2.GaussianBlur(cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY).astype(np.float32), (0, 0), 1)
    weight = np.clip(np.median(grey[inside]) - grey, 0, None) * inside
    y, x = np.mgrid[0 : picture.shape[0], 0 : picture.shape[1]]
    return np.array([(weight * x).sum(), (weight * y).sum()], np.float32) / weight.sum()


def with_gaze(points: Floats, step: float) -> Floats:
    target = points.copy()
    target[468:478, 0] += step
    return target


def test_irises_move_with_the_landmarks(portrait: Portrait) -> None:
    points, eyes, found = portrait.landmarks, Eyes(portrait.crop, portrait.landmarks), []
    step = 0.1 * float(np.linalg.norm(points[33] - points[133]))
    for way in (-step, step):
        shown = portrait.crop.copy()
        eyes.draw(shown, with_gaze(points, way))
        found.append([dark_centre(shown, points, eye)[0] for eye in (0, 1)])
        around = np.maximum(*(eye_opening(points, eye, shown.shape) for eye in (0, 1)))
        untouched = cv2.dilate(around, np.ones((7, 7))) == 0
        assert np.array_equal(shown[untouched], portrait.crop[untouched])
    for eye in (0, 1):
        assert 0.6 * 2 * step < found[1][eye] - found[0][eye] < 1.4 * 2 * step


def test_a_moved_iris_keeps_the_eyes_white_and_rim(portrait: Portrait) -> None:
    points = portrait.landmarks
    shown = portrait.crop.copy()
    step = 0.12 * float(np.linalg.norm(points[33] - points[133]))
    Eyes(portrait.crop, points).draw(shown, with_gaze(points, step))
    for eye, (_, _, iris) in enumerate(EYE_LANDMARKS):
        left_behind = np.round(points[iris[0], :2] - [step, 0]).astype(int)
        before, after = (picture[left_behind[1], left_behind[0]].mean() for picture in (portrait.crop, shown))
        assert after > before, f"eye {eye}: white where the iris was"


def test_eyes_at_rest_are_unchanged(portrait: Portrait) -> None:
    shown = portrait.crop.copy()
    Eyes(portrait.crop, portrait.landmarks).draw(shown, portrait.landmarks)
    assert np.array_equal(shown, portrait.crop)


def test_closed_eyes_are_skin_and_a_dark_line(portrait: Portrait) -> None:
    shut = portrait.landmarks.copy()
    for upper, lower, _ in EYE_LANDMARKS:
        shut[upper[1:-1]] = shut[lower[1:-1]]
    warp = PortraitWarp(portrait.crop, portrait.plate, portrait.matte, portrait.landmarks)
    warped = warp(shut).image
    shown = warped.copy()
    Eyes(portrait.crop, portrait.landmarks).draw(shown, shut)
    for eye in (0, 1):
        lids = cv2.dilate(eye_opening(shut, eye, shown.shape), np.ones((5, 5))) > 0
        before, after = (cv2.cvtColor(p, cv2.COLOR_RGB2GRAY)[lids].astype(float) for p in (warped, shown))
        skin = float(skin_tone(portrait.crop, portrait.landmarks).mean())
        assert after.max() < skin * 1.3, "the eye's white is covered"
        assert after.min() < np.median(after) - 10, "lashes"
        assert after.std() < before.std()


def test_a_closed_eye_shows_no_iris(portrait: Portrait) -> None:
    shut = portrait.landmarks.copy()
    for upper, lower, _ in EYE_LANDMARKS:
        shut[upper + lower, 1] = shut[upper + lower, 1].mean()
    assert [decompose_eye(portrait.crop, shut, side) for side in (0, 1)] == [None, None]
    Eyes(portrait.crop, shut).draw(portrait.crop.copy(), portrait.landmarks)
