"""All texts and pictures from outside, as functions of bytes that may raise :class:`AvatarError` only."""

import asyncio
import contextlib
import io
from collections.abc import Callable
from functools import cache
from typing import Any
from urllib.parse import quote

import httpx
import numpy as np
from PIL import Image

from avatar_stream.errors import AvatarError
from avatar_stream.portrait.portrait import read_picture
from avatar_stream.server.access import Access, allowed_origin, check_host, make_token, parse_tokens
from avatar_stream.server.http.app import create_app
from avatar_stream.server.rtc.signalling import (
    Role,
    agreed_codec,
    check_offer,
    hint_bitrate,
    ice_ufrag,
    mark_generated,
    without_refused_candidates,
)
from avatar_stream.server.rtc.trickle import check_precondition, parse_fragment
from avatar_stream.server.session.control import parse_command, parse_token
from avatar_stream.settings import Settings
from tests.fuzz import library_targets, message_targets, packet_targets

SETTINGS = Settings()
ACCESS = Access(parse_tokens(make_token("somebody", ["view"])[1]))


def text(data: bytes) -> str:
    """Any bytes as text."""
    return data.decode("utf-8", "replace")


def offer(data: bytes) -> None:
    """SDP offers: refused with an AvatarError, or safe for the later functions."""
    sdp = text(data)
    for role in Role:
        with contextlib.suppress(AvatarError):
            check_offer(sdp, role, SETTINGS)
    for private in (True, False):
        without_refused_candidates(sdp, private)
    ice_ufrag(sdp)
    agreed_codec(sdp, "video")
    mark_generated(hint_bitrate(sdp[:4000]))


def fragment(data: bytes) -> None:
    """Trickle fragments and their If-Match header."""
    with contextlib.suppress(AvatarError):
        parse_fragment(text(data), "abcd", private=True, limits=SETTINGS)
    with contextlib.suppress(AvatarError):
        check_precondition(text(data)[:200], '"etag"')


def command(data: bytes) -> None:
    """Messages of the control channel."""
    for parse in (parse_command, parse_token):
        with contextlib.suppress(AvatarError):
            parse(text(data), SETTINGS.max_message)


def headers(data: bytes) -> None:
    """Authorization, Host, Origin, and a tokens file."""
    value = text(data)
    for ask in (
        lambda: ACCESS.authenticate(value, 0),
        lambda: check_host(value, ("avatar.example",), loopback=True),
        lambda: allowed_origin(value, "localhost:8080", ("https://a.example",)),
        lambda: parse_tokens(value),
    ):
        with contextlib.suppress(AvatarError):
            ask()


def picture(data: bytes) -> None:
    """Uploaded pictures, up to face detection."""
    with contextlib.suppress(AvatarError):
        read_picture(data)


def http(data: bytes) -> None:
    """Whole requests with a method, a path and a body: the server must never answer with a 5xx other than 503."""
    methods = ("GET", "POST", "PATCH", "DELETE", "OPTIONS", "HEAD", "PUT")
    paths = (
        "/session",
        "/whip",
        "/whep/",
        "/session/",
        "/whip/",
        "/links/",
        "/identities/",
        "/view/",
        "/",
        "/status",
    )
    kinds = ("application/sdp", "application/trickle-ice-sdpfrag", "image/png", "")
    if len(data) < 4:
        return
    path = paths[data[1] % len(paths)] + quote(data[4:20], safe="")
    status = _loop().run_until_complete(
        _request(methods[data[0] % 7], path, data[20:], kinds[data[2] % 4], f'"{data[3]}"' if data[3] % 2 else "*")
    )
    assert status < 500 or status == 503, status


TARGETS: dict[str, Callable[[bytes], None]] = {
    "offer": offer,
    "fragment": fragment,
    "command": command,
    "headers": headers,
    "picture": picture,
    "http": http,
    **library_targets.TARGETS,
    **message_targets.TARGETS,
    **packet_targets.TARGETS,
}


def seeds() -> dict[str, list[bytes]]:
    """Valid inputs for every target: fuzzing that starts from noise does not get past the first check."""
    sdp = (
        b"v=0\r\no=- 1 2 IN IP4 0.0.0.0\r\ns=-\r\nt=0 0\r\na=group:BUNDLE 0\r\nm=video 9 UDP/TLS/RTP/SAVPF 96 98\r\n"
        b"c=IN IP4 0.0.0.0\r\na=mid:0\r\na=sendrecv\r\na=rtcp-mux\r\na=ice-ufrag:abcd\r\n"
        b"a=ice-pwd:0123456789abcdef01234567\r\na=fingerprint:sha-256 AB:CD\r\na=setup:actpass\r\n"
        b"a=rtpmap:96 VP8/90000\r\na=rtpmap:98 H264/90000\r\na=fmtp:98 packetization-mode=1\r\n"
        b"a=candidate:1 1 udp 2130706431 192.0.2.1 5000 typ host\r\n"
        b"m=audio 9 UDP/TLS/RTP/SAVPF 111\r\na=mid:1\r\na=sendonly\r\na=rtpmap:111 opus/48000/2\r\n"
    )
    piece = (
        b"a=ice-ufrag:abcd\r\na=ice-pwd:0123456789abcdef01234567\r\nm=video 9 RTP/AVP 0\r\na=mid:0\r\n"
        b"a=candidate:1 1 udp 2130706431 192.0.2.1 5000 typ host raddr 10.0.0.1 rport 9\r\na=end-of-candidates\r\n"
    )
    pictures = []
    for kind in ("PNG", "JPEG", "WEBP"):
        out = io.BytesIO()
        Image.fromarray(np.random.default_rng(1).integers(0, 255, (48, 48, 3)).astype(np.uint8)).save(out, kind)
        pictures.append(out.getvalue())
    return {
        "offer": [sdp],
        "fragment": [piece, b'"etag"'],
        "command": [
            b'{"type": "gain", "value": 1}',
            b'{"type": "token", "value": "x"}',
            b'{"type": "portrait", "id": "a"}',
        ],
        "headers": [b"Bearer v.studio.9999999999.abcdefghijklmnopqrstuvwx", b"localhost:8080", b"https://a.example"],
        "picture": pictures,
        "http": [b"\x01\x00\x00\x00" + bytes(16) + sdp, b"\x02\x03\x01\x01" + b"key".ljust(16) + piece],
        **library_targets.seeds(),
        **message_targets.seeds(),
        **packet_targets.seeds(),
    }


@cache
def _loop() -> asyncio.AbstractEventLoop:
    return asyncio.new_event_loop()


@cache
def _client() -> httpx.AsyncClient:
    # Draining: no offer is accepted, so that no case leaves a session behind for the next.
    app: Any = create_app(Settings(engine="warp", half_open=1, connect_timeout=0.1), None)
    app.state.server.sessions.draining = True
    transport = httpx.ASGITransport(app=app, raise_app_exceptions=True)
    return httpx.AsyncClient(transport=transport, base_url="http://localhost")


async def _request(method: str, path: str, content: bytes, kind: str, tag: str) -> int:
    sent = {"Content-Type": kind, "If-Match": tag} if kind else {}
    return (await _client().request(method, path, content=content, headers=sent)).status_code
