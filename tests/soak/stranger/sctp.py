"""SCTP from a peer whose offer has a data channel, which the server does not use."""

import asyncio
import contextlib
import random
import struct
from collections import Counter
from collections.abc import Callable, Sequence

from google_crc32c import value as crc32c

from tests.soak.stranger.environment import Environment
from tests.soak.stranger.guest import Guest
from tests.soak.stranger.registry import attempt
from tests.soak.stranger.web import counted

DATA, INIT, INIT_ACK, SACK, HEARTBEAT, HEARTBEAT_ACK, ABORT, SHUTDOWN, SHUTDOWN_ACK, ERROR = range(10)
COOKIE, RECONFIG, FORWARD = 10, 130, 192
CHUNK_TYPES = (*range(16), RECONFIG, FORWARD, 255)


def chunk(kind: int, body: bytes = b"", *, flags: int = 0, length: int | None = None) -> bytes:
    """An SCTP chunk (RFC 9260, 3.2); ``length`` replaces its true length."""
    head = struct.pack("!BBH", kind, flags, len(body) + 4 if length is None else length)
    return head + body + bytes(-len(body) % 4)


def packet(tag: int, *chunks: bytes) -> bytes:
    """An SCTP packet (RFC 9260, 3.1) with a correct checksum."""
    data = struct.pack("!HHII", 5000, 5000, tag, 0) + b"".join(chunks)
    return data[:8] + struct.pack("<I", crc32c(data)) + data[12:]


async def send_chunks(env: Environment, make: Callable[[int, int], Sequence[bytes]], rate: float = 500) -> str:
    """Send the packets that ``make`` makes from the association's verification tag and next TSN, over DTLS."""
    guest = Guest(env, "both", camera="")
    guest.pc.createDataChannel("x")
    response = await guest.connect(wait=False)
    try:
        if response.status_code != 201:
            return f"an offer with data channels got {response.status_code}"
        for _ in range(100):
            association = guest.pc.sctp
            if association is not None and association.state == "connected":
                break
            await asyncio.sleep(0.05)
        else:
            return "the data channel was not opened"
        made = make(association._remote_verification_tag, association._local_tsn)
        until, sent = asyncio.get_running_loop().time() + env.seconds, 0
        with contextlib.suppress(ConnectionError):
            while asyncio.get_running_loop().time() < until:
                for _ in range(max(1, int(rate / 100))):
                    await association.transport._send_data(made[sent % len(made)])
                    sent += 1
                await asyncio.sleep(0.01)
        return f"{sent} sent, the guest is {'connected' if guest.live else 'disconnected'}"
    finally:
        await guest.leave()


@attempt("sctp.parameter", "one packet with a parameter of length 0", processes=1, after=12, short=True)
async def parameter(env: Environment) -> str:
    kinds = (INIT, HEARTBEAT, ABORT, ERROR, RECONFIG)
    return await send_chunks(
        env,
        lambda tag, number: [
            packet(tag, chunk(kind, (bytes(16) if kind == INIT else b"") + bytes(4))) for kind in kinds
        ],
    )


@attempt("sctp.cut", "chunks of every kind, cut at every length", processes=1)
async def cut(env: Environment) -> str:
    return await send_chunks(
        env,
        lambda tag, number: [packet(tag, chunk(kind, b"\x01" * size)) for size in range(24) for kind in CHUNK_TYPES],
    )


@attempt("sctp.lies", "chunks with wrong lengths, and several in one packet", processes=1)
async def lies(env: Environment) -> str:
    def make(tag: int, number: int) -> list[bytes]:
        made = [
            packet(tag, chunk(kind, bytes(20), length=size)) for kind in CHUNK_TYPES for size in (0, 1, 3, 5, 65535)
        ]
        return [*made, packet(0, chunk(INIT, b"\x01" * 16), chunk(INIT, b"\x01" * 16)), packet(tag), b"", b"x"]

    return await send_chunks(env, make)


@attempt(
    "sctp.open", "a channel opened twice, acknowledged before it is open, with names that are not UTF-8", processes=1
)
async def opened(env: Environment) -> str:
    def make(tag: int, number: int) -> list[bytes]:
        messages = [b"\x02", b"\x03" + struct.pack("!BHLHH", 0, 0, 0, 4, 0) + b"\xff\xfe\xfd\xfc"]
        messages += [b"\x03" + struct.pack("!BHLHH", 0, 0, 0, 65535, 65535) + b"ab", b"\x03", b"", b"\x09"]
        messages += [b"\x03" + struct.pack("!BHLHH", 0, 0, 0, 1, 0) + b"a"] * 2
        return [
            packet(tag, chunk(DATA, struct.pack("!IHHI", number + k, 9, k, 50) + one, flags=3))
            for k, one in enumerate(messages * 100)
        ]

    return await send_chunks(env, make)


@attempt("sctp.fragments", "messages that begin and never end", processes=1, after=8)
async def fragments(env: Environment) -> str:
    def make(tag: int, number: int) -> list[bytes]:
        body = bytes(1100)
        return [
            packet(tag, chunk(DATA, struct.pack("!IHHI", number + k, k % 999, 0, 51) + body, flags=2))
            for k in range(20000)
        ]

    return await send_chunks(env, make, 2000)


@attempt("sctp.gaps", "TSNs with gaps, so that acknowledgements grow", processes=1)
async def gaps(env: Environment) -> str:
    def make(tag: int, number: int) -> list[bytes]:
        return [
            packet(tag, chunk(DATA, struct.pack("!IHHI", number + 2 * k, 1, k, 51) + b"x", flags=3))
            for k in range(1, 20000)
        ]

    return await send_chunks(env, make, 1000)


@attempt("sctp.flood", "3,000 heartbeats and openings a second", processes=1)
async def flood(env: Environment) -> str:
    chance = random.Random(1)

    def make(tag: int, number: int) -> list[bytes]:
        beats = [
            packet(tag, chunk(HEARTBEAT, struct.pack("!HH", 1, 1004) + chance.randbytes(1000))) for _ in range(50)
        ]
        inits = [
            packet(0, chunk(INIT, struct.pack("!IIHHI", chance.getrandbits(31), 1 << 20, 65535, 65535, 1)))
            for _ in range(50)
        ]
        return beats + inits

    return await send_chunks(env, make, 3000)


@attempt("sctp.publish", "WHIP and WHEP offers with data channels")
async def published(env: Environment) -> str:
    statuses = Counter[str]()
    for role in ("publish", "view"):
        guest = Guest(env, role)
        guest.pc.createDataChannel("x")
        statuses[str((await guest.connect(wait=False)).status_code)] += 1
        await guest.leave()
    return counted(statuses)
