"""Encrypted but otherwise invalid RTP and RTCP from a publisher."""

import asyncio
import random
import struct
from collections.abc import Callable

from tests.soak.stranger.environment import Environment
from tests.soak.stranger.guest import Guest, idle_guest, rtp
from tests.soak.stranger.registry import attempt

FLOOD_RATE = 5000.0  # packets a second; a camera sends some 150, 400 at 4 Mbit/s
Maker = Callable[[int, int], list[bytes]]
"""Makes packets from a payload type and an SSRC."""
VP8_START = b"\x10"  # VP8 payload descriptor (RFC 7741, 4.2) at the start of a partition


async def send_rtp(env: Environment, make: Maker, rate: float = FLOOD_RATE, codec: str = "VP8") -> str:
    """Send the packets of ``make`` from a new guest; returns how many were sent and if the guest is connected."""
    async with idle_guest(env) as one:
        packets = make(one.payload(codec) if codec else 0, one.ssrc("audio" if codec == "opus" else "video"))
        count = await one.send_encrypted(packets, rate, env.seconds)
        return f"{count} sent, the guest is {'connected' if one.live else 'disconnected'}"


@attempt("rtp.camera", "a second publisher with a camera: the cost of a normal session", processes=1, reference=True)
async def neighbour(env: Environment) -> str:
    async with Guest(env).connected() as guest:
        await asyncio.sleep(env.seconds)
        return f"the guest is {'connected' if guest.live else 'disconnected'}"


@attempt("rtp.silent", "a second publisher that sends nothing", processes=1)
async def silent(env: Environment) -> str:
    async with Guest(env, camera="").connected() as guest:
        await asyncio.sleep(env.seconds)
        return f"the guest is {'connected' if guest.live else 'disconnected'}"


@attempt("rtp.flood", "5,000 tiny packets a second in the bystander's session process", processes=1, short=True)
async def flood(env: Environment) -> str:
    return await send_rtp(
        env, lambda pt, ssrc: [rtp(pt, k, 3600 * (k // 8), ssrc, VP8_START + b"x" * 8) for k in range(65536)]
    )


@attempt("rtp.flood.other", "the same with the default number of session processes")
async def flood_other(env: Environment) -> str:
    return await flood(env)


@attempt("rtp.jumps", "a sequence number that jumps by 1,000 to 30,000 each time", processes=1, short=True)
async def jumps(env: Environment) -> str:
    def make(pt: int, ssrc: int) -> list[bytes]:
        chance, at, made = random.Random(1), 0, []
        for k in range(20000):
            at += chance.choice((1000, 5000, 30000, 32767))
            made.append(rtp(pt, at, 3600 * k, ssrc, VP8_START + b"y" * 20, marker=True))
        return made

    return await send_rtp(env, make, 1000)


@attempt("rtp.jumps.flood", "the same 5,000 times a second", processes=1)
async def jumps_flood(env: Environment) -> str:
    return await send_rtp(env, lambda pt, ssrc: [rtp(pt, 9973 * k, k, ssrc, VP8_START + b"y") for k in range(65536)])


@attempt("rtp.back", "a sequence number that runs backwards", processes=1)
async def back(env: Environment) -> str:
    return await send_rtp(
        env, lambda pt, ssrc: [rtp(pt, -k, 90 * k, ssrc, VP8_START + b"y") for k in range(65536)], 2000
    )


@attempt("rtp.ssrc", "another source in every packet, 1,000 a second", processes=1, after=8)
async def sources(env: Environment) -> str:
    chance = random.Random(2)
    return await send_rtp(
        env,
        lambda pt, ssrc: [rtp(pt, k, 90 * k, chance.getrandbits(32), VP8_START + b"z") for k in range(50000)],
        1000,
    )


@attempt(
    "rtp.ssrc.few", "300 sources, then leaving: a receiver report holds at most 31", processes=1, after=8, short=True
)
async def few_sources(env: Environment) -> str:
    return await send_rtp(
        env, lambda pt, ssrc: [rtp(pt, k, 90 * k, 1000 + k, VP8_START + b"z") for k in range(300)], 200
    )


@attempt("rtp.stamps", "timestamps that jump by hours", processes=1)
async def stamps(env: Environment) -> str:
    chance = random.Random(3)
    return await send_rtp(
        env,
        lambda pt, ssrc: [
            rtp(pt, k, chance.getrandbits(32), ssrc, VP8_START + b"w" * 30, marker=True) for k in range(50000)
        ],
        500,
    )


@attempt("rtp.jitter", "pairs of timestamps 2^32 apart, so that their jitter has 33 bits", processes=1, after=8)
async def jitter(env: Environment) -> str:
    async with idle_guest(env) as guest:
        payload_type, ssrc = guest.payload("VP8"), 4711
        made = [rtp(payload_type, k, 0xFFFFFFFF * (k % 2), ssrc, VP8_START + b"j") for k in range(65536)]
        send, sent, until = guest.encrypting_sender(), 0, asyncio.get_running_loop().time() + env.seconds
        while asyncio.get_running_loop().time() < until:
            for one in made[sent : sent + 2]:
                send(one)
            sent += 2
            await asyncio.sleep(0.02)
        return f"{sent} sent, the guest is {'connected' if guest.live else 'disconnected'}"


@attempt("rtp.types", "every payload type that was not negotiated", processes=1)
async def types(env: Environment) -> str:
    return await send_rtp(
        env, lambda pt, ssrc: [rtp(k % 128, k, 90 * k, 77 + k % 5, b"abc") for k in range(65536)], 2000
    )


@attempt("rtp.headers", "wrong RTP versions, CSRC counts and padding", processes=1)
async def headers(env: Environment) -> str:
    def make(pt: int, ssrc: int) -> list[bytes]:
        return [rtp(pt, k, k, ssrc, bytes([k % 256]) * (k % 40), first=0x80 | k % 64) for k in range(20000)]

    return await send_rtp(env, make, 1000)


@attempt("rtp.extensions", "header extensions of odd kinds and lengths", processes=1)
async def extensions(env: Environment) -> str:
    chance = random.Random(4)

    def make(pt: int, ssrc: int) -> list[bytes]:
        made = []
        for k in range(10000):
            profile = chance.choice((0xBEDE, 0x1000, 0x100F, 0, chance.getrandbits(16)))
            words = chance.choice((0, 1, 2, 8, 200))
            made.append(
                rtp(
                    pt,
                    k,
                    90 * k,
                    ssrc,
                    b"\x10ab",
                    extension=struct.pack("!HH", profile, words) + chance.randbytes(4 * words),
                )
            )
        return made

    return await send_rtp(env, make, 1000)


@attempt("rtp.mid", "header extensions with unknown and very long MIDs", processes=1)
async def mids(env: Environment) -> str:
    def make(pt: int, ssrc: int) -> list[bytes]:
        made = []
        for k in range(2000):
            one = bytes([(k % 14 + 1) << 4 | k % 16]) + b"\xff" * (k % 16 + 1)
            one += bytes(-len(one) % 4)
            made.append(rtp(pt, k, k, k, b"\x10ab", extension=struct.pack("!HH", 0xBEDE, len(one) // 4) + one))
        return made

    return await send_rtp(env, make, 1000)


@attempt("rtp.rtx", "retransmissions with no body, one byte, and of unknown sources", processes=1)
async def rtx(env: Environment) -> str:
    def make(pt: int, ssrc: int) -> list[bytes]:
        return [rtp(pt, k, k, (ssrc, ssrc + 1, 99)[k % 3], bytes(k % 5)) for k in range(60000)]

    return await send_rtp(env, make, 2000, codec="rtx")


@attempt("rtp.vp8", "VP8 with cut descriptors, followed by garbage", processes=1)
async def vp8(env: Environment) -> str:
    chance = random.Random(5)

    def make(pt: int, ssrc: int) -> list[bytes]:
        descriptors = [chance.randbytes(chance.randint(0, 6)) for _ in range(10000)]
        return [
            rtp(
                pt, k, 3600 * k, ssrc, one + (b"" if k % 2 else chance.randbytes(chance.randint(0, 900))), marker=True
            )
            for k, one in enumerate(descriptors)
        ]

    return await send_rtp(env, make, 300)


@attempt("rtp.vp8.key", "key frame headers followed by garbage", processes=1)
async def vp8_key(env: Environment) -> str:
    chance = random.Random(6)

    def make(pt: int, ssrc: int) -> list[bytes]:
        head = VP8_START + b"\x10\x02\x00\x9d\x01\x2a"
        return [
            rtp(
                pt,
                k,
                3600 * k,
                ssrc,
                head + struct.pack("<HH", chance.randint(0, 16383), chance.randint(0, 16383)) + chance.randbytes(900),
                marker=True,
            )
            for k in range(5000)
        ]

    return await send_rtp(env, make, 100)


@attempt("rtp.endless", "a frame without an end: packets with one timestamp and no marker bit", processes=1)
async def endless(env: Environment) -> str:
    return await send_rtp(
        env,
        lambda pt, ssrc: [rtp(pt, k, 1, ssrc, (VP8_START if k == 0 else b"\0") + b"e" * 1100) for k in range(65536)],
        2000,
    )


@attempt("rtp.h264", "H.264 with cut STAP-A and FU-A, and aggregates with wrong lengths", processes=1)
async def h264(env: Environment) -> str:
    chance = random.Random(7)

    def make(pt: int, ssrc: int) -> list[bytes]:
        bodies = [
            b"\x78",
            b"\x78\0",
            b"\x78\0\x05ab",
            b"\x78\xff\xff",
            b"\x7c",
            b"\x7c\x85",
            b"\x7c\x05x",
            b"\x67",
            b"\x65",
            b"",
            b"\x1e",
            b"\x1f\0",
        ]
        bodies += [bytes([chance.randint(0, 255)]) + chance.randbytes(chance.randint(0, 60)) for _ in range(5000)]
        return [rtp(pt, k, 3600 * k, ssrc, one, marker=True) for k, one in enumerate(bodies)]

    return await send_rtp(env, make, 500, codec="H264")


@attempt("rtp.opus", "Opus garbage, empty and of 1,200 bytes, 1,000 a second", processes=1)
async def opus(env: Environment) -> str:
    chance = random.Random(8)

    def make(pt: int, ssrc: int) -> list[bytes]:
        return [rtp(pt, k, 960 * k, ssrc, chance.randbytes((k * 37) % 1200)) for k in range(5000)]

    return await send_rtp(env, make, 1000, codec="opus")


@attempt("rtp.opus.long", "Opus packets of 120 ms with 48 frames each, 500 a second: 60 times real time", processes=1)
async def opus_long(env: Environment) -> str:
    return await send_rtp(
        env,
        lambda pt, ssrc: [rtp(pt, k, 5760 * k, ssrc, b"\xff\x30" + bytes(100)) for k in range(20000)],
        500,
        codec="opus",
    )


@attempt("rtp.pcmu", "5,000 PCMU packets a second", processes=1)
async def pcmu(env: Environment) -> str:
    return await send_rtp(
        env, lambda pt, ssrc: [rtp(0, k, 160 * k, ssrc, b"\x7f" * 160) for k in range(65536)], codec=""
    )
