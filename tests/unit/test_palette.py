"""Drawn parts get the portrait's hues, and no hue in a grey portrait."""

from dataclasses import replace

import cv2
import numpy as np
import pytest

from avatar_stream.face import mesh
from avatar_stream.face.arkit import ArkitFrame
from avatar_stream.face.mesh import Floats
from avatar_stream.face.model import coefficients
from avatar_stream.face.motion import Motion
from avatar_stream.face.retarget import Retargeter
from avatar_stream.identity.library import sample_pictures
from avatar_stream.pipeline.avatar import Avatar
from avatar_stream.portrait.interior.layer import Interior
from avatar_stream.portrait.interior.palette import LUMA_WEIGHTS, Palette
from avatar_stream.portrait.portrait import Image, Portrait, prepare, read_picture
from avatar_stream.runtime.networks import Networks

# The usual sepia filter of image editors.
SEPIA_MATRIX = np.array([[0.393, 0.769, 0.189], [0.349, 0.686, 0.168], [0.272, 0.534, 0.131]])
PHOTOGRAPHS = ("felix", "mateo", "noor", "robin", "samuel", "walter")


def grey(picture: Image) -> Image:
    return np.repeat((picture @ LUMA_WEIGHTS + 0.5).astype(np.uint8)[..., None], 3, axis=2)


def sepia(picture: Image) -> Image:
    return np.asarray(np.clip(picture @ SEPIA_MATRIX.T, 0, 255), np.uint8)


def blue(picture: Image) -> Image:
    return np.asarray(grey(picture) * [0.6, 0.8, 1.0], np.uint8)


@pytest.fixture(scope="module")
def portrait() -> Portrait:
    return prepare(read_picture(sample_pictures()["noor"]), 384)


def recoloured(portrait: Portrait, of: object) -> Portrait:
    """The portrait with its pictures' colours changed by ``of``."""
    assert callable(of)
    return replace(portrait, picture=of(portrait.picture), plate=of(portrait.plate))


def with_open_mouth(portrait: Portrait) -> Floats:
    gap = np.zeros((11, 3), np.float32)
    gap[:, 1] = 0.3 * np.sin(np.linspace(0, np.pi, 11))
    named = coefficients(jawOpen=0.6, mouthSmile=0.4)
    return Retargeter(portrait.landmarks)(replace(Motion.neutral(), gap=gap, coefficients=named))


def draw_open_mouth(portrait: Portrait) -> tuple[Image, Image]:
    """The portrait's crop (RGB) with an open mouth drawn in, and the mask of the drawn area."""
    target, shown = with_open_mouth(portrait), portrait.crop.copy()
    Interior(portrait.crop, portrait.landmarks).draw(shown, target)
    ring = np.round(target[list(mesh.MOUTH_RING), :2]).astype(np.int32)
    inside = cv2.fillPoly(np.zeros(shown.shape[:2], np.uint8), [ring], 1)
    return shown, cv2.erode(inside, np.ones((3, 3), np.uint8)) > 0


def chroma(pixels: Image) -> int:
    """The 99.9th percentile over pixels of max minus min of red, green and blue."""
    return int(np.percentile(pixels.max(-1).astype(int) - pixels.min(-1), 99.9))


@pytest.mark.parametrize("name", PHOTOGRAPHS)
def test_photographs_keep_every_colour(name: str) -> None:
    portrait = prepare(read_picture(sample_pictures()[name]), 384)
    palette = Palette(portrait.crop, portrait.landmarks)
    assert palette.colourfulness == 1
    colours = np.random.default_rng(0).uniform(0, 255, (5, 5, 3)).astype(np.float32)
    assert palette.toned(colours) is colours
    assert palette.toned_change(colours, portrait.crop) is colours


def test_a_grey_portrait_gets_a_grey_mouth(portrait: Portrait) -> None:
    coloured, inside = draw_open_mouth(portrait)
    shown, _ = draw_open_mouth(recoloured(portrait, grey))
    assert chroma(coloured[inside]) > 40
    assert chroma(shown) == 0
    # The contrast between dark and teeth is the same as in colour.
    spread = [float(np.ptp(np.percentile(one[inside] @ LUMA_WEIGHTS, [5, 95]))) for one in (coloured, shown)]
    assert 0.7 < spread[1] / spread[0] < 1.4


@pytest.mark.parametrize("tint", [sepia, blue])
def test_a_tinted_portrait_gets_a_tinted_mouth(portrait: Portrait, tint: object) -> None:
    shown, inside = draw_open_mouth(recoloured(portrait, tint))
    assert callable(tint)
    # The brightness is unchanged.
    pixels = shown[inside].astype(np.float32)
    plain = tint(np.repeat((pixels @ LUMA_WEIGHTS)[None, :, None], 3, 2).astype(np.uint8))[0].astype(np.float32)
    right = plain * ((pixels @ LUMA_WEIGHTS) / np.maximum(plain @ LUMA_WEIGHTS, 1))[:, None]
    assert np.percentile(np.abs(pixels - right), 99) < 10


def test_a_faded_portrait_gets_a_faded_mouth(portrait: Portrait) -> None:
    found = [
        Palette(np.asarray(share * portrait.crop + (1 - share) * grey(portrait.crop), np.uint8), portrait.landmarks)
        for share in (0.0, 0.3, 0.45, 0.6, 1.0)
    ]
    many = [one.colourfulness for one in found]
    assert many == sorted(many)
    assert (many[0], many[-1]) == (0, 1)
    assert 0 < many[2] < 1


def test_parts_of_other_pictures_get_the_portraits_hues(portrait: Portrait) -> None:
    """Teeth, closed lids and a cheek come from colour pictures, for a grey portrait."""
    lent = (portrait.crop, portrait.landmarks)
    shown = recoloured(portrait, grey)
    avatar = Avatar(replace(shown, teeth=lent, asleep=lent, turned=(lent,)), None)
    try:
        made = avatar.renderer.portrait
        assert made.teeth is not None
        assert made.asleep is not None
        assert max(chroma(picture) for picture in (made.teeth[0], made.asleep[0], made.turned[0][0])) == 0
    finally:
        avatar.close()


def test_the_residual_has_no_hue_in_a_grey_portrait(portrait: Portrait) -> None:
    poses = ({"jawOpen": 0.7}, {"mouthSmileLeft": 0.9, "mouthSmileRight": 0.9, "jawOpen": 0.3}, {"eyeBlinkLeft": 1.0})
    networks = Networks.shared()
    tints = []
    for one in (portrait, recoloured(portrait, grey)):
        with Avatar(one, networks) as avatar:
            pictures = [
                avatar(ArkitFrame(pose), start + k / 25) for start, pose in enumerate(poses) for k in range(6)
            ]
        tints.append(max(chroma(picture) for picture in pictures))
    assert tints[0] > 40
    assert tints[1] <= 2


def test_a_change_keeps_its_brightness(portrait: Portrait) -> None:
    palette = Palette(sepia(portrait.crop), portrait.landmarks)
    change = np.random.default_rng(1).uniform(-30, 30, portrait.crop.shape).astype(np.float32)
    shown = np.full_like(portrait.crop, 120)
    toned = palette.toned_change(change, shown)
    assert np.abs(toned @ LUMA_WEIGHTS - change @ LUMA_WEIGHTS).max() < 1
    assert toned[change @ LUMA_WEIGHTS > 10].min() > 0
