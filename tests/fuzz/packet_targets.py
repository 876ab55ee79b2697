"""Datagrams on a media port, as functions of bytes that may raise nothing."""

from collections.abc import Callable
from typing import Final

from aioice import stun

from avatar_stream.media.packet_filter import MAX_DATAGRAM_BYTES, DatagramKind, datagram_kind, read_stun
from avatar_stream.media.picture_size import h264_size, has_h264_key_frame, vp8_size
from tests.port import ICE_PASSWORD, PEER_ADDRESS, UNKNOWN_ADDRESS, Port, connectivity_check

DATAGRAM_SEPARATOR: Final = b"\xff--\xff"
SIGNATURE_BYTES: Final = 8 + 24  # FINGERPRINT and MESSAGE-INTEGRITY, which signing adds
REQUIRED_ATTRIBUTES: Final = ("USERNAME", "PRIORITY", "MESSAGE-INTEGRITY")


def datagram(data: bytes) -> None:
    """Several datagrams to one port, from the peer and an unknown address; STUN also with a valid signature."""
    port = Port()
    for one in data.split(DATAGRAM_SEPARATOR):
        for address in (UNKNOWN_ADDRESS, PEER_ADDRESS):
            for sent in (one, signed(one)):
                port.datagram_received(sent, address)
    assert all(
        datagram_kind(passed) in (DatagramKind.DTLS, DatagramKind.RTP, DatagramKind.RTCP) for passed in port.data
    )
    for check in port.checks:
        message = stun.parse_message(check)
        assert message.message_class is not stun.Class.REQUEST or all(
            name in message.attributes for name in REQUIRED_ATTRIBUTES
        )


def signed(data: bytes) -> bytes:
    """A STUN message signed with the peer's password; anything else unchanged."""
    message = read_stun(data)
    if message is None or len(data) > MAX_DATAGRAM_BYTES - SIGNATURE_BYTES:
        return data
    message.add_message_integrity(ICE_PASSWORD.encode())
    return bytes(message)


def coded_picture(data: bytes) -> None:
    """Headers of coded pictures, from which sizes are read before decoding."""
    has_h264_key_frame(data)
    for size in (vp8_size(data), h264_size(data)):
        assert size is None or min(size) >= 0


TARGETS: Final[dict[str, Callable[[bytes], None]]] = {"datagram": datagram, "coded_picture": coded_picture}


def seeds() -> dict[str, list[bytes]]:
    """Valid messages of every kind."""
    answer = stun.Message(stun.Method.BINDING, stun.Class.RESPONSE)
    answer.attributes["XOR-MAPPED-ADDRESS"] = PEER_ADDRESS
    answer.add_message_integrity(ICE_PASSWORD.encode())
    rtp = bytes([0x80, 96, 0, 1]) + bytes(4) + b"\0\0\0\1" + b"payload"
    rtcp = bytes([0x80, 200, 0, 6]) + bytes(24)
    dtls = bytes([22, 254, 253]) + bytes(8) + (4).to_bytes(2, "big") + b"abcd"
    sequence = bytes.fromhex("0000000167 42c01f da0280bfe5c044000003000400000300c83c60ca80")
    return {
        "datagram": [
            connectivity_check(),
            bytes(answer),
            rtp,
            rtcp,
            dtls,
            DATAGRAM_SEPARATOR.join([connectivity_check(), rtp, rtcp, dtls]),
        ],
        "coded_picture": [
            b"\x10\0\0\x9d\x01\x2a\x80\x02\xe0\x01" + bytes(8),
            sequence,
            sequence + b"\0\0\1\x65abc",
            sequence.replace(b"\x42", b"\x64", 1),
        ],
    }
