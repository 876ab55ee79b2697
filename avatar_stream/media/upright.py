"""Decoded video frames as they are meant to be seen: with square pixels, rotated and mirrored as the file says."""

import threading
from collections.abc import Callable
from fractions import Fraction
from typing import Any, Final

import numpy as np
import numpy.typing as npt
from av.sidedata.sidedata import Type
from av.video.reformatter import VideoReformatter

Image = npt.NDArray[np.uint8]

MAX_PIXEL_ASPECT: Final = 4  # of a pixel, or its inverse; beyond it the header is damaged
DISPLAY_MATRIX_BYTES: Final = 36  # nine numbers of 32 bits


class _Scaler(threading.local):
    """One scaler per thread: PyAV would create one per frame, which takes longer than the scaling."""

    def __init__(self) -> None:
        self.reformatter = VideoReformatter()


_SCALER = _Scaler()


def attach_pixel_aspect(frame: Any, stream: Any) -> Any:
    """Attach to ``frame`` the aspect ratio of its pixels, which only its ``stream`` or codec context knows.

    It is stored in ``frame.opaque``, so that it stays with the frame. Returns the frame.
    """
    shape = getattr(stream, "sample_aspect_ratio", None)
    if shape:
        frame.opaque = Fraction(shape)
    return frame


def upright(frame: Any, longest: int | None = None) -> Image:
    """RGB ``(h, w, 3)`` of a decoded frame, with sides of at most ``longest`` pixels.

    Pixels become square (see :func:`attach_pixel_aspect`) by enlarging their shorter side. The picture is rotated and
    mirrored by its display matrix, rounded to the nearest of the eight possible orientations.
    """
    width, height = _square_pixel_size(frame)
    if longest is not None and max(width, height) > longest:
        scale = longest / max(width, height)
        width, height = width * scale, height * scale
    if (round(width), round(height)) == (frame.width, frame.height):
        size = (frame.width, frame.height)
    else:
        size = (max(round(width / 2) * 2, 2), max(round(height / 2) * 2, 2))
    image = np.asarray(_SCALER.reformatter.reformat(frame, *size, "rgb24").to_ndarray(), np.uint8)
    matrix = _display_matrix(frame)
    return image if matrix is None else np.ascontiguousarray(orientation(matrix)(image))


def orientation(matrix: bytes) -> Callable[[Image], Image]:
    """A function that rotates and mirrors a picture by a display matrix, rounded to quarter turns.

    The matrix takes a pixel ``(p, q)`` to ``(a p + c q + x, b p + d q + y)`` (ISO/IEC 14496-12 section 6.2.2 and
    FFmpeg's ``libavutil/display.h``). It begins with ``a b u c d v``, 32 bits each. The
    translation (``x``, ``y``) is ignored.
    """
    a, b, _, c, d, *_ = (int(number) for number in np.frombuffer(matrix, "=i4", 9))
    # The nearest orientation has the largest inner product with the matrix.
    swapped = abs(b) + abs(c) > abs(a) + abs(d)
    across, down = (c, b) if swapped else (a, d)

    def turned(image: Image) -> Image:
        if swapped:
            image = image.swapaxes(0, 1)
        return image[:: -1 if down < 0 else 1, :: -1 if across < 0 else 1]

    return turned


def _display_matrix(frame: Any) -> bytes | None:
    side_data = getattr(frame, "side_data", None)
    found = side_data.get(Type.DISPLAYMATRIX) if side_data is not None else None
    data = bytes(found) if found is not None else b""
    return data if len(data) == DISPLAY_MATRIX_BYTES else None


def _square_pixel_size(frame: Any) -> tuple[float, float]:
    """Width and height of a frame after its pixels become square."""
    shape = getattr(frame, "opaque", None)
    if not isinstance(shape, Fraction) or not 1 / MAX_PIXEL_ASPECT <= shape <= MAX_PIXEL_ASPECT:
        return frame.width, frame.height
    return frame.width * float(max(shape, Fraction(1))), frame.height * float(max(1 / shape, Fraction(1)))
