"""An aiortc peer and the server, over HTTP, WebSocket and loopback UDP."""

import asyncio
import gc
import json
import threading
from typing import Any

import numpy as np
import pytest

from avatar_stream.face.tracked_face import TrackedFace
from avatar_stream.rigs.face_packet import pack
from tests.unit.faces import face
from tests.waiting import TEST_TIMEOUT, http, until, within
from tests.webrtc.peers import BOTH_HOSTS, SDP_HEADERS, Peer, channel, no_sessions, running

pytestmark = pytest.mark.webrtc


@BOTH_HOSTS
async def test_send_camera_and_receive_avatar(host_settings: dict[str, Any]) -> None:
    async with running(**host_settings) as (url, server):
        peer = Peer(url)
        response = await peer.connect()
        assert response.status_code == 201
        assert response.headers["content-type"] == "application/sdp"
        assert "x-google-start-bitrate" in response.text
        assert "a=sendrecv" in response.text
        pictures, numbers = await peer.avatars(50)
        assert {picture.shape for picture in pictures} == {(256, 256, 3)}
        assert numbers == sorted(numbers)  # never an older frame after a newer one
        moved = np.abs(pictures[-1].astype(int) - pictures[0]).mean()
        assert moved > 0.5
        async with http(url) as client:
            assert (await client.delete(peer.location)).status_code == 200
            assert (await client.delete(peer.location)).status_code == 404
        await no_sessions(server)
        await peer.close()


@BOTH_HOSTS
async def test_control_channel(host_settings: dict[str, Any]) -> None:
    async with running(**host_settings) as (url, server):
        peer = Peer(url)
        await peer.connect("noor")
        async with channel(url, f"/control/{peer.key}") as socket:

            async def ask(message: object) -> dict[str, Any]:
                await socket.send(json.dumps(message) if not isinstance(message, str) else message)
                while True:
                    answer: dict[str, Any] = json.loads(await within(socket.recv()))
                    if answer["type"] != "status":
                        return answer

            before = (await peer.avatars(20))[0][-1]
            good: list[object] = [
                {"type": "portrait", "id": "robin"},
                {"type": "gain", "value": 1.4},
                {"type": "keep", "value": 0.6},
                {"type": "mirror", "value": True},
                {"type": "neutral"},
            ]
            for message in good:
                assert await ask(message) == {"type": "done"}
            change = 0.0
            async with asyncio.timeout(TEST_TIMEOUT):
                while change <= 6:  # another portrait, once it is there
                    (after,) = await peer.pictures(1)
                    change = np.abs(after.astype(int) - before).mean()
            bad: list[tuple[object, str]] = [
                ({"type": "portrait", "id": "../../etc/passwd"}, "choose it again"),
                ("nonsense", "JSON"),
                ({"type": "gain", "value": 99}, "0 to 2"),
                ({"type": "keep", "value": -1}, "0 to 1"),
            ]
            for message, word in bad:
                answer = await ask(message)
                assert answer["type"] == "error"
                assert word in answer["message"]
            # A binary message is a face packet; only an invalid one is answered.
            await socket.send(pack(TrackedFace(face(jawOpen=0.4))))
            await socket.send(pack(TrackedFace(None)))
            await socket.send(b"\1\2\3")
            answer = json.loads(await within(socket.recv()))
            while answer["type"] == "status":
                answer = json.loads(await within(socket.recv()))
            assert answer["type"] == "error"
            assert "a packet of a face" in answer["message"]
            status: dict[str, Any] = {"type": ""}
            async with asyncio.timeout(TEST_TIMEOUT):
                while status["type"] != "status" or status["face"] != "found" or not status["fps"]:
                    status = json.loads(await socket.recv())
            assert status["portrait"] == "robin"
        await peer.close()
        await no_sessions(server)


async def test_the_avatars_size_is_independent_of_the_cameras() -> None:
    async with running() as (url, server):
        peer = Peer(url)
        await peer.connect()
        await peer.pictures(10)
        for scale in (0.5, 1.5, 0.76):
            peer.camera.scale = scale
            pictures = await peer.pictures(25)
            assert {picture.shape for picture in pictures} == {(256, 256, 3)}
            await peer.avatars(1)
        await server.sessions.close()
        await peer.close()


async def test_a_full_server_refuses_until_a_session_ends() -> None:
    async with running(sessions=1) as (url, server):
        first, second = Peer(url), Peer(url)
        await first.connect()
        await first.pictures(5)
        response = await second.connect()
        assert response.status_code == 503
        assert response.headers["retry-after"]
        assert "places are taken" in response.json()["error"]
        async with http(url) as client:
            await client.delete(first.location)
        await no_sessions(server)
        third = Peer(url)
        assert (await third.connect()).status_code == 201
        await third.pictures(3)
        for peer in (first, second, third):
            await peer.close()


async def test_two_sessions_show_their_own_portraits() -> None:
    async with running() as (url, server):
        peers = [Peer(url), Peer(url)]
        await peers[0].connect("noor")
        await peers[1].connect("robin")
        one, two = await asyncio.gather(*(peer.pictures(20) for peer in peers))
        assert np.abs(one[-1].astype(int) - two[-1]).mean() > 6
        assert len(server.sessions.by_id) == 2
        await server.sessions.close()
        await no_sessions(server)
        for peer in peers:
            await peer.close()


async def test_a_session_whose_peer_never_connects_ends() -> None:
    async with running(connect_timeout=1.0) as (url, server):
        peer = Peer(url)
        async with http(url) as client:
            response = await client.post("/session", content=await peer.offer(), headers=SDP_HEADERS)
        assert response.status_code == 201
        assert len(server.sessions.by_id) == 1
        await no_sessions(server)
        await peer.close()


@BOTH_HOSTS
async def test_a_session_ends_after_its_control_channel_closes(host_settings: dict[str, Any]) -> None:
    async with running(control_timeout=0.5, **host_settings) as (url, server):
        peer = Peer(url)
        await peer.connect()
        await peer.pictures(3)
        async with channel(url, f"/control/{peer.key}") as socket:
            await socket.recv()
        await no_sessions(server)
        await peer.close()


async def test_ended_sessions_leave_no_tasks_or_threads() -> None:
    async with running() as (url, server):

        async def visit() -> None:
            peer = Peer(url)
            await peer.connect()
            await peer.pictures(3)
            async with http(url) as client:
                await client.delete(peer.location)
            await no_sessions(server)
            await peer.close()

        def none_left() -> bool:
            gc.collect()
            return asyncio.all_tasks() <= before and not any(
                thread.name.startswith(("follow", "draw")) for thread in threading.enumerate()
            )

        before = asyncio.all_tasks()
        for _ in range(4):
            await visit()
        await until(none_left, "tasks and threads of the sessions ended")


@pytest.mark.parametrize(
    ("content", "kind", "status", "word"),
    [
        (b"hello", "application/sdp", 400, "v=0"),
        (b"v=0\r\n", "application/sdp", 400, "ice-ufrag"),
        (b"\xff\xfe", "application/sdp", 400, "UTF-8"),
        (b"", "application/sdp", 400, "empty"),
        (b"v=0\r\n" + b"a=x\r\n" * 20_000, "application/sdp", 413, "larger"),
        (b"v=0", "application/json", 415, "application/sdp"),
    ],
)
async def test_malformed_offers_are_refused(content: bytes, kind: str, status: int, word: str) -> None:
    async with running() as (url, server), http(url) as client:
        response = await client.post("/session", content=content, headers={"Content-Type": kind})
        assert response.status_code == status
        assert word in response.json()["error"]
        assert not server.sessions.by_id


@BOTH_HOSTS
async def test_offers_with_an_invalid_part(host_settings: dict[str, Any]) -> None:
    async with running(**host_settings) as (url, server), http(url) as client:
        peer = Peer(url)
        sdp = await peer.offer()
        for broken, status in (
            (sdp.replace("a=setup:", "a=setup:x"), 400),
            (sdp.replace("UDP/TLS/RTP/SAVPF", "FOO"), 201),  # neither the server nor aiortc reads the profile
            (sdp[:-700], 400),  # without the ICE and DTLS lines, which are last
        ):
            response = await client.post("/session", content=broken, headers=SDP_HEADERS)
            assert response.status_code == status
        response = await client.post("/session?portrait=nobody", content=sdp, headers=SDP_HEADERS)
        assert response.status_code == 404
        await server.sessions.close()
        await peer.close()


async def test_portraits_over_http() -> None:
    async with running() as (url, _), http(url) as client:
        listed = (await client.get("/identities")).json()
        assert len(listed["identities"]) >= 4
        picture = await client.get(f"/identities/{listed['default']}")
        assert picture.headers["content-type"] == "image/jpeg"
        added = await client.post("/identities", content=picture.content)
        assert added.status_code == 201
        assert (await client.get(added.headers["location"])).status_code == 200
        for content, status in ((b"text", 422), (b"", 400), (b"x" * (25 * 1024 * 1024), 413)):
            assert (await client.post("/identities", content=content)).status_code == status
        assert (await client.get("/identities/unknown")).status_code == 404
