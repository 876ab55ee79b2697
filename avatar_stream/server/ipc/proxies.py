"""Stand-ins for the server's metrics and library in a session process."""

import asyncio
from typing import Any

import numpy as np
import numpy.typing as npt

from avatar_stream.identity.records import Character
from avatar_stream.portrait.portrait import Portrait
from avatar_stream.server.ipc.pipe import Pipe


class MetricsBuffer:
    """Records calls of :class:`.metrics.Metrics`, for the server to make. Safe to call from any thread."""

    def __init__(self) -> None:
        self._calls: list[tuple[str, tuple[Any, ...]]] = []

    def take(self) -> list[tuple[str, tuple[Any, ...]]]:
        """The recorded calls since the last time: names and arguments."""
        taken, self._calls = self._calls, []
        return taken

    def frame_received(self, dropped: int) -> None:
        self._calls.append(("frame_received", (dropped,)))

    def picture_drawn(self, delay: float) -> None:
        self._calls.append(("picture_drawn", (delay,)))

    def sent(self, count: int) -> None:
        self._calls.append(("sent", (count,)))

    def dropped(self, reason: str, count: int) -> None:
        self._calls.append(("dropped", (reason, count)))

    def packets_dropped(self, reason: str, count: int) -> None:
        self._calls.append(("packets_dropped", (reason, count)))

    def stage(self, name: str, seconds: float) -> None:
        self._calls.append(("stage", (name, seconds)))

    def queue_waited(self, queue: str, seconds: float) -> None:
        self._calls.append(("queue_waited", (queue, seconds)))

    def failed(self, stage: str) -> None:
        self._calls.append(("failed", (stage,)))

    def likeness_measured(self, distance: float) -> None:
        self._calls.append(("likeness_measured", (distance,)))

    def ended(self, role: str, reason: str) -> None:
        self._calls.append(("ended", (role, reason)))


class LibraryProxy:
    """The server's library, called over the pipe. Blocks: use it in threads other than the event loop's."""

    def __init__(self, pipe: Pipe, keeps_characters: bool) -> None:
        self.keeps_characters = keeps_characters
        self._pipe, self._loop = pipe, asyncio.get_running_loop()

    def get(self, key: str, owner: str | None = None) -> Portrait:
        """See ``Library.get``."""
        found: Portrait = self._call("get", key, owner)
        return found

    def background(self, key: str, owner: str | None = None) -> npt.NDArray[np.uint8]:
        """See ``Library.background``."""
        found: npt.NDArray[np.uint8] = self._call("background", key, owner)
        return found

    def character(self, key: str, owner: str | None) -> Character:
        """See ``Library.character``."""
        found: Character = self._call("character", key, owner)
        return found

    def record_use(self, key: str, who: str, how: str) -> None:
        """See ``Library.record_use``."""
        self._call("record_use", key, who, how)

    def _call(self, name: str, *arguments: Any) -> Any:
        future = asyncio.run_coroutine_threadsafe(self._pipe.call("library", name, *arguments), self._loop)
        return future.result()
