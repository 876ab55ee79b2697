"""Requests that the server must refuse at once, while a running session keeps its frame rate."""

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

SDP_HEADERS = {"Content-Type": "application/sdp"}
ATTACK_SECONDS = 10.0  # duration of each attack
REQUEST_INTERVAL = 0.1  # seconds between requests of an attack
SERVER_TIMEOUT = 2.0  # seconds that the server waits for headers and bodies
MAX_ANSWER_SECONDS = 0.1
MIN_SHARE_OF_FPS = 0.85  # of the frame rate without an attack, for the running session


@dataclass
class Answer:
    """An HTTP status and the seconds until it came."""

    status: int
    seconds: float


async def timed_post(client: httpx.AsyncClient, path: str, content: bytes, headers: dict[str, str]) -> Answer:
    """Send one POST and time its answer."""
    began = time.monotonic()
    response = await client.post(path, content=content, headers=headers)
    return Answer(response.status_code, time.monotonic() - began)


def decompression_bomb(side: int) -> bytes:
    """A black PNG of ``side`` x ``side`` pixels, whose file is small."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    squeezed, row = zlib.compressobj(9), bytes(side * 3 + 1)
    body = b"".join(squeezed.compress(row) for _ in range(min(side, 2000))) + squeezed.flush()
    header = struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", body) + chunk(b"IEND", b"")


async def valid_offer() -> str:
    """An SDP offer that the server can answer."""
    pc = RTCPeerConnection(RTCConfiguration(iceServers=[]))
    pc.addTransceiver("video", direction="sendrecv")
    await pc.setLocalDescription(await pc.createOffer())
    sdp = pc.localDescription.sdp
    await pc.close()
    return sdp


async def post_slowly(url: httpx.URL, start: bytes, seconds: float) -> Answer:
    """Send a request byte by byte. The time in the answer is counted from ``seconds``, the server's timeout, on."""
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
    """Run each attack for ten seconds beside one running session."""
    server = ServerProcess(
        *("--engine", arguments.engine, "--sessions", "3"),
        *("--body-timeout", str(SERVER_TIMEOUT), "--header-timeout", str(SERVER_TIMEOUT)),
    )
    server.wait_ready()
    victim = Client.start(server.url + "/session", "--seconds", "100000")
    if victim.wait_answer() != 201:
        raise SystemExit("the server refused the session that the attacks run beside")
    time.sleep(8)
    try:
        rows = asyncio.run(_run_attacks(server, victim))
    finally:
        stop_all([victim])
        server.stop()
    failed = [f"{row['attack']}: {row['statuses']}" for row in rows if not row.pop("right")]
    failed += [
        f"{row['attack']}: answered after {row['slowest_ms']} ms"
        for row in rows
        if row["slowest_ms"] > 1e3 * MAX_ANSWER_SECONDS
    ]
    failed += [
        f"{row['attack']}: {row['kept']:.0%} of the pictures were left"
        for row in rows
        if row["kept"] < MIN_SHARE_OF_FPS
    ]
    if server.tracebacks():
        failed.append(f"{server.tracebacks()} unhandled errors in the log")
    return {"rows": rows, "failed": failed, "text": table(rows)}


async def _run_attacks(server: ServerProcess, victim: Client) -> list[dict[str, Any]]:
    offer = await valid_offer()
    section = offer[offer.index("m=") :]
    candidate = "a=candidate:1 1 udp 2130706431 10.0.0.{} 5000 typ host\r\n"
    many_sections = (offer + section * 5000).encode()[:1_500_000]
    some_sections = (offer[: offer.index("m=")] + "m=video 9 UDP/TLS/RTP/SAVPF 96\r\n" * 1400).encode()
    many = (offer + "".join(candidate.format(n % 250) for n in range(2000))).encode()
    some = (offer + "".join(candidate.format(n % 250) for n in range(800))).encode()
    long_line = (offer + "a=x:" + "y" * 50_000 + "\r\n").encode()
    picture = decompression_bomb(50_000)
    url = httpx.URL(server.url)
    body = (
        b"POST /session HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/sdp\r\nContent-Length: 9999\r\n\r\n"
    )
    header = b"POST /session HTTP/1.1\r\nHost: localhost\r\nX-Long: "
    async with httpx.AsyncClient(base_url=server.url, timeout=30, limits=httpx.Limits(max_connections=40)) as client:

        def post(content: bytes, path: str = "/session") -> Callable[[], Awaitable[Answer]]:
            return lambda: timed_post(client, path, content, SDP_HEADERS)

        plan: list[tuple[str, Callable[[], Awaitable[Answer]], set[int], float]] = [
            ("nothing", post(b""), {400}, 1.0),
            ("1.5 MB offer, 5,000 sections", post(many_sections), {413}, REQUEST_INTERVAL),
            ("45 KB offer, 1,400 sections", post(some_sections), {400}, REQUEST_INTERVAL),
            ("2,000 candidates", post(many), {413}, REQUEST_INTERVAL),
            ("800 candidates", post(some), {400}, REQUEST_INTERVAL),
            ("a line of 50 KB", post(long_line), {201, 429, 503}, 0.5),
            ("50,000 x 50,000 PNG", post(picture, "/identities"), {422, 429}, REQUEST_INTERVAL),
            ("body by drops", lambda: post_slowly(url, body, SERVER_TIMEOUT), {408}, REQUEST_INTERVAL),
            ("headers by drops", lambda: post_slowly(url, header, SERVER_TIMEOUT), {408}, REQUEST_INTERVAL),
            ("100 half-open sessions", post(offer.encode()), {201, 429, 503}, REQUEST_INTERVAL),
        ]
        quiet = await _fps_without_attack(victim)
        rows = []
        for name, one, right, pause in plan:
            rows.append(await _measure_attack(name, one, right, pause, victim, quiet))
            await asyncio.sleep(1)
        return rows


async def _fps_without_attack(victim: Client) -> float:
    since = time.monotonic()
    await asyncio.sleep(ATTACK_SECONDS)
    return victim.figures(since)["fps"]


async def _measure_attack(
    name: str, one: Callable[[], Awaitable[Answer]], right: set[int], pause: float, victim: Client, quiet: float
) -> dict[str, Any]:
    since = time.monotonic()
    going: list[asyncio.Task[Answer]] = []
    while time.monotonic() - since < ATTACK_SECONDS:
        going.append(asyncio.create_task(one()))  # type: ignore[arg-type]
        await asyncio.sleep(pause)
    answers = await asyncio.gather(*going)
    fps = victim.figures(since, since + ATTACK_SECONDS)["fps"]
    statuses = Counter(answer.status for answer in answers)
    return {
        "attack": name,
        "statuses": " ".join(f"{status}x{count}" for status, count in sorted(statuses.items())),
        "right": set(statuses) <= right,
        # Only an accepted offer (201) may wait, for a session process to start.
        "slowest_ms": round(max((one.seconds for one in answers if one.status != 201), default=0.0) * 1e3),
        "kept": round(fps / quiet, 2) if quiet else 0.0,
    }
