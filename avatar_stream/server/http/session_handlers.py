"""Handlers of requests for signalling and monitoring. The routes are in :mod:`.app`."""

import asyncio
import contextlib
import time
from functools import partial
from pathlib import Path

from starlette.requests import Request
from starlette.responses import FileResponse, JSONResponse, Response

from avatar_stream.errors import AvatarError, BadOffer, NotSupported, Unauthorized, WrongType
from avatar_stream.identity.library import Library
from avatar_stream.identity.store import Store
from avatar_stream.media.marking import AI_DISCLOSURE
from avatar_stream.portrait.background import OWN_BACKGROUND, checked_background
from avatar_stream.portrait.drawing_quality import DRAWING_QUALITIES
from avatar_stream.runtime.networks import Networks
from avatar_stream.server.access import Access, Caller, link_name, require, require_owner
from avatar_stream.server.http.gate import ALLOWED_METHODS, RETRY_HEADERS, address_of, read_body
from avatar_stream.server.http.library_handlers import LibraryHandlers
from avatar_stream.server.ipc.pool import ProcessPool
from avatar_stream.server.metrics import Metrics
from avatar_stream.server.rtc.signalling import Role, check_offer
from avatar_stream.server.rtc.trickle import FRAGMENT_TYPE, check_precondition, parse_fragment
from avatar_stream.server.rtc.turn import ice_servers, link_header
from avatar_stream.server.session.host import LocalHost, PeerHandle, SessionHost
from avatar_stream.server.session.registry import SessionRegistry
from avatar_stream.settings import Settings

SDP_TYPE = "application/sdp"


class Server:
    """One server: its sessions, its library, and the handlers that open, end and report sessions."""

    def __init__(
        self, settings: Settings, networks: Networks | None, access: Access | None = None, turn_secret: str = ""
    ) -> None:
        self.settings = settings
        self.access = access or Access([])
        self.metrics = Metrics()
        store = Store(Path(settings.library)) if settings.library else None
        self.library = Library(
            size=settings.size, uploads=settings.uploads, store=store, quota=settings.characters_per_owner
        )
        self.host: SessionHost = LocalHost(settings, networks, self.library, self.metrics)
        if settings.processes:
            self.host = pool = ProcessPool(settings, self.library, self.metrics)
            self.metrics.processes.other_pids = pool.pids
        self.library_handlers = LibraryHandlers(settings, self.host, self.library, self.access, self._is_shown)
        self.sessions = SessionRegistry(settings, self.host, self.library, self.access)
        self.failure: AvatarError | None = None
        """Set if the requested engine cannot run here: the server then stops."""
        self.warm = asyncio.Event()
        self.began = time.monotonic()
        self._turn_secret = turn_secret
        self.metrics.register_gauges(
            {
                "live": self._live,
                "connecting": lambda: len(self.sessions.by_id) - self._live(),
                "viewers": lambda: sum(p.role is Role.VIEW for p in self.sessions.peers()),
            },
            {quality.name: partial(self._at_quality, k) for k, quality in enumerate(DRAWING_QUALITIES)},
            lambda: self.sessions.capacity,
        )

    # Signalling

    async def publish(self, request: Request) -> Response:
        """``POST /session`` and ``POST /whip``."""
        role = Role.BOTH if request.url.path.endswith("/session") else Role.PUBLISH
        caller = self._caller(request)
        require(caller, "publish")
        offer = await self._offer(request, role)
        _, peer, answer = await self.sessions.publish(
            role,
            offer,
            address=address_of(request),
            caller=caller,
            portrait=request.query_params.get("portrait", ""),
            name=request.query_params.get("session", ""),
            background=checked_background(request.query_params.get("background", OWN_BACKGROUND)),
        )
        return self._answer_response(peer, answer, f"{request.url.path.rstrip('/')}/{peer.key}")

    async def play(self, request: Request) -> Response:
        """``POST /whep/{session}``."""
        id = request.path_params["id"]
        caller = self._caller(request)
        require(caller, "view", id)
        offer = await self._offer(request, Role.VIEW)
        peer, answer = await self.sessions.view(id, offer, address=address_of(request), caller=caller)
        return self._answer_response(peer, answer, f"/whep/{id}/{peer.key}")

    async def ice(self, request: Request) -> Response:
        """``OPTIONS`` other than preflights: accepted types; ICE servers for authorized callers (RFC 9725, 4.4)."""
        response = Response(status_code=204, headers={"Accept-Post": SDP_TYPE, "Allow": ALLOWED_METHODS})
        with contextlib.suppress(Unauthorized):
            self._add_ice(response, self._caller(request))
        return response

    async def resource(self, request: Request) -> Response:
        """``PATCH``, ``DELETE`` and ``GET`` on the Location of a session or viewer."""
        caller = self._caller(request)
        session, peer = self.sessions.peer(request.path_params["key"], *_roles(request))
        require_owner(caller, peer.owner)
        if request.method == "DELETE":
            if peer.role is Role.VIEW:
                peer.end("left")
            else:
                await session.end("left")
            return Response(status_code=200)
        if request.method in ("GET", "HEAD"):
            return Response(status_code=204, headers={"ETag": peer.etag})
        _check_type(request, FRAGMENT_TYPE)
        check_precondition(request.headers.get("if-match"), peer.etag)
        limits = self.settings
        body = await read_body(request, limits.max_fragment, "the fragment", limits.body_timeout)
        await peer.trickle(parse_fragment(_text(body), peer.ice_ufrag, limits.private_allowed, limits))
        return Response(status_code=204)

    async def reserved(self, request: Request) -> Response:
        """GET and HEAD on an endpoint: reserved by the standard (RFC 9725), answered without content."""
        return Response(status_code=204, headers={"Accept-Post": SDP_TYPE})

    async def link(self, request: Request) -> Response:
        """A link for viewers of the caller's session, which ends with it; requires the scope ``view``."""
        caller = self._caller(request)
        require(caller, "view")
        session, peer = self.sessions.peer(request.path_params["key"], Role.BOTH, Role.PUBLISH)
        require_owner(caller, peer.owner)
        expires = time.time() + 60 * self.settings.link_minutes
        # Browsers do not send the fragment, so the token reaches no server log.
        token = "" if self.access.open else "#" + self.access.link(session.id, session.instance_id, expires)
        found = {"path": f"/view/{session.id}{token}", "expires": int(expires), "revocable": not self.access.open}
        return JSONResponse(found, 201)

    async def revoke(self, request: Request) -> Response:
        """Void all links to the caller's session, and disconnect viewers who use one."""
        caller = self._caller(request)
        require(caller, "publish")
        session, peer = self.sessions.peer(request.path_params["key"], Role.BOTH, Role.PUBLISH)
        require_owner(caller, peer.owner)
        if self.access.open:
            raise NotSupported("this server has no tokens, so links cannot be revoked: end the session instead")
        self.access.revoke(session.instance_id)
        by_link = link_name(session.id, session.instance_id)
        watching = [viewer for viewer in session.viewers.values() if viewer.owner == by_link]
        for viewer in watching:
            viewer.end("its link was revoked")
        return JSONResponse({"ended": len(watching)})

    # Monitoring

    async def health(self, request: Request) -> Response:
        """The process answers."""
        live = len(self.sessions.by_id)
        return JSONResponse({"status": "ok", "sessions": live, "limit": self.sessions.capacity})

    async def ready(self, request: Request) -> Response:
        """Whether the server accepts new sessions: it is warmed up and not stopping."""
        state = "stopping" if self.sessions.draining else "ready" if self.warm.is_set() else "warming up"
        return JSONResponse(
            {"status": state}, 200 if state == "ready" else 503, {} if state == "ready" else RETRY_HEADERS
        )

    async def measurements(self, request: Request) -> Response:
        """Metrics for Prometheus."""
        require(self._caller(request), "admin")
        self.metrics.set_engine(self.host.engine)
        return Response(self.metrics.text(), media_type="text/plain; version=0.0.4; charset=utf-8")

    async def status(self, request: Request) -> Response:
        """``/status``: a page for operators; with ``Accept: application/json`` its data."""
        if "application/json" not in request.headers.get("accept", ""):
            return FileResponse(page_folder() / "status.html", headers={"Vary": "Accept"})
        require(self._caller(request), "admin")
        keep = ("fps", "server_ms", "face", "quality", "portrait", "viewers")
        rows = [
            {"id": s.id, "live": s.live, "seconds": round(time.monotonic() - s.began)}
            | {name: value for name, value in s.status().items() if name in keep}
            for s in self.sessions.by_id.values()
        ]
        return JSONResponse(
            {
                "engine": self.host.engine,
                "uptime": round(time.monotonic() - self.began),
                "capacity": self.sessions.capacity,
                "measured": self.sessions.measured,
                "stopping": self.sessions.draining,
                "sessions": rows,
            },
            headers={"Vary": "Accept", "Cache-Control": "no-store"},
        )

    async def viewer(self, request: Request) -> Response:
        """``/view/{session}``: a page with the avatar alone."""
        return FileResponse(page_folder() / "view.html")

    # Helpers

    def _caller(self, request: Request) -> Caller:
        return self.access.authenticate(request.headers.get("authorization"), time.time())

    async def _offer(self, request: Request, role: Role) -> str:
        _check_type(request, SDP_TYPE)
        body = await read_body(request, self.settings.max_offer, "the offer", self.settings.body_timeout)
        offer = _text(body)
        check_offer(offer, role, self.settings)
        return offer

    def _answer_response(self, peer: PeerHandle, answer: str, location: str) -> Response:
        headers = {
            "Location": location,
            "ETag": peer.etag,
            "Accept-Patch": FRAGMENT_TYPE,
            "AI-Disclosure": AI_DISCLOSURE,
        }
        response = Response(answer, 201, headers, SDP_TYPE)
        self._add_ice(response, Caller(peer.owner, frozenset()))
        return response

    def _add_ice(self, response: Response, caller: Caller) -> None:
        settings = self.settings
        servers = ice_servers(settings.turn, self._turn_secret, settings.turn_minutes, time.time(), caller.name)
        for server in servers:
            response.headers.append("Link", link_header(server))

    def _is_shown(self, instance_id: str, portrait: str) -> bool:
        sessions = self.sessions.by_id.values()
        return any(one.instance_id == instance_id and one.status().get("portrait") == portrait for one in sessions)

    def _live(self) -> int:
        return sum(s.live for s in self.sessions.by_id.values())

    def _at_quality(self, level: int) -> int:
        return sum(s.live and s.level == level for s in self.sessions.by_id.values())


def page_folder() -> Path:
    """The folder of the page's files: in the package when it is installed, beside it in a checkout."""
    package = Path(__file__).parent.parent.parent
    installed = package / "client_demo"
    return installed if installed.is_dir() else package.parent / "client_demo"


def _check_type(request: Request, wanted: str) -> None:
    """Raise :class:`WrongType` unless the request's Content-Type is ``wanted``."""
    if request.headers.get("content-type", "").split(";")[0].strip().lower() != wanted:
        raise WrongType(wanted)


def _roles(request: Request) -> tuple[Role, ...]:
    head = request.url.path.split("/")[1]
    return {"session": (Role.BOTH,), "whip": (Role.PUBLISH,), "whep": (Role.VIEW,)}[head]


def _text(body: bytes) -> str:
    try:
        return body.decode()
    except UnicodeDecodeError:
        raise BadOffer("the body is not UTF-8 text") from None
