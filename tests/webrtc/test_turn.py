"""coturn between the peers: relay only, over UDP and TCP, with credentials from our server."""

import asyncio
import contextlib
import re
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from aioice import stun, turn
from aiortc import RTCIceServer, RTCIceTransportPolicy

from avatar_stream.server.rtc.turn import ice_servers
from tests.waiting import TEST_TIMEOUT, http, wait_until, within
from tests.webrtc.peers import Peer, only, running

pytestmark = pytest.mark.webrtc
TURN_SECRET = "a-secret-of-two"
ROOT = Path(__file__).parent.parent.parent


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@contextlib.contextmanager
def coturn(folder: Path, *more: str) -> Iterator[int]:
    """``turnserver`` on loopback, with the rules of docker/turnserver.conf and this test's addresses."""
    program = shutil.which("turnserver")
    assert program, "no coturn found: apt-get install -y coturn"
    port = free_port()
    rules = [
        line
        for line in (ROOT / "docker" / "turnserver.conf").read_text().splitlines()
        if line and not line.startswith(("#", "listening-port", "realm", "min-port", "max-port"))
    ]
    config = folder / "turnserver.conf"
    own = [f"listening-port={port}", "listening-ip=127.0.0.1", "relay-ip=127.0.0.1", "realm=test", "cli-port=0"]
    own += [
        f"static-auth-secret={TURN_SECRET}",
        f"pidfile={folder}/pid",
        f"userdb={folder}/db",
        "allow-loopback-peers",
    ]
    config.write_text("\n".join([*rules, *own, *more]))
    log = (folder / "log").open("w")
    process = subprocess.Popen([program, "-c", str(config), "--log-file=stdout"], stdout=log, stderr=log)

    def listens() -> bool:
        assert process.poll() is None, (folder / "log").read_text()
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), TEST_TIMEOUT):
            return True
        return False

    try:
        wait_until(listens, "coturn listened")
        yield port
    finally:
        process.terminate()
        try:
            process.wait(TEST_TIMEOUT)
        finally:
            process.kill()
            log.close()


def first_turn_server(links: list[str]) -> RTCIceServer:
    """The first TURN server of Link headers, as a client parses it."""
    found = re.match(r'<([^>]+)>; rel="ice-server"; username="([^"]+)"; credential="([^"]+)"', links[0])
    assert found
    return RTCIceServer(urls=found[1], username=found[2], credential=found[3])


@pytest.mark.parametrize("transport", ["udp", "tcp"])
async def test_a_session_through_the_relay_alone(transport: str, tmp_path: Path) -> None:
    # The relay's peer is the server on this machine, whose addresses the shipped rules forbid as private.
    with coturn(tmp_path, "allowed-peer-ip=127.0.0.1", f"allowed-peer-ip={own_address()}") as port:
        url_of_turn = f"turn:127.0.0.1:{port}?transport={transport}"
        async with running(turn=(url_of_turn,), turn_secret=TURN_SECRET) as (url, server):
            async with http(url) as client:
                links = (await client.options("/session")).headers.get_list("link")
            peer = Peer(url, iceServers=[first_turn_server(links)], iceTransportPolicy=RTCIceTransportPolicy.RELAY)
            opened = await peer.connect()
            assert opened.status_code == 201
            candidates = re.findall(r"^a=candidate:[^\r\n]*typ (\w+)", peer.pc.localDescription.sdp, re.MULTILINE)
            assert set(candidates) == {"relay"}
            assert len(await peer.pictures(20)) == 20
            assert only(server).live
            await server.sessions.close()
            await peer.close()


async def test_expired_and_forged_credentials_are_refused(tmp_path: Path) -> None:
    with coturn(tmp_path) as port:
        url = f"turn:127.0.0.1:{port}?transport=udp"

        async def relayed(server: Any) -> bool:
            peer = Peer(
                "",
                iceServers=[RTCIceServer(urls=url, username=server.username, credential=server.credential)],
                iceTransportPolicy=RTCIceTransportPolicy.RELAY,
            )
            sdp = await within(peer.offer())
            await peer.close()
            return "typ relay" in sdp

        (good,) = ice_servers((url,), TURN_SECRET, 5, time.time())
        (old,) = ice_servers((url,), TURN_SECRET, 5, time.time() - 3600)
        (forged,) = ice_servers((url,), "another secret", 5, time.time())
        assert await relayed(good)
        assert not await relayed(old)
        assert not await relayed(forged)


async def test_turn_relays_to_no_private_address(tmp_path: Path) -> None:
    """ASVS 17.1.1: with the shipped configuration a relay does not reach its own private network."""
    with coturn(tmp_path) as port:
        url_of_turn = f"turn:127.0.0.1:{port}?transport=udp"
        async with running(turn=(url_of_turn,), turn_secret=TURN_SECRET, connect_timeout=3.0) as (url, server):
            async with http(url) as client:
                links = (await client.options("/session")).headers.get_list("link")
            peer = Peer(url, iceServers=[first_turn_server(links)], iceTransportPolicy=RTCIceTransportPolicy.RELAY)
            await peer.connect()
            session = only(server)
            await within(session.closed.wait())
            assert session.publisher.reason == "never connected"
            await peer.close()


def own_address() -> str:
    """The address of this machine's host candidates."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe, contextlib.suppress(OSError):
        probe.connect(("10.255.255.255", 1))
        address: str = probe.getsockname()[0]
        return address
    return "127.0.0.1"


async def test_turn_relays_to_public_addresses_only(tmp_path: Path) -> None:
    """Requests a permission for each address, which coturn grants or refuses."""
    addresses = {
        "93.184.216.34": True,
        "8.8.8.8": True,
        "10.0.0.1": False,
        "100.64.0.1": False,
        "127.0.0.1": False,
        "169.254.169.254": False,
        "172.20.0.2": False,
        "192.168.1.1": False,
        "198.51.100.7": False,
        "240.0.0.1": False,
    }
    with coturn(tmp_path) as port:
        (server,) = ice_servers((f"turn:127.0.0.1:{port}",), TURN_SECRET, 5, time.time())
        transport, _ = await turn.create_turn_endpoint(
            asyncio.DatagramProtocol,
            server_addr=("127.0.0.1", port),
            username=server.username,
            password=server.credential,
        )
        client = transport._TurnTransport__inner_protocol  # type: ignore[attr-defined]
        granted = {}
        for number, address in enumerate(addresses):
            try:
                await client.channel_bind(0x4000 + number, (address, 5000))
                granted[address] = True
            except stun.TransactionFailed as error:
                granted[address] = error.response.attributes["ERROR-CODE"][0] != 403
        assert granted == addresses
        transport.close()
