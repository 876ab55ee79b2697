"""Painting back: what was filled in hides the warp below it, and everything else keeps its own sharpness."""

import numpy as np

from avatar_stream.portrait.aligned import ALIGNED_SIZE, AlignedInput, Image, to_aligned
from avatar_stream.portrait.compositor import add_residual

SIDE = 512


def stripes() -> Image:
    """A crop of lines too fine for the aligned frame."""
    crop = np.full((SIDE, SIDE, 3), 120, np.uint8)
    crop[:, ::2] = 140
    return crop


def seen_with(filled: Image, shown: Image) -> AlignedInput:
    matrix = np.array([[ALIGNED_SIZE / SIDE, 0, 0], [0, ALIGNED_SIZE / SIDE, 0]], np.float32)
    raster, gate = np.zeros((7, 96, 96), np.uint8), np.zeros((ALIGNED_SIZE, ALIGNED_SIZE), np.float32)
    return AlignedInput(shown, raster, gate, filled, matrix)


def test_what_is_filled_in_hides_the_warp_below_it() -> None:
    crop, filled = stripes(), np.zeros((96, 96), np.uint8)
    filled[60:80, 30:66] = 255
    warped = np.full((ALIGNED_SIZE, ALIGNED_SIZE, 3), 130, np.uint8)
    out = add_residual(crop, warped, seen_with(filled, warped), np.zeros(warped.shape, np.float32))
    inside, outside = np.s_[330:410, 175:340], np.s_[100:200, 100:400]
    assert np.ptp(out[inside]) <= 1
    assert np.array_equal(out[outside], crop[outside])


def test_nothing_filled_nothing_changed() -> None:
    crop = stripes()
    seen = seen_with(np.zeros((96, 96), np.uint8), np.zeros((ALIGNED_SIZE, ALIGNED_SIZE, 3), np.uint8))
    warped = to_aligned(crop, seen.matrix)
    seen = seen_with(seen.filled, warped)
    out = add_residual(crop, warped, seen, np.zeros((ALIGNED_SIZE, ALIGNED_SIZE, 3), np.float32))
    assert np.array_equal(out, crop)
