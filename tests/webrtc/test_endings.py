"""How sessions end or go on when peers vanish, networks fail or hang, cameras change, and servers stop."""

import asyncio
import json
import signal
import threading
import time
from itertools import pairwise
from typing import Any

import av
import numpy as np
import pytest
from aioice import ice
from aiortc import RTCSessionDescription

from avatar_stream.errors import NotFound
from avatar_stream.runtime.network import Job
from avatar_stream.runtime.networks import Networks
from avatar_stream.server.session.control import ChoosePortrait
from tests.serving import RunningServer
from tests.soak.lossy_link import LossyLink
from tests.waiting import TEST_TIMEOUT, http, until, within
from tests.webrtc.peers import BOTH_HOSTS, Peer, channel, no_sessions, only, running, set_timer

pytestmark = pytest.mark.webrtc


class FaultyNetwork:
    """Wraps the diffusion network so that it can fail or hang."""

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
        self.hangs.wait(TEST_TIMEOUT)
        return self.run_really(jobs)


@pytest.fixture
def networks() -> Networks:
    return Networks(threads=1)


async def numbers_move(peer: Peer) -> None:
    """Wait for a picture that differs from the next one and shows another camera frame's number."""
    (first,), (number,) = await peer.avatars(1)
    async with asyncio.timeout(TEST_TIMEOUT):
        while True:
            (picture,), (later,) = await peer.avatars(1)
            if later != number and np.abs(picture[40:].astype(int) - first[40:]).mean() > 1:
                return


async def test_a_network_that_fails_is_replaced_and_the_avatar_goes_on(networks: Networks) -> None:
    network = FaultyNetwork(networks)
    async with running(networks) as (url, server):
        peer = Peer(url)
        await peer.connect()
        await numbers_move(peer)
        before = networks.batchers[networks.slots]
        network.fails = True
        await numbers_move(peer)
        async with asyncio.timeout(TEST_TIMEOUT):
            while networks.batchers[networks.slots] is before:
                await peer.pictures(1)
        await numbers_move(peer)
        assert only(server).live
        async with http(url) as client:
            text = (await client.get("/metrics")).text
        assert 'avatar_frame_failures_total{stage="draw"}' in text
        await server.sessions.close()
        await peer.close()


async def test_a_network_that_hangs_is_replaced(networks: Networks) -> None:
    network = FaultyNetwork(networks)
    async with running(networks, watchdog=3.0) as (url, server):
        peer = Peer(url)
        await peer.connect()
        await numbers_move(peer)
        before = networks.batchers[networks.slots]
        network.hangs.clear()
        async with asyncio.timeout(TEST_TIMEOUT):
            while networks.batchers[networks.slots] is before:
                await peer.pictures(1)
        await numbers_move(peer)
        assert only(server).live
        await server.sessions.close()
        network.hangs.set()
        await peer.close()


async def test_a_hanging_session_ends_and_others_go_on() -> None:
    async with running(watchdog=3.0) as (url, server):
        one, other = Peer(url), Peer(url)
        await one.connect(session="one")
        await other.connect(session="other")
        await asyncio.gather(one.avatars(1), other.avatars(1))
        stuck: Any = server.sessions.by_id["one"]
        release = threading.Event()
        paint = stuck.live_loop.avatar.paint
        stuck.live_loop.avatar.paint = lambda warped: (release.wait(TEST_TIMEOUT), paint(warped))[1]
        await within(stuck.closed.wait())
        assert stuck.publisher.reason == "stalled"
        await numbers_move(other)
        release.set()
        await server.sessions.close()
        for peer in (one, other):
            await peer.close()


@pytest.mark.parametrize("vanishes", [False, True])
async def test_a_session_ends_when_its_publisher_sends_no_video(vanishes: bool) -> None:
    async with running() as (url, server):
        peer, viewer = Peer(url, "publish"), Peer(url, "view")
        await peer.connect(session="one")
        await viewer.connect(path="/whep/one")
        await viewer.pictures(3)
        session = only(server)
        sender = peer.pc.getSenders()[0]
        if vanishes:  # close its sockets without a DTLS close or RTCP BYE
            for protocol in sender.transport.transport._connection._protocols:
                protocol.transport.abort()
        else:
            sender.replaceTrack(None)
        set_timer(server, silence_timeout=1.0)
        await no_sessions(server)
        assert session.publisher.reason == "no video"
        assert not session.viewers
        for one in (peer, viewer):
            await one.close()


async def test_a_vanished_viewer_is_removed_and_a_watching_one_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ice, "CONSENT_FAILURES", 1_000_000)  # ICE does not end connections here: the server must
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
        async with asyncio.timeout(TEST_TIMEOUT):
            while len(session.viewers) > 1:
                await stays.pictures(1)
        assert list(session.viewers) == [stays.key]
        assert await stays.pictures(2)
        for one in (peer, gone, stays):
            await one.close()


async def test_a_4k_camera_is_scaled_down_before_tracking(monkeypatch: pytest.MonkeyPatch) -> None:
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
        seen: list[tuple[int, ...]] = []
        follow = session.live_loop.avatar.follow

        def watched(image: Any, *given: Any) -> Any:
            seen.append(image.shape)
            return follow(image, *given)

        session.live_loop.avatar.follow = watched
        await until(lambda: len(seen) > 60, "frames were followed beside the flood")
        assert set(seen) == {(480, 640, 3), (360, 640, 3)}  # no frame is tracked at its full size
        await until(lambda: session.status()["face"] == "found", "the face was found")
        await numbers_move(peer)
        flooding.cancel()
        await server.sessions.close()
        await peer.close()


async def test_jumps_of_the_system_clock_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
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


async def test_frames_stay_in_order_with_packet_loss_and_delay() -> None:
    """5 % packet loss each way and 100 ms round trip."""
    async with running() as (url, server):
        peer, link = Peer(url), LossyLink(0.05, 0.05, 0.01)
        offer = [x for x in (await peer.offer()).splitlines(True) if not x.startswith(("a=candidate", "a=end-of"))]
        async with http(url) as client:
            answer = await client.post(
                "/session", content="".join(offer), headers={"Content-Type": "application/sdp"}
            )
        await peer.pc.setRemoteDescription(RTCSessionDescription(await link.redirect(answer.text), "answer"))
        await numbers_move(peer)
        session = only(server)
        newest: list[int] = []
        async with asyncio.timeout(TEST_TIMEOUT):
            while link.lost < 50 or len(newest) < 100:
                await peer.pictures(1)
                if session.live_loop.newest_mark is not None:
                    newest.append(session.live_loop.newest_mark)
        # Lost packets are retransmitted, and frames that wait for them are kept: frames stay in order. The delay is
        # measured by `python -m tests.soak`.
        assert all((later - sooner) % 2048 < 1024 for sooner, later in pairwise(newest))
        assert len(set(newest)) > 20
        await numbers_move(peer)
        await server.sessions.close()
        link.close()
        await peer.close()


@BOTH_HOSTS
async def test_draining_notifies_clients_and_waits_for_them(host_settings: dict[str, Any]) -> None:
    async with running(**host_settings) as (url, server), http(url) as client:
        peer = Peer(url)
        await peer.connect()
        await peer.pictures(3)
        async with channel(url, f"/control/{peer.key}") as socket:
            # Longer than this test; another test below covers the end of the timeout.
            stopping = asyncio.create_task(server.sessions.drain(TEST_TIMEOUT))
            await until(lambda: server.sessions.draining, "the server stopped admitting sessions")
            assert (await client.get("/readyz")).status_code == 503
            assert (await client.get("/healthz")).status_code == 200
            refused = await Peer(url).connect()
            assert refused.status_code == 503
            assert refused.headers["retry-after"]
            received: list[str] = []
            async with asyncio.timeout(TEST_TIMEOUT):
                while "reconnect" not in received:
                    received.append(json.loads(await socket.recv())["type"])
            assert only(server).live  # until it leaves or the timeout ends it
            assert not stopping.done()
            assert (await client.delete(peer.location)).status_code == 200
            await stopping
        assert not server.sessions.by_id
        await peer.close()


async def test_draining_ends_sessions_after_its_timeout() -> None:
    async with running() as (url, server):
        peer = Peer(url)
        await peer.connect()
        await peer.pictures(3)
        await server.sessions.drain(0.1)
        assert not server.sessions.by_id
        await peer.close()


async def test_a_pending_change_of_portrait_ends_with_its_session(monkeypatch: pytest.MonkeyPatch) -> None:
    """Otherwise a server that stops would wait for the control channel that waits for it."""
    monkeypatch.setattr("avatar_stream.server.session.session.CHANGE_PAUSE_FACTOR", 1e6)
    async with running() as (url, server):
        peer = Peer(url)
        await peer.connect()
        await peer.pictures(3)
        session = only(server)
        await within(session.handle(ChoosePortrait("noor")))
        pending = asyncio.create_task(session.handle(ChoosePortrait("robin")))
        await session.end("asked to")
        with pytest.raises(NotFound):
            await within(pending)
        await no_sessions(server)
        await peer.close()


@pytest.mark.parametrize("signals", [1, 2])
async def test_a_signal_drains_the_process_and_a_second_one_ends_it(signals: int) -> None:
    with RunningServer("--engine", "warp", "--drain", "600" if signals == 2 else "0.5") as server:
        url = server.url.rstrip("/")
        peer = Peer(url)
        await peer.connect()
        await peer.pictures(3)
        async with channel(url, f"/control/{peer.key}") as socket:
            server.process.send_signal(signal.SIGTERM if signals == 1 else signal.SIGINT)  # Ctrl+C, twice
            received: list[str] = []
            async with asyncio.timeout(TEST_TIMEOUT):
                while "reconnect" not in received:
                    received.append(json.loads(await socket.recv())["type"])
            if signals == 2:
                async with http(url) as client:  # still draining, for up to ten minutes
                    assert (await client.get("/healthz")).status_code == 200
                server.process.send_signal(signal.SIGINT)
            await until(lambda: server.process.poll() is not None, "the process ended")
        await peer.close()
    assert "Traceback" not in server.output
