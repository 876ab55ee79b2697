import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from avatar_stream.errors import BadInput, BadOffer
from avatar_stream.server.control import (
    MAX_MESSAGE,
    ChoosePortrait,
    SetGain,
    SetMirror,
    SetNeutral,
    parse_command,
)
from avatar_stream.server.signalling import MAX_CANDIDATES, check_offer, hint_bitrate, media_sections

OFFER = "\r\n".join(
    [
        "v=0",
        "o=- 1 2 IN IP4 127.0.0.1",
        "s=-",
        "t=0 0",
        "a=group:BUNDLE 0",
        "m=video 9 UDP/TLS/RTP/SAVPF 96 98",
        "c=IN IP4 0.0.0.0",
        "a=mid:0",
        "a=sendrecv",
        "a=rtcp-mux",
        "a=ice-ufrag:abcd",
        "a=ice-pwd:0123456789abcdef01234567",
        "a=fingerprint:sha-256 AB",
        "a=setup:actpass",
        "a=rtpmap:96 VP8/90000",
        "a=rtpmap:98 H264/90000",
        "a=fmtp:98 packetization-mode=1",
        "",
    ]
)


def test_a_plain_offer_passes() -> None:
    check_offer(OFFER)


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (lambda s: "", "v=0"),
        (lambda s: s.replace("sendrecv", "sendonly"), "sendrecv"),
        (lambda s: s.replace("VP8", "AV1").replace("H264", "VP9"), "VP8"),
        (lambda s: s.replace("a=ice-pwd", "a=nothing"), "ice-pwd"),
        (lambda s: s + "m=video 9 UDP/TLS/RTP/SAVPF 96\r\n", "one video"),
        (lambda s: s + "m=audio 9 X 0\r\n" * 3, "sections"),
        (lambda s: s + "a=candidate:1 1 udp 1 10.0.0.1 1 typ host\r\n" * (MAX_CANDIDATES + 1), "candidates"),
        (lambda s: s + "a=x\r\n" * 3000, "lines"),
    ],
)
def test_other_offers_are_refused_with_a_reason(change, sentence) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(BadOffer, match=sentence):
        check_offer(change(OFFER))


@given(st.text())
def test_any_text_is_refused_and_never_breaks(text: str) -> None:
    with pytest.raises(BadOffer):
        check_offer(text)


def test_the_bitrate_hint_goes_to_every_codec_once() -> None:
    hinted = hint_bitrate(OFFER, start=1000, minimum=500)
    assert "a=rtpmap:96 VP8/90000\r\na=fmtp:96 x-google-start-bitrate=1000;x-google-min-bitrate=500\r\n" in hinted
    assert "a=fmtp:98 packetization-mode=1;x-google-start-bitrate=1000" in hinted
    assert hinted.count("x-google-start-bitrate") == 2
    assert len(media_sections(hinted)) == 1


def test_commands() -> None:
    assert parse_command('{"type": "portrait", "id": "amber"}') == ChoosePortrait("amber")
    assert parse_command('{"type": "neutral"}') == SetNeutral()
    assert parse_command('{"type": "gain", "value": 1.5}') == SetGain(1.5)
    assert parse_command('{"type": "mirror", "value": false}') == SetMirror(False)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "null",
        '{"type": "gain"}',
        '{"type": "gain", "value": NaN}',
        '{"type": "gain", "value": 1e999}',
        '{"type": "gain", "value": true}',
        '{"type": "gain", "value": 3}',
        '{"type": "mirror", "value": 1}',
        '{"type": "portrait", "id": 7}',
        '{"type": ["gain"]}',
        "[" * 4000,
        '{"type": "neutral", "x": "' + "y" * MAX_MESSAGE + '"}',
    ],
)
def test_bad_commands_get_a_sentence(text: str) -> None:
    with pytest.raises(BadInput):
        parse_command(text)


@given(st.text(max_size=300))
def test_any_text_is_a_command_or_bad_input(text: str) -> None:
    with contextlib.suppress(BadInput):
        assert isinstance(parse_command(text), ChoosePortrait | SetNeutral | SetGain | SetMirror)
