"""A portrait on another background: the person stays, and nothing of the old background shows."""

import numpy as np
import pytest

from avatar_stream.errors import BadInput
from avatar_stream.face.tracked_face import TrackedFace
from avatar_stream.identity.library import sample_pictures
from avatar_stream.pipeline.avatar import Avatar
from avatar_stream.portrait.background import checked_background, on_background
from avatar_stream.portrait.portrait import Portrait, prepare, read_picture
from tests.unit.faces import face


@pytest.fixture(scope="module", params=[True, False], ids=["square", "whole picture"])
def portrait(request: pytest.FixtureRequest) -> Portrait:
    return prepare(read_picture(sample_pictures()["mona-lisa"]), 384, square=request.param)


def test_the_own_background_changes_nothing(portrait: Portrait) -> None:
    assert on_background(portrait, "own") is portrait


def test_a_colour_replaces_the_whole_background(portrait: Portrait) -> None:
    shown = on_background(portrait, "#00FF00")
    left, top, width, height = portrait.box
    far = np.zeros(shown.picture.shape[:2], bool)
    far[:20] = True  # sky in the picture
    assert np.abs(shown.picture[far].astype(int) - [0, 255, 0]).max() <= 2
    assert np.array_equal(np.unique(shown.plate.reshape(-1, 3), axis=0), [[0, 255, 0]])
    person = np.zeros_like(far)
    person[top : top + height, left : left + width] = portrait.matte > 250
    assert np.abs(shown.picture[person].astype(int) - portrait.picture[person]).max() <= 6


def test_the_old_background_does_not_show_at_the_edges(portrait: Portrait) -> None:
    dark, light = (on_background(portrait, colour).picture.astype(int) for colour in ("#000000", "#ffffff"))
    # The same person on two colours: the difference is the background's share, whatever its colour.
    share = (light - dark) / 255
    assert share.max() <= 1.01
    assert np.abs(share - share.mean(-1, keepdims=True)).max() < 0.02


def test_a_blurred_background_keeps_its_colours(portrait: Portrait) -> None:
    shown = on_background(portrait, "blur").picture[:40]
    own = portrait.picture[:40]
    assert np.abs(shown.mean((0, 1)) - own.mean((0, 1))).max() < 12
    assert np.abs(np.diff(shown.astype(int), axis=1)).mean() < 0.5 * np.abs(np.diff(own.astype(int), axis=1)).mean()


def test_a_moving_avatar_keeps_its_background() -> None:
    with Avatar(sample_pictures()["felix"], None, background="#00ff00") as avatar:
        for k, turn in enumerate((0.0, 0.1, 0.2, 0.3)):
            picture = avatar.draw(avatar.follow(TrackedFace(face(turn=(0, turn, 0))), k / 25)).picture
        corner = picture[:12, :12].reshape(-1, 3).astype(int)
        assert np.abs(corner - [0, 255, 0]).max() <= 4


def test_a_picture_replaces_the_background(portrait: Portrait) -> None:
    behind = np.zeros((50, 400, 3), np.uint8)
    behind[:, :200], behind[:, 200:] = (200, 0, 0), (0, 0, 200)
    shown = on_background(portrait, behind)
    assert shown.picture.shape == portrait.picture.shape
    assert shown.picture[:10, :10].mean((0, 1))[0] > 190
    assert shown.picture[:10, -10:].mean((0, 1))[2] > 190


@pytest.mark.parametrize("name", ["", "green", "#0f0", "##00ff00", "#00ff0g", "own ", "b-short"])
def test_invalid_backgrounds_are_refused(name: str) -> None:
    with pytest.raises(BadInput, match="background"):
        checked_background(name)
