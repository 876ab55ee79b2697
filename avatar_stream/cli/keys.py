"""Hotkeys in a terminal, and a preview window."""

import contextlib
import os
import sys
import threading
from collections.abc import Callable, Iterator

import cv2
import numpy as np
import numpy.typing as npt

from avatar_stream.errors import BadInput


@contextlib.contextmanager
def hotkeys(press: Callable[[str], None]) -> Iterator[bool]:
    """Call ``press`` with each key typed in this terminal; yields False if there is no terminal."""
    if not sys.stdin.isatty():
        yield False
        return
    stopped = threading.Event()
    with _single_keys():
        thread = threading.Thread(target=_read, args=(press, stopped), name="keys", daemon=True)
        thread.start()
        try:
            yield True
        finally:
            stopped.set()
            thread.join(1)


def _read(press: Callable[[str], None], stopped: threading.Event) -> None:
    if sys.platform == "win32":
        import msvcrt

        while not stopped.wait(0.05):
            while msvcrt.kbhit():
                press(msvcrt.getwch())
        return
    import select

    while not stopped.is_set():
        if select.select([sys.stdin], [], [], 0.2)[0]:
            press(sys.stdin.read(1))


@contextlib.contextmanager
def _single_keys() -> Iterator[None]:
    """Read keys without Enter and without echo."""
    if sys.platform == "win32":
        yield
        return
    import termios
    import tty

    before = termios.tcgetattr(sys.stdin)
    tty.setcbreak(sys.stdin)
    try:
        yield
    finally:
        termios.tcsetattr(sys.stdin, termios.TCSADRAIN, before)


class Preview:
    """A window that shows the avatar and calls ``press`` with each key. Raises ``BadInput`` if it cannot open."""

    name = "a window"

    def __init__(self, press: Callable[[str], None]) -> None:
        self._press = press
        # Without a display, OpenCV's Qt aborts the process.
        headless = sys.platform == "linux" and not (os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY"))
        try:
            if not headless:
                cv2.namedWindow("avatar", cv2.WINDOW_AUTOSIZE)
                return
        except cv2.error:
            pass
        raise BadInput("no window can be opened here: leave --preview out")

    def show(self, picture: npt.NDArray[np.uint8]) -> None:
        """Show an RGB picture."""
        cv2.imshow("avatar", cv2.cvtColor(picture, cv2.COLOR_RGB2BGR))
        key = cv2.waitKey(1)
        if key >= 0:
            self._press(chr(key & 0xFF))

    def close(self) -> None:
        """Close the window."""
        cv2.destroyAllWindows()
