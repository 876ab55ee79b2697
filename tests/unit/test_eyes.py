"""Eyes that turn: the iris goes where it is asked to, and nothing but the eye changes."""

import cv2
import numpy as np
import pytest

from avatar_stream.face import geometry
from avatar_stream.face.mesh import Floats
from avatar_stream.identity.library import sample_pictures
from avatar_stream.portrait.aligned import ALIGNED_SIZE, to_aligned
from avatar_stream.portrait.eyes import EYES, Gaze, Image, filled, without_irises
from avatar_stream.portrait.portrait import Portrait, prepare

SIDE = ALIGNED_SIZE


@pytest.fixture(scope="module")
def portrait() -> Portrait:
    picture = cv2.cvtColor(cv2.imread(str(sample_pictures()["noor"])), cv2.COLOR_BGR2RGB)
    return prepare(picture, 512)


def aligned(portrait: Portrait) -> tuple[Image, Floats]:
    matrix = geometry.aligned_frame(portrait.landmarks, SIDE)
    return to_aligned(portrait.crop, matrix), geometry.transform_2d(matrix, portrait.landmarks)


def darkest(picture: Image, points: Floats, eye: int) -> float:
    """Mean column of what is dark in an eye."""
    ring, _, _ = EYES[eye]
    opening = filled(points[ring, :2], SIDE, SIDE)
    grey = cv2.GaussianBlur(cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY).astype(np.float32), (0, 0), 1)
    inside = grey[opening > 0.9]
    weight = np.clip(np.median(inside) - grey, 0, None) * (opening > 0.9)
    return float((weight.sum(0) * np.arange(SIDE)).sum() / weight.sum())


def test_irises_go_where_they_are_asked_to(portrait: Portrait) -> None:
    face, points = aligned(portrait)
    gaze = Gaze(face, points)
    found = []
    for step in (-4.0, 4.0):
        target = points.copy()
        target[468:478, 0] += step
        shown = face.copy()
        gaze.turn(shown, target, 1)
        found.append([darkest(shown, target, eye) for eye in (0, 1)])
        eyes = np.maximum(*(filled(points[ring, :2], SIDE, SIDE) for ring, _, _ in EYES)) > 0
        assert np.array_equal(shown[~eyes], face[~eyes])
    for eye in (0, 1):
        assert 4 < found[1][eye] - found[0][eye] < 10, "eight pixels were asked for"


def test_an_eye_without_its_iris_is_white(portrait: Portrait) -> None:
    face, points = aligned(portrait)
    blind, irises = without_irises(face, points)
    for iris, (_, disc, _) in zip(irises, EYES, strict=True):
        assert iris is not None
        x, y = np.round(points[disc[0], :2]).astype(int)
        assert blind[y, x].mean() > face[y, x].mean() + 40


def test_a_shut_eye_has_no_iris_to_turn(portrait: Portrait) -> None:
    face, points = aligned(portrait)
    shut = points.copy()
    for ring, _, _ in EYES:
        shut[ring, 1] = shut[ring, 1].mean()
    _, irises = without_irises(face, shut)
    assert irises == [None, None]
    before = face.copy()
    Gaze(face, shut).turn(face, points, 1)
    assert np.array_equal(face, before)
