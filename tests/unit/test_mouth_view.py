"""Mouth views: the light inside a driver's mouth is measured, and the avatar's mouth is lit like it."""

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from avatar_stream.face.arkit import ArkitFrame
from avatar_stream.face.mesh import Floats
from avatar_stream.face.mouth_view import (
    CHROMA_BLUR_PIXELS,
    VIEW_COLUMNS,
    VIEW_ROWS,
    ViewFilter,
    mirrored_view,
    mouth_cells,
    read_mouth,
    teeth_reach,
)
from avatar_stream.face.tone import skin_tone, tooth_tone
from avatar_stream.identity.library import SAMPLES, sample_pictures
from avatar_stream.media.files import Clip
from avatar_stream.pipeline.avatar import Avatar
from avatar_stream.portrait.interior.layer import Interior
from avatar_stream.portrait.interior.mouth_opening import find_mouth_opening
from avatar_stream.portrait.portrait import Portrait, prepare, read_picture
from tests.unit.test_mouth import lip_mask, with_open_mouth


@pytest.fixture(scope="module")
def portrait() -> Portrait:
    return prepare(read_picture(sample_pictures()["felix"]), 384)


def mouth_view(*light: float, pale: float = 1.0) -> Floats:
    view = np.empty((VIEW_ROWS, VIEW_COLUMNS, 2), np.float32)
    view[:] = np.array(light)[:, None, None]
    view[..., 1] *= pale
    return view


def brightness(portrait: Portrait, target: Floats, view: Floats) -> float:
    shown = portrait.crop.copy()
    Interior(portrait.crop, portrait.landmarks).draw(shown, target, view)
    hole = find_mouth_opening(target, shown.shape[1], shown.shape[0])
    assert hole is not None
    left, top, right, bottom = hole.box
    return float(shown[top:bottom, left:right][hole.alpha > 0.9].mean())


def test_closed_lips_show_nothing(portrait: Portrait) -> None:
    assert read_mouth(portrait.crop, portrait.landmarks) is None


@pytest.mark.parametrize(
    "wanted",
    [
        mouth_view(0.9, 0.9, 0.5, 0.3, 0.3, 0.4),
        mouth_view(0.1, 0.1, 0.1, 0.15, 0.2, 0.25, pale=0.6),
        mouth_view(*[0.8] * 6),
    ],
    ids=["teeth above", "a dark O", "clenched"],
)
def test_a_mouth_gets_the_light_that_was_seen(portrait: Portrait, wanted: Floats) -> None:
    target, shown = with_open_mouth(portrait, 0.3), portrait.crop.copy()
    Interior(portrait.crop, portrait.landmarks).draw(shown, target, wanted)
    found = read_mouth(shown, target)
    assert found is not None
    # Half of the outermost rows lies on the lips.
    assert np.abs(found - wanted)[1:-1, 1:-1].mean() < 0.08


def test_a_blurry_camera_does_not_darken_narrow_teeth(portrait: Portrait) -> None:
    """The paleness of teeth between lips a few pixels apart is measured correctly."""
    small = prepare(read_picture(sample_pictures()["felix"]), 160)
    target, shown = with_open_mouth(small, 0.2), small.crop.copy()
    hole = find_mouth_opening(target, shown.shape[1], shown.shape[0])
    assert hole is not None
    assert hole.gap < 14
    left, top, right, bottom = hole.box
    tooth = tooth_tone(skin_tone(shown, target))
    ring = lip_mask(target, shown.shape, 1) > 0
    shown[ring] = (150, 40, 50)
    shown[top:bottom, left:right][hole.alpha > 0.5] = tooth
    soft = cv2.GaussianBlur(shown, (0, 0), CHROMA_BLUR_PIXELS)
    view = read_mouth(soft, target)
    plain = mouth_cells(soft, target, (0, 0), tooth_tone(skin_tone(soft, target)))
    assert view is not None
    wrong = [float(np.abs(seen[:, 1:-1] - 1).mean()) for seen in (plain, view)]
    assert wrong[1] < 0.6 * wrong[0]


def test_a_dark_mouth_is_darker_than_one_with_teeth(portrait: Portrait) -> None:
    target = with_open_mouth(portrait, 0.3)
    dark, bright = (brightness(portrait, target, mouth_view(*[light] * 6)) for light in (0.1, 0.9))
    assert bright > 3 * dark


@pytest.mark.parametrize(
    ("view", "upper", "lower"),
    [
        (mouth_view(0.9, 0.9, 0.9, 0.1, 0.1, 0.1), (0.4, 0.6), (0, 0.01)),
        (mouth_view(0.1, 0.1, 0.1, 0.1, 0.9, 0.9), (0, 0.01), (0.25, 0.4)),
        (mouth_view(0.2, 0.9, 0.9, 0.1, 0.1, 0.1), (0.4, 0.6), (0, 0.01)),
        (mouth_view(*[0.9] * 6), (0.55, 0.75), (0.25, 0.45)),
        (mouth_view(*[0.1] * 6), (0, 0.01), (0, 0.01)),
        (mouth_view(*[0.9] * 6, pale=0.5), (0, 0.01), (0, 0.01)),
    ],
    ids=["above", "below", "under a lip's shadow", "clenched", "dark", "tongue"],
)
def test_the_edges_of_teeth_are_found(view: Floats, upper: tuple[float, float], lower: tuple[float, float]) -> None:
    found = teeth_reach(view)
    assert upper[0] <= found[0].share <= upper[1]
    assert lower[0] <= found[1].share <= lower[1]
    assert found[0].confidence > 0.9
    assert found[1].confidence > 0.9


def test_in_deep_shade_no_teeth_are_reported() -> None:
    upper, lower = teeth_reach(mouth_view(0.4, 0.37, 0.36, 0.4, 0.42, 0.4, pale=0.66))
    assert upper.confidence < 0.5
    assert lower.confidence < 0.5


def test_a_mouth_view_can_be_mirrored() -> None:
    view = np.random.default_rng(1).random((VIEW_ROWS, VIEW_COLUMNS, 2)).astype(np.float32)
    assert np.array_equal(mirrored_view(view)[:, 0], view[:, -1])
    assert np.array_equal(mirrored_view(mirrored_view(view)), view)


@settings(max_examples=15, deadline=None)
@given(
    arrays.arrays(np.float32, (VIEW_ROWS, VIEW_COLUMNS, 2), elements=st.floats(0, 1.0625, width=32)),
    st.floats(0.02, 0.6),
    st.floats(-0.5, 0.5),
)
def test_no_view_draws_outside_the_lips(portrait: Portrait, view: Floats, by: float, turn: float) -> None:
    target, shown = with_open_mouth(portrait, by, turn), portrait.crop.copy()
    interior = Interior(portrait.crop, portrait.landmarks)
    interior._mouth.draw(shown, target, interior._fitter, view)
    outside = lip_mask(target, shown.shape, 5) == 0
    assert np.array_equal(shown[outside], portrait.crop[outside])


def test_cold_light_does_not_make_teeth_green(portrait: Portrait) -> None:
    target, shown = with_open_mouth(portrait, 0.3), portrait.crop.copy()
    shown[..., 0] = shown[..., 0] // 3
    view = read_mouth(shown, target)
    assert view is not None
    assert (view[..., 1] <= view[..., 0]).all()


def test_a_filtered_mouth_view_is_steadier(portrait: Portrait) -> None:
    random, filtered = np.random.default_rng(3), ViewFilter()
    target, read, seen = with_open_mouth(portrait, 0.3), [], []
    drawn = portrait.crop.copy()
    Interior(portrait.crop, portrait.landmarks).draw(drawn, target, mouth_view(0.8, 0.8, 0.3, 0.2, 0.2, 0.2))
    for k in range(40):
        noisy = np.clip(drawn + random.normal(0, 6, drawn.shape), 0, 255).astype(np.uint8)
        one = read_mouth(noisy, target)
        steady = filtered(one, k / 25)
        assert one is not None
        assert steady is not None
        read.append(one)
        seen.append(steady)
    assert np.diff(seen[10:], axis=0).std() < 0.75 * np.diff(read[10:], axis=0).std()


def test_the_live_path_uses_the_drivers_mouth_view(portrait: Portrait) -> None:
    clip, avatar = Clip(SAMPLES / "driver.mp4"), Avatar(portrait, None)
    views = [avatar.follow(picture, k / 25).view for k, (_, picture) in zip(range(150), clip.frames(), strict=False)]
    assert any(view is not None for view in views)
    assert avatar.follow(ArkitFrame({"jawOpen": 0.5}), 7.0).view is None
    clip.close()
    avatar.close()
