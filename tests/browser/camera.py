"""A fake webcam for Chromium: the sample clip as MJPEG, with each frame's number drawn in."""

from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt

from avatar_stream.identity.library import SAMPLES
from avatar_stream.media.files import Clip
from avatar_stream.media.marks import draw_mark


def driver_frames() -> list[npt.NDArray[np.uint8]]:
    """The sample clip's pictures: ``(480, 640, 3)`` uint8, RGB."""
    clip = Clip(SAMPLES / "driver.mp4")
    frames = [picture for _, picture in clip.frames()]
    clip.close()
    return frames


def write_camera(path: Path, frames: list[npt.NDArray[np.uint8]]) -> None:
    """Write ``frames`` as concatenated JPEGs, which Chromium plays as a camera; frame k shows the number k."""
    with open(path, "wb") as stream:
        for number, frame in enumerate(frames):
            marked = frame.copy()
            draw_mark(marked, number)
            ok, data = cv2.imencode(".jpg", cv2.cvtColor(marked, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, 92])
            assert ok
            stream.write(data.tobytes())
