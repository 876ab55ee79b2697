"""What every request passes before anything reads it: its host and origin, and a clock on its headers and body."""

import asyncio
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

from h11 import LocalProtocolError
from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from uvicorn.protocols.http.h11_impl import H11Protocol

from avatar_stream.errors import AvatarError, BadInput, TooLarge, TooSlow
from avatar_stream.server.access import allowed_origin, check_host
from avatar_stream.server.metrics import Metrics
from avatar_stream.settings import Settings

LONGEST_LENGTH = 15  # digits of a Content-Length
SOON = {"Retry-After": "5"}
METHODS = "OPTIONS, GET, HEAD, POST, PATCH, DELETE"
CORS = {
    "Access-Control-Allow-Methods": METHODS,
    "Access-Control-Allow-Headers": "Authorization, Content-Type, If-Match",
    "Access-Control-Expose-Headers": "Location, ETag, Link, Accept-Patch, Accept-Post, Retry-After, AI-Disclosure",
    "Access-Control-Max-Age": "600",
}
EVERYWHERE = {
    "Cache-Control": "no-cache",  # kept, but asked for again: a page must fit its server
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "X-Frame-Options": "SAMEORIGIN",
    "Content-Security-Policy": "default-src 'self'; img-src 'self' blob: data:; media-src 'self' blob:; "
    "style-src 'self'; connect-src 'self' ws: wss:; base-uri 'none'; form-action 'self'; frame-ancestors 'self'",
}
# The face finder's compiled code makes functions of strings. It lives in a frame of its own, and reaches nothing but
# this server.
FINDER = "/face/mesh.html"
FINDER_POLICY = (
    "default-src 'none'; script-src 'self' 'unsafe-eval' 'wasm-unsafe-eval'; connect-src 'self'; "
    "media-src 'self' blob:; base-uri 'none'; form-action 'none'; frame-ancestors 'self'"
)


class Gate:
    """ASGI middleware: refuses foreign hosts and origins, answers CORS preflights, adds headers, counts refusals."""

    def __init__(self, app: ASGIApp, settings: Settings, metrics: Metrics) -> None:
        self._app, self._settings, self._metrics = app, settings, metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """See ASGI."""
        if scope["type"] not in ("http", "websocket"):
            await self._app(scope, receive, send)
            return
        headers, settings = Headers(scope=scope), self._settings
        try:
            host = headers.get("host", "")
            check_host(host, settings.allow_host, settings.loopback)
            origin = allowed_origin(headers.get("origin"), host, settings.allow_origin)
        except AvatarError as error:
            self._metrics.refused(error.status)
            if scope["type"] == "websocket":
                await send({"type": "websocket.close", "code": 1008, "reason": str(error)[:120]})
            else:
                await JSONResponse({"error": str(error)}, error.status)(scope, receive, send)
            return

        async def answer(message: Message) -> None:
            if message["type"] == "http.response.start":
                out = MutableHeaders(scope=message)
                if scope.get("path") == FINDER:
                    out["Content-Security-Policy"] = FINDER_POLICY
                for name, value in EVERYWHERE.items():
                    out.setdefault(name, value)
                if origin:
                    out["Access-Control-Allow-Origin"] = origin
                    out.add_vary_header("Origin")
                    out.update(CORS)
                if message["status"] >= 400:
                    self._metrics.refused(message["status"])
            await send(message)

        preflight = scope["type"] == "http" and scope["method"] == "OPTIONS"
        if preflight and "access-control-request-method" in headers:
            await Response(status_code=204)(scope, receive, answer)
            return
        # What came was no HTTP: uvicorn has answered 400 itself. Or the server stops: only then does uvicorn cancel.
        with suppress(LocalProtocolError, asyncio.CancelledError):
            await self._app(scope, receive, answer)


def address_of(request: Request) -> str:
    """Where a request came from; the proxy's word counts where it is trusted."""
    return request.client.host if request.client else ""


async def read_body(request: Request, limit: int, what: str, seconds: float) -> bytes:
    """The request's body; given up on as soon as it is over ``limit`` bytes, or not here after ``seconds``.

    Raises :class:`TooLarge`, :class:`TooSlow`, and :class:`BadInput` for none.
    """
    too_large = TooLarge(f"{what} is larger than {limit // 1024} KB")
    said = request.headers.get("content-length", "")
    if said.isdecimal() and (len(said) > LONGEST_LENGTH or int(said) > limit):
        raise too_large
    chunks, size = [], 0
    try:
        async with asyncio.timeout(seconds):
            async for chunk in request.stream():
                size += len(chunk)
                if size > limit:
                    raise too_large
                chunks.append(chunk)
    except TimeoutError:
        raise TooSlow(f"{what} did not arrive within {seconds:g} seconds") from None
    if not size:
        raise BadInput(f"{what} is empty")
    return b"".join(chunks)


def http_protocol(settings: Settings) -> type[H11Protocol]:
    """uvicorn's HTTP protocol with a clock on request headers, which it lacks, and a share for each address."""

    class Clocked(H11Protocol):
        _clock: asyncio.TimerHandle | None = None

        def connection_made(self, transport: Any) -> None:
            super().connection_made(transport)
            address = self.client[0] if self.client else ""
            if (
                address not in settings.trust_proxy
                and _of(address, self.connections) > settings.connections_per_address
            ):
                transport.write(_plain("429 Too Many Requests", ["Retry-After: 5"]))
                transport.close()
                return
            self._start()

        def data_received(self, data: bytes) -> None:
            if self._idle():
                self._start()
            super().data_received(data)
            if not self._idle():
                self._stop()

        def connection_lost(self, exc: Exception | None) -> None:
            self._stop()
            super().connection_lost(exc)

        def _idle(self) -> bool:
            return self.cycle is None or self.cycle.response_complete

        def _start(self) -> None:
            if self._clock is None:
                self._clock = self.loop.call_later(settings.header_timeout, self._late)

        def _stop(self) -> None:
            if self._clock is not None:
                self._clock.cancel()
                self._clock = None

        def _late(self) -> None:
            # A WebSocket has taken the connection over, or a request is being answered.
            if self.transport.get_protocol() is self and self._idle():
                self.transport.write(_plain("408 Request Timeout", []))
                self.transport.close()

    return Clocked


def _of(address: str, connections: Any) -> int:
    return sum(1 for one in connections if getattr(one, "client", None) and one.client[0] == address)


def _plain(status: str, headers: Sequence[str]) -> bytes:
    return "\r\n".join([f"HTTP/1.1 {status}", *headers, "Connection: close", "Content-Length: 0", "", ""]).encode()
