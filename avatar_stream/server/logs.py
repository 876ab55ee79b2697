"""Log lines: for a person, or one JSON object each. They name sessions, never addresses, tokens or faces."""

import json
import logging
import time
from typing import Any, Final

from avatar_stream.identity.text import escaped

LAYOUT: Final = "\n\t"  # of a traceback


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
    """``INFO avatar_stream.server.session [ab12]: connected``."""

    def format(self, record: logging.LogRecord) -> str:
        """One line, or several with an exception."""
        session = getattr(record, "session", None)
        line = f"{record.levelname} {record.name}{f' [{session}]' if session else ''}: {record.getMessage()}"
        line = escaped(line)  # what somebody wrote makes no second line, and steers no terminal
        return f"{line}\n{escaped(self.formatException(record.exc_info), keep=LAYOUT)}" if record.exc_info else line


def set_up(kind: str) -> None:
    """Log ``text`` or ``json`` to stderr."""
    handler = logging.StreamHandler()
    handler.setFormatter(JsonLines() if kind == "json" else TextLines())
    logging.basicConfig(level=logging.INFO, handlers=[handler], force=True)
    # aiortc tells of every packet it cannot use; one line per session is enough. uvicorn's own lines name addresses.
    for name in ("aioice", "aiortc", "matplotlib", "uvicorn"):
        logging.getLogger(name).setLevel(logging.WARNING)
    logging.getLogger("uvicorn.access").disabled = True
