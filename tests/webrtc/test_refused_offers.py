"""Offers that aiortc refuses after it has begun: they leave no sockets, and the log has no traceback."""

import asyncio
import gc
import logging
import os
import re

import psutil
import pytest
from aiortc import RTCPeerConnection

from avatar_stream.errors import BadOffer
from avatar_stream.media.broadcast import Broadcast
from avatar_stream.server.rtc.peer import Peer
from avatar_stream.server.rtc.signalling import Role
from avatar_stream.settings import Settings
from tests.waiting import until

INVALID_CHANGES = [
    (r"a=mid:0", "a=mid:1"),
    (r"a=setup:actpass", "a=setup:holdconn"),
    (r"a=setup:actpass", ""),
    (r"apt=\d+", "apt=x"),
    (r"a=fingerprint:sha-256 \S+", "a=fingerprint:sha-256"),
    (r"a=ice-pwd:\S+", "a=ice-pwd:"),
    (r"a=ssrc-group:FID \d+ \d+", "a=ssrc-group:FID x y"),
    (r"a=extmap:\d+", "a=extmap:x"),
    (r"m=audio \d+", "m=audio -1"),
    (r"a=group:BUNDLE 0 1", "a=group:BUNDLE 1"),
    (r"a=group:BUNDLE 0 1\r\n", ""),
]


def sockets() -> int:
    return len(psutil.Process(os.getpid()).net_connections("udp"))


async def test_a_refused_offer_leaves_no_sockets_or_tracebacks(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    pc = RTCPeerConnection()
    for kind in ("video", "audio"):
        pc.addTransceiver(kind, direction="sendrecv" if kind == "video" else "sendonly")
    await pc.setLocalDescription(await pc.createOffer())
    offer = pc.localDescription.sdp
    before, refused = sockets(), 0
    for pattern, change in INVALID_CHANGES:
        peer = Peer(Role.BOTH, "127.0.0.1", "me", Settings())
        broadcast = Broadcast(lambda: None, 25)
        try:
            await peer.answer(re.sub(pattern, change, offer), broadcast, lambda kind, frame: None)
        except BadOffer:
            refused += 1
        peer.end("refused")
        await peer.run()
        broadcast.close()
    assert refused > 3
    await asyncio.sleep(0)
    gc.collect()  # asyncio logs a task's unretrieved exception when the task is collected
    await until(lambda: sockets() <= before, "all ports were closed")
    await pc.close()
    assert not [record for record in caplog.records if record.exc_info or record.levelno >= logging.ERROR]
