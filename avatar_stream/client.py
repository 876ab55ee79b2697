"""A Python client of a server: sends camera frames, receives avatar pictures.

::

    async with connect("http://localhost:8080", portrait="noor") as session:
        session.send(frame)                     # RGB uint8 (h, w, 3)
        picture = await session.picture()       # RGB uint8 (H, W, 3), the next picture
        await session.control(keep=0.5)

Signalling is ``POST /session`` and the WebSocket ``/control/{key}`` (a server describes both at ``/openapi.json``).
"""

import asyncio
import contextlib
import json
import os
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import AsyncIterator
from fractions import Fraction
from pathlib import Path
from typing import Any, Final

import av
import numpy as np
import numpy.typing as npt
from aiortc import RTCConfiguration, RTCIceServer, RTCPeerConnection, RTCSessionDescription, VideoStreamTrack
from aiortc.mediastreams import MediaStreamError
from websockets.asyncio.client import ClientConnection
from websockets.asyncio.client import connect as connect_websocket
from websockets.exceptions import ConnectionClosed

from avatar_stream.errors import AvatarError, BadInput
from avatar_stream.face.arkit import ArkitFrame
from avatar_stream.face.tracked_face import TrackedFace
from avatar_stream.rigs.face_packet import pack

Image = npt.NDArray[np.uint8]
CLOCK_RATE: Final = 90_000  # Hz, of video in RTP
TOKEN_HINT: Final = " (give its token as token=..., the camera command in AVATAR_STREAM_TOKEN)"
ANSWER_TIMEOUT: Final = 10.0  # seconds
COMMAND_FIELDS: Final = {"portrait": "id"} | dict.fromkeys(
    ("gain", "keep", "mirror", "background", "expression"), "value"
)
"""The field that holds the value of each control command."""


class Unreachable(AvatarError):
    """No server answers at this address, or the connection to it broke."""


class ClientSession:
    """A session on a server; create it with :func:`connect`."""

    def __init__(self, url: str, token: str, ice_servers: list[RTCIceServer]) -> None:
        self.url = url
        self.status: dict[str, Any] = {}
        """The last status message, sent twice a second: ``fps``, ``face``, ``session`` and so on."""
        self._token = token
        self._pc = RTCPeerConnection(RTCConfiguration(iceServers=ice_servers))
        self._camera = _Camera()
        self._track: Any = None
        self._control: ClientConnection | None = None
        self._reader: asyncio.Task[None] | None = None
        self._answers: asyncio.Queue[str] = asyncio.Queue()
        self._command_lock = asyncio.Lock()
        self._location = ""
        self._pc.on("track", self._on_track)

    @property
    def id(self) -> str:
        """The session's public name, which viewers use."""
        return str(self.status.get("session", ""))

    def send(self, frame: Image) -> None:
        """Send an RGB uint8 camera frame ``(h, w, 3)`` now; it replaces a frame that is not sent yet."""
        self._camera.put(frame)

    async def move(self, frame: ArkitFrame | TrackedFace) -> None:
        """Send motion, or a face tracked on this side, in place of a camera frame: numbers, no picture.

        Raises :class:`Unreachable` when the connection is closed.
        """
        if self._control is None:
            raise Unreachable("the session is closed")
        try:
            await self._control.send(
                pack(frame) if isinstance(frame, TrackedFace) else json.dumps({"type": "motion"} | frame.to_json(0.0))
            )
        except ConnectionClosed:
            raise Unreachable(f"{self.url} does not answer") from None

    async def picture(self) -> Image:
        """The next avatar picture, RGB uint8 ``(H, W, 3)``; raises :class:`Unreachable` if no more arrive."""
        if self._track is None:
            raise Unreachable("the session is closed")
        try:
            frame = await asyncio.wait_for(self._track.recv(), ANSWER_TIMEOUT)
        except (MediaStreamError, TimeoutError):
            raise Unreachable(f"{self.url} sends no more pictures") from None
        return np.asarray(frame.to_ndarray(format="rgb24"), np.uint8)

    async def pictures(self) -> AsyncIterator[Image]:
        """Yield avatar pictures until the session ends."""
        with contextlib.suppress(Unreachable):
            while True:
                yield await self.picture()

    async def control(self, **changes: Any) -> None:
        """Change the session: ``portrait`` (an id), ``gain`` (0 to 2), ``keep`` (0 to 1), ``mirror``,
        ``background`` (``own``, ``blur`` or a colour), ``expression`` (see ``Expression.from_json``).

        Raises :class:`~avatar_stream.errors.BadInput` with the server's reason if it refuses.
        """
        for name, value in changes.items():
            if name not in COMMAND_FIELDS:
                raise BadInput(f"there is no setting {name}: use {', '.join(COMMAND_FIELDS)}")
            await self._command({"type": name, COMMAND_FIELDS[name]: value})

    async def recalibrate(self) -> None:
        """Use the driver's current expression as neutral."""
        await self._command({"type": "neutral"})

    async def close(self) -> None:
        """End the session and close the connection."""
        if self._reader is not None:
            self._reader.cancel()
        if self._control is not None:
            await self._control.close()
        self._camera.stop()
        if self._location:
            with contextlib.suppress(AvatarError):
                await self._request("DELETE", self._location)
        await self._pc.close()
        self._track = None

    # Opening

    async def open(self, portrait: str) -> None:
        """Connect; raises :class:`~avatar_stream.errors.AvatarError` with the server's reason."""
        self._pc.addTransceiver(self._camera, direction="sendrecv")
        await self._pc.setLocalDescription(await self._pc.createOffer())
        query = "?" + urllib.parse.urlencode({"portrait": portrait}) if portrait else ""
        offer = self._pc.localDescription.sdp.encode()
        headers, answer = await self._request("POST", f"/session{query}", offer, "application/sdp")
        self._location = headers["location"]
        await self._pc.setRemoteDescription(RTCSessionDescription(answer.decode(), "answer"))
        await self._open_control()

    async def _open_control(self) -> None:
        address = "ws" + self.url.removeprefix("http") + "/control/" + self._location.rsplit("/", 1)[-1]
        try:
            self._control = await asyncio.wait_for(connect_websocket(address), ANSWER_TIMEOUT)
            if self._token:
                await self._control.send(json.dumps({"type": "token", "value": self._token}))
        except (OSError, TimeoutError, ConnectionClosed) as error:
            raise Unreachable(f"the control channel of {self.url} does not open: {error}") from None
        self._reader = asyncio.create_task(self._read(self._control))

    async def _read(self, control: ClientConnection) -> None:
        with contextlib.suppress(ConnectionClosed):
            async for text in control:
                message = json.loads(text)
                if message.get("type") == "status":
                    self.status = message
                elif message.get("type") in ("done", "error"):
                    self._answers.put_nowait(str(message.get("message", "")))
        self._answers.put_nowait("the session has ended")

    async def _command(self, message: dict[str, Any]) -> None:
        if self._control is None:
            raise Unreachable("the session is closed")
        async with self._command_lock:
            try:
                await self._control.send(json.dumps(message))
                reason = await asyncio.wait_for(self._answers.get(), ANSWER_TIMEOUT)
            except (ConnectionClosed, TimeoutError):
                raise Unreachable(f"{self.url} does not answer") from None
        if reason:
            raise BadInput(reason)

    async def _request(
        self, method: str, path: str, body: bytes | None = None, kind: str = ""
    ) -> tuple[dict[str, str], bytes]:
        headers = {"Content-Type": kind} if kind else {}
        if self._token:
            headers["Authorization"] = f"Bearer {self._token}"
        request = urllib.request.Request(self.url + path, body, headers, method=method)
        return await asyncio.to_thread(_send_request, request)

    def _on_track(self, track: Any) -> None:
        if track.kind == "video":
            self._track = track


@contextlib.asynccontextmanager
async def connect(
    url: str, *, portrait: str = "", token: str = "", ice_servers: list[RTCIceServer] | None = None
) -> AsyncIterator[ClientSession]:
    """Open a session on the server at ``url`` (``http://`` or ``https://``); close it at the end of the block.

    ``portrait`` is an id of :func:`portraits` or :func:`upload`. Raises
    :class:`~avatar_stream.errors.AvatarError` with the server's reason if it refuses.
    """
    session = ClientSession(_checked_url(url), token, ice_servers or [])
    try:
        await session.open(portrait)
        yield session
    finally:
        await session.close()


async def listen(url: str, session: str, *, token: str = "") -> AsyncIterator[tuple[float, ArkitFrame]]:
    """Yield (seconds, frame) of the driver's motion until the session ends; ``session`` is its public name.

    Raises :class:`~avatar_stream.errors.BadInput` with the server's reason, and :class:`Unreachable`.
    """
    address = "ws" + _checked_url(url).removeprefix("http") + "/motion/" + urllib.parse.quote(session, safe="")
    try:
        async with connect_websocket(address) as socket:
            if token:
                await socket.send(json.dumps({"type": "token", "value": token}))
            async for text in socket:
                message = json.loads(text)
                yield float(message["time"]), ArkitFrame.from_json(message)
    except ConnectionClosed as error:
        if error.rcvd is not None and error.rcvd.code != 4410:
            reason = error.rcvd.reason or f"{url} sends no motion"
            raise BadInput(reason + TOKEN_HINT if error.rcvd.code == 4401 else reason) from None
    except OSError as error:
        raise Unreachable(f"no avatar server answers at {url}: {error}") from None


async def portraits(url: str, *, token: str = "") -> list[dict[str, Any]]:
    """The portraits that the server offers, each with ``id`` and ``name``."""
    request = urllib.request.Request(_checked_url(url) + "/identities", headers=_bearer(token))
    _, body = await asyncio.to_thread(_send_request, request)
    return list(json.loads(body)["identities"])


async def upload(url: str, picture: str | os.PathLike[str] | bytes, *, token: str = "") -> str:
    """Upload a picture as a temporary portrait; returns its id, for ``connect`` and ``control``.

    ``picture`` is the path of a JPEG, PNG or WebP file, or the bytes of one. Raises
    :class:`~avatar_stream.errors.BadInput` if it cannot be read, or with the server's reason.
    """
    if not isinstance(picture, bytes):
        path = Path(picture)
        try:
            picture = await asyncio.to_thread(path.read_bytes)
        except OSError as error:
            raise BadInput(f"cannot read {path}: {error.strerror or error}") from None
    headers = {"Content-Type": "application/octet-stream"} | _bearer(token)
    request = urllib.request.Request(_checked_url(url) + "/identities", picture, headers, method="POST")
    _, body = await asyncio.to_thread(_send_request, request)
    return str(json.loads(body)["id"])


class _Camera(VideoStreamTrack):
    """A video track with the caller's frames, at the caller's frame rate."""

    def __init__(self) -> None:
        super().__init__()
        self._frame: Image | None = None
        self._frame_ready = asyncio.Event()
        self._started_at: float | None = None

    def put(self, frame: Image) -> None:
        """Set the frame to send next."""
        self._frame = frame
        self._frame_ready.set()

    async def recv(self) -> av.VideoFrame:
        """Wait for the next frame and return it."""
        await self._frame_ready.wait()
        if self.readyState != "live" or self._frame is None:
            raise MediaStreamError
        self._frame_ready.clear()
        now = asyncio.get_running_loop().time()
        self._started_at = now if self._started_at is None else self._started_at
        frame = av.VideoFrame.from_ndarray(self._frame, format="rgb24")
        frame.pts, frame.time_base = round((now - self._started_at) * CLOCK_RATE), Fraction(1, CLOCK_RATE)
        return frame

    def stop(self) -> None:
        """End the track; a waiting :meth:`recv` raises."""
        super().stop()
        self._frame_ready.set()


def _checked_url(url: str) -> str:
    if urllib.parse.urlsplit(url).scheme not in ("http", "https"):
        raise BadInput(f"{url} is not the address of a server: it must begin with http:// or https://")
    return url.rstrip("/")


def _bearer(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"} if token else {}


def _send_request(request: urllib.request.Request) -> tuple[dict[str, str], bytes]:
    try:
        with urllib.request.urlopen(request, timeout=ANSWER_TIMEOUT) as response:
            return {name.lower(): value for name, value in response.headers.items()}, response.read()
    except urllib.error.HTTPError as error:
        text = error.read()
        try:
            reason = str(json.loads(text)["error"])
        except (ValueError, KeyError, TypeError):
            reason = f"the server answered {error.code}"
        if error.code == 401:
            reason += TOKEN_HINT
        raise (BadInput if error.code < 500 else Unreachable)(reason) from None
    except (OSError, ValueError) as error:
        why = error.reason if isinstance(error, urllib.error.URLError) else error
        raise Unreachable(f"no avatar server answers at {request.full_url} ({why})") from None
