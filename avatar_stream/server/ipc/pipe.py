"""Remote calls between the server and a session process, in both directions over one pipe.

Each side calls handlers of the other by name. Two threads read and write, so that a full pipe or a hanging process
never blocks an event loop. Messages are pickled, which is safe because both ends are ours. If pickling fails, the
sender gets an error; if unpickling fails, the waiting caller gets it. Any other failure of a thread ends the pipe
and so the process.
"""

import asyncio
import contextlib
import itertools
import logging
import os
import pickle
import queue
import socket
import threading
from collections.abc import Callable, Mapping
from multiprocessing.connection import Connection
from typing import Any, Final

from avatar_stream.errors import AvatarError

log = logging.getLogger(__name__)

CLOSE_MESSAGE: Final = "goodbye"
PING_MESSAGE: Final = "ping"
Handler = Callable[..., Any]
"""A function or coroutine function that the event loop runs for a message. Its return value is the answer."""


class ProcessGone(AvatarError):
    """The process at the other end has ended."""

    status = 503


class Unsendable(AvatarError):
    """A message cannot be pickled or unpickled."""


class Pipe:
    """One end of the pipe; use it on the event loop where it was created."""

    def __init__(self, connection: Connection, handlers: Mapping[str, Handler], closed: Callable[[], None]) -> None:
        """``handlers`` are called by name, and ``closed`` once when the pipe has ended, at either end."""
        self._connection, self._closed = connection, closed
        self._handlers = {PING_MESSAGE: lambda: None, **handlers}
        self._loop = asyncio.get_running_loop()
        self._outgoing: queue.SimpleQueue[bytes | None] = queue.SimpleQueue()
        self._answers: dict[int, asyncio.Future[Any]] = {}
        self._call_ids = itertools.count()
        self._tasks: set[asyncio.Task[None]] = set()
        self.gone = False
        for work in (self._read, self._write):
            threading.Thread(target=self._run_thread, args=(work,), name="pipe", daemon=True).start()

    async def call(self, name: str, *arguments: Any) -> Any:
        """Call a handler of the other side and return its answer. Raises its exception, :class:`ProcessGone`, and
        :class:`Unsendable` if the arguments or the answer cannot be pickled.
        """
        if self.gone:
            raise ProcessGone("the process of this session has ended: try again")
        number = next(self._call_ids)
        message = _encode(number, name, arguments)
        answer = self._answers[number] = self._loop.create_future()
        self._outgoing.put(message)
        try:
            return await answer
        finally:
            del self._answers[number]

    async def ping(self) -> None:
        """Wait for an answer, which shows that the other event loop and the threads of both ends work."""
        await self.call(PING_MESSAGE)

    def notify(self, name: str, *arguments: Any) -> None:
        """Call a handler without an answer; no effect if the pipe has ended. Raises :class:`Unsendable`."""
        if self.gone:
            return
        self._outgoing.put(_encode(None, name, arguments))

    def close(self) -> None:
        """Send pending messages, then ask the other side to close the pipe: a thread here still reads from it."""
        self._outgoing.put(_encode(None, CLOSE_MESSAGE, ()))

    def _run_thread(self, work: Callable[[], None]) -> None:
        """Run a thread of the pipe; the pipe ends with it."""
        try:
            work()
        except Exception:
            log.exception("a pipe between processes failed: closing it")
            self._shut_down()
        with contextlib.suppress(RuntimeError):  # the event loop has ended
            self._loop.call_soon_threadsafe(self._end)

    def _shut_down(self) -> None:
        """Shut the connection down, which stops the other end and the other thread of this end."""
        with contextlib.suppress(OSError), socket.socket(fileno=os.dup(self._connection.fileno())) as line:
            line.shutdown(socket.SHUT_RDWR)

    def _write(self) -> None:
        with contextlib.suppress(OSError):  # the other end has gone
            while (message := self._outgoing.get()) is not None:
                self._connection.send_bytes(message)

    def _read(self) -> None:
        try:
            while True:
                number, name, packed = pickle.loads(self._connection.recv_bytes())
                if name == CLOSE_MESSAGE:
                    break
                try:
                    arguments = pickle.loads(packed)
                except Exception as error:
                    log.exception("a message %s cannot be unpickled", name)
                    failure = Unsendable(f"the message {name} cannot be unpickled: {type(error).__name__}")
                    self._loop.call_soon_threadsafe(self._refuse, number, name, failure)
                    continue
                self._loop.call_soon_threadsafe(self._take, number, name, arguments)
        except (EOFError, OSError):
            pass
        except RuntimeError:  # the event loop has ended
            if not self._loop.is_closed():
                raise
        finally:
            self._connection.close()

    def _refuse(self, number: int | None, name: str, error: AvatarError) -> None:
        """Raise ``error`` at the caller that waits for an unreadable message, here or at the other end."""
        if name in ("answer", "error"):
            self._take(number, "error", (error,))
        elif number is not None:
            self._outgoing.put(_encode(number, "error", (error,)))

    def _take(self, number: int | None, name: str, arguments: tuple[Any, ...]) -> None:
        if name in ("answer", "error"):
            waiting = self._answers.get(-1 if number is None else number)
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
                self._outgoing.put(_encode(number, "answer", (value,)))
        except (Exception, asyncio.CancelledError) as error:  # the waiting caller must get both
            expected = number is not None and isinstance(error, AvatarError) and not isinstance(error, Unsendable)
            if isinstance(error, Exception) and not expected:
                log.exception("%s failed", name)
            if number is not None:
                self._outgoing.put(_encode(number, "error", (_picklable(error),)))

    def _end(self) -> None:
        if self.gone:
            return
        self.gone = True
        for waiting in self._answers.values():
            if not waiting.done():
                waiting.set_exception(ProcessGone("the process of this session has ended: try again"))
        self._outgoing.put(None)
        self._closed()


def _encode(number: int | None, name: str, arguments: tuple[Any, ...]) -> bytes:
    """Pickle a message. Its arguments are pickled separately: if they cannot be read, the call's number still can."""
    try:
        return pickle.dumps((number, name, pickle.dumps(arguments, pickle.HIGHEST_PROTOCOL)), pickle.HIGHEST_PROTOCOL)
    except Exception as error:  # PicklingError, TypeError, RecursionError, or any exception of an object's own code
        raise Unsendable(f"the message {name} cannot be pickled: {type(error).__name__}") from error


def _picklable(error: BaseException) -> BaseException:
    """The error, or an ``AvatarError`` with its text if it cannot be pickled."""
    try:
        if isinstance(error, asyncio.CancelledError):
            return AvatarError("the call was cancelled")
        if isinstance(error, StopIteration):  # a future cannot hold it
            return AvatarError(str(error))
        pickle.loads(pickle.dumps(error))
        return error
    except Exception:
        return AvatarError(str(error))
