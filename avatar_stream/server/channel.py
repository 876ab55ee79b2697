"""The WebSocket at ``/control/{key}``."""

import asyncio
import contextlib
import json
import time
from typing import Final

from starlette.websockets import WebSocket, WebSocketDisconnect

from avatar_stream.errors import AvatarError, NotFound
from avatar_stream.server.access import Access, require_owner
from avatar_stream.server.control import parse_command, parse_token
from avatar_stream.server.peer import Peer
from avatar_stream.server.session import Session
from avatar_stream.server.sessions import Sessions
from avatar_stream.server.signalling import Role
from avatar_stream.settings import Settings

FIRST_MESSAGE: Final = 5.0  # seconds for the token
STATUS_PERIOD: Final = 0.5  # seconds


class Control:
    """The WebSocket at ``/control/{key}``: commands in, status out, until either side leaves.

    On a server with tokens the first message is ``{"type": "token", "value": TOKEN}``: a browser's WebSocket cannot
    send headers, and a URL is no place for a token.
    """

    def __init__(self, sessions: Sessions, access: Access, settings: Settings) -> None:
        self._sessions, self._access, self._settings = sessions, access, settings

    async def serve(self, socket: WebSocket) -> None:
        """One channel."""
        await socket.accept()
        try:
            session, peer = self._sessions.peer(socket.path_params["key"], Role.BOTH, Role.PUBLISH)
            await self._authorize(socket, peer)
        except NotFound:
            await _close(socket, 4404, "no such session")
            return
        except (AvatarError, TimeoutError, WebSocketDisconnect, KeyError, RuntimeError):
            await _close(socket, 4401, "send your token first")
            return
        session.last_control = 0.0
        status = asyncio.create_task(self._send_status(socket, session))
        try:
            await self._handle(socket, session)
        except (WebSocketDisconnect, RuntimeError, KeyError):
            pass  # gone, closed by us, or sent bytes
        finally:
            status.cancel()
            session.last_control = time.monotonic()

    async def _authorize(self, socket: WebSocket, peer: Peer) -> None:
        if self._access.open:
            return
        text = await asyncio.wait_for(socket.receive_text(), FIRST_MESSAGE)
        caller = self._access.who(f"Bearer {parse_token(text, self._settings.max_message)}", time.time())
        require_owner(caller, peer.owner)

    async def _handle(self, socket: WebSocket, session: Session) -> None:
        left, at = float(self._settings.message_rate), time.monotonic()
        while True:
            text = await socket.receive_text()
            # A bucket of one second's messages that refills as time goes by.
            now = time.monotonic()
            left, at = min(self._settings.message_rate, left + (now - at) * self._settings.message_rate) - 1, now
            if left < 0:
                await _close(socket, 1008, "too many messages")
                return
            try:
                await session.handle(parse_command(text, self._settings.max_message))
                await socket.send_text(json.dumps({"type": "done"}))
            except AvatarError as error:
                await socket.send_text(json.dumps({"type": "error", "message": str(error)}))

    async def _send_status(self, socket: WebSocket, session: Session) -> None:
        told = False
        with contextlib.suppress(WebSocketDisconnect, RuntimeError):
            while not session.publisher.ended.is_set():
                if self._sessions.draining and not told:
                    told = True
                    await socket.send_text(json.dumps({"type": "reconnect"}))
                await socket.send_text(json.dumps(session.status()))
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(session.publisher.ended.wait(), STATUS_PERIOD)
        await _close(socket, 4410, session.publisher.reason or "the session has ended")


async def _close(socket: WebSocket, code: int, reason: str) -> None:
    with contextlib.suppress(WebSocketDisconnect, RuntimeError):
        await socket.close(code, reason)
