"""Cameras with too large pictures, and peers that leave while many frames wait to be decoded."""

import asyncio
from typing import Any

import pytest

from tests.waiting import until
from tests.webrtc.peers import Peer, no_sessions, only, running

pytestmark = pytest.mark.webrtc


async def test_a_too_large_camera_gets_a_notice_until_it_sends_smaller_pictures() -> None:
    async with running() as (url, server):
        peer = Peer(url)
        peer.camera.scale = 4
        response = await peer.connect()
        assert "max-fs=14400" in response.text
        session = only(server)
        await until(lambda: session.status()["notice"], "the status says that the camera is too large")
        assert "2560 x 1920" in session.status()["notice"]
        assert session.live_loop.newest_mark is None
        peer.camera.scale = 1
        await peer.avatars(3)
        assert session.status()["notice"] == ""
        await peer.close()


async def test_a_leaving_peer_does_not_block_the_event_loop(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing waits for the thread of a decoder that hangs."""
    import threading

    from avatar_stream.media import decoding

    given_up = threading.Event()

    class Stuck:
        codec: Any = type("Codec", (), {})()

        def decode(self, encoded: Any) -> list[Any]:
            given_up.wait()
            return []

    monkeypatch.setattr(decoding, "get_decoder", lambda codec: Stuck())
    async with running() as (url, server):
        peer = Peer(url)
        await peer.connect()
        session = only(server)
        (decoder,) = session.publisher._decoders
        await until(lambda: len(decoder._queue) > 5, "frames wait for the decoder")
        turns = 0

        async def turn() -> None:
            nonlocal turns
            while True:
                await asyncio.sleep(0)
                turns += 1

        turning = asyncio.create_task(turn())
        await peer.close()
        await no_sessions(server)
        assert not given_up.is_set()  # the thread still hangs, and the session is gone
        assert turns > 100
        assert not decoder._queue
        turning.cancel()
        given_up.set()
