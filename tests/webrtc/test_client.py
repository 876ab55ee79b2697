"""The Python client with a server: pictures, control, sending and receiving motion."""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from itertools import count
from typing import Any

import av
import numpy as np
import pytest
import websockets

from avatar_stream.client import Unreachable, connect, listen, portraits, upload
from avatar_stream.errors import BadInput
from avatar_stream.face.arkit import ArkitFrame
from avatar_stream.face.tracked_face import TrackedFace
from avatar_stream.identity.library import SAMPLES, sample_pictures
from avatar_stream.media.camera import Camera
from avatar_stream.pipeline.camera import Options, RemoteCamera, Switches
from avatar_stream.pipeline.live_loop import LiveLoop
from avatar_stream.server.access import Access, make_token, parse_tokens
from tests.browser.camera import driver_frames
from tests.waiting import TEST_TIMEOUT, until
from tests.webrtc.peers import channel, no_sessions, only, running, set_timer

pytestmark = pytest.mark.webrtc


async def test_send_frames_and_receive_pictures() -> None:
    frames = driver_frames()
    async with running(frame_marks=False) as (url, server):
        assert "noor" in [one["id"] for one in await portraits(url)]
        mine = await upload(url, sample_pictures()["robin"])
        async with connect(url, portrait=mine) as session:

            async def film() -> None:
                for number in count():
                    session.send(frames[number % len(frames)])
                    await asyncio.sleep(0.04)

            filming = asyncio.create_task(film())
            first = await session.picture()
            assert first.shape == (256, 256, 3)
            await _changes(session.picture, 0.3)
            await until(lambda: session.status.get("face") in ("found", "held"), "the face was found")
            assert session.id
            await session.control(keep=0.7, gain=1.2)
            await session.control(portrait="noor")
            await session.recalibrate()
            with pytest.raises(BadInput, match="0 to 1"):
                await session.control(keep=7)
            with pytest.raises(BadInput, match="there is no setting"):
                await session.control(beard=1)
            heard = await _first(listen(url, session.id), 10)
            assert any(frame.shapes.get("jawOpen", 0) > 0.05 for frame in heard)
            filming.cancel()
        await no_sessions(server)
        with pytest.raises(Unreachable):
            await session.picture()


async def _changes(picture: Callable[[], Awaitable[np.ndarray]], by: float) -> None:  # type: ignore[type-arg]
    """Wait for a picture that differs from the first by more than ``by`` grey levels on average."""
    before = await picture()
    async with asyncio.timeout(TEST_TIMEOUT):
        while np.abs((await picture()).astype(int) - before).mean() <= by:
            pass


async def _first(frames: AsyncIterator[tuple[float, ArkitFrame]], wanted: int) -> list[ArkitFrame]:
    found = []
    async for _, frame in frames:
        found.append(frame)
        if len(found) == wanted:
            break
    return found


async def test_motion_alone_moves_the_avatar() -> None:
    async with running(frame_marks=False) as (url, server), connect(url, portrait="noor") as session:
        for _ in range(25):
            await session.move(ArkitFrame())
            closed = await session.picture()
        wide = ArkitFrame({"jawOpen": 0.8, "mouthSmileLeft": 0.5}, (0, 0.1, 0, 0.995))

        async def move() -> None:
            for number in count():
                await session.move(wide if number % 10 else ArkitFrame({"jawOpen": 0.7}))
                await asyncio.sleep(0.04)

        moving = asyncio.create_task(move())
        async with asyncio.timeout(TEST_TIMEOUT):
            while np.abs((await session.picture()).astype(int) - closed).mean() <= 1:
                pass
            await until(lambda: session.status["face"] == "found", "the motion counted as a face")
            async for _, frame in listen(url, session.id):
                if frame.shapes["jawOpen"] > 0.6:
                    break
            # Motion counts like video: a session that gets only motion does not end for lack of video.
            began = only(server).live_loop.last_input_at
            set_timer(server, silence_timeout=4.0)
            while only(server).live_loop.last_input_at < began + 5.0:
                await session.picture()
        moving.cancel()


async def test_invalid_motion_raises_and_a_flood_closes_the_channel() -> None:
    async with running(motion_rate=1) as (url, _), connect(url) as session:
        with pytest.raises(BadInput, match="ARKit"):
            await session._command({"type": "motion", "blendShapes": {"nose": 1}})

        async def flood() -> None:
            for _ in range(10_000):
                await session.move(ArkitFrame())
                await asyncio.sleep(0)

        with pytest.raises((BadInput, Unreachable)):
            await flood()
        with pytest.raises((BadInput, Unreachable)):
            await session.control(gain=1)


async def test_refusals_raise_with_the_servers_reason() -> None:
    token, line = make_token("me", ["publish"])
    async with running(access=Access(parse_tokens(line))) as (url, _):
        for uninvited in (connect(url).__aenter__(), upload(url, b"")):
            with pytest.raises(BadInput, match=r"token=.*AVATAR_STREAM_TOKEN"):
                await uninvited
        with pytest.raises(BadInput, match="choose it again"):
            async with connect(url, token=token, portrait="nobody"):
                pass
        async with connect(url, token=token) as session:
            await session.control(gain=1)
            with pytest.raises(BadInput, match="token"):
                [frame async for frame in listen(url, session.id, token=token)]
    with pytest.raises(Unreachable, match="no avatar server"):
        await portraits(url)
    with pytest.raises(BadInput, match="http"):
        await portraits("localhost:8080")


async def test_a_portrait_is_sent_as_a_path_or_as_bytes() -> None:
    robin = sample_pictures()["robin"]
    async with running() as (url, _):
        ids = [await upload(url, one) for one in (robin, str(robin), robin.read_bytes())]
        assert len(set(ids)) == len(ids)
        with pytest.raises(BadInput, match=r"cannot read portrait\.jpg"):
            await upload(url, "portrait.jpg")


@pytest.mark.parametrize("private", [False, True])
async def test_the_camera_command_draws_on_a_server(private: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    came, see = [], LiveLoop.add_frame

    def seen(self: LiveLoop, frame: Any) -> None:
        came.append(type(frame))
        see(self, frame)

    monkeypatch.setattr(LiveLoop, "add_frame", seen)

    class Shown:
        """Presses keys and quits depending on the pictures that it is shown."""

        name = "a test"

        def __init__(self, switches: Switches) -> None:
            self.switches = switches
            self.count = 0
            self.before: np.ndarray | None = None  # type: ignore[type-arg]
            self.change = 0.0

        def show(self, picture: np.ndarray) -> None:  # type: ignore[type-arg]
            self.count += 1
            if self.before is not None:
                self.change = max(self.change, float(np.abs(picture.astype(int) - self.before).mean()))
                if self.change > 6:  # another portrait
                    self.switches.press("q")
            elif self.count > 20 and came:
                self.before = picture
                for key in "nr":
                    self.switches.press(key)

        def close(self) -> None:
            pass

    async with running(frame_marks=False) as (url, server):
        own = str(sample_pictures()["robin"])
        made = RemoteCamera(Options(["noor", own], size=256, seconds=TEST_TIMEOUT), url, private=private)
        source = Camera(str(SAMPLES / "driver.mp4"), made.add_frame)
        shown = Shown(made.switches)
        try:
            await asyncio.to_thread(made.run, shown, lambda line: None)
        finally:
            source.close()
        # In private mode the server gets face packets and no pictures.
        assert set(came) == {TrackedFace if private else av.VideoFrame}
        assert made.shown_count == shown.count
        assert shown.change > 6
        await no_sessions(server)
        with pytest.raises(BadInput, match="no portrait of this name"):
            await asyncio.to_thread(RemoteCamera(Options(["nobody"]), url).run, shown)


async def test_listening_to_an_unknown_session_fails() -> None:
    async with running() as (url, _):
        with pytest.raises(BadInput, match="no such session"):
            [frame async for frame in listen(url, "nobody")]
        async with channel(url, "/motion/nobody") as socket:
            with pytest.raises(websockets.ConnectionClosed):
                json.loads(await socket.recv())
