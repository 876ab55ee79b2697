"""Which datagrams the packet filter passes to aioice and aiortc."""

import asyncio
import os
import random
import socket
from types import SimpleNamespace
from typing import Any

import pytest
from aioice import stun

from avatar_stream.media.aiortc_gaps import MAX_DROPOUT, SequenceGuard
from avatar_stream.media.packet_filter import (
    MAX_SSRCS,
    RTP_RATE_LIMIT,
    DatagramKind,
    PacketFilter,
    datagram_kind,
    read_stun,
)
from tests.port import ICE_PASSWORD, PEER_ADDRESS, UNKNOWN_ADDRESS, Port, connectivity_check
from tests.waiting import until


def rtp(source: int = 1, number: int = 0) -> bytes:
    return bytes([0x80, 96]) + number.to_bytes(2, "big") + bytes(4) + source.to_bytes(4, "big") + os.urandom(40)


def test_packets_are_classified_by_their_first_bytes() -> None:
    assert datagram_kind(connectivity_check()) is DatagramKind.STUN
    assert datagram_kind(bytes([22, 254, 253]) + bytes(8) + (4).to_bytes(2, "big") + b"abcd") is DatagramKind.DTLS
    assert datagram_kind(rtp()) is DatagramKind.RTP
    assert datagram_kind(bytes([0x80, 200]) + bytes(40)) is DatagramKind.RTCP
    none = [b"", b"\x00", b"\x80", bytes(19), bytes(20), bytes([64] * 30), bytes([0x80, 200]) + bytes(10)]
    none += [bytes([22, 254, 253]) + bytes(8) + (400).to_bytes(2, "big") + b"abcd", bytes([0x80] * 3000)]
    assert {datagram_kind(data) for data in none} == {None}


def test_arbitrary_datagrams_do_not_raise_and_invalid_ones_are_dropped() -> None:
    port, chance = Port(), random.Random(1)
    whole = connectivity_check()
    datagrams = [b"", *(whole[:size] for size in range(len(whole))), *(bytes([first]) for first in range(256))]
    datagrams += [bytes([first]) + chance.randbytes(chance.randrange(60)) for first in range(256) for _ in range(8)]
    for data in datagrams:
        for address in (UNKNOWN_ADDRESS, PEER_ADDRESS):
            port.datagram_received(data, address)
    assert port.checks == []
    assert all(datagram_kind(data) in (DatagramKind.DTLS, DatagramKind.RTP, DatagramKind.RTCP) for data in port.data)
    assert port.filter.dropped["malformed"] > 700


@pytest.mark.parametrize("name", ["PRIORITY", "FINGERPRINT", "ICE-CONTROLLING", "LIFETIME", "XOR-MAPPED-ADDRESS"])
@pytest.mark.parametrize("size", [0, 1, 2, 3, 5, 9])
def test_attributes_of_a_wrong_length_are_malformed(name: str, size: int) -> None:
    kind = stun.ATTRIBUTES_BY_NAME[name][0]
    body = kind.to_bytes(2, "big") + size.to_bytes(2, "big") + bytes(size + -size % 4)
    data = b"\x00\x01" + len(body).to_bytes(2, "big") + bytes.fromhex("2112a442") + bytes(12) + body
    assert read_stun(data) is None


def test_only_connectivity_checks_of_this_peer_pass() -> None:
    port = Port()
    port.datagram_received(connectivity_check(), UNKNOWN_ADDRESS)  # a valid check from a new address passes
    assert len(port.checks) == 1
    others = [
        connectivity_check("wxyz:efgh"),
        connectivity_check(password="b" * 22),
        connectivity_check("wxyz:abcd:"),
    ]
    nobody_asked = stun.Message(stun.Method.BINDING, stun.Class.RESPONSE)
    nobody_asked.attributes["XOR-MAPPED-ADDRESS"] = PEER_ADDRESS
    nobody_asked.add_message_integrity(ICE_PASSWORD.encode())
    for data in (*others, bytes(nobody_asked)):
        port.datagram_received(data, PEER_ADDRESS)
    assert len(port.checks) == 1
    assert port.filter.dropped == {"foreign": 4}
    port.transactions[nobody_asked.transaction_id] = object()
    port.datagram_received(bytes(nobody_asked), PEER_ADDRESS)
    assert len(port.checks) == 2


def test_ffmpegs_connectivity_checks_pass() -> None:
    """Its answers have no address, and before 8.1 its requests no priority: aioice needs only the latter."""
    port = Port()
    answer = stun.Message(stun.Method.BINDING, stun.Class.RESPONSE)
    answer.add_message_integrity(ICE_PASSWORD.encode())
    port.transactions[answer.transaction_id] = object()
    port.datagram_received(bytes(answer), PEER_ADDRESS)
    assert port.checks == [bytes(answer)]
    bare = stun.Message(stun.Method.BINDING, stun.Class.REQUEST, attributes={"USERNAME": "abcd:efgh"})
    bare.add_message_integrity(ICE_PASSWORD.encode())
    port.datagram_received(bytes(bare), PEER_ADDRESS)
    seen = read_stun(port.checks[1])
    assert seen
    assert seen.attributes["PRIORITY"] == 0x6EFFFFFF
    assert seen.check_message_integrity(ICE_PASSWORD.encode())
    assert not port.filter.dropped


def test_dtls_and_media_from_unknown_addresses_are_dropped() -> None:
    port = Port()
    for _ in range(5):
        port.datagram_received(rtp(), UNKNOWN_ADDRESS)
    assert (port.data, port.heard) == ([], 0)
    port.datagram_received(rtp(), PEER_ADDRESS)
    assert (len(port.data), port.heard) == (1, 1)
    assert port.filter.dropped == {"foreign": 5}


def test_floods_are_limited_without_excluding_the_peer() -> None:
    port = Port()
    for _ in range(20_000):
        port.datagram_received(connectivity_check("abcd:efgh", "b" * 22), UNKNOWN_ADDRESS)
        port.datagram_received(rtp(), PEER_ADDRESS)
        port.datagram_received(bytes([0x80, 200]) + bytes(40), PEER_ADDRESS)
    assert port.filter.dropped["too many"] > 30_000
    before = len(port.checks)
    port.datagram_received(connectivity_check(), PEER_ADDRESS)  # the peer's checks have their own limit
    assert len(port.checks) == before + 1


def test_sources_are_limited_and_only_authenticated_ones_count() -> None:
    port = Port()
    for source in range(50):
        port.datagram_received(rtp(source), PEER_ADDRESS)
    assert len(port.data) == 50  # none is authenticated
    for source in range(MAX_SSRCS):
        port.filter.authenticated(source.to_bytes(4, "big"))
    port.datagram_received(rtp(MAX_SSRCS), PEER_ADDRESS)
    assert len(port.data) == 50
    port.datagram_received(rtp(MAX_SSRCS - 1), PEER_ADDRESS)
    assert len(port.data) == 51


def test_a_sequence_jump_is_accepted_if_the_next_packet_follows() -> None:
    guard = SequenceGuard()
    assert all(guard.admits(number % 65536) for number in range(65_500, 65_600))
    assert guard.admits(60)  # late
    assert not guard.admits(30_000)
    assert guard.admits(65)  # the jump was not confirmed
    assert not guard.admits(30_000)
    assert guard.admits(30_001)
    assert guard.admits(30_001 + MAX_DROPOUT - 1)
    chance = random.Random(1)
    assert sum(guard.admits(chance.randrange(65536)) for _ in range(10_000)) < 300


async def test_reading_pauses_during_a_flood_and_resumes() -> None:
    """Most of the flood never reaches Python, and a paused port is read again later."""
    port = Port()

    class Protocol(asyncio.DatagramProtocol):
        local_candidate, transactions = port.local_candidate, port.transactions

        def connection_made(self, transport: Any) -> None:
            self.transport = transport

    loop = asyncio.get_running_loop()
    transport, protocol = await loop.create_datagram_endpoint(Protocol, local_addr=("127.0.0.1", 0))
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as peer:
        peer.bind(("127.0.0.1", 0))
        peer.connect(transport.get_extra_info("sockname"))
        port._nominated = {1: SimpleNamespace(remote_addr=peer.getsockname())}
        port._protocols = [protocol]  # type: ignore[list-item]
        filter = PacketFilter(port, lambda: None)
        sent = 0
        while not filter.dropped["too many"] or sent < 10_000:
            for _ in range(200):
                peer.send(rtp())
            sent += 200
            await asyncio.sleep(0)
        assert len(port.data) >= RTP_RATE_LIMIT[1]
        assert len(port.data) + filter.dropped["too many"] < sent
        last = rtp(77)

        def comes() -> bool:
            peer.send(last)
            return last in port.data

        await until(comes, "what is sent after the flood is read")
    transport.close()
