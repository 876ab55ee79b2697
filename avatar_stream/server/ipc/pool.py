"""The processes that sessions live in, as the server sees them: each stands on its own, so that sessions neither wait
for one another's Python nor fall with one another.

What stays in the server is what all share: HTTP and WebSockets, tokens, portraits and characters, limits, metrics.
"""

import asyncio
import atexit
import contextlib
import logging
import multiprocessing
import sys
import time
from collections.abc import Callable
from multiprocessing import forkserver
from typing import Any, Final

from avatar_stream.errors import ServerFull
from avatar_stream.identity.library import Library
from avatar_stream.server.heap import trim
from avatar_stream.server.ipc import child
from avatar_stream.server.ipc.messages import SessionState
from avatar_stream.server.ipc.pipe import Pipe, ProcessGone
from avatar_stream.server.ipc.remote import RemotePeer, RemoteSession
from avatar_stream.server.metrics import Metrics
from avatar_stream.server.rtc.signalling import Role
from avatar_stream.server.session.session import SessionSpec
from avatar_stream.settings import Settings

log = logging.getLogger(__name__)

SILENT: Final = 10.0  # seconds without a report or an answer after which a process hangs; watchdog's twice at least
STARTING: Final = 60.0  # the same for one that has not answered yet: it imports what it needs
ENDING: Final = 15.0  # seconds that a process gets to end after its pipe
STOPPED: Final = 3.0  # seconds between two looks after which the server itself was stopped: Ctrl+Z, a debugger


class SessionProcess:
    """One process, started when its first session is opened."""

    def __init__(self, settings: Settings, library: Library, metrics: Metrics) -> None:
        self._settings, self._library, self._metrics = settings, library, metrics
        self.sessions: dict[str, RemoteSession] = {}
        self._starting: asyncio.Task[None] | None = None
        self._process: Any = None
        self._pipe: Pipe | None = None
        self._asking: asyncio.Task[None] | None = None
        self.heard = self.answered = time.monotonic()
        """When it last reported, and when it last answered through the pipe that requests use."""
        self._speaks = False  # it has answered once

    @property
    def number(self) -> int | None:
        """Its process number, once it has been started."""
        return self._process.pid if self._process is not None else None

    @property
    def gone(self) -> bool:
        """It has ended: another one must take its place."""
        return self._pipe is not None and self._pipe.gone

    @property
    def pipe(self) -> Pipe:
        """To it; raises :class:`ProcessGone` where it was not started."""
        if self._pipe is None:
            raise ProcessGone("the process of this session has not started: try again")
        return self._pipe

    async def started(self) -> Pipe:
        """Start it, unless it runs; raises :class:`ServerFull` where it cannot."""
        if self._starting is None:
            self._starting = asyncio.create_task(self._start())
        try:
            await asyncio.shield(self._starting)
        except (OSError, EOFError) as error:  # the latter from a fork server that has just died
            self._starting = None
            raise ServerFull("the process of a session could not be started: try again in a moment") from error
        return self.pipe

    async def _start(self) -> None:
        ours, theirs = _CONTEXT.Pipe()
        arguments = (theirs, self._settings, self._library.keeps)
        self._process = _CONTEXT.Process(target=child.main, args=arguments, name="avatar-session", daemon=True)
        await asyncio.to_thread(self._process.start)
        theirs.close()
        self.heard = self.answered = time.monotonic()
        handlers: dict[str, Callable[..., Any]] = {
            "library": self._ask_library,
            "report": self._report,
            "moved": self._moved,
            "connected": self._connected,
            "ended": self._ended,
            "closed": self._closed,
        }
        self._pipe = Pipe(ours, handlers, self._gone)

    def watch(self) -> None:
        """Ask it for a sign of life, and end it if it has not answered or not reported for long: whoever is in it is
        told. What it reports by itself shows half of the pipe; requests need both.
        """
        if self._pipe is None or self.gone:
            return
        silent = time.monotonic() - min(self.heard, self.answered)
        if silent > max(SILENT if self._speaks else STARTING, 2 * self._settings.watchdog):
            log.error("a process of sessions has not answered for %.0f seconds: it is ended", silent)
            self.kill()
        elif self._asking is None or self._asking.done():
            self._asking = asyncio.create_task(self._ask(self._pipe))

    async def _ask(self, pipe: Pipe) -> None:
        with contextlib.suppress(ProcessGone):
            await pipe.ping()
            self._speaks, self.answered = True, time.monotonic()

    def switch(self, runtime: str) -> None:
        """Run on another runtime, if it runs; one that is started later finds the best by itself."""
        if self._pipe is not None:
            self._pipe.tell("switch", runtime)

    def forget(self, id: str) -> None:
        """A session has ended."""
        self.sessions.pop(id, None)

    def kill(self) -> None:
        """End it now."""
        if self._process is not None and self._process.is_alive():
            self._process.kill()

    async def close(self) -> None:
        """Let it end; blocks until it has."""
        if self._starting is None:
            return
        if self._asking is not None:
            self._asking.cancel()
        with contextlib.suppress(OSError, EOFError):
            await self._starting
            self.pipe.close()
            await asyncio.to_thread(self._process.join, 5)
            self.kill()

    async def _ask_library(self, name: str, *arguments: Any) -> Any:
        found = await asyncio.to_thread(getattr(self._library, name), *arguments)
        if name == "get":
            await asyncio.to_thread(trim)  # what prepares a portrait takes 100 MB
        return found

    def _report(self, states: dict[str, SessionState], counted: list[tuple[str, tuple[Any, ...]]]) -> None:
        self.heard = time.monotonic()
        for id, state in states.items():
            if id in self.sessions:
                self.sessions[id].state = state
        for name, arguments in counted:
            getattr(self._metrics, name)(*arguments)

    def _peer(self, key: str) -> RemotePeer | None:
        for session in self.sessions.values():
            if session.publisher.key == key:
                return session.publisher
            if key in session.viewers:
                return session.viewers[key]
        return None

    def _connected(self, key: str) -> None:
        if (peer := self._peer(key)) is not None:
            peer.connected.set()

    def _ended(self, key: str, reason: str) -> None:
        if (peer := self._peer(key)) is not None:
            peer.end(reason)
            for session in self.sessions.values():
                session.viewers.pop(key, None)

    def _moved(self, id: str, motion: tuple[float, dict[str, Any]]) -> None:
        if (session := self.sessions.get(id)) is not None:
            session.moved(motion)

    def _closed(self, id: str) -> None:
        if (session := self.sessions.get(id)) is not None:
            session.over()

    def _gone(self) -> None:
        # It ends by itself, and lets its sessions go; where that is what hangs it is helped.
        asyncio.get_running_loop().call_later(ENDING, self.kill)
        if self.sessions:
            log.error("a process of sessions ended, with %d of them", len(self.sessions))
        for session in list(self.sessions.values()):
            session.over()


class ProcessPool:
    """All processes of a server, ``settings.processes`` at most; a session goes to the one with the fewest."""

    def __init__(self, settings: Settings, library: Library, metrics: Metrics) -> None:
        self._settings, self._library, self._metrics = settings, library, metrics
        self._processes = [self._made() for _ in range(settings.processes)]
        self._watched = time.monotonic()
        # Should the server end without closing them, it must not wait for them: they heed no signal but this one.
        atexit.register(self.kill)

    def _made(self) -> SessionProcess:
        return SessionProcess(self._settings, self._library, self._metrics)

    def numbers(self) -> list[int]:
        """Process numbers of those that run."""
        return [one.number for one in self._processes if one.number is not None and not one.gone]

    async def start(self) -> None:
        """Start the first and wait until it can draw: the first visitor should not."""
        pipe = await self._processes[0].started()
        await pipe.call("ready")

    def peer(self, role: Role, address: str, owner: str) -> RemotePeer:
        """A new peer."""
        return RemotePeer(role, address, owner)

    def session(self, spec: SessionSpec, publisher: RemotePeer) -> RemoteSession:
        """A new session, not yet opened."""
        self._processes = [self._made() if process.gone else process for process in self._processes]
        process = min(self._processes, key=lambda one: len(one.sessions))
        session = RemoteSession(spec, publisher, process)
        process.sessions[spec.id] = session
        return session

    def watch(self) -> None:
        """Look whether all of them answer."""
        now = time.monotonic()
        stopped, self._watched = now - self._watched > STOPPED, now
        for process in self._processes:
            if stopped:  # what they said meanwhile is still to be read
                process.heard = process.answered = now
            process.watch()

    def switch(self, runtime: str) -> None:
        """Tell all of them to run on another runtime."""
        for process in self._processes:
            process.switch(runtime)

    async def close(self) -> None:
        """End all of them."""
        await asyncio.gather(*(process.close() for process in self._processes))
        atexit.unregister(self.kill)

    def kill(self) -> None:
        """End all of them at once."""
        for process in self._processes:
            process.kill()


def prepare() -> None:
    """Begin, beside other work, to import what processes of sessions need."""
    if _CONTEXT.get_start_method() == "forkserver":
        with contextlib.suppress(OSError):  # said when the first is started
            forkserver.ensure_running()


def _context() -> Any:
    """Processes that start from one which has imported everything; where a fork is not safe, from nothing."""
    if sys.platform != "linux":
        return multiprocessing.get_context("spawn")
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([child.__name__, "mediapipe.python.solutions.face_mesh"])
    return context


_CONTEXT = _context()
