"""A camera for other programs: pyvirtualcam with v4l2loopback, OBS's virtual camera, or Unity Capture."""

import sys
from typing import Any, Final

import cv2
import numpy as np
import numpy.typing as npt

from avatar_stream.errors import AvatarError, BadInput
from avatar_stream.extras import install_command

DRIVER_HINTS: Final = {
    "linux": "no virtual camera device: install v4l2loopback (on Debian and Ubuntu: sudo apt install "
    'v4l2loopback-dkms), then sudo modprobe v4l2loopback exclusive_caps=1 card_label="Avatar"',
    "darwin": "no virtual camera: install OBS 30 or later, start its virtual camera once, and stop it again",
    "win32": "no virtual camera: install OBS 28 or later; its virtual camera comes with it",
}


class NoDriver(AvatarError):
    """This system has no driver for virtual cameras."""


class VirtualCamera:
    """A camera of ``size`` (width, height) at ``fps`` frames a second; programs list it as ``name``.

    Raises :class:`NoDriver`, which says what to install, if there is no driver.
    """

    def __init__(self, size: tuple[int, int], fps: float, device: str | None = None) -> None:
        try:
            import pyvirtualcam
        except ImportError:
            line = install_command("camera")
            raise BadInput(
                f"a virtual camera needs one more package: {line} (or do without it: --no-device)"
            ) from None
        self._size = size
        try:
            self._camera: Any = pyvirtualcam.Camera(*size, fps, device=device)
        except RuntimeError as error:
            where = f" called {device}" if device else ""
            hint = DRIVER_HINTS.get(sys.platform, str(error))
            raise NoDriver(f"cannot open a virtual camera{where}: {hint}") from None
        self.name = str(self._camera.device)

    def show(self, picture: npt.NDArray[np.uint8]) -> None:
        """Show an RGB picture ``(h, w, 3)``, fitted to the camera's size."""
        height, width = picture.shape[:2]
        if (width, height) != self._size:
            picture = fitted(picture, self._size)
        self._camera.send(np.ascontiguousarray(picture))

    def close(self) -> None:
        """Remove the camera."""
        self._camera.close()


def fitted(picture: npt.NDArray[np.uint8], size: tuple[int, int]) -> npt.NDArray[np.uint8]:
    """The complete picture, centred in ``size`` (width, height), with a blurred copy of itself around it."""
    width, height = size
    scale = min(width / picture.shape[1], height / picture.shape[0])
    inner = (round(picture.shape[1] * scale), round(picture.shape[0] * scale))
    method = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
    scaled = cv2.resize(picture, inner, interpolation=method)
    small = cv2.blur(cv2.resize(picture, (32, 32), interpolation=cv2.INTER_AREA), (7, 7))
    out = np.asarray(cv2.resize(small, size, interpolation=cv2.INTER_LINEAR), np.uint8)
    left, top = (width - inner[0]) // 2, (height - inner[1]) // 2
    out[top : top + inner[1], left : left + inner[0]] = scaled
    return out
