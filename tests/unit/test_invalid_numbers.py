"""Numbers, nesting and text that later steps cannot process give one error each, and nothing of them is kept."""

import json
import math
from dataclasses import fields
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from avatar_stream.errors import BadInput
from avatar_stream.face.animator import Animator
from avatar_stream.face.arkit import MAX_ABSOLUTE_VALUE, ArkitFrame, HeadPoseCalibration, to_motion
from avatar_stream.face.motion import MotionEstimator
from avatar_stream.rigs.face_packet import unpack
from avatar_stream.rigs.listener import MotionDecoder
from avatar_stream.server.access import Access, make_token, parse_tokens
from avatar_stream.server.http.enrolment_requests import parse_changes
from avatar_stream.server.rtc.signalling import allowed_candidate
from avatar_stream.server.session.control import COMMANDS, parse_command, parse_token
from avatar_stream.strict_json import MAX_DEPTH, read_json
from tests.fuzz.message_targets import seeds

MAX_MESSAGE = 1 << 20
INVALID_NUMBERS = [
    "9" * 3000,
    "-" + "9" * 3000,
    "9" * 5000,
    "1e308",
    "-1e308",
    "1e999",
    "NaN",
    "Infinity",
    "-Infinity",
]
INVALID_VALUES = [
    '"\\ud800"',
    '{"\\udfff": 1}',
    "[" * 900 + "1" + "]" * 900,
    '{"a":' * 900 + "1" + "}" * 900,
    "[" * 100_000,
]
MESSAGES = [
    '{"type": "gain", "value": %s}',
    '{"type": "keep", "value": %s}',
    '{"type": "mirror", "value": %s}',
    '{"type": "portrait", "id": %s}',
    '{"type": "background", "value": %s}',
    '{"type": "expression", "value": %s}',
    '{"type": "expression", "value": {"gains": {"head": %s}}}',
    '{"type": "expression", "value": {"limits": {"jawOpen": [0, %s]}}}',
    '{"type": "motion", "blendShapes": {"jawOpen": %s}}',
    '{"type": "motion", "blendShapes": {}, "head": {"rotation": [0, 0, 0, %s]}}',
    '{"type": "motion", "blendShapes": {}, "head": {"position": [0, %s, 0]}}',
    '{"type": %s}',
    "%s",
]


@pytest.mark.parametrize("message", MESSAGES)
@pytest.mark.parametrize("value", [*INVALID_NUMBERS, *INVALID_VALUES], ids=lambda value: value[:12])
def test_each_invalid_value_is_refused_with_one_sentence(message: str, value: str) -> None:
    with pytest.raises(BadInput) as caught:
        parse_command(message % value, MAX_MESSAGE)
    assert 0 < len(str(caught.value)) < 300
    str(caught.value).encode()
    with pytest.raises(BadInput):
        parse_token(message % value, MAX_MESSAGE)
    if "keep" in message:
        with pytest.raises(BadInput):
            parse_changes((message % value).encode())


def test_a_token_with_a_lone_surrogate_is_refused() -> None:
    access = Access(parse_tokens(make_token("a", ["admin"])[1]))
    for token in ("\ud800", "v.a.b.1.2.\ud800", "v.\ud800.b.1.2.x", "é"):
        with pytest.raises(Exception, match="token") as caught:
            access.authenticate(f"Bearer {token}", 0.0)
        assert type(caught.value).__name__ == "Unauthorized"
    with pytest.raises(BadInput, match="surrogate"):
        parse_token('{"type": "token", "value": "\\ud800"}', MAX_MESSAGE)


VALID_CHARACTERS = st.characters(exclude_categories=["Cs"])  # without surrogates
short_texts = st.text(VALID_CHARACTERS, max_size=4)
valid_json = st.recursive(
    st.none() | st.booleans() | st.integers(-(10**298), 10**298) | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(VALID_CHARACTERS),
    lambda inside: st.lists(inside, max_size=4) | st.dictionaries(short_texts, inside, max_size=4),
    max_leaves=20,
)  # fmt: skip


@given(valid_json)
def test_valid_json_is_read_as_written(value: Any) -> None:
    def depth(one: Any) -> int:
        inside = list(one.values()) if isinstance(one, dict) else one if isinstance(one, list) else []
        return 1 + max(map(depth, inside), default=0)

    for text in (json.dumps(value), json.dumps(value, ensure_ascii=False)):
        if depth(value) <= MAX_DEPTH:
            assert read_json(text, "it") == value


@given(st.integers(1, 3 * MAX_DEPTH), st.booleans())
def test_the_depth_of_nesting_is_limited(depth: int, lists: bool) -> None:
    text = "[" * depth + "]" * depth if lists else '{"a":' * depth + "0" + "}" * depth
    if depth > MAX_DEPTH + 1:
        with pytest.raises(BadInput, match="deep"):
            read_json(text, "it")
    elif depth <= MAX_DEPTH:
        read_json(text, "it")


@given(st.floats() | st.integers(-(10**400), 10**400), st.integers(0, 2))
def test_no_invalid_number_of_a_frame_is_passed_on(number: float, where: int) -> None:
    rotation: list[float] = [0.0, 0.0, 0.0, number if where == 1 else 1.0]
    position: list[float] = [0.0, number if where == 2 else 0.0, 0.0]
    shapes = {"jawOpen": number if where == 0 else 0.5}
    try:
        frame = ArkitFrame.from_json({"blendShapes": shapes, "head": {"rotation": rotation, "position": position}})
    except BadInput:
        assert where == 1 or not abs(number) <= MAX_ABSOLUTE_VALUE
        return
    motion = to_motion(HeadPoseCalibration()(frame))
    for value in (motion.turn, motion.shift, motion.coefficients, motion.lids, np.array(motion.scale)):
        assert np.isfinite(value).all()


def test_nan_from_a_rig_keeps_the_last_values() -> None:
    decode = MotionDecoder()
    for datagram in seeds()["rig"][0].split(b"\xff--\xff"):
        frame = decode(datagram) or None
    assert frame is not None
    for datagram in seeds()["rig"][2:]:
        after = decode(datagram)
        assert after is not None
        assert after.shapes == frame.shapes
        assert after.rotation == frame.rotation
    phone = "jawOpen-50|=head#{},0,0,0,0,0|"
    for number in ("nan", "inf", "1e308", "9" * 3000):
        assert decode(phone.format(number).encode()) is None


PACKET_HEADER = b"\x01\x00" + b"\0" * 6 + (9000).to_bytes(2, "little") + b"\x00\x10\x00\x10"


@settings(max_examples=40, deadline=None)
@given(st.binary(min_size=12, max_size=12), st.binary(min_size=64, max_size=64), st.booleans())
def test_no_face_packet_breaks_the_drivers_calibration(head: bytes, numbers: bytes, extreme: bool) -> None:
    """For any bytes the driver's calibration and the next face's motion stay finite."""
    driver = MotionEstimator()
    usual = unpack(PACKET_HEADER + bytes(64)).landmarks
    numbers = bytes(0x80 if byte & 1 else 0x7F for byte in numbers) if extreme else numbers
    try:
        odd = unpack(b"\x01\x00" + head + numbers).landmarks
    except BadInput:
        return  # a size of 0
    assert usual is not None
    assert odd is not None
    for landmarks in (odd, usual, odd, usual):
        motion = driver(landmarks)
        for name in motion.__slots__:
            assert np.isfinite(getattr(motion, name)).all(), name


def test_landmarks_with_nan_count_as_no_face(monkeypatch: pytest.MonkeyPatch) -> None:
    moved: list[Any] = []
    animator = Animator.__new__(Animator)
    monkeypatch.setattr(Animator, "follow_motion", lambda self, motion, time: moved.append(motion))
    for bad in (math.nan, math.inf):
        landmarks = np.zeros((478, 3), np.float32)
        landmarks[7, 1] = bad
        animator(landmarks, 0.0)
    assert moved == [None, None]


def test_a_candidates_port_of_many_digits_is_dropped() -> None:
    line = "candidate:1 1 udp 1 192.0.2.1 {} typ host"
    assert allowed_candidate(line.format(5000), private=True)
    for port in ("9" * 5000, "0", "65536", "٣", "-1", "1e3"):
        assert not allowed_candidate(line.format(port), private=True)


def test_every_type_of_message_is_covered() -> None:
    assert {kind for kind, command in COMMANDS.items() if fields(command)} <= {
        json.loads(message % "0").get("type") for message in MESSAGES[:-1]
    }


def test_an_osc_bundle_with_a_negative_size_is_ignored() -> None:
    """python-osc loops forever on an element of size -4."""
    from avatar_stream.rigs.osc import messages

    for size in (-4, 0, 3, 8, 2**31 - 1, -(2**31)):
        with pytest.raises(ValueError, match="size"):
            messages(b"#bundle\x00" + bytes(8) + size.to_bytes(4, "big", signed=True) + b"/a\x00\x00")
    nested = b"/a\x00\x00,\x00\x00\x00"
    assert messages(nested) == [("/a", [])]
    for _ in range(20):
        nested = b"#bundle\x00" + bytes(8) + len(nested).to_bytes(4, "big") + nested
    with pytest.raises(ValueError, match="deep"):
        messages(nested)


def test_an_unknown_osc_type_writes_no_log_line(caplog: pytest.LogCaptureFixture) -> None:
    datagram = b"/VMC/Ext/Blend/Val\0\0" + b",&2s\0\0\0\0" + b"abc\0"
    for _ in range(3):
        MotionDecoder()(datagram)
    assert caplog.records == []
