"""Video that is too large to decode in time, leaving while it is decoded, and unusual audio formats."""

import asyncio
import contextlib
import functools
import re
import struct
from collections.abc import Callable
from fractions import Fraction
from typing import Any

import av
import numpy as np

from avatar_stream.media.encode import VIDEO_CLOCK_RATE
from tests.soak.client import EncodedCamera
from tests.soak.stranger.environment import Environment
from tests.soak.stranger.guest import Guest
from tests.soak.stranger.registry import attempt

WATCH_SECONDS = 15.0  # after leaving; the server ends a hanging session after ten


@functools.cache
def encoded_noise(sides: tuple[tuple[int, int], ...]) -> tuple[bytes, ...]:
    """VP8 key frames of these (width, height), with noise, which is expensive to decode."""
    found = []
    for width, height in sides:
        context: Any = av.CodecContext.create("libvpx", "w")
        context.width, context.height, context.pix_fmt = width, height, "yuv420p"
        context.bit_rate, context.time_base, context.framerate = (
            4_000_000,
            Fraction(1, VIDEO_CLOCK_RATE),
            Fraction(25),
        )
        context.options = {"deadline": "realtime", "cpu-used": "-16", "lag-in-frames": "0", "threads": "2"}
        tile = np.random.default_rng(1).integers(0, 255, (192, 128), np.uint8)
        picture = np.tile(tile, (height * 3 // 2 // 192 + 1, width // 128 + 1))[: height * 3 // 2, :width]
        frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(picture), format="yuv420p")
        frame.pts, frame.time_base = 0, Fraction(1, VIDEO_CLOCK_RATE)
        found += [bytes(packet) for packet in (*context.encode(frame), *context.encode(None))]
    return tuple(found)


def with_claimed_size(side: int, data: bytes) -> bytes:
    """A key frame whose header claims another size (RFC 6386, 9.1), cut to 62 bytes."""
    return (data[:6] + struct.pack("<HH", side, side) + data[10:])[:62]


def packets_of(frames: tuple[bytes, ...]) -> list[Any]:
    """These frames as a camera's packets."""
    packets = [av.Packet(data) for data in frames]
    for packet in packets:
        packet.time_base = Fraction(1, VIDEO_CLOCK_RATE)
    return packets


def camera_of(frames: tuple[bytes, ...]) -> EncodedCamera:
    """A camera that sends these frames again and again, 25 a second."""
    return EncodedCamera(packets_of(frames))


async def connect_harmless(env: Environment, count: int) -> list[Guest]:
    """Guests that send tiny pictures. The baseline is measured beside them: joining and drawing are no harm."""
    tiny = await asyncio.to_thread(encoded_noise, ((64, 64),))
    guests = [Guest(env, camera=camera_of(tiny)) for _ in range(count)]
    for guest in guests:
        response = await guest.connect()
        assert response.status_code == 201, f"a guest got {response.status_code}"
    await env.count_beside_idle_guest()
    return guests


async def publish_and_leave(env: Environment, frames: tuple[bytes, ...], how: str) -> str:
    """Publish these frames for the time of an attempt, then leave; the session must end."""
    (guest,) = await connect_harmless(env, 1)
    guest.camera.packets = packets_of(frames)
    await asyncio.sleep(env.seconds)
    there = "connected" if guest.live else "disconnected"
    await guest.leave(how)
    if env.strict:
        await asyncio.sleep(WATCH_SECONDS)
    others = await env.wait_until_guests_gone()
    if others > 0:
        env.add_failure("the session was still there long after its publisher left")
    return f"the guest was {there}; {others} of its sessions were left"


@attempt("video.4096", "VP8 of 4096 x 4096, then DELETE", processes=1)
async def large(env: Environment) -> str:
    return await publish_and_leave(env, await asyncio.to_thread(encoded_noise, ((4096, 4096),)), "delete")


@attempt("video.4096.dtls", "the same, leaving by closing the connection", processes=1)
async def large_dtls(env: Environment) -> str:
    return await publish_and_leave(env, await asyncio.to_thread(encoded_noise, ((4096, 4096),)), "dtls")


@attempt("video.4096.vanish", "the same, leaving by sending nothing more", processes=1)
async def large_vanish(env: Environment) -> str:
    return await publish_and_leave(env, await asyncio.to_thread(encoded_noise, ((4096, 4096),)), "vanish")


@attempt("video.8192", "VP8 of 8192 x 8192, then DELETE", processes=1)
async def larger(env: Environment) -> str:
    return await publish_and_leave(env, await asyncio.to_thread(encoded_noise, ((8192, 8192),)), "delete")


@attempt("video.claim", "a 62-byte key frame that claims 16000 x 16000, then DELETE", processes=1, short=True)
async def claim(env: Environment) -> str:
    frames = await asyncio.to_thread(encoded_noise, ((64, 64),))
    return await publish_and_leave(env, (with_claimed_size(16000, frames[0]),), "delete")


@attempt("video.claim.dtls", "the same, leaving by closing the connection", processes=1)
async def claim_dtls(env: Environment) -> str:
    frames = await asyncio.to_thread(encoded_noise, ((64, 64),))
    return await publish_and_leave(env, (with_claimed_size(16000, frames[0]),), "dtls")


@attempt("video.zero", "key frames that claim 0 x 0, 1 x 16383 and 16383 x 1", processes=1)
async def zero(env: Environment) -> str:
    frames = await asyncio.to_thread(encoded_noise, ((64, 64),))
    odd = tuple(
        frames[0][:6] + struct.pack("<HH", *size) + frames[0][10:] for size in ((0, 0), (1, 16383), (16383, 1))
    )
    return await publish_and_leave(env, odd, "delete")


@attempt("video.sizes", "another size with every frame, 16 to 1920 wide", processes=1)
async def sizes(env: Environment) -> str:
    sides = tuple((16 + 112 * k, 16 + 60 * (17 - k)) for k in range(18))
    return await publish_and_leave(env, await asyncio.to_thread(encoded_noise, sides), "delete")


@attempt("video.thin", "pictures of 16 x 4096 and 4096 x 16", processes=1)
async def thin(env: Environment) -> str:
    return await publish_and_leave(env, await asyncio.to_thread(encoded_noise, ((16, 4096), (4096, 16))), "delete")


@attempt("video.three", "three publishers of 4096 x 4096 that leave together", processes=1)
async def three(env: Environment) -> str:
    frames = await asyncio.to_thread(encoded_noise, ((4096, 4096),))
    guests = await connect_harmless(env, 3)
    for guest in guests:
        guest.camera.packets = packets_of(frames)
    await asyncio.sleep(env.seconds)
    there = sum(guest.live for guest in guests)
    await asyncio.gather(*(guest.leave() for guest in guests))
    await asyncio.sleep(WATCH_SECONDS)
    return f"{there} of {len(guests)} guests were connected"


async def connect_with_offer(env: Environment, change: Callable[[str], str]) -> str:
    """Connect with a changed offer; returns the server's answer and whether the guest was connected."""
    guest = Guest(env, change=change)
    response = await guest.connect(wait=False)
    await asyncio.sleep(env.seconds)
    there = guest.live
    await guest.leave()
    if response.status_code != 201:
        return f"{response.status_code} {response.text[:60]}"
    return f"201, {'connected' if there else 'not connected'}"


@attempt("audio.channels", "Opus of 8 channels", processes=1)
async def channels(env: Environment) -> str:
    return await connect_with_offer(env, lambda sdp: sdp.replace("opus/48000/2", "opus/48000/8"))


@attempt("audio.rate", "Opus of 1 Hz and of 0 Hz", processes=1)
async def rate(env: Environment) -> str:
    found = []
    for hertz in ("1", "0", "99999999999999999999"):
        with contextlib.suppress(AssertionError, ValueError):
            guest = Guest(env, change=functools.partial(_rate, hertz))
            found.append((await guest.connect(wait=False)).status_code)
            await guest.leave()
    return f"{found}"


def _rate(hertz: str, sdp: str) -> str:
    return re.sub(r"(a=rtpmap:96 )opus/48000/2", rf"\1opus/{hertz}/2\r\na=rtpmap:111 opus/48000/2", sdp)
