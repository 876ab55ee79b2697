"""The inside of a mouth: teeth in their places, never outside the lips, and the person's own where visible."""

from dataclasses import replace
from unittest import mock

import cv2
import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from avatar_stream.face import geometry, mesh
from avatar_stream.face.mesh import Floats
from avatar_stream.face.model import coefficients
from avatar_stream.face.motion import Motion
from avatar_stream.face.retarget import Retargeter
from avatar_stream.face.tone import skin_tone, softness
from avatar_stream.identity.library import sample_pictures
from avatar_stream.portrait.interior.closed_lips import close_lips
from avatar_stream.portrait.interior.dental_arch import Arch
from avatar_stream.portrait.interior.layer import Interior
from avatar_stream.portrait.interior.mouth_opening import find_mouth_opening
from avatar_stream.portrait.interior.teeth import tooth_likeness
from avatar_stream.portrait.portrait import Image, Portrait, prepare, read_picture
from avatar_stream.portrait.warp import PortraitWarp
from tests.unit.faces import face


@pytest.fixture(scope="module")
def portrait() -> Portrait:
    return prepare(read_picture(sample_pictures()["felix"]), 512)


def with_open_mouth(portrait: Portrait, by: float = 0.25, turn: float = 0.0, **named: float) -> Floats:
    """The portrait's landmarks with its mouth open ``by`` eye distances."""
    arc = np.sin(np.linspace(0, np.pi, 11)).astype(np.float32) * by
    gap = np.zeros((11, 3), np.float32)
    gap[:, 1] = arc
    wanted = {"jawOpen": min(2 * by, 1.0)} | named
    motion = replace(Motion.neutral(), gap=gap, coefficients=coefficients(**wanted))
    return Retargeter(portrait.landmarks)(replace(motion, turn=np.array([0, turn, 0], np.float32)))


def lip_mask(target: Floats, shape: tuple[int, ...], grown: int) -> Image:
    mask = np.zeros(shape[:2], np.uint8)
    cv2.fillPoly(mask, [np.round(target[list(mesh.LIPS_RING), :2]).astype(np.int32)], 255)
    return cv2.dilate(mask, np.ones((grown, grown), np.uint8))


def test_an_open_mouth_shows_upper_teeth_above_a_dark_area(portrait: Portrait) -> None:
    target, shown = with_open_mouth(portrait, mouthSmile=0.5), portrait.crop.copy()
    Interior(portrait.crop, portrait.landmarks).draw(shown, target)
    hole = find_mouth_opening(target, shown.shape[1], shown.shape[0])
    assert hole is not None
    left, top, right, bottom = hole.box
    grey = cv2.cvtColor(shown, cv2.COLOR_RGB2GRAY)[top:bottom, left:right].astype(float)
    middle = grey[:, (right - left) // 2 - 6 : (right - left) // 2 + 6].mean(1)
    height = len(middle)
    upper, centre = middle[height // 8 : height // 3].max(), middle[height // 3 : 2 * height // 3].min()
    assert upper > 1.5 * centre


@example(0.5, 0.4375, 1.0, 0.0)
@settings(max_examples=15, deadline=None)
@given(st.floats(0.0, 0.6), st.floats(-0.5, 0.5), st.floats(0, 1), st.floats(0, 1))
def test_no_tooth_outside_the_lips(by: float, turn: float, smile: float, funnel: float) -> None:
    portrait = _felix()
    target, shown = with_open_mouth(portrait, by, turn, mouthSmile=smile, mouthFunnel=funnel), portrait.crop.copy()
    interior = _interior()
    interior._mouth.draw(shown, target, interior._fitter)
    outside = lip_mask(target, shown.shape, 5) == 0
    assert np.array_equal(shown[outside], portrait.crop[outside])


_MADE: dict[str, object] = {}


def _felix() -> Portrait:
    if "portrait" not in _MADE:
        _MADE["portrait"] = prepare(read_picture(sample_pictures()["felix"]), 384)
    made = _MADE["portrait"]
    assert isinstance(made, Portrait)
    return made


def _interior() -> Interior:
    if "interior" not in _MADE:
        _MADE["interior"] = Interior(_felix().crop, _felix().landmarks)
    made = _MADE["interior"]
    assert isinstance(made, Interior)
    return made


def test_no_teeth_are_drawn_if_the_fit_fails(portrait: Portrait) -> None:
    target, interior = with_open_mouth(portrait, 0.3, mouthSmile=0.5), Interior(portrait.crop, portrait.landmarks)
    fit = interior._fitter(target)
    brightest = []
    for one in (replace(fit, mouth_error=0.02), replace(fit, mouth_error=0.2)):
        shown = portrait.crop.copy()
        hole = interior._mouth.draw(shown, target, mock.Mock(return_value=one))
        assert hole is not None
        left, top, right, bottom = hole.box
        grey = cv2.cvtColor(shown, cv2.COLOR_RGB2GRAY)[top:bottom, left:right]
        brightest.append(float(np.quantile(grey[hole.alpha > 0.95], 0.95)))
    assert brightest[1] < 0.8 * brightest[0]


def test_a_closed_mouth_is_unchanged(portrait: Portrait) -> None:
    shown = portrait.crop.copy()
    Interior(portrait.crop, portrait.landmarks).draw(shown, portrait.landmarks)
    assert np.array_equal(shown, portrait.crop)


def blue_teeth(portrait: Portrait) -> tuple[Image, Floats]:
    """The portrait smiling with blue teeth, and its landmarks."""
    smile = with_open_mouth(portrait, 0.1, mouthSmile=0.7)
    picture = portrait.crop.copy()
    Interior(portrait.crop, portrait.landmarks).draw(picture, smile)
    hole = find_mouth_opening(smile, picture.shape[1], picture.shape[0])
    assert hole is not None
    left, top, right, bottom = hole.box
    part = picture[top:bottom, left:right].astype(np.float32)
    tooth = (tooth_likeness(part, skin_tone(portrait.crop, portrait.landmarks)) * hole.alpha)[..., None]
    blue = part * [0.75, 0.95, 1.25]
    picture[top:bottom, left:right] = np.clip(part + (tooth > 0.5) * (blue - part), 0, 255)
    return picture, smile


def blueness(interior: Interior, picture: Image, target: Floats) -> float:
    """The blueness of the upper teeth that are drawn over a picture."""
    drawn = picture.copy()
    interior.draw(drawn, target)
    hole = find_mouth_opening(target, picture.shape[1], picture.shape[0])
    assert hole is not None
    left, top, right, bottom = hole.box
    middle, height = (left + right) // 2, bottom - top
    part = drawn[top + height // 10 : top + height // 3, middle - 12 : middle + 12]
    return float(part[..., 2].mean() - part[..., 0].mean())


def test_visible_teeth_are_kept(portrait: Portrait) -> None:
    """A portrait with blue teeth keeps them when its mouth opens further."""
    picture, smile = blue_teeth(portrait)
    wide = with_open_mouth(portrait, 0.3, mouthSmile=0.7)
    plain = Interior(portrait.crop, portrait.landmarks)
    assert blueness(Interior(picture, smile), picture, wide) > blueness(plain, picture, wide) + 10


def test_teeth_of_another_picture_are_used(portrait: Portrait) -> None:
    wide = with_open_mouth(portrait, 0.3, mouthSmile=0.7)
    plain = Interior(portrait.crop, portrait.landmarks)
    borrowed = Interior(portrait.crop, portrait.landmarks, blue_teeth(portrait))
    assert blueness(borrowed, portrait.crop, wide) > blueness(plain, portrait.crop, wide) + 10


def smiling(portrait: Portrait) -> tuple[Image, Floats]:
    """The portrait with visible teeth, and its landmarks."""
    smile = with_open_mouth(portrait, 0.12, mouthSmile=0.7)
    picture = portrait.crop.copy()
    Interior(portrait.crop, portrait.landmarks).draw(picture, smile)
    hole = find_mouth_opening(smile, picture.shape[1], picture.shape[0])
    assert hole is not None
    left, top, right, bottom = hole.box
    region = picture[top:bottom, left:right]
    region[hole.alpha > 0.3] = (240, 238, 230)
    return picture, smile


def test_lips_that_close_over_teeth_hide_them(portrait: Portrait) -> None:
    picture, smile = smiling(portrait)
    closed = smile.copy()
    middle = (smile[list(mesh.INNER_LIP_UPPER)] + smile[list(mesh.INNER_LIP_LOWER)]) / 2
    closed[list(mesh.INNER_LIP_UPPER)] = closed[list(mesh.INNER_LIP_LOWER)] = middle
    around = lip_mask(closed, picture.shape, 1) > 0
    brightest = []
    for closed_lips in (None, close_lips(picture, smile)):
        whole = np.full(picture.shape[:2], 255, np.uint8)
        shown = PortraitWarp(picture, picture, whole, smile, closed_lips=closed_lips)(closed).image
        Interior(picture, smile).draw(shown, closed)
        brightest.append(float(np.quantile(shown[around].min(1), 0.98)))
    assert brightest[1] < 0.7 * brightest[0]


def test_lips_meet_without_a_change_around_them(portrait: Portrait) -> None:
    picture, smile = smiling(portrait)
    closed_lips = close_lips(picture, smile)
    outside = lip_mask(smile, picture.shape, 5) == 0
    assert np.array_equal(closed_lips[outside], picture[outside])
    assert closed_lips[(picture == (240, 238, 230)).all(2)].min(1).max() < 225
    crop = portrait.crop
    assert close_lips(crop, portrait.landmarks) is crop


def test_thin_lips_are_extended_without_stripes(portrait: Portrait) -> None:
    """The few rows of a thin lip are noisy from side to side: extending them directly would give stripes."""
    picture, smile = smiling(portrait)
    thin = smile.copy()
    thin[list(mesh.OUTER_LIP_UPPER)] += 0.7 * (smile[list(mesh.INNER_LIP_UPPER)] - smile[list(mesh.OUTER_LIP_UPPER)])
    noise = np.random.default_rng(0).normal(0, 25, (1, picture.shape[1], 3))
    hole = (picture == (240, 238, 230)).all(2)
    noisy = np.where(hole[..., None], picture, np.clip(picture + noise, 0, 255)).astype(np.uint8)
    shown = close_lips(noisy, thin).astype(np.float32)
    beside = np.abs(np.diff(shown, axis=1)).mean(2)
    upper = np.zeros_like(hole)
    y, x = hole.nonzero()
    upper[y.min() + 1 : y.min() + 1 + (y.max() - y.min()) // 3, x.min() + 6 : x.max() - 6] = True
    upper &= hole
    assert beside[upper[:, 1:]].mean() < 0.3 * np.abs(np.diff(noise[0], axis=0)).mean()


def test_upper_teeth_move_with_the_skull_and_lower_ones_with_the_jaw() -> None:
    from avatar_stream.face.fit import fit_still

    calm, wide = (fit_still(face(100, jawOpen=value))[0] for value in (0.0, 0.8))
    for which, moves in (("upper", False), ("lower", True)):
        arch = Arch(which, np.zeros(60, np.float32))
        a, b = arch.placed(calm).line[60], arch.placed(wide).line[60]
        assert (b[1] - a[1] > 8) == moves


def test_a_dental_arch_is_unrolled_in_place() -> None:
    from avatar_stream.face.fit import fit_still

    fit, _ = fit_still(face(100, (0.1, 0.3, 0.2)))
    placed = Arch("upper", np.zeros(60, np.float32)).placed(fit)
    k = 50
    at = placed.line[k] + 0.5 * placed.down
    x, y = np.round(at).astype(int)
    along, below = placed.arch_coordinates(int(x), int(y), 1, 1)
    assert along[0, 0] == pytest.approx(k / (len(placed.line) - 1), abs=0.02)
    assert below[0, 0] == pytest.approx(0.5, abs=0.05)


def test_softness_grows_with_blur(portrait: Portrait) -> None:
    found = []
    for blur in (0, 1.0, 2.0, 3.0):
        picture = cv2.GaussianBlur(portrait.crop, (0, 0), blur) if blur else portrait.crop
        found.append(softness(np.asarray(picture, np.uint8), portrait.landmarks))
    assert found == sorted(found)
    assert found[3] - found[0] > 1
    assert geometry.eye_distance(portrait.landmarks) > 50
