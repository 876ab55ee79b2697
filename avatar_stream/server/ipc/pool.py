"""The server's pool of session processes. Sessions in separate processes do not wait for each other's Python code,
and a crash ends only the sessions of one process.

The server keeps what all sessions share: HTTP and WebSockets, tokens, portraits and characters, limits, metrics.
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

import numpy as np
import numpy.typing as npt

from avatar_stream.errors import ServerFull
from avatar_stream.identity.library import Library
from avatar_stream.runtime.network import Arrays
from avatar_stream.server.heap import trim_heap
from avatar_stream.server.ipc import child
from avatar_stream.server.ipc.messages import Report
from avatar_stream.server.ipc.pipe import Pipe, ProcessGone
from avatar_stream.server.ipc.remote import RemotePeer, RemoteSession
from avatar_stream.server.metrics import Metrics
from avatar_stream.server.rtc.signalling import Role
from avatar_stream.server.session.capacity import Load, cores
from avatar_stream.server.session.session import SessionSpec
from avatar_stream.settings import Settings

log = logging.getLogger(__name__)

HANG_TIMEOUT: Final = 10.0  # seconds without a report or an answer; at least twice the setting ``watchdog``
STARTUP_TIMEOUT: Final = 60.0  # the same before the first answer, while the process imports modules
EXIT_TIMEOUT: Final = 15.0  # seconds for a process to exit after its pipe has ended
MAX_WATCH_GAP: Final = 3.0  # seconds between checks; a longer gap: the server was stopped (Ctrl+Z, debugger)


class SessionProcess:
    """One session process, started when its first session is opened."""

    def __init__(
        self, settings: Settings, library: Library, metrics: Metrics, on_upgrade: Callable[[str], None]
    ) -> None:
        """``on_upgrade`` is called with the new runtime when the process has switched to one by itself."""
        self._settings, self._library, self._metrics = settings, library, metrics
        self._on_upgrade = on_upgrade
        self.engine = ""
        """The name of its engine; empty until its networks are loaded."""
        self.sessions: dict[str, RemoteSession] = {}
        self._starting: asyncio.Task[None] | None = None
        self._process: Any = None
        self._pipe: Pipe | None = None
        self._pinging: asyncio.Task[None] | None = None
        self.last_report = self.last_answer = time.monotonic()
        """Times of its last report and of its last answer to a ping."""
        self._has_answered = False

    @property
    def pid(self) -> int | None:
        """Its process id; None before it is started."""
        return self._process.pid if self._process is not None else None

    @property
    def gone(self) -> bool:
        """Whether it has ended and must be replaced."""
        return self._pipe is not None and self._pipe.gone

    @property
    def pipe(self) -> Pipe:
        """The pipe to the process; raises :class:`ProcessGone` if it was not started."""
        if self._pipe is None:
            raise ProcessGone("the process of this session has not started: try again")
        return self._pipe

    async def ensure_started(self) -> Pipe:
        """Start the process unless it runs; raises :class:`ServerFull` if that fails."""
        if self._starting is None:
            self._starting = asyncio.create_task(self._start())
        try:
            await asyncio.shield(self._starting)
        except (OSError, EOFError) as error:  # EOFError: the fork server has just died
            self._starting = None
            raise ServerFull("the process of a session could not be started: try again in a moment") from error
        return self.pipe

    async def _start(self) -> None:
        ours, theirs = _CONTEXT.Pipe()
        arguments = (theirs, self._settings, self._library.keeps_characters)
        self._process = _CONTEXT.Process(target=child.main, args=arguments, name="avatar-session", daemon=True)
        await asyncio.to_thread(self._process.start)
        theirs.close()
        self.last_report = self.last_answer = time.monotonic()
        handlers: dict[str, Callable[..., Any]] = {
            "library": self._call_library,
            "report": self._report,
            "upgraded": self._on_upgrade,
            "moved": self._moved,
            "connected": self._connected,
            "ended": self._ended,
            "closed": self._closed,
        }
        self._pipe = Pipe(ours, handlers, self._gone)

    def watch(self) -> None:
        """Ping the process, and kill it if its last answer or report is too old. Its sessions then end.

        Reports alone do not suffice: they use one direction of the pipe, and requests need both.
        """
        if self._pipe is None or self.gone:
            return
        silent = time.monotonic() - min(self.last_report, self.last_answer)
        if silent > max(HANG_TIMEOUT if self._has_answered else STARTUP_TIMEOUT, 2 * self._settings.watchdog):
            log.error("a session process has not answered for %.0f seconds: it is killed", silent)
            self.kill()
        elif self._pinging is None or self._pinging.done():
            self._pinging = asyncio.create_task(self._ping(self._pipe))

    async def _ping(self, pipe: Pipe) -> None:
        with contextlib.suppress(ProcessGone):
            await pipe.ping()
            self._has_answered, self.last_answer = True, time.monotonic()

    def switch(self, runtime: str) -> None:
        """Switch a running process to another runtime; a process started later chooses the best itself."""
        if self._pipe is not None:
            self._pipe.notify("switch", runtime)

    def forget(self, id: str) -> None:
        """Remove a session that has ended."""
        self.sessions.pop(id, None)

    def kill(self) -> None:
        """Kill the process."""
        if self._process is not None and self._process.is_alive():
            self._process.kill()

    async def close(self) -> None:
        """Close the pipe and wait until the process has exited; kill it after 5 seconds."""
        if self._starting is None:
            return
        if self._pinging is not None:
            self._pinging.cancel()
        with contextlib.suppress(OSError, EOFError):
            await self._starting
            self.pipe.close()
            await asyncio.to_thread(self._process.join, 5)
            self.kill()

    async def _call_library(self, name: str, *arguments: Any) -> Any:
        found = await asyncio.to_thread(getattr(self._library, name), *arguments)
        if name == "get":
            await asyncio.to_thread(trim_heap)  # preparing a portrait takes 100 MB
        return found

    def _report(self, report: Report) -> None:
        self.last_report = time.monotonic()
        self.engine = report.engine or self.engine
        for id, state in report.states.items():
            if id in self.sessions:
                self.sessions[id].state = state
        for name, arguments in report.metric_calls:
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
            session.update_motion(motion)

    def _closed(self, id: str) -> None:
        if (session := self.sessions.get(id)) is not None:
            session.mark_freed()

    def _gone(self) -> None:
        # The process ends its sessions and exits by itself; kill it if that hangs.
        asyncio.get_running_loop().call_later(EXIT_TIMEOUT, self.kill)
        if self.sessions:
            log.error("a session process ended, with %d sessions", len(self.sessions))
        for session in list(self.sessions.values()):
            session.mark_freed()


class ProcessPool:
    """A session host with ``settings.processes`` processes at most; a new session runs in the least used one."""

    def __init__(self, settings: Settings, library: Library, metrics: Metrics) -> None:
        self._settings, self._library, self._metrics = settings, library, metrics
        self._processes = [self._new_process() for _ in range(settings.processes)]
        self._watched = time.monotonic()
        self._engine = ""
        # If the server exits without close(), it must not wait for them: they ignore all signals except SIGKILL.
        atexit.register(self.kill)

    def _new_process(self) -> SessionProcess:
        return SessionProcess(self._settings, self._library, self._metrics, self.switch)

    def pids(self) -> list[int]:
        """The ids of the running processes."""
        return [one.pid for one in self._processes if one.pid is not None and not one.gone]

    @property
    def engine(self) -> str:
        """See :class:`.host.SessionHost`; empty until the first process is ready."""
        return next((one.engine for one in self._processes if one.engine and not one.gone), self._engine)

    @property
    def processors(self) -> float:
        """See :class:`.host.SessionHost`."""
        return cores()

    async def start(self) -> None:
        """Start the first process and wait until it is ready, so that the first visitor does not have to.

        Raises ``EngineUnavailable`` if the requested engine cannot run here.
        """
        pipe = await self._first_pipe()
        self._engine = await pipe.call("ready")
        pipe.notify("upgrade")

    async def measure(self, portrait: str) -> Load:
        """See :class:`.host.SessionHost`. It takes 110 MB, so a process of its own does it and ends."""
        process = self._new_process()
        try:
            async with asyncio.timeout(STARTUP_TIMEOUT):  # nothing else watches this process
                load: Load = await (await process.ensure_started()).call("measure", portrait)
            return load
        finally:
            await process.close()

    async def refer(self, face: npt.NDArray[np.uint8]) -> Arrays | None:
        """See :class:`.host.SessionHost`."""
        outputs: Arrays | None = await (await self._first_pipe()).call("refer", face)
        return outputs

    async def _first_pipe(self) -> Pipe:
        self._replace_gone()
        return await self._processes[0].ensure_started()

    def _replace_gone(self) -> None:
        self._processes = [self._new_process() if process.gone else process for process in self._processes]

    def peer(self, role: Role, address: str, owner: str) -> RemotePeer:
        """A new peer."""
        return RemotePeer(role, address, owner)

    def session(self, spec: SessionSpec, publisher: RemotePeer) -> RemoteSession:
        """A new session, not yet opened."""
        self._replace_gone()
        process = min(self._processes, key=lambda one: len(one.sessions))
        session = RemoteSession(spec, publisher, process)
        process.sessions[spec.id] = session
        return session

    def watch(self) -> None:
        """Check that all processes answer."""
        now = time.monotonic()
        stopped, self._watched = now - self._watched > MAX_WATCH_GAP, now
        for process in self._processes:
            if stopped:  # answers from that time are still unread
                process.last_report = process.last_answer = now
            process.watch()

    def switch(self, runtime: str) -> None:
        """Switch all processes to another runtime."""
        for process in self._processes:
            process.switch(runtime)

    async def close(self) -> None:
        """End all processes."""
        await asyncio.gather(*(process.close() for process in self._processes))
        atexit.unregister(self.kill)

    def kill(self) -> None:
        """Kill all processes."""
        for process in self._processes:
            process.kill()


def start_fork_server() -> None:
    """Start the fork server, which imports the modules of session processes in the background."""
    if _CONTEXT.get_start_method() == "forkserver":
        with contextlib.suppress(OSError):  # reported when the first process is started
            forkserver.ensure_running()


def _context() -> Any:
    """Start method: a fork server that has imported all modules; spawn on systems where a fork is not safe."""
    if sys.platform != "linux":
        return multiprocessing.get_context("spawn")
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([child.__name__, "mediapipe.python.solutions.face_mesh"])
    return context


_CONTEXT = _context()
