"""Webcams through PyAV: V4L2 on Linux, AVFoundation on macOS, DirectShow on Windows. Video files work too."""

import contextlib
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import av

from avatar_stream.errors import BadInput
from avatar_stream.media.opening import decoded_frames, open_media, video_stream
from avatar_stream.media.upright import attach_pixel_aspect

BACKENDS: Final = {"linux": "v4l2", "darwin": "avfoundation", "win32": "dshow"}
REOPEN_INTERVAL_SECONDS: Final = 1.0  # between attempts to reopen an unplugged camera
# All webcams support this well, and the avatar needs no more.
CAPTURE_OPTIONS: Final = {"video_size": "640x480", "framerate": "30"}


@dataclass(frozen=True, slots=True)
class Device:
    """A camera: ``id`` opens it, ``name`` is the manufacturer's name."""

    id: str
    name: str


def cameras() -> list[Device]:
    """The cameras of this machine."""
    backend = BACKENDS.get(sys.platform, "")
    found: list[Any] = []
    with contextlib.suppress(ValueError, av.FFmpegError):
        found = list(av.enumerate_input_devices(backend))
    if backend == "dshow":
        found = [one for one in found if "video" in (one.media_types or ["video"])]
        return [Device(f"video={one.name}", one.description or one.name) for one in found]
    return [Device(one.name, one.description or one.name) for one in found]


def find_camera(wanted: str) -> str:
    """The id of the camera given as its number in the list, its id, or a part of its name; or the path of a file.

    Raises ``BadInput``, which lists the cameras, if there is no such camera.
    """
    known = cameras()
    if wanted.isdecimal() and int(wanted) < len(known):
        return known[int(wanted)].id
    for device in known:
        if wanted == device.id or (wanted and wanted.lower() in device.name.lower()):
            return device.id
    if Path(wanted).exists():
        return wanted
    if not known:
        raise BadInput(f"no camera found here: {SETUP_HINTS.get(sys.platform, 'connect one')}")
    names = ", ".join(f"{number}: {device.name}" for number, device in enumerate(known))
    raise BadInput(f"there is no camera {wanted}; choose one of {names}")


SETUP_HINTS: Final = {
    "linux": "connect one; if it is connected, your user must be in the group video",
    "darwin": "connect one, and allow your terminal to use it: System Settings, Privacy & Security, Camera",
    "win32": "connect one, and allow desktop apps to use it: Settings, Privacy & security, Camera",
}


class Camera:
    """Reads a camera in a thread and calls ``on_frame`` with every frame, until :meth:`close`.

    ``source`` is what :func:`find_camera` returns; a video file plays in a loop at its own frame rate. An unplugged
    camera is opened again as soon as it is back. Raises ``BadInput`` if the source cannot be opened now.
    """

    def __init__(self, source: str, on_frame: Callable[[av.VideoFrame], None]) -> None:
        self.live = True
        """Whether the camera delivers frames."""
        self._source, self._on_frame = source, on_frame
        self._is_file = Path(source).exists() and not Path(source).is_char_device()
        self._stopped = threading.Event()
        container = self._open()
        self._thread = threading.Thread(target=self._run, args=(container,), name="camera", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Stop reading."""
        self._stopped.set()
        self._thread.join(5)

    def _open(self) -> Any:
        try:
            if self._is_file:
                container = open_media(Path(self._source), "a video")
                if video_stream(container) is None:
                    container.close()
                    raise BadInput(f"{self._source} has no pictures: a camera is a device or a video")
                return container
            return _open_device(self._source)
        except (av.FFmpegError, OSError, ValueError) as error:
            reason = getattr(error, "strerror", None) or str(error)
            raise BadInput(
                f"cannot open the camera {self._source} ({reason}): is another program using it?"
            ) from None

    def _run(self, container: Any) -> None:
        while not self._stopped.is_set():
            with contextlib.suppress(av.FFmpegError, OSError):  # unplugged
                self._read(container)
            container.close()
            self.live = self._is_file
            container = self._reopen()
            if container is None:
                return
            self.live = True

    def _read(self, container: Any) -> None:
        began, first = time.monotonic(), None
        stream = video_stream(container) or container.streams.video[0]
        for frame in decoded_frames(container, stream):
            if self._stopped.is_set():
                return
            if self._is_file and frame.time is not None:
                first = frame.time if first is None else first
                self._stopped.wait(max(0.0, began + frame.time - first - time.monotonic()))
            self._on_frame(attach_pixel_aspect(frame, stream))

    def _reopen(self) -> Any:
        while not self._stopped.is_set():
            with contextlib.suppress(BadInput):
                return self._open()
            self._stopped.wait(REOPEN_INTERVAL_SECONDS)
        return None


def _open_device(source: str) -> Any:
    backend = BACKENDS.get(sys.platform, "v4l2")
    try:
        return av.open(source, format=backend, options=dict(CAPTURE_OPTIONS))
    except (av.FFmpegError, OSError, ValueError):
        return av.open(source, format=backend)  # this camera has neither this size nor this rate
