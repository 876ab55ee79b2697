"""What a session finds in a process of its own in place of the server's metrics and library."""

import asyncio
from typing import Any

import numpy as np
import numpy.typing as npt

from avatar_stream.identity.records import Character
from avatar_stream.portrait.portrait import Portrait
from avatar_stream.server.ipc.pipe import Pipe


class MetricsBuffer:
    """Keeps what :class:`.metrics.Metrics` would count, for the server to count. Safe to call from any thread."""

    def __init__(self) -> None:
        self._noted: list[tuple[str, tuple[Any, ...]]] = []

    def take(self) -> list[tuple[str, tuple[Any, ...]]]:
        """Calls of ``Metrics`` since the last time: names and arguments."""
        taken, self._noted = self._noted, []
        return taken

    def frame_received(self, dropped: int) -> None:
        self._noted.append(("frame_received", (dropped,)))

    def picture_drawn(self, delay: float) -> None:
        self._noted.append(("picture_drawn", (delay,)))

    def sent(self, count: int) -> None:
        self._noted.append(("sent", (count,)))

    def dropped(self, reason: str, count: int) -> None:
        self._noted.append(("dropped", (reason, count)))

    def packets_dropped(self, reason: str, count: int) -> None:
        self._noted.append(("packets_dropped", (reason, count)))

    def stage(self, name: str, seconds: float) -> None:
        self._noted.append(("stage", (name, seconds)))

    def queue_waited(self, queue: str, seconds: float) -> None:
        self._noted.append(("queue_waited", (queue, seconds)))

    def failed(self, stage: str) -> None:
        self._noted.append(("failed", (stage,)))

    def likeness_measured(self, distance: float) -> None:
        self._noted.append(("likeness_measured", (distance,)))

    def ended(self, role: str, reason: str) -> None:
        self._noted.append(("ended", (role, reason)))


class LibraryProxy:
    """The server's library, asked over the pipe; to be called from threads beside the event loop."""

    def __init__(self, pipe: Pipe, keeps: bool) -> None:
        self.keeps = keeps
        self._pipe, self._loop = pipe, asyncio.get_running_loop()

    def get(self, key: str, owner: str | None = None) -> Portrait:
        """See ``Library.get``."""
        found: Portrait = self._ask("get", key, owner)
        return found

    def background(self, key: str, owner: str | None = None) -> npt.NDArray[np.uint8]:
        """See ``Library.background``."""
        found: npt.NDArray[np.uint8] = self._ask("background", key, owner)
        return found

    def character(self, key: str, owner: str | None) -> Character:
        """See ``Library.character``."""
        found: Character = self._ask("character", key, owner)
        return found

    def used(self, key: str, who: str, how: str) -> None:
        """See ``Library.used``."""
        self._ask("used", key, who, how)

    def _ask(self, name: str, *arguments: Any) -> Any:
        asked = asyncio.run_coroutine_threadsafe(self._pipe.call("library", name, *arguments), self._loop)
        return asked.result()
