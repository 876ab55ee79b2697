"""Start the server, and stop it gracefully."""

import asyncio
import contextlib
import logging
import os
import re
import signal
import socket
import ssl
import sys
import threading
from collections.abc import Callable, Coroutine, Iterator
from pathlib import Path
from types import FrameType
from typing import Any, Final

import uvicorn

from avatar_stream.errors import AvatarError, BadInput
from avatar_stream.media.marking import label_for
from avatar_stream.runtime.networks import Networks
from avatar_stream.server.access import SCOPES, Access, Token, digest, read_tokens
from avatar_stream.server.heap import limit_arenas
from avatar_stream.server.http.app import create_app
from avatar_stream.server.http.gate import http_protocol
from avatar_stream.server.ipc.child import THREAD_SWITCH_INTERVAL
from avatar_stream.server.logs import set_up_logging
from avatar_stream.server.session.registry import SessionRegistry
from avatar_stream.settings import Settings

log = logging.getLogger(__name__)

TOKEN_VARIABLE: Final = "AVATAR_STREAM_TOKEN"
TURN_VARIABLE: Final = "AVATAR_STREAM_TURN_SECRET"
MIN_TOKEN_LENGTH: Final = 20  # characters, for a token from the environment
MAX_CONNECTIONS: Final = 1000  # open at the same time, from all addresses


class DrainingServer(uvicorn.Server):
    """After a first signal, sessions have ``seconds`` to leave; a second signal ends them at once.

    ``announce`` runs as a task from the start.
    """

    def __init__(
        self,
        config: uvicorn.Config,
        sessions: SessionRegistry,
        seconds: float,
        announce: Callable[[], Coroutine[None, None, None]] | None = None,
    ) -> None:
        super().__init__(config)
        self._sessions, self._seconds, self._announce = sessions, seconds, announce
        self._loop: asyncio.AbstractEventLoop | None = None
        self._draining: asyncio.Task[None] | None = None
        self._announcing: asyncio.Task[None] | None = None

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """See ``uvicorn.Server``."""
        self._loop = asyncio.get_running_loop()
        await super().startup(sockets)
        if self._announce is not None:
            self._announcing = self._loop.create_task(self._announce())

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """See ``uvicorn.Server``. Ignores further Ctrl+C while the last threads end: it would print a traceback."""
        with super().capture_signals():
            yield
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGINT, signal.SIG_IGN)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """See ``uvicorn.Server``. While it exits, a signal cancels requests here: uvicorn would log tracebacks."""
        if self.should_exit and self._loop is not None:
            with contextlib.suppress(RuntimeError):  # the loop has ended
                self._loop.call_soon_threadsafe(self._cancel_requests)
        elif self._loop is None or self._sessions.draining:
            super().handle_exit(sig, frame)
        else:
            self._loop.call_soon_threadsafe(self._drain, sig, frame)

    def _cancel_requests(self) -> None:
        for task in self.server_state.tasks:
            task.cancel()

    def _drain(self, sig: int, frame: FrameType | None) -> None:
        async def leave() -> None:
            await self._sessions.drain(self._seconds)
            # Once only: uvicorn raises each signal again at the end, and asyncio prints a traceback for a second one.
            if not self.should_exit:
                super(DrainingServer, self).handle_exit(sig, frame)

        if self._draining is None:
            self._draining = asyncio.get_running_loop().create_task(leave())


def serve(settings: Settings, networks: Networks | None) -> None:
    """Serve until stopped; raises :class:`AvatarError` when the settings or the address cannot be used."""
    access, turn_secret = Access(_tokens(settings)), _turn_secret(settings)
    tls = _tls(settings)
    label_for(settings.label, settings.label_position, settings.unlabelled)
    app = create_app(settings, networks, access, turn_secret)
    try:
        listening = socket.create_server((settings.host, settings.port), reuse_port=False)
    except OSError as error:
        raise AvatarError(
            f"cannot listen on {settings.host}:{settings.port} ({error.strerror}): choose another --port"
        ) from None
    set_up_logging(settings.log)
    limit_arenas()
    sys.setswitchinterval(THREAD_SWITCH_INTERVAL)
    if settings.unlabelled:
        log.warning("avatar pictures have no label: %s", settings.unlabelled)
    scheme, port = "https" if tls else "http", listening.getsockname()[1]
    shown = "localhost" if settings.host in ("127.0.0.1", "0.0.0.0", "::") else settings.host
    print(f"avatar-stream starts on {scheme}://{shown}:{port} …", flush=True)
    if not settings.loopback and not tls:
        print("Browsers allow cameras on https pages only: use --certificate or a proxy (docs/deploy.md).")

    async def announce() -> None:
        """Print a line once the server accepts sessions (as ``/readyz``)."""
        await state.warm.wait()
        if state.failure is not None:
            server.should_exit = True
            return
        engine = state.host.engine
        print(f"avatar-stream is ready on {scheme}://{shown}:{port} (engine: {engine}). Ctrl+C stops it.", flush=True)

    state = app.state.server
    server = DrainingServer(uvicorn_config(app, settings, **tls), app.state.server.sessions, settings.drain, announce)
    server.run(sockets=[listening])
    if state.failure is not None:
        raise state.failure


def uvicorn_config(app: Any, settings: Settings, **more: Any) -> uvicorn.Config:
    """The configuration of uvicorn with the limits of ``settings``."""
    return uvicorn.Config(
        app,
        http=http_protocol(settings),
        log_config=None,
        log_level="warning",
        access_log=False,
        server_header=False,
        limit_concurrency=MAX_CONNECTIONS,
        ws_max_size=4 * settings.max_message,
        ws_max_queue=8,
        proxy_headers=bool(settings.trust_proxy),
        forwarded_allow_ips=list(settings.trust_proxy),
        timeout_graceful_shutdown=3,
        **more,
    )


def _tokens(settings: Settings) -> list[Token]:
    tokens = read_tokens(Path(settings.tokens)) if settings.tokens else []
    given = os.environ.get(TOKEN_VARIABLE, "")
    if given:
        if len(given) < MIN_TOKEN_LENGTH:
            raise BadInput(
                f"{TOKEN_VARIABLE} must have {MIN_TOKEN_LENGTH} characters or more: avatar-stream token makes one"
            )
        tokens.append(Token("environment", frozenset(SCOPES), digest(given)))
    if not tokens and not settings.loopback:
        raise BadInput(
            "others can reach this server, so it needs tokens: avatar-stream token NAME --file tokens.txt,"
            " then serve with --tokens tokens.txt"
        )
    return tokens


def _turn_secret(settings: Settings) -> str:
    for url in settings.turn:
        if not re.fullmatch(r"(stun|turns?):[^\s<>,;\"]+", url):
            raise BadInput(f"{url} is not the address of a STUN or TURN server: write turn:HOST:PORT?transport=udp")
    if settings.turn_secret_file:
        try:
            secret = Path(settings.turn_secret_file).read_text().strip()
        except OSError as error:
            raise BadInput(f"cannot read {settings.turn_secret_file}: {error.strerror}") from None
    else:
        secret = os.environ.get(TURN_VARIABLE, "")
    if any(url.startswith("turn") for url in settings.turn) and not secret:
        raise BadInput(f"the TURN server's secret is missing: --turn-secret-file FILE, or {TURN_VARIABLE}")
    return secret


def _tls(settings: Settings) -> dict[str, str]:
    if not settings.certificate and not settings.private_key:
        return {}
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(settings.certificate, settings.private_key or None)
    except (OSError, ssl.SSLError) as error:
        raise BadInput(f"the certificate cannot be used ({error}): give --certificate and --private-key") from None
    return {"ssl_certfile": settings.certificate, "ssl_keyfile": settings.private_key or settings.certificate}
