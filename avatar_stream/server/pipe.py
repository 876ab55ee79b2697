"""Calls between the server and a process of sessions, both ways over one pipe.

Either side asks the other by name. Two threads read and write, so that a full pipe, or a process that hangs, never
holds up an event loop. Everything is pickled: both ends are ours.
"""

import asyncio
import contextlib
import itertools
import logging
import pickle
import queue
import threading
from collections.abc import Callable, Mapping
from multiprocessing.connection import Connection
from typing import Any, Final

from avatar_stream.errors import AvatarError

log = logging.getLogger(__name__)

GOODBYE: Final = "goodbye"
Handler = Callable[..., Any]
"""What runs on the event loop for a message: a function, or a coroutine function. Its value is the answer."""


class ProcessGone(AvatarError):
    """The process at the other end has ended."""

    status = 503


class Pipe:
    """One end; used on the event loop it was made on."""

    def __init__(self, connection: Connection, handlers: Mapping[str, Handler], closed: Callable[[], None]) -> None:
        """``handlers`` are called by name, and ``closed`` once, when the other end is gone."""
        self._connection, self._handlers, self._closed = connection, handlers, closed
        self._loop = asyncio.get_running_loop()
        self._out: queue.SimpleQueue[tuple[Any, ...] | None] = queue.SimpleQueue()
        self._answers: dict[int, asyncio.Future[Any]] = {}
        self._numbers = itertools.count()
        self._tasks: set[asyncio.Task[None]] = set()
        self.gone = False
        for work in (self._read, self._write):
            threading.Thread(target=work, name="pipe", daemon=True).start()

    async def call(self, name: str, *arguments: Any) -> Any:
        """Ask, and wait for the answer; raises what the other side raised, and :class:`ProcessGone`."""
        if self.gone:
            raise ProcessGone("the process of this session has ended: try again")
        number = next(self._numbers)
        answer = self._answers[number] = self._loop.create_future()
        self._out.put((number, name, arguments))
        try:
            return await answer
        finally:
            del self._answers[number]

    def tell(self, name: str, *arguments: Any) -> None:
        """Ask without waiting for an answer; nothing where nobody is there any more."""
        if self.gone:
            return
        self._out.put((None, name, arguments))

    def close(self) -> None:
        """Send what is waiting, then no more. The other side ends the pipe: here a thread still reads from it."""
        self._out.put((None, GOODBYE, ()))

    def _write(self) -> None:
        with contextlib.suppress(OSError):  # the other end is gone: the reading thread says so
            while (message := self._out.get()) is not None:
                self._connection.send(message)

    def _read(self) -> None:
        with contextlib.suppress(RuntimeError):  # the event loop has ended
            try:
                while (message := self._connection.recv())[1] != GOODBYE:
                    self._loop.call_soon_threadsafe(self._take, *message)
            except (EOFError, OSError):
                pass
            self._connection.close()
            self._loop.call_soon_threadsafe(self._end)

    def _take(self, number: int | None, name: str, arguments: tuple[Any, ...]) -> None:
        if name in ("answer", "error"):
            waiting = self._answers.get(number or 0)
            if waiting is not None and not waiting.done():
                (value,) = arguments
                waiting.set_result(value) if name == "answer" else waiting.set_exception(value)
            return
        task = self._loop.create_task(self._handle(number, name, arguments))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _handle(self, number: int | None, name: str, arguments: tuple[Any, ...]) -> None:
        try:
            value = self._handlers[name](*arguments)
            if asyncio.iscoroutine(value):
                value = await value
            if number is not None:
                self._out.put((number, "answer", (value,)))
        except (Exception, asyncio.CancelledError) as error:  # whoever waits must hear of either
            if isinstance(error, Exception) and (number is None or not isinstance(error, AvatarError)):
                log.exception("%s failed", name)
            if number is not None:
                self._out.put((number, "error", (_portable(error),)))

    def _end(self) -> None:
        self.gone = True
        for waiting in self._answers.values():
            if not waiting.done():
                waiting.set_exception(ProcessGone("the process of this session has ended: try again"))
        self._out.put(None)
        self._closed()


def _portable(error: BaseException) -> BaseException:
    """The error, or one that says the same where it cannot be sent."""
    try:
        if isinstance(error, asyncio.CancelledError):
            return AvatarError("what was asked for was given up")
        pickle.loads(pickle.dumps(error))
        return error
    except Exception:
        return AvatarError(str(error))
