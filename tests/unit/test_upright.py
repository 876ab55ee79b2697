"""Videos are shown as intended: with square pixels, and rotated by the display matrix."""

import io
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from avatar_stream.media.camera import Camera
from avatar_stream.media.upright import Image, attach_pixel_aspect, orientation, upright
from tests.waiting import wait_until

FIXED_POINT_ONE = 0x10000  # 1 in a display matrix
FILM_SIZE = (48, 32)  # width and height of the test film


def corners() -> Image:
    """A picture with a different colour in each quarter, so that all orientations differ."""
    picture = np.zeros((FILM_SIZE[1], FILM_SIZE[0], 3), np.uint8)
    height, width = FILM_SIZE[1] // 2, FILM_SIZE[0] // 2
    picture[:height, :width], picture[:height, width:] = (220, 30, 30), (30, 200, 30)
    picture[height:, :width], picture[height:, width:] = (30, 30, 220), (210, 210, 210)
    return picture


def film(*, matrix: tuple[int, int, int, int] | None = None, shape: Fraction | None = None) -> bytes:
    """An MP4 of :func:`corners` with a display matrix and a pixel aspect ratio."""
    out = io.BytesIO()
    with av.open(out, "w", format="mp4") as container:
        stream = container.add_stream("libx264", rate=25, options={"crf": "1"})
        stream.width, stream.height = FILM_SIZE
        stream.pix_fmt = "yuv444p"
        if shape is not None:
            stream.codec_context.sample_aspect_ratio = shape
        if matrix is not None:
            a, b, c, d = matrix
            stream.set_display_matrix([a, b, 0, c, d, 0, 0, 0, 0x40000000])
        for _ in range(3):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(corners(), format="rgb24")))
        container.mux(stream.encode(None))
    return out.getvalue()


def show_video(data: bytes, longest: int | None = None) -> Image:
    with av.open(io.BytesIO(data), "r") as container:
        stream = container.streams.video[0]
        return upright(attach_pixel_aspect(next(container.decode(stream)), stream), longest)


def mean_difference(a: Image, b: Image) -> float:
    return float(np.abs(a.astype(int) - b).mean())


# As in FFmpeg's display.h: (p, q) is mapped to (a p + c q, b p + d q).
ORIENTATIONS: dict[str, tuple[tuple[int, int, int, int], Callable[[Image], Image]]] = {
    "as it is": ((FIXED_POINT_ONE, 0, 0, FIXED_POINT_ONE), lambda picture: picture),
    "a quarter clockwise": ((0, FIXED_POINT_ONE, -FIXED_POINT_ONE, 0), lambda picture: np.rot90(picture, -1)),
    "half": ((-FIXED_POINT_ONE, 0, 0, -FIXED_POINT_ONE), lambda picture: np.rot90(picture, 2)),
    "a quarter anticlockwise": ((0, -FIXED_POINT_ONE, FIXED_POINT_ONE, 0), lambda picture: np.rot90(picture)),
    "mirrored": ((-FIXED_POINT_ONE, 0, 0, FIXED_POINT_ONE), lambda picture: picture[:, ::-1]),
    "upside down": ((FIXED_POINT_ONE, 0, 0, -FIXED_POINT_ONE), lambda picture: picture[::-1]),
    "transposed": ((0, FIXED_POINT_ONE, FIXED_POINT_ONE, 0), lambda picture: picture.swapaxes(0, 1)),
    "transposed the other way": (
        (0, -FIXED_POINT_ONE, -FIXED_POINT_ONE, 0),
        lambda picture: np.rot90(picture, 2).swapaxes(0, 1),
    ),
}


@pytest.mark.parametrize("way", ORIENTATIONS)
def test_all_eight_orientations_are_applied(way: str) -> None:
    matrix, right = ORIENTATIONS[way]
    assert mean_difference(show_video(film(matrix=matrix)), right(corners())) < 4


def test_a_matrix_between_two_orientations_becomes_the_nearer() -> None:
    def turned(degrees: float) -> Image:
        c, s = (round(float(f(np.radians(degrees))) * FIXED_POINT_ONE) for f in (np.cos, np.sin))
        matrix = np.array([c, s, 0, -s, c, 0, 5, 7, 1 << 30], np.int32).tobytes()
        return orientation(matrix)(corners())

    assert mean_difference(turned(20), corners()) == 0
    assert mean_difference(turned(100), np.rot90(corners(), -1)) == 0
    assert mean_difference(turned(-170), np.rot90(corners(), 2)) == 0
    assert mean_difference(orientation(bytes(36))(corners()), corners()) == 0  # a zero matrix has no effect


@pytest.mark.parametrize(
    ("shape", "size"),
    [
        (Fraction(4, 3), (64, 32)),  # HDV
        (Fraction(16, 11), (70, 32)),  # wide PAL
        (Fraction(8, 9), (48, 36)),  # NTSC
        (Fraction(3, 4), (48, 42)),
        (Fraction(1), FILM_SIZE),
        (Fraction(1000), FILM_SIZE),  # a damaged header
    ],
)
def test_non_square_pixels_are_resampled(shape: Fraction, size: tuple[int, int]) -> None:
    picture = show_video(film(shape=shape))
    assert picture.shape == (size[1], size[0], 3)
    # Only the size changes; each quarter keeps its place.
    y, x = size[1] // 4, size[0] // 4
    for row, column in ((y, x), (y, -x), (-y, x), (-y, -x)):
        old = corners()[8 if row > 0 else -8, 12 if column > 0 else -12]
        assert np.abs(picture[row, column].astype(int) - old).max() < 12


def test_aspect_rotation_and_size_are_combined() -> None:
    picture = show_video(film(matrix=ORIENTATIONS["a quarter clockwise"][0], shape=Fraction(4, 3)), longest=32)
    assert picture.shape == (32, 16, 3)
    assert np.abs(picture[4, -4].astype(int) - corners()[4, 4]).max() < 12


def test_a_video_file_as_camera_gets_square_pixels(tmp_path: Path) -> None:
    path = tmp_path / "hdv.mp4"
    path.write_bytes(film(shape=Fraction(4, 3)))
    seen: list[Image] = []
    camera = Camera(str(path), lambda frame: seen.append(upright(frame)))
    try:
        wait_until(lambda: seen, "the camera showed a picture")
    finally:
        camera.close()
    assert seen[0].shape == (32, 64, 3)
