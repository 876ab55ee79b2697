"""Parts that a portrait takes from other pictures of the person: closed lids, and a hidden cheek."""

import cv2
import numpy as np
import pytest

from avatar_stream.face import geometry, mesh
from avatar_stream.face.mesh import Floats
from avatar_stream.identity.library import sample_pictures
from avatar_stream.portrait.interior.eyes import EYE_LANDMARKS, Eyes, Image
from avatar_stream.portrait.portrait import Portrait, prepare, read_picture
from avatar_stream.portrait.turned_view import TurnedTexture
from avatar_stream.portrait.warp import PortraitWarp

BLUE, RED = np.array([40, 60, 220], np.uint8), np.array([220, 30, 30], np.uint8)


@pytest.fixture(scope="module")
def portrait() -> Portrait:
    return prepare(read_picture(sample_pictures()["noor"]), 512)


def with_closed_eyes(landmarks: Floats) -> Floats:
    """The same face with its eyes shut."""
    out = landmarks.copy()
    for upper, lower, _ in EYE_LANDMARKS:
        for above, below in zip(upper[1:-1], lower[1:-1], strict=True):
            out[above, :2] = landmarks[below, :2] - [0, 0.5]
    return out


def with_yaw(portrait: Portrait, degrees: float) -> Floats:
    middle = portrait.landmarks[:468].mean(0)
    rotation = geometry.from_rotation_vector(np.array([0, np.radians(degrees), 0]))
    return ((portrait.landmarks - middle) @ rotation.T + middle).astype(np.float32)


def warp(portrait: Portrait, target: Floats) -> Image:
    return PortraitWarp(portrait.crop, portrait.plate, portrait.matte, portrait.landmarks)(target).image.copy()


def test_closed_lids_come_from_the_persons_other_picture(portrait: Portrait) -> None:
    target = with_closed_eyes(portrait.landmarks)
    asleep = warp(portrait, target)
    Eyes(portrait.crop, portrait.landmarks).draw(asleep, target)
    # Coloured eye shadow identifies her own lids.
    for upper, lower, _ in EYE_LANDMARKS:
        ring = target[[*upper, *lower[-2:0:-1]], :2] - [0, 6]
        mask = cv2.fillPoly(np.zeros(asleep.shape[:2], np.uint8), [np.round(ring).astype(np.int32)], 255)
        asleep[cv2.dilate(mask, np.ones((9, 9), np.uint8)) > 0] = BLUE

    def blueness(eyes: Eyes) -> float:
        shown = warp(portrait, target)
        eyes.draw(shown, target)
        lids = np.concatenate(
            [shown[tuple(np.round(target[u[4], 1::-1]).astype(int) - [4, 0])][None] for u, _, _ in EYE_LANDMARKS]
        )
        return float((lids[:, 2].astype(int) - lids[:, 0]).mean())

    assert blueness(Eyes(portrait.crop, portrait.landmarks)) < 0
    assert blueness(Eyes(portrait.crop, portrait.landmarks, (asleep, target))) > 40


def test_a_hidden_cheek_comes_from_another_picture(portrait: Portrait) -> None:
    away = with_yaw(portrait, 22)
    aside = warp(portrait, away)
    # The portrait is turned aside; the other picture is frontal and has a mark on each cheek.
    marked = portrait.crop.copy()
    for point in (50, 280):
        x, y = np.round(portrait.landmarks[point, :2]).astype(int)
        cv2.circle(marked, (int(x), int(y)), 9, [int(v) for v in RED], -1)
    texture = TurnedTexture(away, marked, portrait.landmarks)
    shown = warp(portrait, portrait.landmarks)
    texture.draw(shown, portrait.landmarks)

    def redness(point: int) -> float:
        x, y = np.round(portrait.landmarks[point, :2]).astype(int)
        return float(shown[y, x, 0]) - float(shown[y, x, 1:].mean())

    plain = warp(portrait, portrait.landmarks)
    far = max((50, 280), key=redness)
    near = 330 - far
    assert np.abs(shown.astype(int) - plain).max() > 20
    # Only the hidden side is taken, and only when the head turns.
    x, y = np.round(portrait.landmarks[near, :2]).astype(int)
    assert np.abs(shown[y, x].astype(int) - plain[y, x]).max() < 12
    untouched = aside.copy()
    texture.draw(untouched, away)
    assert np.array_equal(untouched, aside)


def test_a_hidden_side_without_another_picture_is_mirrored(portrait: Portrait) -> None:
    away = with_yaw(portrait, 16)
    found = TurnedTexture.all_of(warp(portrait, away), away, ())
    assert len(found) == 1
    assert np.sign(found[0].yaw) != np.sign(geometry.euler_degrees(geometry.head_pose(away).rotation)[1])
    assert TurnedTexture.all_of(portrait.crop, portrait.landmarks, ()) == ()
    # Another picture of that side has priority over the mirror image.
    other = (portrait.crop, with_yaw(portrait, -16))
    assert len(TurnedTexture.all_of(warp(portrait, away), away, [other])) == 1


def test_hair_and_lips_are_not_copied_to_a_cheek(portrait: Portrait) -> None:
    away = with_yaw(portrait, 22)
    dark = (portrait.crop * 0.15).astype(np.uint8)
    half = portrait.crop.shape[1] // 2
    for side in (np.s_[:, :half], np.s_[:, half:]):
        hairy = portrait.crop.copy()
        hairy[side] = dark[side]
        texture = TurnedTexture(away, hairy, portrait.landmarks)
        covered = portrait.landmarks[mesh.skin_triangles(), 0].mean(1)
        hidden = covered < half - 8 if side[1].start is None else covered > half + 8
        assert texture._share[hidden].mean() < 0.02
    lips = np.isin(mesh.skin_triangles(), mesh.LIPS_RING).any(1)
    assert TurnedTexture(away, portrait.crop, portrait.landmarks)._share[lips].max() == 0
