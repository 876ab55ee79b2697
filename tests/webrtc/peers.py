"""aiortc peers, and a server on a free port in the same event loop."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from fractions import Fraction
from typing import Any

import av
import httpx
import numpy as np
import pytest
import uvicorn
import websockets
from aiortc import AudioStreamTrack, RTCConfiguration, RTCPeerConnection, RTCSessionDescription, VideoStreamTrack
from aiortc.mediastreams import MediaStreamError

from avatar_stream.media.encode import VIDEO_CLOCK_RATE
from avatar_stream.media.marks import draw_mark, read_mark
from avatar_stream.runtime.networks import Networks
from avatar_stream.server.access import Access
from avatar_stream.server.http.app import create_app
from avatar_stream.server.http.session_handlers import Server
from avatar_stream.server.run import uvicorn_config
from avatar_stream.settings import Settings
from tests.browser.camera import driver_frames
from tests.waiting import SERVER_TIMERS, TEST_TIMEOUT, http, until, within

SDP_HEADERS = {"Content-Type": "application/sdp"}
IN_PROCESSES: dict[str, Any] = {"processes": 2, "engine": "warp"}
"""Settings with which sessions run in session processes."""
BOTH_HOSTS = pytest.mark.parametrize("host_settings", [{}, IN_PROCESSES], ids=["in the server", "in a process"])


class Camera(VideoStreamTrack):
    """Plays the sample clip with each frame's number drawn in; ``scale`` changes the size.

    Sends 30 frames a second. A busy machine sends fewer: late frames are skipped, not sent in a burst.
    """

    def __init__(self) -> None:
        super().__init__()
        self._began = self._due = 0.0
        self.frames = driver_frames()
        self.number = 0
        self.scale = 1.0

    async def recv(self) -> av.VideoFrame:
        if self.readyState != "live":
            raise MediaStreamError
        now = asyncio.get_running_loop().time()
        self._began = self._began or now
        self._due = max(self._due + 1 / 30, now)
        await asyncio.sleep(self._due - now)
        picture = self.frames[self.number % len(self.frames)].copy()
        draw_mark(picture, self.number % 2048)
        self.number += 1
        frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
        if self.scale != 1:
            frame = frame.reformat(width=int(640 * self.scale) // 2 * 2, height=int(480 * self.scale) // 2 * 2)
        frame.pts, frame.time_base = (
            round((self._due - self._began) * VIDEO_CLOCK_RATE),
            Fraction(1, VIDEO_CLOCK_RATE),
        )
        return frame


class Microphone(AudioStreamTrack):
    """Silence, and a click of 20 ms whenever :meth:`click` is called."""

    def __init__(self) -> None:
        super().__init__()
        self.clicked_at = 0.0
        """The event loop's time at which the last click was sent."""
        self._clicks = False
        self._samples = 0
        self._due = 0.0

    def click(self) -> None:
        """Send a click in the next packet."""
        self._clicks = True

    async def recv(self) -> av.AudioFrame:
        loop = asyncio.get_running_loop()
        self._due = max(self._due + 0.02, loop.time())
        await asyncio.sleep(self._due - loop.time())
        sound = np.zeros((1, 960), np.int16)
        if self._clicks:
            sound[:] = (20_000 * np.sin(np.arange(960) * 0.2)).astype(np.int16)
            self._clicks, self.clicked_at = False, loop.time()
        frame = av.AudioFrame.from_ndarray(sound, format="s16", layout="mono")
        frame.sample_rate, frame.pts, frame.time_base = 48_000, self._samples, Fraction(1, 48_000)
        self._samples += 960
        return frame


class Peer:
    """An aiortc client in the role of a browser (``both``), OBS (``publish``) or a viewer (``view``)."""

    def __init__(self, url: str, role: str = "both", *, token: str = "", **configuration: Any) -> None:
        self.url, self.role = url, role
        self.pc = RTCPeerConnection(RTCConfiguration(**({"iceServers": []} | configuration)))
        self.camera = Camera()
        self.microphone: Microphone | None = None
        self.avatar: Any = None
        self.sound: Any = None
        self.location = ""
        self.headers = {"Authorization": f"Bearer {token}"} if token else {}
        self.pc.on("track", self._on_track)

    def _on_track(self, track: Any) -> None:
        if track.kind == "video":
            self.avatar = track
        else:
            self.sound = track

    async def offer(self, *, audio: bool = False) -> str:
        """The SDP offer of this role, with candidates."""
        if audio and self.role != "view":
            self.microphone = Microphone()
        directions = {"both": "sendrecv", "publish": "sendonly", "view": "recvonly"}
        if self.role == "view":
            for kind in ("video", *(["audio"] if audio else [])):
                self.pc.addTransceiver(kind, direction="recvonly")
        else:
            self.pc.addTransceiver(self.camera, direction=directions[self.role])
            if self.microphone:
                self.pc.addTransceiver(self.microphone, direction="sendonly")
        await self.pc.setLocalDescription(await self.pc.createOffer())
        return self.pc.localDescription.sdp

    async def connect(
        self, portrait: str = "", *, path: str = "", audio: bool = False, **query: str
    ) -> httpx.Response:
        """POST the offer and apply the answer if it is accepted; returns the response."""
        path = path or {"both": "/session", "publish": "/whip"}[self.role]
        if portrait:
            query["portrait"] = portrait
        sdp = await self.offer(audio=audio)
        async with http(self.url) as client:
            response = await client.post(path, params=query, content=sdp, headers=SDP_HEADERS | self.headers)
        if response.status_code == 201:
            self.location = response.headers["location"]
            await self.pc.setRemoteDescription(RTCSessionDescription(response.text, "answer"))
        return response

    async def pictures(self, count: int) -> list[np.ndarray]:  # type: ignore[type-arg]
        return [(await within(self.avatar.recv())).to_ndarray(format="rgb24") for _ in range(count)]

    async def avatars(self, count: int) -> tuple[list[np.ndarray], list[int]]:  # type: ignore[type-arg]
        """The next ``count`` pictures that carry a camera frame's number, and the numbers. Pictures carry none until
        the avatar is drawn.
        """
        found: list[tuple[Any, int]] = []
        async with asyncio.timeout(TEST_TIMEOUT):
            while len(found) < count:
                (picture,) = await self.pictures(1)
                number = read_mark(picture)
                if number is not None:
                    found.append((picture, number))
        return [picture for picture, _ in found], [number for _, number in found]

    @property
    def key(self) -> str:
        """The secret session key in the Location header."""
        return self.location.split("/")[-1]

    async def close(self) -> None:
        self.camera.stop()
        await self.pc.close()


@contextlib.asynccontextmanager
async def running(
    networks: Networks | None = None, *, access: Access | None = None, turn_secret: str = "", **settings: Any
) -> AsyncIterator[tuple[str, Server]]:
    """A server on a free port in this event loop. It draws with the warp only, as these tests are about transport.

    Its timeouts are ``SERVER_TIMERS``, unless the test sets them.
    """
    usual = {"frame_marks": True, "size": 256, "sessions": 4, "port": 0, "processes": 0, "offers_per_minute": 6000}
    chosen = Settings(**(usual | SERVER_TIMERS | settings))
    app = create_app(chosen, networks, access, turn_secret)
    config = uvicorn_config(app, chosen, port=0)
    server = uvicorn.Server(config)
    task = asyncio.create_task(server.serve())
    await until(lambda: server.started or task.done(), "the server started")
    port = server.servers[0].sockets[0].getsockname()[1]
    try:
        yield f"http://127.0.0.1:{port}", app.state.server
    finally:
        server.should_exit = True
        await task


def only(server: Server) -> Any:
    """The server's only session."""
    (session,) = server.sessions.by_id.values()
    return session


def set_timer(server: Server, **seconds: float) -> None:
    """Change a timeout of a running server, once the test has done what the timeout must not affect."""
    for name, value in seconds.items():
        object.__setattr__(server.settings, name, value)


async def no_sessions(server: Server) -> None:
    """Wait until the last session has ended."""
    await until(lambda: not server.sessions.by_id, "the last session ended")


def channel(url: str, path: str, **more: Any) -> websockets.connect:
    """A WebSocket to ``path``, such as ``/control/KEY``, of the server at ``url``."""
    patient = {"open_timeout": TEST_TIMEOUT, "close_timeout": TEST_TIMEOUT, "ping_interval": None}
    return websockets.connect(url.replace("http", "ws", 1) + path, **patient | more)
