"""RTP and RTCP of a publisher: encrypted as they should be, and otherwise as no camera sends."""

import asyncio
import random
import struct
from collections.abc import Callable

from tests.soak.stranger.guest import Guest, quiet_guest, rtp
from tests.soak.stranger.registry import attempt
from tests.soak.stranger.world import World

FLOOD = 5000.0  # packets a second; a camera sends some 150, 400 at 4 Mbit/s
Maker = Callable[[int, int], list[bytes]]
"""Makes packets of a payload type and a source."""
VP8_START = b"\x10"  # a descriptor (RFC 7741, 4.2) that begins a partition


async def flooded(world: World, make: Maker, rate: float = FLOOD, codec: str = "VP8") -> str:
    """Send what ``make`` makes of a guest's payload type and source, and no camera; what became of the guest."""
    async with quiet_guest(world) as one:
        packets = make(one.payload(codec) if codec else 0, one.ssrc("audio" if codec == "opus" else "video"))
        count = await one.protected(packets, rate, world.seconds)
        return f"{count} sent, the guest is {'still there' if one.live else 'gone'}"


@attempt("rtp.camera", "nothing but a camera: what a neighbour costs by itself", processes=1)
async def neighbour(world: World) -> str:
    async with Guest(world).joined() as guest:
        await asyncio.sleep(world.seconds)
        return f"the guest is {'still there' if guest.live else 'gone'}"


@attempt("rtp.silent", "a neighbour without a camera, who sends nothing", processes=1)
async def silent(world: World) -> str:
    async with Guest(world, camera="").joined() as guest:
        await asyncio.sleep(world.seconds)
        return f"the guest is {'still there' if guest.live else 'gone'}"


@attempt("rtp.flood", "5,000 tiny packets a second in one worker with the bystander", processes=1, short=True)
async def flood(world: World) -> str:
    return await flooded(
        world, lambda pt, ssrc: [rtp(pt, k, 3600 * (k // 8), ssrc, VP8_START + b"x" * 8) for k in range(65536)]
    )


@attempt("rtp.flood.other", "the same with as many workers as by default")
async def flood_other(world: World) -> str:
    return await flood(world)


@attempt("rtp.jumps", "a sequence number that jumps by 1,000 to 30,000 each time", processes=1, short=True)
async def jumps(world: World) -> str:
    def make(pt: int, ssrc: int) -> list[bytes]:
        chance, at, made = random.Random(1), 0, []
        for k in range(20000):
            at += chance.choice((1000, 5000, 30000, 32767))
            made.append(rtp(pt, at, 3600 * k, ssrc, VP8_START + b"y" * 20, marker=True))
        return made

    return await flooded(world, make, 1000)


@attempt("rtp.jumps.flood", "the same 5,000 times a second", processes=1)
async def jumps_flood(world: World) -> str:
    return await flooded(world, lambda pt, ssrc: [rtp(pt, 9973 * k, k, ssrc, VP8_START + b"y") for k in range(65536)])


@attempt("rtp.back", "a sequence number that runs backwards", processes=1)
async def back(world: World) -> str:
    return await flooded(
        world, lambda pt, ssrc: [rtp(pt, -k, 90 * k, ssrc, VP8_START + b"y") for k in range(65536)], 2000
    )


@attempt("rtp.ssrc", "another source in every packet, 1,000 a second", processes=1, after=8)
async def sources(world: World) -> str:
    chance = random.Random(2)
    return await flooded(
        world,
        lambda pt, ssrc: [rtp(pt, k, 90 * k, chance.getrandbits(32), VP8_START + b"z") for k in range(50000)],
        1000,
    )


@attempt("rtp.ssrc.few", "300 sources, then leaving: reports hold 31", processes=1, after=8, short=True)
async def few_sources(world: World) -> str:
    return await flooded(
        world, lambda pt, ssrc: [rtp(pt, k, 90 * k, 1000 + k, VP8_START + b"z") for k in range(300)], 200
    )


@attempt("rtp.stamps", "timestamps that jump by hours", processes=1)
async def stamps(world: World) -> str:
    chance = random.Random(3)
    return await flooded(
        world,
        lambda pt, ssrc: [
            rtp(pt, k, chance.getrandbits(32), ssrc, VP8_START + b"w" * 30, marker=True) for k in range(50000)
        ],
        500,
    )


@attempt(
    "rtp.jitter", "pairs of timestamps half a world apart, so that their jitter has 33 bits", processes=1, after=8
)
async def jitter(world: World) -> str:
    async with quiet_guest(world) as guest:
        payload_type, ssrc = guest.payload("VP8"), 4711
        made = [rtp(payload_type, k, 0xFFFFFFFF * (k % 2), ssrc, VP8_START + b"j") for k in range(65536)]
        send, sent, until = guest.sender(), 0, asyncio.get_running_loop().time() + world.seconds
        while asyncio.get_running_loop().time() < until:
            for one in made[sent : sent + 2]:
                send(one)
            sent += 2
            await asyncio.sleep(0.02)
        return f"{sent} sent, the guest is {'still there' if guest.live else 'gone'}"


@attempt("rtp.types", "every payload type that was not agreed on", processes=1)
async def types(world: World) -> str:
    return await flooded(
        world, lambda pt, ssrc: [rtp(k % 128, k, 90 * k, 77 + k % 5, b"abc") for k in range(65536)], 2000
    )


@attempt("rtp.headers", "RTP versions, CSRC counts and padding that lie", processes=1)
async def headers(world: World) -> str:
    def make(pt: int, ssrc: int) -> list[bytes]:
        return [rtp(pt, k, k, ssrc, bytes([k % 256]) * (k % 40), first=0x80 | k % 64) for k in range(20000)]

    return await flooded(world, make, 1000)


@attempt("rtp.extensions", "header extensions of odd kinds and lengths", processes=1)
async def extensions(world: World) -> str:
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

    return await flooded(world, make, 1000)


@attempt("rtp.mid", "header extensions that name other media and endless names", processes=1)
async def mids(world: World) -> str:
    def make(pt: int, ssrc: int) -> list[bytes]:
        made = []
        for k in range(2000):
            one = bytes([(k % 14 + 1) << 4 | k % 16]) + b"\xff" * (k % 16 + 1)
            one += bytes(-len(one) % 4)
            made.append(rtp(pt, k, k, k, b"\x10ab", extension=struct.pack("!HH", 0xBEDE, len(one) // 4) + one))
        return made

    return await flooded(world, make, 1000)


@attempt("rtp.rtx", "retransmissions with no body, one byte, and of unknown sources", processes=1)
async def rtx(world: World) -> str:
    def make(pt: int, ssrc: int) -> list[bytes]:
        return [rtp(pt, k, k, (ssrc, ssrc + 1, 99)[k % 3], bytes(k % 5)) for k in range(60000)]

    return await flooded(world, make, 2000, codec="rtx")


@attempt("rtp.vp8", "VP8 with cut descriptors and garbage behind them", processes=1)
async def vp8(world: World) -> str:
    chance = random.Random(5)

    def make(pt: int, ssrc: int) -> list[bytes]:
        descriptors = [chance.randbytes(chance.randint(0, 6)) for _ in range(10000)]
        return [
            rtp(
                pt, k, 3600 * k, ssrc, one + (b"" if k % 2 else chance.randbytes(chance.randint(0, 900))), marker=True
            )
            for k, one in enumerate(descriptors)
        ]

    return await flooded(world, make, 300)


@attempt("rtp.vp8.key", "frames that say they are key frames, with garbage for pictures", processes=1)
async def vp8_key(world: World) -> str:
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

    return await flooded(world, make, 100)


@attempt("rtp.endless", "a frame without an end: packets of one timestamp, none of them marked", processes=1)
async def endless(world: World) -> str:
    return await flooded(
        world,
        lambda pt, ssrc: [rtp(pt, k, 1, ssrc, (VP8_START if k == 0 else b"\0") + b"e" * 1100) for k in range(65536)],
        2000,
    )


@attempt("rtp.h264", "H.264 with cut STAP-A and FU-A, and aggregates that claim more", processes=1)
async def h264(world: World) -> str:
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

    return await flooded(world, make, 500, codec="H264")


@attempt("rtp.opus", "Opus garbage, empty and of 1,200 bytes, 1,000 a second", processes=1)
async def opus(world: World) -> str:
    chance = random.Random(8)

    def make(pt: int, ssrc: int) -> list[bytes]:
        return [rtp(pt, k, 960 * k, ssrc, chance.randbytes((k * 37) % 1200)) for k in range(5000)]

    return await flooded(world, make, 1000, codec="opus")


@attempt(
    "rtp.opus.long", "Opus packets of 120 ms of 48 frames each, 500 a second: sound faster than time", processes=1
)
async def opus_long(world: World) -> str:
    return await flooded(
        world,
        lambda pt, ssrc: [rtp(pt, k, 5760 * k, ssrc, b"\xff\x30" + bytes(100)) for k in range(20000)],
        500,
        codec="opus",
    )


@attempt("rtp.pcmu", "5,000 PCMU packets a second", processes=1)
async def pcmu(world: World) -> str:
    return await flooded(
        world, lambda pt, ssrc: [rtp(0, k, 160 * k, ssrc, b"\x7f" * 160) for k in range(65536)], codec=""
    )
