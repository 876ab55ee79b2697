"""Shoulders: found in portraits that show them, and moved with the driver's."""

import functools
import math

import numpy as np
import numpy.typing as npt
import pytest

from avatar_stream.face.body import MAX_SHIFT_WIDTHS, Torso, TorsoTracker, find_shoulders
from avatar_stream.face.tracked_face import TrackedFace
from avatar_stream.identity.library import sample_pictures
from avatar_stream.pipeline.avatar import Avatar
from avatar_stream.portrait.portrait import Portrait, prepare, read_picture
from avatar_stream.portrait.renderer import PortraitRenderer
from avatar_stream.portrait.warp import PortraitWarp
from tests.unit.faces import face

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def portrait() -> Portrait:
    return prepare(read_picture(sample_pictures()["lady-agnew"]), 384, square=True)


@functools.cache
def person(shift: int = 0) -> npt.NDArray[np.uint8]:
    """A picture of a person, ``shift`` pixels to the right."""
    picture = prepare(read_picture(sample_pictures()["lady-agnew"]), 360, square=True).picture
    frame = np.full((360, 560, 3), 90, np.uint8)
    frame[:, 100 + shift : 460 + shift] = picture
    return frame


def test_a_torso_shifts_and_rolls_about_its_middle() -> None:
    shoulders = np.array([[100, 200], [300, 200]], np.float32)
    moved = Torso((0.1, 0.0)).displacement(shoulders, shoulders)
    assert np.allclose(moved, [[20, 0], [20, 0]], atol=1e-4)
    rolled = Torso(roll=0.1).displacement(shoulders, shoulders)
    assert np.allclose(rolled.mean(0), 0, atol=1e-4)
    # Clockwise in the picture: its right end goes down.
    assert rolled[1, 1] == pytest.approx(100 * math.sin(0.1), rel=1e-3)
    assert Torso((0.1, 0.05), 0.2).mirrored == Torso((-0.1, 0.05), -0.2)


def test_shoulders_are_found_only_where_they_are_visible(portrait: Portrait) -> None:
    assert portrait.shoulders is not None
    right, left = portrait.shoulders
    assert right[0] < portrait.landmarks[152, 0] < left[0]
    assert portrait.shoulders[:, 1].min() > portrait.landmarks[152, 1]
    assert prepare(read_picture(sample_pictures()["felix"]), 384, square=True).shoulders is None
    assert find_shoulders(np.full((200, 200, 3), 128, np.uint8)) is None


def test_only_the_chest_moves(portrait: Portrait) -> None:
    renderer = PortraitRenderer(portrait, None)
    still, moved = (
        renderer.paint(renderer.warp_to(portrait.landmarks, torso=torso)).picture.astype(int)
        for torso in (None, Torso((0.15, 0.0)))
    )
    change = np.abs(moved - still).mean(-1)
    left, top, width, height = portrait.box
    assert portrait.shoulders is not None
    chest = (portrait.shoulders.mean(0) + [left, top]).astype(int)
    assert change[chest[1] - 8 : chest[1] + 8, chest[0] - 40 : chest[0] + 40].mean() > 4
    eyes = (portrait.landmarks[[33, 263], :2].mean(0) + [left, top]).astype(int)
    assert change[eyes[1] - 12 : eyes[1] + 12, eyes[0] - 30 : eyes[0] + 30].mean() < 1
    # There is no seam at the edge of the moved area.
    outside = np.ones(change.shape, bool)
    outside[top + 1 : top + height - 1, left + 1 : left + width - 1] = False
    assert change[outside].mean() < 0.5
    flow, _ = PortraitWarp(
        portrait.crop, portrait.plate, portrait.matte, portrait.landmarks, portrait.shoulders
    ).flow(portrait.landmarks, Torso((0.15, 0.0)))
    rest, _ = PortraitWarp(portrait.crop, portrait.plate, portrait.matte, portrait.landmarks).flow(portrait.landmarks)
    moved_by = np.linalg.norm(flow - rest, axis=-1)
    edge = np.concatenate([moved_by[0], moved_by[-1], moved_by[:, 0], moved_by[:, -1]])
    assert edge.max() < 0.1 * moved_by.max()


def test_a_drivers_shoulders_are_followed_and_limited() -> None:
    tracker = TorsoTracker()
    for _ in range(6):
        rest = tracker.update(person())
    for _ in range(16):
        there = tracker.update(person(40))
    for _ in range(16):
        far = tracker.update(person(95))
    for _ in range(30):
        gone = tracker.update(None)
    tracker.close()
    assert abs(gone.shift[0]) < 0.01
    assert abs(rest.shift[0]) < 0.02
    assert 0.08 < there.shift[0] < far.shift[0] <= MAX_SHIFT_WIDTHS[0]
    assert abs(there.roll) < 0.05


def test_an_avatar_without_visible_shoulders_moves_none(portrait: Portrait) -> None:
    with Avatar(portrait, None) as avatar:
        assert avatar.follow(person(), 0.0).torso is not None
        assert avatar.follow(TrackedFace(face()), 0.1).torso == Torso()
    with Avatar(sample_pictures()["felix"], None) as avatar:
        assert avatar.follow(person(), 0.0).torso is None
