"""Compositing: the residual is added to the warp, and inside a mouth only its low frequencies."""

import numpy as np

from avatar_stream.portrait.aligned import ALIGNED_SIZE, AlignedInput, Image
from avatar_stream.portrait.compositor import add_residual

CROP_SIDE = 512
INSIDE, OUTSIDE = np.s_[330:410, 190:320], np.s_[100:200, 150:360]


def stripes() -> Image:
    """A crop of lines too fine for the aligned frame."""
    crop = np.full((CROP_SIDE, CROP_SIDE, 3), 120, np.uint8)
    crop[:, ::2] = 140
    return crop


def painted(residual: np.ndarray[tuple[int, ...], np.dtype[np.float32]]) -> Image:
    matrix = np.array([[ALIGNED_SIZE / CROP_SIDE, 0, 0], [0, ALIGNED_SIZE / CROP_SIDE, 0]], np.float32)
    raster, gate = np.zeros((7, 96, 96), np.uint8), np.ones((ALIGNED_SIZE, ALIGNED_SIZE), np.float32)
    raster[0, 58:82, 32:64] = 255
    shown = np.full((ALIGNED_SIZE, ALIGNED_SIZE, 3), 130, np.uint8)
    return add_residual(stripes(), AlignedInput(shown, raster, gate, matrix), residual)


def test_a_zero_residual_changes_nothing() -> None:
    assert np.array_equal(painted(np.zeros((ALIGNED_SIZE, ALIGNED_SIZE, 3), np.float32)), stripes())


def test_a_change_of_light_keeps_fine_lines() -> None:
    out = painted(np.full((ALIGNED_SIZE, ALIGNED_SIZE, 3), -40, np.float32)).astype(int)
    for region in (INSIDE, OUTSIDE):
        assert np.abs(out[region] - stripes()[region].astype(int) + 40).max() <= 2


def test_inside_a_mouth_the_residual_changes_no_edges() -> None:
    lines = np.zeros((ALIGNED_SIZE, ALIGNED_SIZE, 3), np.float32)
    lines[:, ::4], lines[:, 1::4] = 60, 60
    out = painted(lines - 30).astype(int) - stripes()
    assert np.ptp(out[INSIDE][..., 0].mean(0)) < 12
    assert np.ptp(out[OUTSIDE][..., 0].mean(0)) > 35
