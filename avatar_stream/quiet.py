"""Keep the native libraries' chatter off the terminal: a user should see what is for them.

MediaPipe writes half a dozen warnings about itself for every graph it makes, from C++ and before its log level can be
set. Its lines are dropped by their form; whatever else comes over the same file descriptor is passed on.
"""

import atexit
import contextlib
import os
import re
import sys
import threading
from typing import Final

CHATTER: Final = re.compile(
    rb"[IW]0000 \d\d:\d\d:|WARNING: All log messages before absl::InitializeLog|INFO: Created TensorFlow Lite"
)


def quiet_native_logs() -> None:
    """Filter file descriptor 2 for the rest of the process. Python's own ``sys.stderr`` is not touched by it."""
    terminal = os.dup(2)
    sys.stderr.flush()
    sys.stderr = os.fdopen(terminal, "w", buffering=1, encoding="utf-8", errors="backslashreplace", closefd=False)
    read, write = os.pipe()
    os.dup2(write, 2)
    os.close(write)
    reader = threading.Thread(target=_forward, args=(read, terminal), name="native-logs", daemon=True)
    reader.start()

    def restore() -> None:
        os.dup2(terminal, 2)  # closes the pipe: the reader sees its end
        with contextlib.suppress(KeyboardInterrupt):
            reader.join(0.2)  # not for ever: processes that we started may hold the pipe open a little longer

    atexit.register(restore)


def _forward(read: int, terminal: int) -> None:
    with os.fdopen(read, "rb") as lines:
        for line in lines:
            if not CHATTER.match(line):
                os.write(terminal, line)
