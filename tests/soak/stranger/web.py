"""HTTP: uploads, tokens, slow and malformed requests."""

import asyncio
import contextlib
import random
import secrets
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable

import httpx

from avatar_stream.identity.library import SAMPLES
from tests.soak.attacks import decompression_bomb
from tests.soak.stranger.environment import Environment
from tests.soak.stranger.guest import SDP_HEADERS, Guest
from tests.soak.stranger.registry import attempt


async def make_offer(env: Environment, role: str = "publish") -> str:
    """An SDP offer that the server can answer."""
    guest = Guest(env, role)
    await guest.pc.setLocalDescription(await guest.pc.createOffer())
    sdp: str = guest.pc.localDescription.sdp
    await guest.pc.close()
    return sdp


def counted(statuses: Counter[str]) -> str:
    """The counts as text, such as ``201 x 3, 429 x 5``."""
    return ", ".join(f"{status} x {count}" for status, count in sorted(statuses.items()))


async def repeat_request(
    env: Environment,
    one: Callable[[httpx.AsyncClient], Awaitable[httpx.Response]],
    *,
    at_once: int = 8,
    address: str = "127.0.0.2",
    name: str = "mallory",
    most: int = 100_000,
) -> str:
    """Repeat a request for an attempt's duration, ``at_once`` in parallel; 5xx other than 503 is a failure."""
    statuses, left = Counter[str](), most
    until = asyncio.get_running_loop().time() + env.seconds

    async def repeat(client: httpx.AsyncClient) -> None:
        nonlocal left
        while asyncio.get_running_loop().time() < until and left > 0:
            left -= 1
            try:
                status = (await one(client)).status_code
                statuses[str(status)] += 1
                if status >= 500 and status != 503:
                    env.add_failure(f"an answer was {status}")
            except httpx.HTTPError as error:
                statuses[type(error).__name__] += 1
                await asyncio.sleep(0.05)

    async with env.http(name, address) as client:
        await asyncio.gather(*(repeat(client) for _ in range(at_once)))
    return counted(statuses)


async def send_raw(env: Environment, data: bytes, wait: float = 3.0) -> str:
    """Send these bytes; returns the answer's status, ``closed`` without an answer, or ``?`` if it is not HTTP."""
    host, port = env.url.removeprefix("http://").split(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    with contextlib.suppress(OSError):
        writer.write(data)
        await writer.drain()
    line = b""
    with contextlib.suppress(TimeoutError, OSError, ValueError):
        line = await asyncio.wait_for(reader.readline(), wait)
    writer.close()
    return line.split(b" ")[1].decode() if line.startswith(b"HTTP/1.1 ") else "closed" if not line else "?"


async def repeat_upload(env: Environment, content: Callable[[], bytes], *, at_once: int, most: int = 100_000) -> str:
    """Repeat uploads, then remove those that were accepted."""
    kept: list[str] = []

    async def one(client: httpx.AsyncClient) -> httpx.Response:
        response = await client.post("/identities", content=content())
        if response.status_code == 201:
            kept.append(response.json()["id"])
        return response

    summary = await repeat_request(env, one, at_once=at_once, most=most)
    async with env.http("mallory") as client:
        for key in kept:
            await client.delete(f"/identities/{key}")
    return summary


@attempt("web.tokens", "wrong tokens, eight at once")
async def tokens(env: Environment) -> str:
    kinds = ["", "Bearer", "Bearer " + "x" * 5000, "Basic YTpi", "Bearer v.bystander.1.99999999999.x"]

    async def one(client: httpx.AsyncClient) -> httpx.Response:
        authorization = secrets.choice([*kinds, f"Bearer {secrets.token_urlsafe(24)}"])
        path = secrets.choice(("/session", "/whip", "/whep/bystander", "/identities"))
        return await client.post(path, content=b"v=0", headers=SDP_HEADERS | {"Authorization": authorization})

    return await repeat_request(env, one, name="")


@attempt("web.links", "made-up links with impossible times")
async def links(env: Environment) -> str:
    made = [
        f"v.bystander.{n}.{e}.{m}"
        for n in ("1", "9" * 300, "-1", "x")
        for e in ("9" * 12, "9" * 150, "nan")
        for m in ("", "a" * 24, "\xe9")
    ]

    async def one(client: httpx.AsyncClient) -> httpx.Response:
        authorization = f"Bearer {secrets.choice(made)}".encode("latin-1")
        return await client.post(
            "/whep/bystander",
            content=b"v=0",
            headers=[(b"Content-Type", b"application/sdp"), (b"Authorization", authorization)],
        )

    return await repeat_request(env, one, name="")


@attempt("web.slow.headers", "40 requests whose headers never end")
async def slow_headers(env: Environment) -> str:
    found = await asyncio.gather(
        *(send_raw(env, b"GET / HTTP/1.1\r\nHost: localhost\r\nX: ", env.seconds) for _ in range(40))
    )
    return counted(Counter(found))


@attempt("web.slow.bodies", "40 offers whose bodies never come")
async def slow_bodies(env: Environment) -> str:
    token = env.tokens["mallory"].encode()
    head = b"POST /whip HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer " + token
    head += b"\r\nContent-Type: application/sdp\r\nContent-Length: 9999\r\n\r\nv=0"
    return counted(Counter(await asyncio.gather(*(send_raw(env, head, env.seconds) for _ in range(40)))))


@attempt("web.broken", "malformed HTTP requests")
async def broken(env: Environment) -> str:
    chance = random.Random(2)
    host = b"Host: localhost\r\n"
    made = [
        b"\r\n" * 5000,
        b"GET\r\n\r\n",
        b"GET / HTTP/9.9\r\n\r\n",
        b"GET / HTTP/1.1\r\n\r\n",
        b"\x16\x03\x01\x02\0\x01",
        b"GET /" + b"a" * 200_000 + b" HTTP/1.1\r\n" + host + b"\r\n",
        b"GET / HTTP/1.1\r\n" + host + b"X: y\r\n" * 50_000 + b"\r\n",
        b"GET /\x00\x1b[31m HTTP/1.1\r\n" + host + b"\r\n",
        b"GET /%00%1b%5b31m HTTP/1.1\r\n" + host + b"\r\n",
        b"GET /identities/%ff%fe HTTP/1.1\r\n" + host + b"\r\n",
        b"GET /..%2f..%2fetc%2fpasswd HTTP/1.1\r\n" + host + b"\r\n",
        b"POST /whip HTTP/1.1\r\n" + host + b"Transfer-Encoding: chunked\r\n\r\nzz\r\n",
        b"POST /whip HTTP/1.1\r\n" + host + b"Transfer-Encoding: chunked\r\n\r\nffffffffffffffff\r\n",
        b"POST /whip HTTP/1.1\r\n" + host + b"Content-Length: -1\r\n\r\n",
        b"POST /whip HTTP/1.1\r\n" + host + b"Content-Length: " + b"9" * 4000 + b"\r\n\r\n",
        b"POST /whip HTTP/1.1\r\n" + host + b"Content-Length: 1\r\nContent-Length: 2\r\n\r\n",
        b"OPTIONS * HTTP/1.1\r\n" + host + b"\r\n",
        b"GET /control/x HTTP/1.1\r\n" + host + b"Upgrade: websocket\r\nConnection: Upgrade\r\n\r\n",
        b"GET /control/x HTTP/1.1\r\n"
        + host
        + b"Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Key: x\r\nSec-WebSocket-Version: 99\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: \xff\xfe\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: evil.example\r\n\r\n",
        b"GET http://[::1 HTTP/1.1\r\n" + host + b"\r\n",
        *(chance.randbytes(600) for _ in range(20)),
    ]
    statuses = Counter[str]()
    for data in made:
        status = await send_raw(env, data, 2.5)
        statuses[status] += 1
        if status.startswith("5") and status != "503":
            env.add_failure(f"{data[:40]!r} got {status}")
    return counted(statuses)


@attempt("web.pipelined", "1,000 requests in one connection, whose answers are not read")
async def pipelined(env: Environment) -> str:
    one = b"GET /openapi.json HTTP/1.1\r\nHost: localhost\r\n\r\n"
    return counted(Counter(await asyncio.gather(*(send_raw(env, one * 1000, 3) for _ in range(10)))))


@attempt("web.upload.decompression_bomb", "a PNG of 50,000 x 50,000 pixels, eight at once")
async def upload_bomb(env: Environment) -> str:
    picture = await asyncio.to_thread(decompression_bomb, 50_000)
    return await repeat_request(env, lambda client: client.post("/identities", content=picture), most=60)


@attempt("web.upload.large", "pictures of 25 MB and of unknown length")
async def upload_large(env: Environment) -> str:
    data = bytes(25 << 20)

    async def endless() -> AsyncIterator[bytes]:
        for _ in range(30):
            yield data[: 1 << 20]

    async def one(client: httpx.AsyncClient) -> httpx.Response:
        path = secrets.choice(("/identities", "/backgrounds"))
        return await client.post(path, content=data if secrets.randbelow(2) else endless())

    return await repeat_request(env, one, at_once=2, most=20)


@attempt("web.upload.many", "as many pictures as the server accepts", processes=1)
async def upload_many(env: Environment) -> str:
    picture = (SAMPLES / "noor.jpg").read_bytes()
    return await repeat_upload(env, lambda: picture, at_once=4)


@attempt("web.upload.odd", "pictures cut at every kilobyte, and with bytes changed")
async def upload_odd(env: Environment) -> str:
    picture, chance = (SAMPLES / "felix.jpg").read_bytes(), random.Random(3)

    def data() -> bytes:
        if chance.random() < 0.5:
            return picture[: chance.randrange(1, len(picture))]
        changed = bytearray(picture)
        for _ in range(20):
            changed[chance.randrange(len(changed) // 4)] = chance.randrange(256)
        return bytes(changed)

    return await repeat_upload(env, data, at_once=2, most=100)


@attempt("web.gets", "every page, eight at once")
async def gets(env: Environment) -> str:
    paths = (
        "/",
        "/status",
        "/metrics",
        "/identities",
        "/openapi.json",
        "/identities/noor",
        "/healthz",
        "/nothing",
        "/view/x",
    )
    return await repeat_request(env, lambda client: client.get(secrets.choice(paths)))
