"""Large head movements: the portrait's head, hair and neck stay intact, and its face stays in the picture."""

from dataclasses import replace

import cv2
import numpy as np
import pytest

from avatar_stream.face import geometry, mesh
from avatar_stream.face.mesh import Floats
from avatar_stream.face.motion import Motion
from avatar_stream.face.retarget import MAX_SHIFT, Retargeter
from avatar_stream.identity.library import sample_pictures
from avatar_stream.portrait.portrait import Portrait
from avatar_stream.portrait.warp import PortraitWarp

pytestmark = pytest.mark.slow

HEAD_SHIFTS = [
    (0.8, 0.0, 0.0),
    (-0.8, 0.0, 0.0),
    (0.0, -0.6, 0.0),
    (0.0, 0.6, 0.0),
    (0.0, 0.0, -0.3),
    (0.3, 0.3, -0.2),
]


@pytest.fixture(scope="module", params=["noor", "walter", "robin", "mona-lisa"])
def portrait(request: pytest.FixtureRequest) -> Portrait:
    return Portrait.open(sample_pictures()[request.param], 384)


def shifted_landmarks(portrait: Portrait, right: float, down: float, scale: float) -> Floats:
    motion = replace(Motion.neutral(), shift=np.array([right, down], np.float32), scale=scale)
    return Retargeter(portrait.landmarks, portrait.box[2:])(motion)


@pytest.mark.parametrize("move", HEAD_SHIFTS)
def test_hair_moves_with_the_head(portrait: Portrait, move: tuple[float, float, float]) -> None:
    target = shifted_landmarks(portrait, *move)
    shown = PortraitWarp(portrait.crop, portrait.plate, portrait.matte, portrait.landmarks)(target).image
    stable = list(mesh.STABLE_LANDMARKS)
    head = geometry.similarity(portrait.landmarks[stable], target[stable])
    corners = np.array([[0, 0, 0], [1, 0, 0], [0, 1, 0]], np.float32)
    matrix = cv2.getAffineTransform(
        np.ascontiguousarray(corners[:, :2]), np.ascontiguousarray(head.apply(corners)[:, :2], np.float32)
    )
    height, width = portrait.matte.shape
    whole = np.dstack([portrait.crop, portrait.matte, np.full_like(portrait.matte, 255)])
    rigid = [
        cv2.warpAffine(np.ascontiguousarray(one), matrix, (width, height)) for one in (whole[..., :3], whole[..., 3:])
    ]
    matte = rigid[1][..., :1].astype(np.float32) / 255
    wanted = matte * rigid[0] + (1 - matte) * portrait.plate
    # The area above the brows that the picture shows, with the hair's outline.
    brows = int(target[[105, 334], 1].max())
    known = rigid[1][:brows, :, 1] == 255
    differs = np.abs(shown[:brows].astype(np.float32) - wanted[:brows]).mean(-1)
    assert known.mean() > 0.3
    assert differs[known].mean() < 3.5
    assert np.mean(differs[known] > 40) < 0.02


@pytest.mark.parametrize("move", HEAD_SHIFTS)
def test_a_face_stays_in_the_picture(portrait: Portrait, move: tuple[float, float, float]) -> None:
    right, down, scale = move
    oval = shifted_landmarks(portrait, 3 * right, 3 * down, scale)[list(mesh.FACE_OVAL), :2]
    assert (oval > 0).all()
    assert (oval < portrait.box[2:]).all()


def test_only_large_head_shifts_are_limited(portrait: Portrait) -> None:
    width = float(np.linalg.norm(portrait.landmarks[234] - portrait.landmarks[454]))
    rest, aside = shifted_landmarks(portrait, 0, 0, 0), shifted_landmarks(portrait, 0.15, 0, 0)
    assert (aside - rest)[1, 0] / width == pytest.approx(0.15, abs=0.02)
    far = shifted_landmarks(portrait, 2.0, 0, 0)
    assert (far - rest)[1, 0] / width <= MAX_SHIFT[0] + 0.02
