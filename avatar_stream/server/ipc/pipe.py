"""Calls between the server and a process of sessions, both ways over one pipe.

Either side asks the other by name. Two threads read and write, so that a full pipe, or a process that hangs, never
holds up an event loop. Everything is pickled: both ends are ours. What cannot be pickled is an error for its sender,
and what cannot be read for who waits for it. A thread that fails otherwise ends its pipe, and so the process.
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

GOODBYE: Final = "goodbye"
PING: Final = "ping"
Handler = Callable[..., Any]
"""What runs on the event loop for a message: a function, or a coroutine function. Its value is the answer."""


class ProcessGone(AvatarError):
    """The process at the other end has ended."""

    status = 503


class Unsendable(AvatarError):
    """What was to be sent, or what came, cannot be pickled."""


class Pipe:
    """One end; used on the event loop it was made on."""

    def __init__(self, connection: Connection, handlers: Mapping[str, Handler], closed: Callable[[], None]) -> None:
        """``handlers`` are called by name, and ``closed`` once, when the pipe has ended, at whichever end."""
        self._connection, self._closed = connection, closed
        self._handlers = {PING: lambda: None, **handlers}
        self._loop = asyncio.get_running_loop()
        self._out: queue.SimpleQueue[bytes | None] = queue.SimpleQueue()
        self._answers: dict[int, asyncio.Future[Any]] = {}
        self._numbers = itertools.count()
        self._tasks: set[asyncio.Task[None]] = set()
        self.gone = False
        for work in (self._read, self._write):
            threading.Thread(target=self._guarded, args=(work,), name="pipe", daemon=True).start()

    async def call(self, name: str, *arguments: Any) -> Any:
        """Ask, and wait for the answer; raises what the other side raised, :class:`ProcessGone`, and
        :class:`Unsendable` for arguments or an answer that cannot be sent.
        """
        if self.gone:
            raise ProcessGone("the process of this session has ended: try again")
        number = next(self._numbers)
        message = _packed(number, name, arguments)
        answer = self._answers[number] = self._loop.create_future()
        self._out.put(message)
        try:
            return await answer
        finally:
            del self._answers[number]

    async def ping(self) -> None:
        """Come back when the other side has answered: its event loop and the threads of both ends do their work."""
        await self.call(PING)

    def tell(self, name: str, *arguments: Any) -> None:
        """Ask without waiting for an answer; nothing where nobody is there any more. Raises :class:`Unsendable`."""
        if self.gone:
            return
        self._out.put(_packed(None, name, arguments))

    def close(self) -> None:
        """Send what is waiting, then no more. The other side ends the pipe: here a thread still reads from it."""
        self._out.put(_packed(None, GOODBYE, ()))

    def _guarded(self, work: Callable[[], None]) -> None:
        """Run a thread of the pipe; however it ends, so does the pipe."""
        try:
            work()
        except Exception:
            log.exception("a pipe between processes failed: it is ended")
            self._shut()
        with contextlib.suppress(RuntimeError):  # the event loop has ended
            self._loop.call_soon_threadsafe(self._end)

    def _shut(self) -> None:
        """Tell the other end, and the other thread of this one, that nothing comes any more."""
        with contextlib.suppress(OSError), socket.socket(fileno=os.dup(self._connection.fileno())) as line:
            line.shutdown(socket.SHUT_RDWR)

    def _write(self) -> None:
        with contextlib.suppress(OSError):  # the other end is gone
            while (message := self._out.get()) is not None:
                self._connection.send_bytes(message)

    def _read(self) -> None:
        try:
            while True:
                number, name, packed = pickle.loads(self._connection.recv_bytes())
                if name == GOODBYE:
                    break
                try:
                    arguments = pickle.loads(packed)
                except Exception as error:
                    log.exception("%s came and cannot be read", name)
                    said = Unsendable(f"what was sent with {name} cannot be read: {type(error).__name__}")
                    self._loop.call_soon_threadsafe(self._refuse, number, name, said)
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
        """Tell who waits, here or there, that a message cannot be read."""
        if name in ("answer", "error"):
            self._take(number, "error", (error,))
        elif number is not None:
            self._out.put(_packed(number, "error", (error,)))

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
                self._out.put(_packed(number, "answer", (value,)))
        except (Exception, asyncio.CancelledError) as error:  # whoever waits must hear of either
            told = number is not None and isinstance(error, AvatarError) and not isinstance(error, Unsendable)
            if isinstance(error, Exception) and not told:
                log.exception("%s failed", name)
            if number is not None:
                self._out.put(_packed(number, "error", (_portable(error),)))

    def _end(self) -> None:
        if self.gone:
            return
        self.gone = True
        for waiting in self._answers.values():
            if not waiting.done():
                waiting.set_exception(ProcessGone("the process of this session has ended: try again"))
        self._out.put(None)
        self._closed()


def _packed(number: int | None, name: str, arguments: tuple[Any, ...]) -> bytes:
    """A message; its arguments by themselves, so that who waits is known where they cannot be read."""
    try:
        return pickle.dumps((number, name, pickle.dumps(arguments, pickle.HIGHEST_PROTOCOL)), pickle.HIGHEST_PROTOCOL)
    except Exception as error:  # PicklingError, TypeError, RecursionError, whatever an object's own code raises
        raise Unsendable(f"what goes with {name} cannot be sent: {type(error).__name__}") from error


def _portable(error: BaseException) -> BaseException:
    """The error, or one that says the same where it cannot be sent."""
    try:
        if isinstance(error, asyncio.CancelledError):
            return AvatarError("what was asked for was given up")
        if isinstance(error, StopIteration):  # no future takes it
            return AvatarError(str(error))
        pickle.loads(pickle.dumps(error))
        return error
    except Exception:
        return AvatarError(str(error))
