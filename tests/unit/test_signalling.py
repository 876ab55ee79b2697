import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from avatar_stream.errors import (
    BadInput,
    BadOffer,
    NotSupported,
    PreconditionFailed,
    PreconditionRequired,
    Unacceptable,
)
from avatar_stream.server.rtc.signalling import (
    Role,
    agreed_codec,
    allowed_candidate,
    check_offer,
    direction,
    hint_bitrate,
    mark_generated,
    media_sections,
    without_refused_candidates,
)
from avatar_stream.server.rtc.trickle import check_precondition, parse_fragment
from avatar_stream.server.session.control import (
    ChoosePortrait,
    Command,
    SetGain,
    SetKeep,
    SetMirror,
    SetNeutral,
    parse_command,
    parse_token,
)
from avatar_stream.settings import Settings

SETTINGS = Settings()
MAX_MESSAGE = SETTINGS.max_message

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


def offer(way: str = "sendrecv") -> str:
    return OFFER.replace("sendrecv", way)


AUDIO_SECTION = (
    "m=audio 9 UDP/TLS/RTP/SAVPF 111\r\na=mid:1\r\na=recvonly\r\na=rtcp-mux\r\na=rtpmap:111 opus/48000/2\r\n"
)


@pytest.mark.parametrize(
    ("role", "way"),
    [(Role.BOTH, "sendrecv"), (Role.PUBLISH, "sendonly"), (Role.PUBLISH, "sendrecv"), (Role.VIEW, "recvonly")],
)
def test_valid_offers_pass(role: Role, way: str) -> None:
    check_offer(offer(way), role, SETTINGS)
    check_offer(offer(way).replace("BUNDLE 0", "BUNDLE 0 1") + AUDIO_SECTION, role, SETTINGS)


@pytest.mark.parametrize(
    ("role", "way"),
    [(Role.BOTH, "sendonly"), (Role.PUBLISH, "recvonly"), (Role.VIEW, "sendrecv"), (Role.VIEW, "inactive")],
)
def test_offers_in_the_wrong_direction_are_refused(role: Role, way: str) -> None:
    with pytest.raises(Unacceptable, match="must be"):
        check_offer(offer(way), role, SETTINGS)


def test_the_direction_may_be_at_session_level() -> None:
    lines = OFFER.replace("a=sendrecv\r\n", "").replace("t=0 0\r\n", "t=0 0\r\na=recvonly\r\n")
    assert direction(media_sections(lines)[0], lines) == "recvonly"
    assert direction(media_sections(OFFER)[0], OFFER) == "sendrecv"
    assert direction("m=video 9 X 0\r\n", "v=0\r\n") == "sendrecv"


@pytest.mark.parametrize(
    ("change", "error", "sentence"),
    [
        (lambda s: "", BadOffer, "v=0"),
        (lambda s: s.replace("a=ice-pwd", "a=nothing"), BadOffer, "ice-pwd"),
        (lambda s: s + "m=audio 9 X 0\r\n" * 3, BadOffer, "sections"),
        (lambda s: s + "a=candidate:1 1 udp 1 10.0.0.1 1 typ host\r\n" * 33, BadOffer, "candidates"),
        (lambda s: s + "a=x\r\n" * 3000, BadOffer, "lines"),
        (lambda s: s.replace("VP8", "AV1").replace("H264", "VP9"), Unacceptable, "VP8"),
        (lambda s: s + "m=video 9 UDP/TLS/RTP/SAVPF 96\r\n", Unacceptable, "one video"),
        (lambda s: s.replace("BUNDLE 0", "BUNDLE 0 1") + AUDIO_SECTION.replace("opus", "PCMU"), Unacceptable, "opus"),
        (lambda s: s + AUDIO_SECTION, Unacceptable, "BUNDLE"),
        (lambda s: s.replace("a=group:BUNDLE 0\r\n", "") + AUDIO_SECTION, Unacceptable, "BUNDLE"),
        (lambda s: s.replace("a=rtcp-mux\r\n", ""), Unacceptable, "rtcp-mux"),
        (lambda s: s + "m=text 9 X 0\r\n", Unacceptable, "video and audio"),
    ],
)
def test_unsupported_offers_name_the_reason(change, error, sentence) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(error, match=sentence):
        check_offer(change(OFFER), Role.BOTH, SETTINGS)


@given(st.text(), st.sampled_from(Role))
def test_arbitrary_text_is_refused(text: str, role: Role) -> None:
    with pytest.raises((BadOffer, Unacceptable)):
        check_offer("v=0\r\n" + text, role, SETTINGS)


@pytest.mark.parametrize(
    ("address", "abroad", "at_home"),
    [
        ("93.184.216.34", True, True),
        ("2606:2800:220:1::1", True, True),
        ("10.1.2.3", False, True),
        ("192.168.0.7", False, True),
        ("127.0.0.1", False, True),
        ("169.254.169.254", False, True),
        ("100.64.0.1", False, True),
        ("::1", False, True),
        ("fe80::1", False, True),
        ("fd00::1", False, True),
        ("::ffff:10.0.0.1", False, True),
        ("6c6f0ebc-0ba5-4f1c-b1a6-0c0f0ba4f8a1.local", False, True),
        ("224.0.0.1", False, False),
        ("0.0.0.0", False, False),
        ("metadata.internal", False, False),
        ("0x7f.1", False, False),
    ],
)
def test_allowed_candidate_addresses(address: str, abroad: bool, at_home: bool) -> None:
    line = f"a=candidate:1 1 UDP 2130706431 {address} 50000 typ host"
    assert allowed_candidate(line, private=False) is abroad
    assert allowed_candidate(line, private=True) is at_home
    kept = without_refused_candidates(f"v=0\r\n{line}\r\na=x\r\n", private=False)
    assert (line in kept) is abroad
    assert kept.startswith("v=0\r\n")
    assert kept.endswith("a=x\r\n")


@pytest.mark.parametrize(
    "line", ["", "a=candidate:", "candidate:1 1 tcp 1 9.9.9.9 9 typ host", "x" * 90, "1 1 udp 1 9.9.9.9 0 typ host"]
)
def test_invalid_candidates_are_dropped(line: str) -> None:
    assert not allowed_candidate(line, private=True)


FRAGMENT_HEAD = "a=ice-ufrag:abcd\r\na=ice-pwd:0123456789abcdef01234567\r\nm=video 9 RTP/AVP 0\r\na=mid:0\r\n"


def test_a_trickle_fragment_is_parsed() -> None:
    text = FRAGMENT_HEAD + "a=candidate:1 1 udp 1 9.9.9.9 5 typ host\r\na=candidate:2 1 udp 1 10.0.0.1 5 typ host\r\n"
    parsed = parse_fragment(text, "abcd", private=False, limits=SETTINGS)
    assert parsed == (("1 1 udp 1 9.9.9.9 5 typ host", "0"),)
    assert parse_fragment(FRAGMENT_HEAD + "a=end-of-candidates\r\n", "abcd", private=False, limits=SETTINGS) == ()
    with pytest.raises(NotSupported, match="restart"):
        parse_fragment(text, "efgh", private=False, limits=SETTINGS)
    for bad in (
        "",
        "hello",
        "v=0\r\n" + FRAGMENT_HEAD,
        FRAGMENT_HEAD + "a=candidate:1\r\n" * 40,
        FRAGMENT_HEAD + "a=x\r\n" * 2000,
    ):
        with pytest.raises(BadInput):
            parse_fragment(bad, "abcd", private=False, limits=SETTINGS)


def test_if_match_preconditions() -> None:
    for fine in ('"a"', '"b", "a"', "*", 'W/"a"'):
        check_precondition(fine, '"a"')
    with pytest.raises(PreconditionFailed):
        check_precondition('"b"', '"a"')
    with pytest.raises(PreconditionRequired):
        check_precondition(None, '"a"')


def test_the_agreed_codec_is_read_from_an_answer() -> None:
    assert agreed_codec(OFFER, "video") == "VP8"
    assert agreed_codec(OFFER.replace("SAVPF 96 98", "SAVPF 98 96"), "video") == "H264"
    assert agreed_codec(OFFER.replace("m=video 9", "m=video 0"), "video") == ""
    assert agreed_codec(OFFER + AUDIO_SECTION, "audio") == "opus"
    assert "\r\ns=AI-generated\r\n" in mark_generated(OFFER)


def test_the_bitrate_hint_goes_to_every_codec_once() -> None:
    hinted = hint_bitrate(OFFER, start=1000, minimum=500)
    assert "a=rtpmap:96 VP8/90000\r\na=fmtp:96 x-google-start-bitrate=1000;x-google-min-bitrate=500\r\n" in hinted
    assert "a=fmtp:98 packetization-mode=1;x-google-start-bitrate=1000" in hinted
    assert hinted.count("x-google-start-bitrate") == 2
    assert len(media_sections(hinted)) == 1


def test_commands_are_parsed() -> None:
    assert parse_command('{"type": "portrait", "id": "robin"}', MAX_MESSAGE) == ChoosePortrait("robin")
    assert parse_command('{"type": "neutral"}', MAX_MESSAGE) == SetNeutral()
    assert parse_command('{"type": "gain", "value": 1.5}', MAX_MESSAGE) == SetGain(1.5)
    assert parse_command('{"type": "keep", "value": 0.5}', MAX_MESSAGE) == SetKeep(0.5)
    assert parse_command('{"type": "mirror", "value": false}', MAX_MESSAGE) == SetMirror(False)


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
        '{"type": "keep", "value": 1.1}',
        '{"type": "keep"}',
        '{"type": "mirror", "value": 1}',
        '{"type": "portrait", "id": 7}',
        '{"type": ["gain"]}',
        "[" * 4000,
        '{"type": "neutral", "x": "' + "y" * MAX_MESSAGE + '"}',
    ],
)
def test_invalid_commands_are_refused_with_a_sentence(text: str) -> None:
    with pytest.raises(BadInput):
        parse_command(text, MAX_MESSAGE)


@given(st.text(max_size=300))
def test_arbitrary_text_is_a_command_or_bad_input(text: str) -> None:
    with contextlib.suppress(BadInput):
        assert isinstance(parse_command(text, MAX_MESSAGE), Command)


@given(st.text(max_size=300))
def test_a_first_message_is_a_token_or_bad_input(text: str) -> None:
    with contextlib.suppress(BadInput):
        parse_token(text, MAX_MESSAGE)
    assert parse_token('{"type": "token", "value": "abc"}', MAX_MESSAGE) == "abc"
