import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from avatar_stream.media.marks import draw_mark, read_mark


@given(st.integers(0, 2047), st.sampled_from([(480, 640), (384, 384), (360, 480)]))
def test_a_mark_survives_noise_and_scaling(number: int, shape: tuple[int, int]) -> None:
    picture = np.full((480, 640, 3), 90, np.uint8)
    draw_mark(picture, number)
    noisy = picture.astype(np.float32) + np.random.default_rng(number).normal(0, 12, picture.shape)
    scaled = cv2.resize(np.clip(noisy, 0, 255).astype(np.uint8), shape[::-1], interpolation=cv2.INTER_AREA)
    assert read_mark(scaled.astype(np.uint8)) == number


def test_a_picture_without_a_mark_has_none() -> None:
    assert read_mark(np.full((480, 640, 3), 128, np.uint8)) is None
    one = np.zeros((480, 640, 3), np.uint8)
    draw_mark(one, 5)
    one[:30, :50] = 255 - one[:30, :50]  # a single inverted bit, which the parity reveals
    assert read_mark(one) is None


def test_a_picture_too_narrow_for_a_mark_has_none(recwarn: pytest.WarningsRecorder) -> None:
    for width in range(1, 64):
        read_mark(np.zeros((16, width, 3), np.uint8))
    assert not recwarn.list
