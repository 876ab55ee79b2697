"""Keep the log lines of native libraries off the terminal, so that users see only messages meant for them.

MediaPipe's C++ code writes half a dozen warnings for every graph it makes, before its log level can be set. The
filter drops lines in MediaPipe's log format, and passes on everything else written to file descriptor 2.

The ``avatar-stream`` commands filter for as long as they run (:func:`quiet_native_logs`). Where this package is used
as a library, the descriptor belongs to the program: it is filtered only while MediaPipe makes a graph
(:func:`quietly`), some hundredths of a second each time.
"""

import atexit
import contextlib
import os
import re
import sys
import threading
from collections.abc import Callable, Iterator
from typing import Any, Final

import numpy as np

from avatar_stream.lazy_modules import load_lazily

MEDIAPIPE_LOG_LINE: Final = re.compile(
    rb"[IW]0000 \d\d:\d\d:|WARNING: All log messages before absl::InitializeLog|INFO: Created TensorFlow Lite"
)
END_MARK: Final = b"\0\n"  # written by end(): when it is read, all earlier output has been filtered
DRAIN_TIMEOUT: Final = 0.2  # seconds to wait for output that is still in the pipe
BLANK_PICTURE: Final = np.zeros((120, 160, 3), np.uint8)


class _Filter:
    """A pipe in place of file descriptor 2, and a thread that passes on all lines but MediaPipe's.

    Made once and kept, because processes that start while it is in place keep writing to it.
    """

    def __init__(self) -> None:
        self._terminal = os.dup(2)  # the thread writes the remaining lines here
        self._drained = threading.Event()
        read, self._pipe = os.pipe()
        threading.Thread(target=self._forward, args=(read,), name="native-logs", daemon=True).start()

    def begin(self) -> int:
        """Start to filter; return a descriptor of the original output."""
        os.dup2(2, self._terminal, inheritable=False)
        os.dup2(self._pipe, 2)
        return self._terminal

    def end(self) -> None:
        """Restore descriptor 2, and wait until earlier output has been passed on."""
        self._drained.clear()
        os.dup2(self._terminal, 2)
        os.write(self._pipe, END_MARK)
        with contextlib.suppress(KeyboardInterrupt):
            self._drained.wait(DRAIN_TIMEOUT)

    def _forward(self, read: int) -> None:
        with os.fdopen(read, "rb") as lines:
            for line in lines:
                ended = line.endswith(END_MARK)
                line = line.removesuffix(END_MARK) if ended else line
                with contextlib.suppress(OSError):  # the reader of the output is gone
                    if line and not MEDIAPIPE_LOG_LINE.match(line):
                        os.write(self._terminal, line)
                if ended:
                    self._drained.set()


_lock = threading.Lock()
_filter: _Filter | None = None
_users = 0  # callers inside quietly(), plus 1 after quiet_native_logs()


def quiet_native_logs() -> None:
    """Filter file descriptor 2 for the rest of the process. Python's own ``sys.stderr`` bypasses the filter."""
    sys.stderr.flush()
    terminal = _enter()
    if terminal is None:
        return
    sys.stderr = os.fdopen(terminal, "w", buffering=1, encoding="utf-8", errors="backslashreplace", closefd=False)
    atexit.register(_leave)


def quiet_graph(make: Callable[[], Any]) -> Any:
    """The MediaPipe graph that ``make`` returns, run once on a blank picture, for it logs at the first picture."""
    with quietly():
        graph = make()
        graph.process(BLANK_PICTURE)
    return graph


def quiet_reset(graph: Any) -> None:
    """Reset a graph and run it once on a blank picture, without MediaPipe's log lines."""
    with quietly():
        graph.reset()
        graph.process(BLANK_PICTURE)


@contextlib.contextmanager
def quietly() -> Iterator[None]:
    """Filter descriptor 2 while the block runs; lines that are not MediaPipe's are passed on."""
    try:
        _enter()
    except OSError:  # descriptor 2 is closed: there is nothing to filter
        yield
        return
    try:
        yield
    finally:
        _leave()


def _enter() -> int | None:
    """Count a user of the filter. Return the original descriptor to the first one, None to others."""
    global _filter, _users
    with _lock:
        terminal = None
        if not _users:
            _filter = _filter or _Filter()
            terminal = _filter.begin()
        _users += 1
        return terminal


def _leave() -> None:
    global _users
    with _lock:
        _users -= 1
        if not _users and _filter is not None:
            _filter.end()


load_lazily()  # here, because every module that uses MediaPipe imports this one first
