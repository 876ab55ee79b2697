"""Handlers of requests about portraits and characters: list, upload, enrol, change, remove."""

import asyncio
import contextlib
import logging
import time
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from avatar_stream.errors import TooLarge, TooMany, Unauthorized
from avatar_stream.identity.card import as_png, identity_card
from avatar_stream.identity.library import Library
from avatar_stream.identity.records import account_name
from avatar_stream.identity.style import STYLES
from avatar_stream.rate_limits import AddressRateLimits
from avatar_stream.runtime.network import Arrays
from avatar_stream.server.access import ANYBODY, Access, Caller, require
from avatar_stream.server.heap import trim_heap
from avatar_stream.server.http import enrolment_requests as enrolment
from avatar_stream.server.http.gate import address_of, read_body
from avatar_stream.server.priority import lower_thread_priority
from avatar_stream.server.session.host import SessionHost
from avatar_stream.settings import Settings

log = logging.getLogger(__name__)
Result = TypeVar("Result")


class LibraryHandlers:
    """The handlers under ``/identities`` and ``/backgrounds``."""

    def __init__(
        self,
        settings: Settings,
        host: SessionHost,
        library: Library,
        access: Access,
        is_shown: Callable[[str, str], bool],
    ) -> None:
        """``is_shown(instance_id, key)`` says whether that session shows the portrait with that key."""
        self._is_shown = is_shown
        self._settings, self._host, self._library, self._access = settings, host, library, access
        self._uploading = asyncio.Semaphore(settings.uploads_at_once)
        # A picture takes a second of processor time, so uploads run at a lower priority than sessions.
        self._executor = ThreadPoolExecutor(settings.uploads_at_once, "upload", initializer=lower_thread_priority)
        minute = settings.uploads_per_minute
        self._uploads = AddressRateLimits(minute / 60, minute / 2)

    async def list(self, request: Request) -> Response:
        """List the portraits a visitor can choose: their own characters, and the samples."""
        caller: Caller | None = None
        with contextlib.suppress(Unauthorized):  # anyone may list the samples
            caller = self._caller(request)
        if caller is not None and "publish" in caller.scopes:
            found = await asyncio.to_thread(self._library.entries, caller.visible_owner)
        else:
            found = self._library.samples()
        return JSONResponse(
            {
                "identities": [asdict(one) for one in found],
                "default": self._library.default,
                "enrolment": self._library.keeps_characters,
                "styles": list(STYLES),
            }
        )

    async def add(self, request: Request) -> Response:
        """Upload a picture as a portrait; with a JSON body, enrol a character from uploaded pictures."""
        caller = self._caller(request)
        require(caller, "publish")
        settings, enrolling = self._settings, _is_json(request)
        async with self._upload_permit(request):
            limit, what = (
                (enrolment.MAX_BODY_BYTES, "the request") if enrolling else (settings.max_upload, "the picture")
            )
            body = await read_body(request, limit, what, settings.body_timeout)
            if not enrolling:
                key = await self._run_in_executor(self._library.add, body, owner=_owner(caller))
                return JSONResponse({"id": key}, 201, {"Location": f"/identities/{key}"})
            fields = enrolment.parse_enrolment(body)
            loop = asyncio.get_running_loop()

            def refer(face: npt.NDArray[np.uint8]) -> Arrays | None:
                return asyncio.run_coroutine_threadsafe(self._host.refer(face), loop).result()

            done = await self._run_in_executor(
                self._library.enrol,
                owner=_owner(caller),
                refer=refer,
                visible_to=caller.visible_owner,
                **fields,
            )
        log.info("%s enrolled %s", caller.name, done.character.id)
        return JSONResponse(done.report(), 201, {"Location": f"/identities/{done.character.id}"})

    async def background(self, request: Request) -> Response:
        """Upload a picture as a background: its id is a background for the control channel."""
        caller = self._caller(request)
        require(caller, "publish")
        async with self._upload_permit(request):
            body = await read_body(request, self._settings.max_upload, "the picture", self._settings.body_timeout)
            key = await self._run_in_executor(self._library.add_background, body, _owner(caller))
        return JSONResponse({"id": key}, 201)

    async def _run_in_executor(self, work: Callable[..., Result], *arguments: Any, **named: Any) -> Result:
        def run() -> Result:
            try:
                return work(*arguments, **named)
            finally:
                trim_heap()  # the face detector takes 100 MB, a card 25

        return await asyncio.get_running_loop().run_in_executor(self._executor, run)

    async def change(self, request: Request) -> Response:
        """Rename a character, or change its settings."""
        caller = self._caller(request)
        require(caller, "publish")
        body = await read_body(request, enrolment.MAX_BODY_BYTES, "the request", self._settings.body_timeout)
        name, settings = enrolment.parse_changes(body)
        found = await asyncio.to_thread(
            self._library.change, request.path_params["key"], caller.visible_owner, caller.name, name, settings
        )
        return JSONResponse(found.public())

    async def remove(self, request: Request) -> Response:
        """Delete a character or an uploaded picture."""
        caller = self._caller(request)
        require(caller, "publish")
        await asyncio.to_thread(self._library.remove, request.path_params["key"], caller.visible_owner, caller.name)
        return Response(status_code=204)

    async def card(self, request: Request) -> Response:
        """The identity card of a character, as a PNG."""
        caller = self._caller(request)
        require(caller, "publish")
        data = await self._run_in_executor(self._card, request.path_params["key"], caller.visible_owner)
        return Response(data, media_type="image/png", headers={"Cache-Control": "private, no-store"})

    async def picture(self, request: Request) -> Response:
        """A portrait as a JPEG.

        Anyone may get a sample. Other portraits are for their owner, and for viewers whose link is to a session that
        shows the portrait.
        """
        key = request.path_params["key"]
        headers = {"Cache-Control": "private, max-age=3600"}
        visible_owner: str | None = None
        if not self._library.is_sample(key):
            caller = self._caller(request)
            shown = caller.session is not None and self._is_shown(caller.instance_id, key)
            visible_owner, headers["Vary"] = None if shown else caller.visible_owner, "Authorization"
        data = await asyncio.to_thread(self._library.picture, key, visible_owner)
        return Response(data, media_type="image/jpeg", headers=headers)

    @contextlib.asynccontextmanager
    async def _upload_permit(self, request: Request) -> AsyncIterator[None]:
        """Permission to send a picture now; raises :class:`TooMany`. A picture costs a tenth of a second of work."""
        if not self._uploads.take(address_of(request), time.monotonic()):
            raise TooMany(f"{self._settings.uploads_per_minute} pictures a minute are enough: try again in a moment")
        if self._uploading.locked():
            raise TooMany("others are sending their pictures: try again in a moment")
        async with self._uploading:
            try:
                yield
            except TooLarge:
                await asyncio.to_thread(trim_heap)  # what came before it was refused: 24 MB by default
                raise

    def _card(self, key: str, owner: str | None) -> bytes:
        character = self._library.character(key, owner)
        return as_png(identity_card(character, self._library.get(key, owner).picture))

    def _caller(self, request: Request) -> Caller:
        return self._access.authenticate(request.headers.get("authorization"), time.time())


def _owner(caller: Caller) -> str:
    """The owner of a caller's characters: the token's name; without tokens the user account, as for the command."""
    return account_name() if caller is ANYBODY else caller.name


def _is_json(request: Request) -> bool:
    return request.headers.get("content-type", "").split(";")[0].strip().lower() == "application/json"
