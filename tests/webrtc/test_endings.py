"""Sessions that end well: peers that vanish, engines that fail or hang, cameras that change, servers that stop."""

import asyncio
import json
import signal
import sys
import threading
import time
from typing import Any

import av
import httpx
import numpy as np
import pytest
import websockets
from aiortc import RTCSessionDescription

from avatar_stream.portrait.window import Networks
from avatar_stream.runtime.network import Job
from tests.soak.relay import Relay
from tests.webrtc.peers import EITHER, Peer, no_sessions, only, running

pytestmark = pytest.mark.webrtc


class Engine:
    """The real network, which can be told to fail or to hang."""

    def __init__(self, networks: Networks) -> None:
        ticker: Any = networks.tickers[networks.slots]
        self.run_really = ticker.run
        self.fails = False
        self.hangs = threading.Event()
        self.hangs.set()  # clear it to hang
        ticker.run = self.run

    def run(self, jobs: list[Job]) -> Any:
        if self.fails:
            raise RuntimeError("the GPU fell off the bus")
        self.hangs.wait(20)
        return self.run_really(jobs)


@pytest.fixture
def networks() -> Networks:
    return Networks(threads=1)


async def numbers_move(peer: Peer, seconds: float = 4) -> None:
    """New pictures come again within that time."""
    session_end = time.monotonic() + seconds
    first = None
    while time.monotonic() < session_end:
        picture = (await peer.pictures(1))[0]
        if first is None:
            first = picture
        elif np.abs(picture[40:].astype(int) - first[40:]).mean() > 1:
            return
    raise AssertionError("the picture stands still")


async def test_an_engine_that_fails_is_replaced_and_the_avatar_goes_on(networks: Networks) -> None:
    engine = Engine(networks)
    async with running(networks) as (url, server):
        peer = Peer(url)
        await peer.connect()
        await numbers_move(peer)
        before = networks.batchers[networks.slots]
        engine.fails = True
        await numbers_move(peer)
        async with asyncio.timeout(15):
            while networks.batchers[networks.slots] is before:
                await peer.pictures(1)
        await numbers_move(peer)
        assert only(server).live
        async with httpx.AsyncClient(base_url=url) as client:
            text = (await client.get("/metrics")).text
        assert 'avatar_frame_failures_total{stage="draw"}' in text
        await server.sessions.close()
        await peer.close()


async def test_an_engine_that_hangs_is_given_up(networks: Networks) -> None:
    engine = Engine(networks)
    async with running(networks, watchdog=1.5) as (url, server):
        peer = Peer(url)
        await peer.connect()
        await numbers_move(peer)
        before = networks.batchers[networks.slots]
        engine.hangs.clear()
        async with asyncio.timeout(15):
            while networks.batchers[networks.slots] is before:
                await peer.pictures(1)
        await numbers_move(peer, 6)
        assert only(server).live
        await server.sessions.close()
        engine.hangs.set()
        await peer.close()


async def test_a_session_whose_work_hangs_ends_alone() -> None:
    async with running(watchdog=0.6) as (url, server):
        one, other = Peer(url), Peer(url)
        await one.connect(session="one")
        await other.connect(session="other")
        await asyncio.gather(one.avatars(1), other.avatars(1))
        stuck: Any = server.sessions.by_id["one"]
        release = threading.Event()
        paint = stuck.worker.avatar.paint
        stuck.worker.avatar.paint = lambda warped: (release.wait(10), paint(warped))[1]
        async with asyncio.timeout(8):
            await stuck.closed.wait()
        assert stuck.publisher.reason == "stalled"
        await numbers_move(other)
        release.set()
        await server.sessions.close()
        for peer in (one, other):
            await peer.close()


@pytest.mark.parametrize("vanishes", [False, True])
async def test_a_publisher_who_sends_no_video_or_vanishes(vanishes: bool) -> None:
    async with running(silence_timeout=2.0) as (url, server):
        peer, viewer = Peer(url, "publish"), Peer(url, "view")
        await peer.connect(session="one")
        await viewer.connect(path="/whep/one")
        await viewer.pictures(3)
        session = only(server)
        sender = peer.pc.getSenders()[0]
        if vanishes:  # without a goodbye: its sockets are simply gone
            for protocol in sender.transport.transport._connection._protocols:
                protocol.transport.abort()
        else:
            sender.replaceTrack(None)
        await no_sessions(server, 8)
        assert session.publisher.reason == "no video"
        assert not session.viewers
        for one in (peer, viewer):
            await one.close()


async def test_a_viewer_who_vanishes_is_gone_in_ten_seconds() -> None:
    async with running() as (url, server):
        peer, gone, stays = Peer(url, "publish"), Peer(url, "view"), Peer(url, "view")
        await peer.connect(session="one")
        for viewer in (gone, stays):
            await viewer.connect(path="/whep/one")
            await viewer.pictures(3)
        session = only(server)
        receiver = gone.pc.getReceivers()[0]
        for protocol in receiver.transport.transport._connection._protocols:
            protocol.transport.abort()
        began = time.monotonic()
        async with asyncio.timeout(20):
            while len(session.viewers) > 1:
                await stays.pictures(1)
        # Long before ICE gives it up, which takes 30 seconds; and who only watches is heard all the while.
        assert time.monotonic() - began > 5
        assert await stays.pictures(2)
        for one in (peer, gone, stays):
            await one.close()


async def test_a_4k_camera_is_scaled_down_before_it_costs(monkeypatch: pytest.MonkeyPatch) -> None:
    async with running() as (url, server):
        peer = Peer(url)
        await peer.connect()
        await peer.pictures(10)
        session = only(server)
        big = av.VideoFrame.from_ndarray(peer.camera.frames[0], format="rgb24").reformat(3840, 2160, "yuv420p")

        async def flood() -> None:
            while True:
                session._on_frame("video", big)
                await asyncio.sleep(1 / 60)

        flooding = asyncio.create_task(flood())
        drawn = session.status()["fps"]
        await asyncio.gather(peer.pictures(60), asyncio.sleep(4))
        assert session.status()["fps"] > 0.4 * drawn
        assert session.status()["face"] == "found"
        flooding.cancel()
        await server.sessions.close()
        await peer.close()


async def test_a_clock_that_jumps_is_nobodys_business(monkeypatch: pytest.MonkeyPatch) -> None:
    async with running() as (url, server):
        peer = Peer(url)
        await peer.connect()
        await numbers_move(peer)
        really = time.time
        for jump in (86_400, -172_800):
            monkeypatch.setattr(time, "time", lambda jump=jump: really() + jump)
            await numbers_move(peer)
        assert only(server).live
        assert (await Peer(url).connect()).status_code == 201
        await server.sessions.close()
        await peer.close()


async def test_a_bad_line_is_worked_off() -> None:
    """5 % of the packets lost each way, 100 ms there and back: the picture goes on, and stays in time."""
    async with running() as (url, server):
        peer, relay = Peer(url), Relay(0.05, 0.05, 0.01)
        offer = [x for x in (await peer.offer()).splitlines(True) if not x.startswith(("a=candidate", "a=end-of"))]
        async with httpx.AsyncClient(base_url=url) as client:
            answer = await client.post(
                "/session", content="".join(offer), headers={"Content-Type": "application/sdp"}
            )
        await peer.pc.setRemoteDescription(RTCSessionDescription(await relay.lead(answer.text), "answer"))
        await numbers_move(peer, 10)
        draining = asyncio.create_task(peer.pictures(2000))
        behind = []
        session = only(server)
        for _ in range(50):
            await asyncio.sleep(0.1)
            seen = session.worker.newest_mark
            if seen is not None:
                behind.append((peer.camera.number - seen) % 2048 / 30)
        draining.cancel()
        assert relay.lost > 20
        assert len(behind) > 30
        # Seconds from the camera to the server: a quarter for the line and one request for what was lost.
        assert np.median(behind) < 0.5, behind
        assert np.median(behind[-15:]) < 0.6, behind
        await server.sessions.close()
        relay.close()
        await peer.close()


@EITHER
async def test_stopping_says_so_waits_and_ends(where: dict[str, Any]) -> None:
    async with running(**where) as (url, server), httpx.AsyncClient(base_url=url) as client:
        peer = Peer(url)
        await peer.connect()
        await peer.pictures(3)
        async with websockets.connect(f"{url.replace('http', 'ws')}/control/{peer.key}") as socket:
            stopping = asyncio.create_task(server.sessions.drain(2.0))
            await asyncio.sleep(0.1)
            assert (await client.get("/readyz")).status_code == 503
            assert (await client.get("/healthz")).status_code == 200
            refused = await Peer(url).connect()
            assert refused.status_code == 503
            assert refused.headers["retry-after"]
            said: list[str] = []
            async with asyncio.timeout(5):
                while "reconnect" not in said:
                    said.append(json.loads(await socket.recv())["type"])
            assert only(server).live  # it goes on until its time is over
            await stopping
        assert not server.sessions.by_id
        await peer.close()


def test_a_signal_drains_the_process_and_a_second_one_ends_it() -> None:
    import subprocess
    import urllib.request

    for signals in (1, 2):
        flags = ("--engine", "warp", "--port", "0", "--drain", "30" if signals == 2 else "0.5")
        command = [sys.executable, "-m", "avatar_stream.cli", "serve", *flags]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        assert process.stdout
        url = process.stdout.readline().split(" on ")[1].split(" ")[0]

        async def hold(url: str = url, process: Any = process, signals: int = signals) -> float:
            peer = Peer(url)
            await peer.connect()
            await peer.pictures(3)
            began = time.monotonic()
            process.send_signal(signal.SIGTERM if signals == 1 else signal.SIGINT)  # Ctrl+C, twice
            await asyncio.sleep(0.4)
            if signals == 2:
                with urllib.request.urlopen(url + "/healthz") as response:  # still there
                    assert response.status == 200
                process.send_signal(signal.SIGINT)
            await asyncio.to_thread(process.wait, 25)
            await peer.close()
            return time.monotonic() - began

        took = asyncio.run(hold())
        assert took < 20
        assert process.stderr
        assert "Traceback" not in process.stderr.read()
