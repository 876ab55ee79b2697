"""The sample clip played forwards and backwards, with each frame's number drawn in."""

import av

from avatar_stream.media.marks import draw_mark
from tests.browser.camera import driver_frames

FRAME_COUNT = 1000  # 40 s; the camera then repeats them


def numbered_frames() -> list[av.VideoFrame]:
    """``FRAME_COUNT`` yuv420p frames of 640 x 480."""
    clip = driver_frames()
    out = []
    for number in range(FRAME_COUNT):
        lap, at = divmod(number, len(clip))
        picture = clip[at if lap % 2 == 0 else -1 - at].copy()
        draw_mark(picture, number)
        out.append(av.VideoFrame.from_ndarray(picture, format="rgb24").reformat(format="yuv420p"))
    return out
