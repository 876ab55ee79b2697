"""The HTTP surface: the page, portraits, sessions and the control channel.

========================  =====================================================================
``GET /``                 the page
``GET /identities``       shipped portraits
``POST /identities``      upload a picture (JPEG, PNG, WebP bytes) -> 201 ``{"id": ...}``
``GET /identities/{id}``  the portrait as a JPEG
``POST /session``         SDP offer -> 201, SDP answer, ``Location: /session/{id}``; ``?portrait=ID``
``DELETE /session/{id}``  end it
``WS /control/{id}``      see :mod:`avatar_stream.server.control`
``GET /healthz``          200 while the server runs, with the number of sessions
========================  =====================================================================
"""

import asyncio
import contextlib
import json
import logging
import time
from collections.abc import AsyncIterator
from pathlib import Path

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Mount, Route, WebSocketRoute
from starlette.staticfiles import StaticFiles
from starlette.websockets import WebSocket, WebSocketDisconnect

from avatar_stream.errors import AvatarError, BadInput, BadOffer, NotFound, ServerFull, TooLarge
from avatar_stream.identity.library import Library
from avatar_stream.media.tracks import raise_start_bitrate
from avatar_stream.portrait.window import Networks
from avatar_stream.server.control import MAX_MESSAGE, parse_command
from avatar_stream.server.session import Session
from avatar_stream.server.signalling import check_offer
from avatar_stream.settings import Settings

log = logging.getLogger(__name__)

STATUS_PERIOD = 0.5  # seconds


class Server:
    """The sessions of one process, and the handlers that make and end them."""

    def __init__(self, settings: Settings, networks: Networks | None) -> None:
        self.settings = settings
        self.networks = networks
        self.library = Library(size=settings.size, uploads=settings.uploads)
        self.sessions: dict[str, Session] = {}
        self._opening = 0

    async def identities(self, request: Request) -> Response:
        """List the portraits a visitor can choose."""
        entries = [{"id": e.id, "name": e.name, "sample": e.sample} for e in self.library.entries()]
        return JSONResponse({"identities": entries, "default": self.library.default})

    async def upload(self, request: Request) -> Response:
        """Take in a portrait."""
        data = await _body(request, self.settings.max_upload, "the picture")
        key = await asyncio.to_thread(self.library.add, data)
        return JSONResponse({"id": key}, 201, {"Location": f"/identities/{key}"})

    async def picture(self, request: Request) -> Response:
        """A portrait as a JPEG."""
        data = await asyncio.to_thread(self.library.picture, request.path_params["key"])
        return Response(data, media_type="image/jpeg", headers={"Cache-Control": "private, max-age=3600"})

    async def open_session(self, request: Request) -> Response:
        """Answer an offer."""
        if request.headers.get("content-type", "").split(";")[0].strip() != "application/sdp":
            message = "send the offer as application/sdp"
            return JSONResponse({"error": message}, 415, {"Accept-Post": "application/sdp"})
        body = await _body(request, self.settings.max_offer, "the offer")
        try:
            offer = body.decode()
        except UnicodeDecodeError:
            raise BadOffer("the offer is not UTF-8 text") from None
        check_offer(offer)
        portrait = request.query_params.get("portrait") or self.library.default
        if len(self.sessions) + self._opening >= self.settings.sessions:
            raise ServerFull(f"all {self.settings.sessions} places are taken: try again in a moment")
        self._opening += 1
        session = Session(self.settings, self.networks, self.library, portrait)
        try:
            answer = await session.answer(offer)
        except BaseException:
            await asyncio.shield(session.close())
            raise
        finally:
            self._opening -= 1
        self.sessions[session.id] = session
        session_end = asyncio.get_running_loop().create_task(self._forget(session))
        session_end.set_name(f"forget-{session.id}")
        return Response(answer, 201, {"Location": f"/session/{session.id}"}, "application/sdp")

    async def close_session(self, request: Request) -> Response:
        """End a session."""
        await self._find(request.path_params["key"]).close()
        return Response(status_code=200)

    async def control(self, socket: WebSocket) -> None:
        """Commands in, status out, until either side leaves."""
        session = self.sessions.get(socket.path_params["key"])
        await socket.accept()
        if session is None:
            await socket.close(4404, "no such session")
            return
        session.last_control = 0.0
        status = asyncio.create_task(_send_status(socket, session))
        try:
            while True:
                text = await socket.receive_text()
                try:
                    await session.obey(parse_command(text[: MAX_MESSAGE + 1]))
                    await socket.send_text(json.dumps({"type": "done"}))
                except AvatarError as error:
                    await socket.send_text(json.dumps({"type": "error", "message": str(error)}))
        except (WebSocketDisconnect, RuntimeError, KeyError):
            pass  # gone, closed by us, or sent bytes
        finally:
            status.cancel()
            session.last_control = time.monotonic()

    async def health(self, request: Request) -> Response:
        """The process answers."""
        return JSONResponse({"status": "ok", "sessions": len(self.sessions), "limit": self.settings.sessions})

    async def close(self) -> None:
        """End every session."""
        await asyncio.gather(*(session.close() for session in list(self.sessions.values())))

    def _find(self, key: str) -> Session:
        try:
            return self.sessions[key]
        except KeyError:
            raise NotFound("no such session: it may have ended") from None

    async def _forget(self, session: Session) -> None:
        await session.closed.wait()
        self.sessions.pop(session.id, None)


def create_app(settings: Settings, networks: Networks | None) -> Starlette:
    """The ASGI application; ``app.state.server`` is its :class:`Server`."""
    raise_start_bitrate()
    server = Server(settings, networks)

    @contextlib.asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        # The first visitor should not wait for the default portrait and the first run of its networks.
        warm = asyncio.create_task(asyncio.to_thread(server.library.get, server.library.default))
        yield
        await asyncio.gather(warm, return_exceptions=True)
        await server.close()

    app = Starlette(
        routes=[
            Route("/identities", server.identities, methods=["GET"]),
            Route("/identities", server.upload, methods=["POST"]),
            Route("/identities/{key}", server.picture, methods=["GET"]),
            Route("/session", server.open_session, methods=["POST"]),
            Route("/session/{key}", server.close_session, methods=["DELETE"]),
            WebSocketRoute("/control/{key}", server.control),
            Route("/healthz", server.health, methods=["GET"]),
            Mount("/", StaticFiles(directory=page_folder(), html=True)),
        ],
        exception_handlers={AvatarError: _error},
        lifespan=lifespan,
    )
    app.state.server = server
    return app


def page_folder() -> Path:
    """The page's files: inside an installed package, or beside it in a checkout."""
    package = Path(__file__).parent.parent
    installed = package / "client_demo"
    return installed if installed.is_dir() else package.parent / "client_demo"


async def _error(request: Request, error: Exception) -> Response:
    assert isinstance(error, AvatarError)
    headers = {"Retry-After": "5"} if isinstance(error, ServerFull) else {}
    return JSONResponse({"error": str(error)}, error.status, headers)


async def _body(request: Request, limit: int, what: str) -> bytes:
    """The request's body, given up on as soon as it is over ``limit`` bytes."""
    chunks, size = [], 0
    async for chunk in request.stream():
        size += len(chunk)
        if size > limit:
            raise TooLarge(f"{what} is larger than {limit // 1024} KB")
        chunks.append(chunk)
    if not size:
        raise BadInput(f"{what} is empty")
    return b"".join(chunks)


async def _send_status(socket: WebSocket, session: Session) -> None:
    with contextlib.suppress(WebSocketDisconnect, RuntimeError):
        while not session.closed.is_set():
            await socket.send_text(json.dumps(session.status()))
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(session.closed.wait(), STATUS_PERIOD)
        await socket.close(4410, "the session has ended")
