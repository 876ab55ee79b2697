"""Log lines as text or as JSON objects. They name sessions, never addresses, tokens or faces."""

import json
import logging
import math
import threading
import time
from collections.abc import Callable
from typing import Any, Final

from avatar_stream.identity.visible_text import escaped

PACKET_LOGGERS: Final = ("aioice", "aiortc", "asyncio", "libav", "avatar_stream.media")
"""Loggers whose lines strangers' packets can cause."""

MIN_LINE_INTERVAL: Final = 1.0  # seconds between two lines of one statement of these loggers

TRACEBACK_WHITESPACE: Final = "\n\t"  # kept in tracebacks, escaped elsewhere


class JsonLines(logging.Formatter):
    """``{"time", "level", "logger", "message"}``, with ``session`` and ``exception`` where there is one."""

    def format(self, record: logging.LogRecord) -> str:
        """One line."""
        line: dict[str, Any] = {
            "time": time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created)) + f".{int(record.msecs):03d}Z",
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        if session := getattr(record, "session", None):
            line["session"] = session
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return json.dumps(line)


class TextLines(logging.Formatter):
    """``INFO avatar_stream.server.session.session [ab12]: connected``."""

    def format(self, record: logging.LogRecord) -> str:
        """One line, or several with an exception."""
        session = getattr(record, "session", None)
        line = f"{record.levelname} {record.name}{f' [{session}]' if session else ''}: {record.getMessage()}"
        line = escaped(line)  # text of users must not add log lines or control the terminal
        return (
            f"{line}\n{escaped(self.formatException(record.exc_info), keep=TRACEBACK_WHITESPACE)}"
            if record.exc_info
            else line
        )


class RateLimit(logging.Filter):
    """Writes at most one line a second for each logging statement of ``PACKET_LOGGERS``.

    The next line of that statement says how many were left out.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__()
        self._clock = clock
        self._lock = threading.Lock()
        self._places: dict[tuple[str, int], tuple[float, int]] = {}  # time of the last line, lines left out since

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether to write a line. Safe to call from any thread."""
        if not record.name.startswith(PACKET_LOGGERS):
            return True
        place, now = (record.pathname, record.lineno), self._clock()
        with self._lock:
            written, left_out = self._places.get(place, (-math.inf, 0))
            if now - written < MIN_LINE_INTERVAL:
                self._places[place] = written, left_out + 1
                return False
            self._places[place] = now, 0
        if left_out:
            record.msg = f"{record.getMessage()} ({left_out} more like this were left out)"
            record.args = None
        return True


def set_up_logging(kind: str) -> None:
    """Log ``text`` or ``json`` to stderr."""
    handler = logging.StreamHandler()
    handler.setFormatter(JsonLines() if kind == "json" else TextLines())
    handler.addFilter(RateLimit())
    logging.basicConfig(level=logging.INFO, handlers=[handler], force=True)
    # aiortc logs every packet it cannot use; one line per session is enough. uvicorn's own lines contain addresses.
    for name in ("aioice", "aiortc", "matplotlib", "uvicorn"):
        logging.getLogger(name).setLevel(logging.WARNING)
    logging.getLogger("uvicorn.access").disabled = True
