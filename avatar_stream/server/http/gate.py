"""Checks before a request is handled: Host and Origin, size and time limits for headers and body."""

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

MAX_LENGTH_DIGITS = 15  # of a Content-Length
RETRY_HEADERS = {"Retry-After": "5"}
ALLOWED_METHODS = "OPTIONS, GET, HEAD, POST, PATCH, DELETE"
CORS_HEADERS = {
    "Access-Control-Allow-Methods": ALLOWED_METHODS,
    "Access-Control-Allow-Headers": "Authorization, Content-Type, If-Match",
    "Access-Control-Expose-Headers": "Location, ETag, Link, Accept-Patch, Accept-Post, Retry-After, AI-Disclosure",
    "Access-Control-Max-Age": "600",
}
DEFAULT_HEADERS = {
    "Cache-Control": "no-cache",  # caches must revalidate: a page must match its server
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "X-Frame-Options": "SAMEORIGIN",
    "Content-Security-Policy": "default-src 'self'; img-src 'self' blob: data:; media-src 'self' blob:; "
    "style-src 'self'; connect-src 'self' ws: wss:; base-uri 'none'; form-action 'self'; frame-ancestors 'self'",
}
# The face finder's compiled code needs eval. Its page runs in a separate frame and may connect to this server only.
FACE_FINDER_PAGE = "/face/mesh.html"
FACE_FINDER_POLICY = (
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
                if scope.get("path") == FACE_FINDER_PAGE:
                    out["Content-Security-Policy"] = FACE_FINDER_POLICY
                for name, value in DEFAULT_HEADERS.items():
                    out.setdefault(name, value)
                if origin:
                    out["Access-Control-Allow-Origin"] = origin
                    out.add_vary_header("Origin")
                    out.update(CORS_HEADERS)
                if message["status"] >= 400:
                    self._metrics.refused(message["status"])
            await send(message)

        preflight = scope["type"] == "http" and scope["method"] == "OPTIONS"
        if preflight and "access-control-request-method" in headers:
            await Response(status_code=204)(scope, receive, answer)
            return
        # Invalid HTTP, which uvicorn has answered with 400, or a request that uvicorn cancels as the server stops.
        with suppress(LocalProtocolError, asyncio.CancelledError):
            await self._app(scope, receive, answer)


def address_of(request: Request) -> str:
    """The client's IP address; behind a trusted proxy, the address that the proxy names."""
    return request.client.host if request.client else ""


async def read_body(request: Request, limit: int, what: str, seconds: float) -> bytes:
    """Read the body of a request; ``what`` names it in errors.

    Raises :class:`TooLarge` as soon as it exceeds ``limit`` bytes, :class:`TooSlow` if it is not complete after
    ``seconds``, and :class:`BadInput` if it is empty.
    """
    too_large = TooLarge(f"{what} is larger than {limit // 1024} KB")
    length = request.headers.get("content-length", "")
    if length.isdecimal() and (len(length) > MAX_LENGTH_DIGITS or int(length) > limit):
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
    """uvicorn's HTTP protocol with two limits it lacks: time for request headers, connections of one address."""

    class TimedProtocol(H11Protocol):
        _timer: asyncio.TimerHandle | None = None

        def connection_made(self, transport: Any) -> None:
            super().connection_made(transport)
            address = self.client[0] if self.client else ""
            if (
                address not in settings.trust_proxy
                and _count_connections(address, self.connections) > settings.connections_per_address
            ):
                transport.write(_bare_response("429 Too Many Requests", ["Retry-After: 5"]))
                transport.close()
                return
            self._start_timer()

        def data_received(self, data: bytes) -> None:
            if self._idle():
                self._start_timer()
            super().data_received(data)
            if not self._idle():
                self._stop_timer()

        def connection_lost(self, exc: Exception | None) -> None:
            self._stop_timer()
            super().connection_lost(exc)

        def _idle(self) -> bool:
            return self.cycle is None or self.cycle.response_complete

        def _start_timer(self) -> None:
            if self._timer is None:
                self._timer = self.loop.call_later(settings.header_timeout, self._on_timeout)

        def _stop_timer(self) -> None:
            if self._timer is not None:
                self._timer.cancel()
                self._timer = None

        def _on_timeout(self) -> None:
            # Otherwise a WebSocket owns the connection, or a request is being answered.
            if self.transport.get_protocol() is self and self._idle():
                self.transport.write(_bare_response("408 Request Timeout", []))
                self.transport.close()

    return TimedProtocol


def _count_connections(address: str, connections: Any) -> int:
    return sum(1 for one in connections if getattr(one, "client", None) and one.client[0] == address)


def _bare_response(status: str, headers: Sequence[str]) -> bytes:
    return "\r\n".join([f"HTTP/1.1 {status}", *headers, "Connection: close", "Content-Length: 0", "", ""]).encode()
