"""Datagrams from unknown addresses to a session's port (ASVS 5.0, 17.2.3 to 17.2.6)."""

import asyncio
import contextlib
import os
import random
import re
from typing import Any

import pytest
from aiortc import RTCSessionDescription
from aiortc.rtcdtlstransport import SRTP_PROFILES, RTCCertificate
from OpenSSL import SSL

from tests.waiting import http
from tests.webrtc.peers import SDP_HEADERS, Peer, no_sessions, only, running

pytestmark = pytest.mark.webrtc


def client_hello() -> bytes:
    """A valid DTLS ClientHello."""
    client = SSL.Connection(SSL.Context(SSL.DTLS_METHOD), None)
    client.set_connect_state()
    with contextlib.suppress(SSL.WantReadError):
        client.do_handshake()
    return bytes(client.bio_read(4096))


def ports(answer: str) -> list[tuple[str, int]]:
    """The server's addresses and UDP ports in an SDP answer."""
    found = re.findall(r"^a=candidate:\S+ \d+ udp \d+ (\d+\.\d+\.\d+\.\d+) (\d+) typ host", answer, re.MULTILINE)
    return [(host, int(port)) for host, port in found]


async def send_all(to: tuple[str, int], datagrams: list[bytes]) -> list[bytes]:
    """Send from a new socket; returns what comes back."""
    loop, heard = asyncio.get_running_loop(), []

    class Stranger(asyncio.DatagramProtocol):
        def datagram_received(self, data: bytes, addr: Any) -> None:
            heard.append(data)

    transport, _ = await loop.create_datagram_endpoint(Stranger, remote_addr=to)
    for number, datagram in enumerate(datagrams):
        transport.sendto(datagram)
        if number % 50 == 49:
            await asyncio.sleep(0.005)
    await asyncio.sleep(0.3)
    transport.close()
    return heard


async def connected(url: str) -> tuple[Peer, str]:
    """A connected peer that gets pictures, and the SDP answer."""
    peer = Peer(url)
    async with http(url) as client:
        response = await client.post("/session", content=await peer.offer(), headers=SDP_HEADERS)
    await peer.pc.setRemoteDescription(RTCSessionDescription(response.text, "answer"))
    await peer.pictures(10)
    return peer, response.text


async def test_packets_that_are_not_srtp_are_dropped() -> None:
    async with running() as (url, server):
        peer, answer = await connected(url)
        session = only(server)
        chance = random.Random(1)
        ssrc, made = bytes(4), []
        for number in range(20_000):
            head = (
                bytes([0x80, 96 if number % 3 else 200]) + (number % 65536).to_bytes(2, "big") + os.urandom(4) + ssrc
            )
            made.append(
                head[: chance.randrange(1, 13)] if number % 5 == 0 else head + os.urandom(chance.randrange(0, 200))
            )
        before = session.live_loop.dropped + session.broadcast.sent
        flood = asyncio.gather(*(send_all(to, made) for to in ports(answer)[:1]))
        pictures = asyncio.create_task(peer.pictures(25))
        await flood
        assert len(await pictures) == 25
        assert session.live
        assert session.live_loop.dropped + session.broadcast.sent > before
        await server.sessions.close()
        await peer.close()


async def test_a_clienthello_from_another_address_is_ignored() -> None:
    """The first ClientHello must not win over the peer that ICE validates (17.2.6)."""
    async with running() as (url, server), http(url) as client:
        peer = Peer(url)
        # The peer is the DTLS client, so that the server waits for a ClientHello.
        offer = (await peer.offer()).replace("a=setup:actpass", "a=setup:active")
        response = await client.post("/session", content=offer, headers=SDP_HEADERS)
        assert "a=setup:passive" in response.text
        session = only(server)
        targets = ports(response.text)
        assert targets

        async def send_hellos() -> None:
            for to in targets:
                assert await send_all(to, [client_hello()] * 200) == []

        await send_hellos()  # before the peer connects
        joining = asyncio.create_task(peer.pc.setRemoteDescription(RTCSessionDescription(response.text, "answer")))
        for _ in range(5):  # while it connects
            await send_hellos()
        await joining
        assert len(await peer.pictures(5)) == 5
        await send_hellos()  # while it is connected
        assert len(await peer.pictures(10)) == 10
        assert session.live
        await server.sessions.close()
        await no_sessions(server)
        await peer.close()


@pytest.mark.parametrize(("version", "spoken"), [(0xFEFF, False), (0xFEFD, True)])  # DTLS 1.0 and 1.2
def test_dtls_1_2_and_nothing_older(version: int, spoken: bool) -> None:
    certificate = RTCCertificate.generateCertificate()
    server = SSL.Connection(certificate._create_ssl_context(SRTP_PROFILES), None)
    server.set_accept_state()
    context = SSL.Context(SSL.DTLS_METHOD)
    context.use_certificate(certificate._cert)
    context.use_privatekey(certificate._key)
    context.set_min_proto_version(version)
    context.set_max_proto_version(version)
    client = SSL.Connection(context, None)
    client.set_connect_state()
    done = False
    for _ in range(10):
        for one, other in ((client, server), (server, client)):
            with contextlib.suppress(SSL.WantReadError, SSL.Error):
                one.do_handshake()
                done = done or one is client
            with contextlib.suppress(SSL.WantReadError):
                while True:
                    other.bio_write(one.bio_read(4096))
    assert done is spoken
    if spoken:
        assert (client.get_cipher_name() or "").startswith("ECDHE-ECDSA-")
