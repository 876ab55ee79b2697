"""WebSockets: control messages and motion from a session's owner, and connections without a token."""

import asyncio
import contextlib
import json
import random
from collections import Counter
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from typing import Any, Final

import websockets
from websockets.exceptions import ConnectionClosed, WebSocketException

from tests.soak.stranger.environment import Environment
from tests.soak.stranger.guest import Guest
from tests.soak.stranger.registry import attempt

MESSAGE_INTERVAL: Final = 0.05  # seconds; the server allows 30 messages a second
MANY_DIGITS: Final = "9" * 3000
EXTREME_NUMBERS: Final = (
    MANY_DIGITS,
    "-" + MANY_DIGITS,
    "1e308",
    "-1e308",
    "1e999",
    "NaN",
    "Infinity",
    "-Infinity",
    "1e-400",
    "0." + MANY_DIGITS,
)


def socket_url(env: Environment, path: str) -> str:
    """The URL of a WebSocket."""
    return env.url.replace("http://localhost", "ws://127.0.0.1") + path


@asynccontextmanager
async def control_channel(env: Environment) -> AsyncIterator[tuple[Guest, Any]]:
    """A session of mallory's and its control channel."""
    async with Guest(env).connected() as guest:
        path = f"/control/{guest.location.rsplit('/', 1)[1]}"
        async with websockets.connect(socket_url(env, path), max_size=None) as socket:
            await socket.send(json.dumps({"type": "token", "value": env.tokens["mallory"]}))
            await env.count_beside_idle_guest()
            yield guest, socket


async def send_messages(
    env: Environment, messages: Iterable[str | bytes], pause: float = MESSAGE_INTERVAL, *, answers: bool = True
) -> str:
    """Send each message once; returns how many answers of which type came. With ``answers`` each must get one."""
    async with control_channel(env) as (guest, socket):
        sent, heard = 0, Counter[str]()

        async def listen() -> None:
            with contextlib.suppress(ConnectionClosed):
                async for text in socket:
                    heard[json.loads(text)["type"]] += 1

        listening = asyncio.create_task(listen())
        try:
            for message in messages:
                await socket.send(message)
                sent += 1
                await asyncio.sleep(pause)
            await asyncio.sleep(0.5)
        except ConnectionClosed:
            heard[f"closed {socket.close_code}"] += 1
        listening.cancel()
        if answers and heard["error"] + heard["done"] < sent:
            env.add_failure(f"{sent} messages got {heard['error'] + heard['done']} answers")
        if socket.close_code in (1006, 1011):
            env.add_failure(f"the server closed the channel with an error after {sent} messages")
        if not guest.live:
            env.add_failure("the session ended with its control channel")
        return f"{sent} sent: {', '.join(f'{count} {kind}' for kind, count in sorted(heard.items()))}"


@attempt("talk.numbers", "3,000 digits, 1e308 and NaN as gain and in motion frames", short=True)
async def numbers(env: Environment) -> str:
    made = []
    for number in EXTREME_NUMBERS:
        made += [f'{{"type": "{kind}", "value": {number}}}' for kind in ("gain", "keep", "mirror")]
        made += [
            f'{{"type": "motion", "blendShapes": {{"jawOpen": {number}}}}}',
            f'{{"type": "motion", "blendShapes": {{}}, "head": {{"rotation": [0, 0, 0, {number}]}}}}',
            f'{{"type": "motion", "time": {number}, "blendShapes": {{}}, "head": {{"position": [{number}, 0, 0]}}}}',
            f'{{"type": "expression", "value": {{"gains": {{"head": {number}}}}}}}',
            f'{{"type": "expression", "value": {{"limits": {{"jawOpen": [0, {number}]}}}}}}',
        ]
    return await send_messages(env, made, answers=False)


@attempt("talk.text", "lone surrogates, escape sequences and very long names")
async def text(env: Environment) -> str:
    odd = ("\\ud800", "\\udfff\\ud800", "\\u001b[31m", "\\u202e", "\\u0000", "a" * 3500)
    made = [
        f'{{"type": "{kind}", "{field}": "{one}"}}'
        for one in odd
        for kind, field in (("portrait", "id"), ("background", "value"))
    ]
    made += [f'{{"type": "{one}"}}' for one in odd]
    made += [f'{{"type": "motion", "blendShapes": {{"{one}": 1}}}}' for one in odd]
    made += [
        f'{{"type": "expression", "value": {{"hold": ["{one}"], "limits": {{"{one}": [0, 1]}}}}}}' for one in odd
    ]
    return await send_messages(env, made)


@attempt("talk.deep", "JSON nested as deep as a message is long, and texts that are not JSON")
async def deep(env: Environment) -> str:
    made = ["[" * 4000, "[" * 2000 + "]" * 2000, '{"type":' * 500 + "1" + "}" * 500, '{"a":' * 700 + "1" + "}" * 700]
    made += ['{"type": "expression", "value": ' + '{"gains":' * 300 + "1" + "}" * 300 + "}", "", "null", "1", '"a"']
    made += ['{"type": "motion", "blendShapes": {"jawOpen": ' + "[" * 900 + "]" * 900 + "}}", "{" * 5000]
    return await send_messages(env, made)


@attempt("talk.binary", "binary packets of every length from 0 to 400, and right lengths with garbage")
async def binary(env: Environment) -> str:
    chance = random.Random(1)
    lengths = [chance.randbytes(size) for size in range(0, 400, 3)]
    right = [bytes([1, k % 2]) + chance.randbytes((76, 106)[k % 2]) for k in range(100)]
    return await send_messages(env, lengths + right, 0.04, answers=False)


@attempt("talk.motion.far", "motion frames with extreme head rotations and positions")
async def far(env: Environment) -> str:
    made = []
    for size in (1e3, 1e10, 1e38, 1e300, -1e300):
        head = {"rotation": [0.7, 0.7, 0, 0.1], "position": [size, -size, size]}
        made.append(json.dumps({"type": "motion", "blendShapes": {"jawOpen": size}, "head": head}))
        made.append(json.dumps({"type": "motion", "blendShapes": {}, "head": {"position": [0, 0, 0.6 - size]}}))
    return await send_messages(env, made * 10, answers=False)


@attempt("talk.flood", "control messages as fast as possible")
async def flood(env: Environment) -> str:
    return await send_messages(env, ['{"type": "gain", "value": 1}'] * 3000, 0, answers=False)


@attempt("talk.flood.motion", "motion frames as fast as possible", processes=1)
async def flood_motion(env: Environment) -> str:
    return await send_messages(env, ['{"type": "motion", "blendShapes": {"jawOpen": 0.5}}'] * 3000, 0, answers=False)


@attempt("talk.portraits", "another portrait thirty times a second", processes=1)
async def portraits(env: Environment) -> str:
    names = ("noor", "felix", "samuel", "walter", "mateo", "robin")
    made = [json.dumps({"type": "portrait", "id": names[k % len(names)]}) for k in range(60)]
    return await send_messages(env, made, answers=False)


@attempt("talk.backgrounds", "another background thirty times a second", processes=1)
async def backgrounds(env: Environment) -> str:
    made = [json.dumps({"type": "background", "value": f"#{k * 7919 % (1 << 24):06x}"}) for k in range(90)]
    return await send_messages(env, made, answers=False)


@attempt("talk.large", "messages of 100 kB, longer than the limit")
async def large(env: Environment) -> str:
    closed = Counter[str]()
    for _ in range(5):
        async with control_channel(env) as (_guest, socket):
            with contextlib.suppress(ConnectionClosed):
                await socket.send("x" * 100_000)
                for _ in range(20):
                    await asyncio.wait_for(socket.recv(), 2)
            closed[str(socket.close_code)] += 1
    return f"closed: {dict(closed)}"


@attempt("talk.nobody", "60 channels that send no token")
async def nobody(env: Environment) -> str:
    codes = Counter[str]()

    async def one(number: int) -> None:
        path = ("/control/none", "/motion/bystander", "/control/%ff%fe", "/motion/\x7f")[number % 4]
        try:
            async with websockets.connect(socket_url(env, path.replace("\x7f", "%7f"))) as socket:
                if number % 3 == 0:
                    await socket.send(("no token", b"\xff\xfe", "[" * 3000)[number // 3 % 3])
                async for _ in socket:
                    pass
                codes[str(socket.close_code)] += 1
        except ConnectionClosed as error:
            codes[str(error.rcvd.code if error.rcvd else None)] += 1
        except (OSError, WebSocketException) as error:
            codes[type(error).__name__] += 1

    await asyncio.gather(*(one(number) for number in range(60)))
    return f"closed: {dict(codes)}"


@attempt("talk.listeners", "40 listeners of the bystander's motion that read nothing")
async def listeners(env: Environment) -> str:
    opened, codes = [], Counter[str]()
    for _ in range(40):
        with contextlib.suppress(OSError, WebSocketException):
            socket = await websockets.connect(socket_url(env, "/motion/bystander"), max_queue=1)
            await socket.send(json.dumps({"type": "token", "value": env.tokens["watcher"]}))
            opened.append(socket)
    await asyncio.sleep(env.seconds)
    for socket in opened:
        codes[str(socket.close_code)] += 1
        await socket.close()
    return f"{len(opened)} opened, closed: {dict(codes)}"
