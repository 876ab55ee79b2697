"""Real aiortc peers, and a server on a free port in the same event loop."""

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
from aiortc import AudioStreamTrack, RTCConfiguration, RTCPeerConnection, RTCSessionDescription, VideoStreamTrack

from avatar_stream.media.marks import draw_mark, read_mark
from avatar_stream.portrait.window import Networks
from avatar_stream.server.access import Access
from avatar_stream.server.app import create_app
from avatar_stream.server.handlers import Server
from avatar_stream.server.run import uvicorn_config
from avatar_stream.settings import Settings
from tests.browser.camera import driver_frames

SDP = {"Content-Type": "application/sdp"}
OWN: dict[str, Any] = {"processes": 2, "engine": "warp"}
"""Settings with which sessions live in processes of their own."""
EITHER = pytest.mark.parametrize("where", [{}, OWN], ids=["in the server", "in a process"])


class Camera(VideoStreamTrack):
    """Plays the sample clip, every frame numbered; the size may be changed on the way."""

    def __init__(self) -> None:
        super().__init__()
        self.frames = driver_frames()
        self.number = 0
        self.scale = 1.0

    async def recv(self) -> av.VideoFrame:
        pts, time_base = await self.next_timestamp()
        picture = self.frames[self.number % len(self.frames)].copy()
        draw_mark(picture, self.number % 2048)
        self.number += 1
        frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
        if self.scale != 1:
            frame = frame.reformat(width=int(640 * self.scale) // 2 * 2, height=int(480 * self.scale) // 2 * 2)
        frame.pts, frame.time_base = pts, time_base
        return frame


class Microphone(AudioStreamTrack):
    """Silence, but for a click at the start of every second."""

    def __init__(self) -> None:
        super().__init__()
        self.clicks: list[float] = []
        self._samples = 0
        self._began: float | None = None

    async def recv(self) -> av.AudioFrame:
        loop = asyncio.get_running_loop()
        self._began = loop.time() if self._began is None else self._began
        await asyncio.sleep(max(0.0, self._began + self._samples / 48_000 - loop.time()))
        sound = np.zeros((1, 960), np.int16)
        if self._samples % 48_000 == 0:
            sound[:] = (20_000 * np.sin(np.arange(960) * 0.2)).astype(np.int16)
            self.clicks.append(loop.time())
        frame = av.AudioFrame.from_ndarray(sound, format="s16", layout="mono")
        frame.sample_rate, frame.pts, frame.time_base = 48_000, self._samples, Fraction(1, 48_000)
        self._samples += 960
        return frame


class Peer:
    """A client's part, played by aiortc: a browser (``both``), OBS (``publish``) or a viewer (``view``)."""

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
        """The SDP offer of this role, candidates included."""
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
        """Offer, and take the answer if there is one."""
        path = path or {"both": "/session", "publish": "/whip"}[self.role]
        if portrait:
            query["portrait"] = portrait
        sdp = await self.offer(audio=audio)
        async with httpx.AsyncClient(base_url=self.url) as client:
            response = await client.post(path, params=query, content=sdp, headers=SDP | self.headers)
        if response.status_code == 201:
            self.location = response.headers["location"]
            await self.pc.setRemoteDescription(RTCSessionDescription(response.text, "answer"))
        return response

    async def pictures(self, count: int) -> list[np.ndarray]:  # type: ignore[type-arg]
        return [(await asyncio.wait_for(self.avatar.recv(), 10)).to_ndarray(format="rgb24") for _ in range(count)]

    async def avatars(self, count: int) -> tuple[list[np.ndarray], list[int]]:  # type: ignore[type-arg]
        """The next pictures that carry a camera frame's number, and the numbers: until the avatar is there, which a
        busy machine takes its time for, they carry none.
        """
        found: list[tuple[Any, int]] = []
        async with asyncio.timeout(60):
            while len(found) < count:
                (picture,) = await self.pictures(1)
                number = read_mark(picture)
                if number is not None:
                    found.append((picture, number))
        return [picture for picture, _ in found], [number for _, number in found]

    @property
    def key(self) -> str:
        """The secret part of the Location."""
        return self.location.split("/")[-1]

    async def close(self) -> None:
        self.camera.stop()
        await self.pc.close()


@contextlib.asynccontextmanager
async def running(
    networks: Networks | None = None, *, access: Access | None = None, turn_secret: str = "", **settings: Any
) -> AsyncIterator[tuple[str, Server]]:
    """A server on a free port in this event loop, painting with the warp: what is tested here is the road."""
    chosen = Settings(**({"frame_marks": True, "size": 256, "sessions": 4, "port": 0, "processes": 0} | settings))
    app = create_app(chosen, networks, access, turn_secret)
    config = uvicorn_config(app, chosen, port=0)
    server = uvicorn.Server(config)
    task = asyncio.create_task(server.serve())
    while not server.started:
        await asyncio.sleep(0.02)
    port = server.servers[0].sockets[0].getsockname()[1]
    try:
        yield f"http://127.0.0.1:{port}", app.state.server
    finally:
        server.should_exit = True
        await task


def only(server: Server) -> Any:
    """The one session there is."""
    (session,) = server.sessions.by_id.values()
    return session


async def no_sessions(server: Server, seconds: float = 10) -> None:
    async with asyncio.timeout(seconds):
        while server.sessions.by_id:
            await asyncio.sleep(0.05)
