"""The HTTP API.

============================  =================================================================================
``GET /``                     the page; ``/view/{session}`` the avatar alone, for OBS; ``/status`` for operators
``GET /identities``           the caller's own characters, and the sample portraits
``POST /identities``          upload a picture (JPEG, PNG, WebP bytes) -> 201 ``{"id": ...}``; with a JSON body,
                              enrol a character (see :mod:`avatar_stream.server.http.enrolment_requests`)
``GET /identities/{id}``      the portrait as a JPEG, for its owner; ``PATCH`` a character, ``DELETE`` it or an upload
``GET /identities/{id}/card`` a character's identity card as a PNG
``POST /backgrounds``         upload a picture as a background -> 201 ``{"id": ...}``
``POST /session``             camera up, avatar down; ``?portrait=ID``, ``?session=NAME``, ``?background=00ff00``
``POST /whip``                WHIP (RFC 9725): publish a camera; ``?portrait=ID``, ``?session=NAME``
``POST /whep/{session}``      WHEP (draft-ietf-wish-whep): watch
``PATCH``, ``DELETE``         on the Location of each of these three: trickle candidates, and leave
``POST /links/{key}``         a link for viewers of the caller's session; ``DELETE`` voids all its links
``WS /control/{key}``         see :mod:`avatar_stream.server.session.control`
``WS /motion/{session}``      the driver's motion in ARKit's terms (see :class:`.control_channel.MotionFeed`)
``GET /healthz /readyz``      the process answers; it accepts new sessions
``GET /metrics``              for Prometheus (see :mod:`avatar_stream.server.metrics`)
``GET /face/...``             the face tracker for browsers, and the code that compresses a face
``GET /openapi.json``         this API as OpenAPI; ``/control.schema.json`` the control channel's messages
============================  =================================================================================

``{key}`` is the last part of a Location, a secret that only its opener knows. ``{session}`` is the public name.
"""

import asyncio
import contextlib
import functools
from collections.abc import AsyncIterator
from typing import Any

from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import FileResponse, JSONResponse, Response
from starlette.routing import Mount, Route, WebSocketRoute
from starlette.staticfiles import StaticFiles

from avatar_stream.errors import AvatarError, ServerFull, TooMany, Unauthorized, WrongType
from avatar_stream.identity.visible_text import escaped
from avatar_stream.rigs.face_packet import code_file
from avatar_stream.runtime.networks import Networks
from avatar_stream.server.access import Access
from avatar_stream.server.housekeeping import run_housekeeping
from avatar_stream.server.http.gate import RETRY_HEADERS, Gate
from avatar_stream.server.http.openapi import openapi
from avatar_stream.server.http.session_handlers import Server, page_folder
from avatar_stream.server.session.control import control_schema
from avatar_stream.server.session.control_channel import ControlChannel, MotionFeed
from avatar_stream.settings import Settings


def create_app(
    settings: Settings, networks: Networks | None, access: Access | None = None, turn_secret: str = ""
) -> Starlette:
    """The ASGI application; ``app.state.server`` is its :class:`Server`."""
    server = Server(settings, networks, access, turn_secret)
    control = ControlChannel(server.sessions, server.access, settings)
    motion = MotionFeed(server.sessions, server.access, settings)

    @contextlib.asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        async with asyncio.TaskGroup() as group:
            task = group.create_task(run_housekeeping(server))
            try:
                yield
            finally:
                await server.sessions.close()
                task.cancel()
                await server.host.close()

    @functools.cache
    def openapi_document() -> dict[str, Any]:
        return openapi(routes, settings)

    async def openapi_json(request: Request) -> Response:
        """This API as an OpenAPI document."""
        return JSONResponse(openapi_document())

    async def control_schema_json(request: Request) -> Response:
        """The JSON Schema of the control channel's messages."""
        return JSONResponse(control_schema(), media_type="application/schema+json")

    async def face_code(request: Request) -> Response:
        """The code with which a page compresses a face (see ``avatar_stream.rigs.face_packet``)."""
        return FileResponse(code_file(), media_type="application/octet-stream")

    library = server.library_handlers
    resource = ["PATCH", "DELETE", "GET", "HEAD"]
    routes: list[Any] = [
        Route("/identities", library.list, methods=["GET"]),
        Route("/identities", library.add, methods=["POST"]),
        Route("/backgrounds", library.background, methods=["POST"]),
        Route("/identities/{key}", library.picture, methods=["GET"]),
        Route("/identities/{key}", library.change, methods=["PATCH"]),
        Route("/identities/{key}", library.remove, methods=["DELETE"]),
        Route("/identities/{key}/card", library.card, methods=["GET"]),
    ]
    for path, handler in (("/session", server.publish), ("/whip", server.publish), ("/whep/{id}", server.play)):
        routes += [
            Route(path, handler, methods=["POST"]),
            Route(path, server.ice, methods=["OPTIONS"]),
            Route(path, server.reserved, methods=["GET", "HEAD"]),
            Route(path + "/{key}", server.resource, methods=resource),
            Route(path + "/{key}", server.ice, methods=["OPTIONS"]),
        ]
    routes += [
        Route("/links/{key}", server.link, methods=["POST"]),
        Route("/links/{key}", server.revoke, methods=["DELETE"]),
        WebSocketRoute("/control/{key}", control.serve),
        WebSocketRoute("/motion/{id}", motion.serve),
        Route("/healthz", server.health, methods=["GET"]),
        Route("/readyz", server.ready, methods=["GET"]),
        Route("/metrics", server.measurements, methods=["GET"]),
        Route("/control.schema.json", control_schema_json, methods=["GET"]),
        Route("/openapi.json", openapi_json, methods=["GET"]),
        Route("/status", server.status, methods=["GET"]),
        Route("/view/{id}", server.viewer, methods=["GET"]),
        Route("/face/code.bin", face_code, methods=["GET"]),
        Mount("/", StaticFiles(directory=page_folder(), html=True)),
    ]
    app = Starlette(
        routes=routes,
        exception_handlers={AvatarError: _error},
        middleware=[Middleware(Gate, settings=settings, metrics=server.metrics)],
        lifespan=lifespan,
    )
    app.state.server = server
    return app


async def _error(request: Request, error: Exception) -> Response:
    assert isinstance(error, AvatarError)
    headers = dict(RETRY_HEADERS) if isinstance(error, ServerFull | TooMany) else {}
    if isinstance(error, Unauthorized):
        headers["WWW-Authenticate"] = 'Bearer realm="avatar-stream"'
    if isinstance(error, WrongType):
        headers["Accept-Patch" if request.method == "PATCH" else "Accept-Post"] = error.wanted
    # Escaped, because JSONResponse fails on a lone surrogate, which the text may quote from the request.
    return JSONResponse({"error": escaped(str(error))}, error.status, headers)
