"""Keep the native libraries' chatter off the terminal: a user should see what is for them.

MediaPipe writes half a dozen warnings about itself for every graph it makes, from C++ and before its log level can be
set. Its lines are dropped by their form; whatever else comes over the same file descriptor is passed on.

The commands do so for as long as they run (:func:`quiet_native_logs`). In a program of somebody else the descriptor
is theirs: there it is filtered only where MediaPipe is known to write (:func:`quietly`), some hundredths of a second
for each graph.
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
END_MARK: Final = b"\0\n"  # ends what was written before it: everything until there has been looked at
DRAIN_TIMEOUT: Final = 0.2  # seconds that are waited for what is still in the pipe
BLANK_PICTURE: Final = np.zeros((120, 160, 3), np.uint8)


class _Filter:
    """A pipe in place of file descriptor 2, and a thread that passes on what is no chatter.

    Made once and kept: processes that are started while it is in place go on writing to it.
    """

    def __init__(self) -> None:
        self._terminal = os.dup(2)  # where what is no chatter goes
        self._drained = threading.Event()
        read, self._pipe = os.pipe()
        threading.Thread(target=self._forward, args=(read,), name="native-logs", daemon=True).start()

    def begin(self) -> int:
        """Filter from now on; the descriptor of where it led before."""
        os.dup2(2, self._terminal, inheritable=False)
        os.dup2(self._pipe, 2)
        return self._terminal

    def end(self) -> None:
        """Put descriptor 2 back, once what was written has been passed on."""
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
                with contextlib.suppress(OSError):  # nobody reads it any more
                    if line and not MEDIAPIPE_LOG_LINE.match(line):
                        os.write(self._terminal, line)
                if ended:
                    self._drained.set()


_lock = threading.Lock()
_filter: _Filter | None = None
_users = 0  # how many are in quietly, and one more once a command filters for good


def quiet_native_logs() -> None:
    """Filter file descriptor 2 for the rest of the process. Python's own ``sys.stderr`` is not touched by it."""
    sys.stderr.flush()
    terminal = _enter()
    if terminal is None:
        return
    sys.stderr = os.fdopen(terminal, "w", buffering=1, encoding="utf-8", errors="backslashreplace", closefd=False)
    atexit.register(_leave)


def quiet_graph(make: Callable[[], Any]) -> Any:
    """The MediaPipe graph that ``make`` makes, started by a picture of nothing: that is when it has its say."""
    with quietly():
        graph = make()
        graph.process(BLANK_PICTURE)
    return graph


def quiet_reset(graph: Any) -> None:
    """Start a graph anew, as quietly."""
    with quietly():
        graph.reset()
        graph.process(BLANK_PICTURE)


@contextlib.contextmanager
def quietly() -> Iterator[None]:
    """Without chatter for as long as the block runs; what others write to descriptor 2 meanwhile is passed on."""
    try:
        _enter()
    except OSError:  # descriptor 2 is closed: there is nothing to keep quiet
        yield
        return
    try:
        yield
    finally:
        _leave()


def _enter() -> int | None:
    """The descriptor that 2 was, for the first one inside; None for others."""
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


load_lazily()  # whoever uses MediaPipe imports this module first
