"""The WebSockets: ``/control/{key}`` for the publisher of a session, ``/motion/{session}`` for other rigs."""

import asyncio
import contextlib
import json
import time
from typing import Final

from starlette.types import Message
from starlette.websockets import WebSocket, WebSocketDisconnect

from avatar_stream.errors import AvatarError, NotFound
from avatar_stream.rate_limits import RateLimit
from avatar_stream.rigs.face_packet import unpack
from avatar_stream.server.access import ANYBODY, Access, Caller, require, require_instance, require_owner
from avatar_stream.server.rtc.signalling import Role
from avatar_stream.server.session.control import Command, Move, parse_command, parse_token
from avatar_stream.server.session.host import PeerHandle, SessionHandle
from avatar_stream.server.session.registry import SessionRegistry
from avatar_stream.settings import Settings

FIRST_MESSAGE_TIMEOUT: Final = 5.0  # seconds, for the token
STATUS_PERIOD: Final = 0.5  # seconds


class ControlChannel:
    """The WebSocket at ``/control/{key}``: receives commands and sends status until either side closes it.

    On a server with tokens the first message is ``{"type": "token", "value": TOKEN}``: a browser's WebSocket cannot
    send headers, and a token in a URL would end up in logs.
    """

    def __init__(self, sessions: SessionRegistry, access: Access, settings: Settings) -> None:
        self._sessions, self._access, self._settings = sessions, access, settings

    async def serve(self, socket: WebSocket) -> None:
        """Serve one channel."""
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
        session.control_opened()
        status = asyncio.create_task(self._send_status(socket, session))
        try:
            await self._handle(socket, session)
        except (WebSocketDisconnect, RuntimeError, KeyError):
            pass  # closed by the client or by us
        finally:
            status.cancel()
            session.control_closed()

    async def _authorize(self, socket: WebSocket, peer: PeerHandle) -> None:
        if self._access.open:
            return
        caller = await _caller(socket, self._access, self._settings)
        require_owner(caller, peer.owner)

    async def _handle(self, socket: WebSocket, session: SessionHandle) -> None:
        messages, frames = RateLimit(self._settings.message_rate), RateLimit(self._settings.motion_rate)
        while True:
            command: Command | None = None
            reason = ""
            try:
                command = _parse_message(await socket.receive(), self._settings.max_message)
            except AvatarError as error:
                reason = str(error)
            is_motion = isinstance(command, Move)
            if not (frames if is_motion else messages).take(time.monotonic()):
                await _close(socket, 1008, "too many messages")
                return
            if command is not None:
                try:
                    await session.handle(command)
                except AvatarError as error:
                    reason = str(error)
            if reason:
                await socket.send_text(json.dumps({"type": "error", "message": reason}))
            elif not is_motion:
                await socket.send_text(json.dumps({"type": "done"}))

    async def _send_status(self, socket: WebSocket, session: SessionHandle) -> None:
        reconnect_sent = False
        with contextlib.suppress(WebSocketDisconnect, RuntimeError):
            while not session.publisher.ended.is_set():
                if self._sessions.draining and not reconnect_sent:
                    reconnect_sent = True
                    await socket.send_text(json.dumps({"type": "reconnect"}))
                await socket.send_text(json.dumps(session.status()))
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(session.publisher.ended.wait(), STATUS_PERIOD)
        await _close(socket, 4410, session.publisher.reason or "the session has ended")


class MotionFeed:
    """The WebSocket at ``/motion/{session}``: sends the driver's motion frame by frame, for other rigs.

    Each message is ``{"time": seconds, "blendShapes": {...}, "head": {...}}`` (see ``ArkitFrame``). On a server with
    tokens the first message is the token, as on the control channel; it needs the scope ``view``.
    """

    def __init__(self, sessions: SessionRegistry, access: Access, settings: Settings) -> None:
        self._sessions, self._access, self._settings = sessions, access, settings

    async def serve(self, socket: WebSocket) -> None:
        """Serve one listener."""
        await socket.accept()
        id = socket.path_params["id"]
        try:
            caller = await self._authorize(socket, id)
            session = self._sessions.find(id)
            require_instance(caller, session.instance_id)
        except NotFound:
            await _close(socket, 4404, "no such session")
            return
        except (AvatarError, TimeoutError, WebSocketDisconnect, KeyError, RuntimeError):
            await _close(socket, 4401, "send your token first")
            return
        if session.listeners >= self._settings.viewers:
            await _close(socket, 4429, "this session has as many listeners as allowed")
            return
        session.listeners += 1
        leaving = asyncio.create_task(_until_disconnected(socket))
        try:
            await self._send(socket, session, caller, leaving)
        except (WebSocketDisconnect, RuntimeError):
            pass
        finally:
            session.listeners -= 1
            leaving.cancel()
        void = "" if session.publisher.ended.is_set() else self._access.void_reason(caller, time.time())
        await _close(socket, 4401 if void else 4410, void or session.publisher.reason or "the session has ended")

    async def _authorize(self, socket: WebSocket, id: str) -> Caller:
        if self._access.open:
            return ANYBODY
        caller = await _caller(socket, self._access, self._settings)
        require(caller, "view", id)
        return caller

    async def _send(
        self, socket: WebSocket, session: SessionHandle, caller: Caller, leaving: "asyncio.Task[None]"
    ) -> None:
        sent = -1.0
        while not (
            session.publisher.ended.is_set() or leaving.done() or self._access.void_reason(caller, time.time())
        ):
            await asyncio.sleep(1 / self._settings.fps)
            motion = session.motion()
            if motion is not None and motion[0] != sent:
                sent = motion[0]
                await socket.send_text(json.dumps(motion[1]))


def _parse_message(message: Message, max_length: int) -> Command:
    """Parse a message: JSON, or the bytes of a face. Raises ``BadInput`` and ``WebSocketDisconnect``."""
    if message["type"] != "websocket.receive":
        raise WebSocketDisconnect(message.get("code", 1000))
    packet = message.get("bytes")
    if packet is not None:
        return Move(unpack(packet))
    return parse_command(message["text"], max_length)


async def _caller(socket: WebSocket, access: Access, settings: Settings) -> Caller:
    """The caller whose token is in the first message."""
    text = await asyncio.wait_for(socket.receive_text(), FIRST_MESSAGE_TIMEOUT)
    return access.authenticate(f"Bearer {parse_token(text, settings.max_message)}", time.time())


async def _until_disconnected(socket: WebSocket) -> None:
    with contextlib.suppress(WebSocketDisconnect, RuntimeError, KeyError):
        while True:
            await socket.receive_text()


async def _close(socket: WebSocket, code: int, reason: str) -> None:
    with contextlib.suppress(WebSocketDisconnect, RuntimeError):
        await socket.close(code, reason)
