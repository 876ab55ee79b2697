"""What must be refused at once, while a session that runs keeps its pictures."""

import argparse
import asyncio
import struct
import time
import zlib
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

import httpx
from aiortc import RTCConfiguration, RTCPeerConnection

from tests.soak.bench import Client, ServerProcess, stop_all, table

SDP = {"Content-Type": "application/sdp"}
SECONDS = 10.0  # each attack goes on for
PAUSE = 0.1  # seconds between its requests
SLOW = 2.0  # seconds of the server's patience with headers and bodies
AT_ONCE = 0.1  # seconds an answer may take
KEPT = 0.85  # of the pictures a second that a running session must keep


@dataclass
class Answer:
    """A status and the seconds it took."""

    status: int
    seconds: float


async def attempt(client: httpx.AsyncClient, path: str, content: bytes, headers: dict[str, str]) -> Answer:
    """One request."""
    began = time.monotonic()
    response = await client.post(path, content=content, headers=headers)
    return Answer(response.status_code, time.monotonic() - began)


def bomb(side: int) -> bytes:
    """A PNG of ``side`` x ``side`` pixels, all black, that is small on the line."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    squeezed, row = zlib.compressobj(9), bytes(side * 3 + 1)
    body = b"".join(squeezed.compress(row) for _ in range(min(side, 2000))) + squeezed.flush()
    header = struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", body) + chunk(b"IEND", b"")


async def a_real_offer() -> str:
    """An offer that can be answered."""
    pc = RTCPeerConnection(RTCConfiguration(iceServers=[]))
    pc.addTransceiver("video", direction="sendrecv")
    await pc.setLocalDescription(await pc.createOffer())
    sdp = pc.localDescription.sdp
    await pc.close()
    return sdp


async def drip(url: httpx.URL, start: bytes, seconds: float) -> Answer:
    """A request that arrives a byte at a time; the time counted begins when the server's patience is over."""
    reader, writer = await asyncio.open_connection(url.host, url.port)
    writer.write(start)
    began = time.monotonic()

    async def feed() -> None:
        while True:
            writer.write(b"a")
            await writer.drain()
            await asyncio.sleep(0.2)

    feeding = asyncio.create_task(feed())
    line = await asyncio.wait_for(reader.readline(), seconds + 5)
    took = time.monotonic() - began
    feeding.cancel()
    writer.close()
    return Answer(int(line.split()[1]) if line else 0, max(0.0, took - seconds))


def attacks(arguments: argparse.Namespace) -> dict[str, Any]:
    """Each attack for ten seconds beside one running session."""
    server = ServerProcess(
        *("--engine", arguments.engine, "--sessions", "3"),
        *("--body-timeout", str(SLOW), "--header-timeout", str(SLOW)),
    )
    server.wait_ready()
    victim = Client.start(server.url + "/session", "--seconds", "100000")
    if victim.wait_answer() != 201:
        raise SystemExit("the running session was not let in")
    time.sleep(8)
    try:
        rows = asyncio.run(_all(server, victim))
    finally:
        stop_all([victim])
        server.stop()
    failed = [f"{row['attack']}: {row['statuses']}" for row in rows if not row.pop("right")]
    failed += [
        f"{row['attack']}: answered after {row['slowest_ms']} ms" for row in rows if row["slowest_ms"] > 1e3 * AT_ONCE
    ]
    failed += [f"{row['attack']}: {row['kept']:.0%} of the pictures were left" for row in rows if row["kept"] < KEPT]
    if server.tracebacks():
        failed.append(f"{server.tracebacks()} unhandled errors in the log")
    return {"rows": rows, "failed": failed, "text": table(rows)}


async def _all(server: ServerProcess, victim: Client) -> list[dict[str, Any]]:
    offer = await a_real_offer()
    section = offer[offer.index("m=") :]
    candidate = "a=candidate:1 1 udp 2130706431 10.0.0.{} 5000 typ host\r\n"
    many_sections = (offer + section * 5000).encode()[:1_500_000]
    some_sections = (offer[: offer.index("m=")] + "m=video 9 UDP/TLS/RTP/SAVPF 96\r\n" * 1400).encode()
    many = (offer + "".join(candidate.format(n % 250) for n in range(2000))).encode()
    some = (offer + "".join(candidate.format(n % 250) for n in range(800))).encode()
    long_line = (offer + "a=x:" + "y" * 50_000 + "\r\n").encode()
    picture = bomb(50_000)
    url = httpx.URL(server.url)
    body = (
        b"POST /session HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/sdp\r\nContent-Length: 9999\r\n\r\n"
    )
    header = b"POST /session HTTP/1.1\r\nHost: localhost\r\nX-Long: "
    async with httpx.AsyncClient(base_url=server.url, timeout=30, limits=httpx.Limits(max_connections=40)) as client:

        def post(content: bytes, path: str = "/session") -> Callable[[], Awaitable[Answer]]:
            return lambda: attempt(client, path, content, SDP)

        plan: list[tuple[str, Callable[[], Awaitable[Answer]], set[int], float]] = [
            ("nothing", post(b""), {400}, 1.0),
            ("1.5 MB offer, 5,000 sections", post(many_sections), {413}, PAUSE),
            ("45 KB offer, 1,400 sections", post(some_sections), {400}, PAUSE),
            ("2,000 candidates", post(many), {413}, PAUSE),
            ("800 candidates", post(some), {400}, PAUSE),
            ("a line of 50 KB", post(long_line), {201, 429, 503}, 0.5),
            ("50,000 x 50,000 PNG", post(picture, "/identities"), {422, 429}, PAUSE),
            ("body by drops", lambda: drip(url, body, SLOW), {408}, PAUSE),
            ("headers by drops", lambda: drip(url, header, SLOW), {408}, PAUSE),
            ("100 half-open sessions", post(offer.encode()), {201, 429, 503}, PAUSE),
        ]
        quiet = await _quiet(victim)
        rows = []
        for name, one, right, pause in plan:
            rows.append(await _during(name, one, right, pause, victim, quiet))
            await asyncio.sleep(1)
        return rows


async def _quiet(victim: Client) -> float:
    since = time.monotonic()
    await asyncio.sleep(SECONDS)
    return victim.figures(since)["fps"]


async def _during(
    name: str, one: Callable[[], Awaitable[Answer]], right: set[int], pause: float, victim: Client, quiet: float
) -> dict[str, Any]:
    since = time.monotonic()
    going: list[asyncio.Task[Answer]] = []
    while time.monotonic() - since < SECONDS:
        going.append(asyncio.create_task(one()))  # type: ignore[arg-type]
        await asyncio.sleep(pause)
    answers = await asyncio.gather(*going)
    fps = victim.figures(since, since + SECONDS)["fps"]
    statuses = Counter(answer.status for answer in answers)
    return {
        "attack": name,
        "statuses": " ".join(f"{status}x{count}" for status, count in sorted(statuses.items())),
        "right": set(statuses) <= right,
        # Who is let in may have to wait for a process to start, and nobody else does.
        "slowest_ms": round(max((one.seconds for one in answers if one.status != 201), default=0.0) * 1e3),
        "kept": round(fps / quiet, 2) if quiet else 0.0,
    }
