"""Well-formed and malformed RTCP from a peer with its own session."""

import random
import struct
from collections.abc import Callable

from tests.soak.stranger.environment import Environment
from tests.soak.stranger.guest import idle_guest
from tests.soak.stranger.registry import attempt

Maker = Callable[[int, int], list[bytes]]
"""Makes packets from the guest's SSRC and the server's SSRC."""
FLOOD_RATE = 2500.0  # packets a second; a browser sends some 10
SENDER_REPORT, RECEIVER_REPORT, DESCRIPTION, GOODBYE, APPLICATION, TRANSPORT, PAYLOAD = range(200, 207)


def rtcp(kind: int, count: int, body: bytes = b"", *, words: int | None = None) -> bytes:
    """An RTCP packet (RFC 3550, 6.4); ``words`` replaces its true length."""
    body += bytes(-len(body) % 4)
    return struct.pack("!BBH", 0x80 | count & 31, kind, len(body) // 4 if words is None else words) + body


def feedback(kind: int, form: int, own: int, theirs: int, rest: bytes = b"") -> bytes:
    """A feedback packet (RFC 4585, 6.1)."""
    return rtcp(kind, form, struct.pack("!II", own, theirs & 0xFFFFFFFF) + rest)


async def send_rtcp(env: Environment, make: Maker, rate: float = FLOOD_RATE, role: str = "both") -> str:
    """Send the packets of ``make`` from a new guest; returns how many were sent and if the guest is connected."""
    async with idle_guest(env, role) as guest:
        own = 1 if role == "view" else guest.ssrc()
        count = await guest.send_encrypted(make(own, guest.peers_ssrc()), rate, env.seconds)
        return f"{count} sent, the guest is {'connected' if guest.live else 'disconnected'}"


@attempt("rtcp.pli", "2,500 requests for a key frame a second", processes=1)
async def pli(env: Environment) -> str:
    return await send_rtcp(env, lambda own, theirs: [feedback(PAYLOAD, 1, own, theirs)])


@attempt("rtcp.pli.viewer", "a viewer of the bystander that requests key frames all the time", processes=1)
async def pli_viewer(env: Environment) -> str:
    return await send_rtcp(
        env,
        lambda own, theirs: [
            feedback(PAYLOAD, 1, own, theirs),
            feedback(PAYLOAD, 4, own, 0, struct.pack("!II", theirs, 1 << 24)),
        ],
        role="view",
    )


@attempt("rtcp.nack", "NACKs for everything: 17 x 17 sequence numbers a packet", processes=1, short=True)
async def nack(env: Environment) -> str:
    def make(own: int, theirs: int) -> list[bytes]:
        lists = [
            b"".join(struct.pack("!HH", (first + 17 * k) % 65536, 0xFFFF) for k in range(17))
            for first in range(0, 65536, 289)
        ]
        return [feedback(TRANSPORT, 1, own, theirs, one) for one in lists]

    return await send_rtcp(env, make)


@attempt("rtcp.nack.viewer", "the same by a viewer of the bystander", processes=1)
async def nack_viewer(env: Environment) -> str:
    def make(own: int, theirs: int) -> list[bytes]:
        every = b"".join(struct.pack("!HH", 17 * k % 65536, 0xFFFF) for k in range(300))
        return [feedback(TRANSPORT, 1, own, theirs, every)]

    return await send_rtcp(env, make, 500, "view")


@attempt("rtcp.remb", "bit rates of 0, of the maximum, and garbage in their place", processes=1)
async def remb(env: Environment) -> str:
    chance = random.Random(1)

    def make(own: int, theirs: int) -> list[bytes]:
        sound = [b"REMB" + bytes([1, rate]) + b"\xff\xff" + struct.pack("!I", theirs) for rate in range(256)]
        cut = [one[:k] for one in sound[:4] for k in range(len(one))]
        many = [b"REMB" + b"\xff\0\0\0" + chance.randbytes(k) for k in range(0, 1000, 4)]
        return [feedback(PAYLOAD, 15, own, 0, one) for one in sound + cut + many]

    return await send_rtcp(env, make)


@attempt("rtcp.remb.viewer", "a viewer of the bystander that reports a bandwidth of 1 bit/s", processes=1)
async def remb_viewer(env: Environment) -> str:
    def make(own: int, theirs: int) -> list[bytes]:
        return [feedback(PAYLOAD, 15, own, 0, b"REMB\x01\0\0\x01" + struct.pack("!I", theirs))]

    return await send_rtcp(env, make, 100, "view")


@attempt("rtcp.bye", "BYE packets of existing and unknown sources", processes=1, short=True)
async def bye(env: Environment) -> str:
    def make(own: int, theirs: int) -> list[bytes]:
        sources = [own, theirs, 0, 0xFFFFFFFF]
        whole = [rtcp(GOODBYE, 1, struct.pack("!I", one)) for one in sources]
        return [*whole, rtcp(GOODBYE, 31, bytes(4)), rtcp(GOODBYE, 0), rtcp(GOODBYE, 1, struct.pack("!IB", own, 200))]

    return await send_rtcp(env, make)


@attempt("rtcp.sdes", "source descriptions that are cut, too long, and not UTF-8 text", processes=1)
async def sdes(env: Environment) -> str:
    chance = random.Random(2)
    return await send_rtcp(
        env,
        lambda own, theirs: [
            rtcp(DESCRIPTION, k % 32, struct.pack("!I", own) + bytes([1, 255]) + chance.randbytes(k % 300))
            for k in range(2000)
        ],
    )


@attempt("rtcp.reports", "sender and receiver reports of many sources, with wrong counts", processes=1)
async def reports(env: Environment) -> str:
    chance = random.Random(3)

    def make(own: int, theirs: int) -> list[bytes]:
        senders = [
            rtcp(SENDER_REPORT, 0, struct.pack("!I", chance.getrandbits(32)) + chance.randbytes(20))
            for _ in range(3000)
        ]
        receivers = [
            rtcp(RECEIVER_REPORT, k % 32, struct.pack("!II", own, theirs) + chance.randbytes(24 * (k % 32)))
            for k in range(500)
        ]
        return senders + receivers

    return await send_rtcp(env, make)


@attempt("rtcp.cut", "compound packets that are cut, and wrong lengths", processes=1)
async def cut(env: Environment) -> str:
    def make(own: int, theirs: int) -> list[bytes]:
        whole = rtcp(SENDER_REPORT, 0, struct.pack("!I", own) + bytes(20)) + rtcp(
            DESCRIPTION, 1, struct.pack("!IBB", own, 1, 4) + b"abcd"
        )
        parts = [whole[:k] for k in range(8, len(whole))]
        lies = [rtcp(kind, 1, bytes(12), words=words) for kind in range(192, 224) for words in (0, 1, 200, 65535)]
        padded = [bytes([0xA0 | k % 32]) + rtcp(200 + k % 8, 0, bytes(8) + bytes([k % 256]))[1:] for k in range(256)]
        return parts + lies + padded

    return await send_rtcp(env, make)


@attempt("rtcp.types", "every RTCP type and format", processes=1)
async def types(env: Environment) -> str:
    chance = random.Random(4)
    return await send_rtcp(
        env,
        lambda own, theirs: [
            rtcp(192 + k % 32, k // 32 % 32, struct.pack("!II", own, theirs) + chance.randbytes(k % 64))
            for k in range(4096)
        ],
    )


@attempt("rtcp.compound", "300 requests in one compound packet", processes=1)
async def compound(env: Environment) -> str:
    return await send_rtcp(env, lambda own, theirs: [feedback(PAYLOAD, 1, own, theirs) * 100], 500)
