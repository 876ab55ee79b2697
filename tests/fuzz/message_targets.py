"""Messages during a session, as functions of bytes that may raise :class:`AvatarError` only.

Parsed results are checked too: every number must be finite and small enough for its later use.
"""

import asyncio
import contextlib
import json
import math
import tempfile
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote

import httpx
import numpy as np
from aiortc.sdp import candidate_from_sdp
from pythonosc.osc_bundle_builder import IMMEDIATELY, OscBundleBuilder
from pythonosc.osc_message_builder import OscMessageBuilder

from avatar_stream.errors import AvatarError
from avatar_stream.face.arkit import BLEND_SHAPES, MAX_ABSOLUTE_VALUE, ArkitFrame, to_motion
from avatar_stream.face.expression import Expression
from avatar_stream.face.tracked_face import TrackedFace
from avatar_stream.rigs.face_packet import pack, unpack
from avatar_stream.rigs.files import FORMAT, VERSION, MotionFile
from avatar_stream.rigs.listener import MotionDecoder
from avatar_stream.rigs.vmc import encode
from avatar_stream.server.access import Access, make_token, parse_tokens, require, require_instance
from avatar_stream.server.http.app import create_app
from avatar_stream.server.http.enrolment_requests import parse_changes, parse_enrolment
from avatar_stream.server.rtc.trickle import parse_fragment
from avatar_stream.server.session.control import Move, SetExpression, parse_command, parse_token
from avatar_stream.settings import Settings
from avatar_stream.strict_json import read_json

SETTINGS: Final = Settings()
TEST_TIME: Final = 1_800_000_000.0
ACCESS: Final = Access(parse_tokens(make_token("somebody", ["view"])[1]))


def text(data: bytes) -> str:
    """Any bytes as text, which may contain lone surrogates."""
    return data.decode("utf-8", "surrogatepass" if data[:1] == b"{" else "replace")


def message_of(data: bytes) -> str | bytes:
    """Bytes as a WebSocket message: text if possible, else bytes."""
    try:
        return text(data)
    except UnicodeDecodeError:
        return data


def check_frame(frame: ArkitFrame | None) -> None:
    """Check that all numbers of a frame are valid."""
    if frame is None:
        return
    assert set(frame.shapes) <= set(BLEND_SHAPES)
    assert all(0 <= value <= 1 for value in frame.shapes.values())
    assert math.isclose(sum(x * x for x in frame.rotation), 1, abs_tol=1e-6)
    assert all(abs(x) <= MAX_ABSOLUTE_VALUE for x in frame.position)
    motion = to_motion(frame)
    for value in (motion.turn, motion.shift, motion.scale, motion.coefficients, motion.gap, motion.lids, motion.look):
        assert np.isfinite(value).all()


def packet(data: bytes) -> None:
    """Binary face packets, as privacy mode sends them."""
    with contextlib.suppress(AvatarError):
        face = unpack(data)
        if face.landmarks is not None:
            assert np.isfinite(face.landmarks).all()
            assert np.abs(face.landmarks).max() < 1e5
        assert face.view is None or np.isfinite(face.view).all()


def motion(data: bytes) -> None:
    """Motion frames as JSON, alone and in a control message."""
    with contextlib.suppress(AvatarError):
        check_frame(ArkitFrame.from_json(read_json(message_of(data), "a frame")))
    with contextlib.suppress(AvatarError, UnicodeDecodeError):
        command = parse_command(text(data), SETTINGS.max_message)
        if isinstance(command, Move) and isinstance(command.frame, ArkitFrame):
            check_frame(command.frame)


def expression(data: bytes) -> None:
    """Expression settings, in a control message and as stored with a character."""
    with contextlib.suppress(AvatarError):
        Expression.from_json(read_json(message_of(data), "an expression"))
    with contextlib.suppress(AvatarError, UnicodeDecodeError):
        command = parse_command(text(data), SETTINGS.max_message)
        if isinstance(command, SetExpression):
            assert Expression.from_json(json.loads(json.dumps(command.value.to_json()))) == command.value


def rig(data: bytes) -> None:
    """Datagrams of VMC and of phones, several to one decoder, which has state."""
    decode = MotionDecoder()
    for datagram in data.split(b"\xff--\xff"):
        check_frame(decode(datagram))


def motion_file(data: bytes) -> None:
    """Motion files, read to their end."""
    path = _scratch() / "motion.jsonl"
    path.write_bytes(data)
    with contextlib.suppress(AvatarError):
        file = MotionFile(path)
        assert 1 <= file.rate <= 240
        for seconds, frame in file.frames():
            assert 0 <= seconds < 1e6
            check_frame(frame)


def link(data: bytes) -> None:
    """Links and tokens: only a token that was issued gives access."""
    token = text(data) if data[:1] != b"{" else ""
    with contextlib.suppress(AvatarError, UnicodeDecodeError):
        token = token or parse_token(text(data), SETTINGS.max_message)
    for authorization in (f"Bearer {token}", token):
        try:
            caller = ACCESS.authenticate(authorization, TEST_TIME)
        except AvatarError:
            continue
        assert authorization.split(None, 1)[1].strip() == _link()  # RFC 9110 ignores space around it
        require(caller, "view", "studio")
        require_instance(caller, "0123456789abcdef")


def body(data: bytes) -> None:
    """JSON bodies of requests."""
    for parse in (parse_enrolment, parse_changes):
        with contextlib.suppress(AvatarError):
            json.dumps(parse(data), allow_nan=False, ensure_ascii=False).encode()


def trickle(data: bytes) -> None:
    """Trickled candidates, including aiortc's parser, whose errors Peer.trickle ignores."""
    with contextlib.suppress(AvatarError):
        for candidate, _ in parse_fragment(data.decode("utf-8", "replace"), "abcd", private=True, limits=SETTINGS):
            with contextlib.suppress(ValueError, AssertionError, IndexError):  # as Peer.trickle does
                candidate_from_sdp(candidate)


def query(data: bytes) -> None:
    """Query parameters of ``POST /session``, ``/whip`` and ``/whep``."""
    path = ("/session", "/whip", "/whep/studio")[data[0] % 3 if data else 0]
    raw, *more = data[1:].split(b"\0", 3)
    names = ("portrait", "session", "background")
    values = [f"{name}={quote(value)}" for name, value in zip(names, more, strict=False)]
    address = f"{path}?{'&'.join([quote(raw, safe='=&+%'), *values])}"
    status = _loop().run_until_complete(_post(address))
    assert status < 500 or status == 503, status


TARGETS: dict[str, Callable[[bytes], None]] = {
    "packet": packet,
    "motion": motion,
    "expression": expression,
    "rig": rig,
    "motion_file": motion_file,
    "link": link,
    "body": body,
    "trickle": trickle,
    "query": query,
}


def seeds() -> dict[str, list[bytes]]:
    """Valid inputs for every target, and numbers that once broke one."""
    random = np.random.default_rng(3)
    face = TrackedFace(
        random.uniform(100, 300, (478, 3)).astype(np.float32), random.uniform(0, 1, (6, 5, 2)).astype(np.float32)
    )
    frame = ArkitFrame({"jawOpen": 0.5, "eyeBlinkLeft": 1.0}, (0.0, 0.1, 0.0, 0.995), (0.01, 0.0, 0.1))
    moved = json.dumps(frame.to_json(1.5)).encode()
    head = json.dumps({"format": FORMAT, "version": VERSION, "rate": 25}).encode()
    bad = b"9" * 3000, b"1e308", b"NaN", b"-Infinity", b'"\\ud800"', b"[" * 900 + b"]" * 900, b"1e999"
    frames = [moved.replace(b"0.5", number) for number in bad]
    settings = b'{"hold": ["smile"], "limits": {"jawOpen": [0, 0.3]}, "gains": {"head": 0.5}}'
    phone = b"jawOpen-50|eyeBlink_L-10|=head#1.5,2.0,3.0,0.01,0.02,0.03|rightEye#1,2,3|"
    return {
        "packet": [pack(face), pack(TrackedFace(face.landmarks)), b"\0", b"\x01\x01" + b"\x80" * 300],
        "motion": [moved, b'{"type": "motion", ' + moved[1:], *frames],
        "expression": [
            settings,
            b'{"type": "expression", "value": ' + settings + b"}",
            *(b'{"gains": {"head": ' + number + b"}}" for number in bad),
        ],
        "rig": [b"\xff--\xff".join(encode(frame, 1.0)), phone, *_datagrams()],
        "motion_file": [
            b"\n".join([head, moved, b'{"time": 1.6}', b""]),
            *(b"\n".join([head, one]) for one in frames),
            *(head.replace(b"25", number) for number in bad),
        ],
        "link": [_link().encode(), b'{"type": "token", "value": "' + _link().encode() + b'"}', b"v.a.b.c.d.e"],
        "body": [
            b'{"pictures": ["a"], "name": "Ana", "consent": "my own face, I say", "tags": ["a"], "protected": true}',
            b'{"name": "Ana", "settings": {"keep": 0.5, "expression": ' + settings + b"}}",
            *(b'{"settings": {"keep": ' + number + b"}}" for number in bad),
        ],
        "trickle": [
            b"a=ice-ufrag:abcd\r\nm=video 9 RTP/AVP 0\r\na=mid:0\r\na=candidate:1 1 udp 2130706431 192.0.2.1 5000 "
            b"typ host raddr 10.0.0.1 rport 9\r\na=end-of-candidates\r\n",
            b"a=ice-ufrag:abcd\r\na=candidate:1 1 udp 1 192.0.2.1 " + b"9" * 5000 + b" typ host\r\n",
        ],
        "query": [
            b"\0portrait=noor&session=me&background=00ff00",
            b"\1\0noor\0me\0own",
            b"\2x=1",
            b"\0\0\xed\xa0\x80",
        ],
    }


def _datagrams() -> list[bytes]:
    """VMC messages with numbers that are not finite, or too large."""
    out = []
    for value in (math.nan, math.inf, -math.inf, 1e308):
        bundle = OscBundleBuilder(IMMEDIATELY)
        messages: list[tuple[str, list[Any]]] = [
            ("/VMC/Ext/Blend/Val", ["JawOpen", value]),
            ("/VMC/Ext/Bone/Pos", ["Head", 0.0, 0.0, 0.0, value, 0.0, 0.0, 1.0]),
            ("/VMC/Ext/Blend/Apply", []),
        ]
        for address, arguments in messages:
            message = OscMessageBuilder(address)
            for one in arguments:
                message.add_arg(one, "d" if isinstance(one, float) else None)
            bundle.add_content(message.build())
        out.append(bytes(bundle.build().dgram))
    return out


@cache
def _link() -> str:
    return ACCESS.link("studio", "0123456789abcdef", TEST_TIME + 3600)


@cache
def _scratch() -> Path:
    return Path(tempfile.mkdtemp(prefix="fuzz-motion-"))


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


async def _post(address: str) -> int:
    sdp = (
        "v=0\r\no=- 1 2 IN IP4 0.0.0.0\r\ns=-\r\nt=0 0\r\nm=video 9 UDP/TLS/RTP/SAVPF 96\r\nc=IN IP4 0.0.0.0\r\n"
        "a=mid:0\r\na=sendrecv\r\na=rtcp-mux\r\na=ice-ufrag:abcd\r\na=ice-pwd:0123456789abcdef01234567\r\n"
        "a=fingerprint:sha-256 AB:CD\r\na=setup:actpass\r\na=rtpmap:96 VP8/90000\r\n"
    )
    answer = await _client().post(address, content=sdp, headers={"Content-Type": "application/sdp"})
    return answer.status_code
