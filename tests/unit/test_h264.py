"""H.264 offers of encoders and browsers."""

import re
from collections.abc import Iterator

import av
import numpy as np
import pytest
from aiortc import RTCPeerConnection
from hypothesis import given
from hypothesis import strategies as st

from avatar_stream.errors import Unacceptable
from avatar_stream.media.aiortc_gaps import _SingleNalUnits
from avatar_stream.media.broadcast import Broadcast
from avatar_stream.media.encode import H264_SINGLE_NAL, MAX_NAL_UNIT_BYTES, VideoEncoder
from avatar_stream.server.rtc.h264 import choose_h264, with_offered_parameters
from avatar_stream.server.rtc.peer import Peer
from avatar_stream.server.rtc.signalling import Role, agreed_codec, check_offer
from avatar_stream.settings import Settings

MODE_1 = ";packetization-mode=1"
FMTP_BY_SENDER = {
    "constrained baseline": "profile-level-id=42e01f" + MODE_1,
    "baseline": "profile-level-id=42001f" + MODE_1,
    "main": "level-asymmetry-allowed=1;packetization-mode=1;profile-level-id=4d001f",
    "main 4.1 (OBS)": "profile-level-id=4d0029;packetization-mode=1;level-asymmetry-allowed=1",
    "high (FFmpeg)": "level-asymmetry-allowed=1;packetization-mode=1;profile-level-id=64001f",
    "constrained high (phones)": "level-asymmetry-allowed=1;packetization-mode=1;profile-level-id=640c1f",
    "high 5.2": "packetization-mode=1;profile-level-id=640034",
    "high 10": "packetization-mode=1;profile-level-id=6e0028",
    "high 4:2:2": "packetization-mode=1;profile-level-id=7a0028",
    "high 4:4:4": "packetization-mode=1;profile-level-id=f4001f",
    "extended": "packetization-mode=1;profile-level-id=58a01f",
    "no profile": "packetization-mode=1",
    "no mode": "profile-level-id=42e01f",
    "no mode, high": "profile-level-id=64001F",
    "mode 0": "packetization-mode=0;profile-level-id=42e01f",
    "mode 0, main": "packetization-mode=0;profile-level-id=4d001f",
    "capitals": "PROFILE-LEVEL-ID=42E01F;PACKETIZATION-MODE=1",
    "blanks": "profile-level-id=640028; packetization-mode=1; level-asymmetry-allowed=1",
    "a semicolon too many": "packetization-mode=1;profile-level-id=4d401f;",
    "parameter sets": "packetization-mode=1;profile-level-id=64001f;sprop-parameter-sets=Z2QAH6zZQFAFuwEQ,aOvjyyLA",
    "an odd parameter": "useadaptivelayering_v2=1;packetization-mode=1;x",
    "empty": "",
}


def offer(fmtp: dict[str, str | None], way: str = "sendonly", codecs: str = "H264") -> str:
    """An offer of payload types with these parameters; None omits ``a=fmtp``."""
    lines = [
        "v=0",
        "o=- 1 2 IN IP4 127.0.0.1",
        "s=-",
        "t=0 0",
        "a=group:BUNDLE 0",
        "m=video 9 UDP/TLS/RTP/SAVPF " + " ".join(fmtp),
        "c=IN IP4 0.0.0.0",
        "a=mid:0",
        f"a={way}",
        "a=rtcp-mux",
        "a=ice-ufrag:abcd",
        "a=ice-pwd:0123456789abcdef01234567",
        "a=fingerprint:sha-256 " + ":".join(["AB"] * 32),
        "a=setup:actpass",
    ]
    for payload, text in fmtp.items():
        lines += [f"a=rtpmap:{payload} {codecs}/90000", f"a=rtcp-fb:{payload} nack"]
        lines += [f"a=fmtp:{payload} {text}"] if text is not None else []
    return "\r\n".join([*lines, ""])


async def answer_offer(sdp: str, role: Role) -> tuple[str, Peer]:
    peer = Peer(role, "127.0.0.1", "", Settings())
    check_offer(sdp, role, Settings())
    broadcast = Broadcast(lambda: None, 25)
    try:
        return await peer.answer(sdp, broadcast, lambda kind, frame: None), peer
    finally:
        broadcast.close()
        for feed in peer.feeds:
            feed.stop()
        await peer._pc.close()


def parameters(answer: str, payload: str = "96") -> dict[str, str]:
    (found,) = re.findall(rf"^a=fmtp:{payload} ([^\r\n]*)", answer, re.MULTILINE)
    return dict(part.partition("=")[::2] for part in found.split(";"))


@pytest.mark.parametrize("name", FMTP_BY_SENDER)
@pytest.mark.parametrize("role", [Role.PUBLISH, Role.VIEW, Role.BOTH])
async def test_each_profile_is_answered_with_its_own_parameters(name: str, role: Role) -> None:
    way = {Role.PUBLISH: "sendonly", Role.VIEW: "recvonly", Role.BOTH: "sendrecv"}[role]
    answer, peer = await answer_offer(offer({"96": FMTP_BY_SENDER[name]}, way), role)
    assert agreed_codec(answer, "video") == "H264"
    assert answer.startswith("v=0")
    assert re.search(r"^m=video \d+ UDP/TLS/RTP/SAVPF 96\r$", answer, re.MULTILINE)
    answer_parameters, asked = parameters(answer), FMTP_BY_SENDER[name].lower().replace(" ", "")
    profile, mode = re.search(r"profile-level-id=(\w+)", asked), re.search(r"packetization-mode=(\d)", asked)
    assert answer_parameters["profile-level-id"].lower() == (profile[1] if profile else "42e01f")
    assert answer_parameters["packetization-mode"] == (mode[1] if mode else "0")
    for feed in peer.feeds:
        assert feed.codec == ("H264" if answer_parameters["packetization-mode"] == "1" else "H264/0")


async def test_an_offer_without_fmtp() -> None:
    for role, way in ((Role.PUBLISH, "sendonly"), (Role.VIEW, "recvonly")):
        answer, _ = await answer_offer(offer({"96": None}, way), role)
        answer_parameters = parameters(answer)
        assert (answer_parameters["profile-level-id"], answer_parameters["packetization-mode"]) == ("42e01f", "0")


@pytest.mark.parametrize("payload", ["35", "39", "63", "96", "127"])
async def test_every_dynamic_payload_type_is_kept(payload: str) -> None:
    """Chromium's last payload types are below 64."""
    answer, _ = await answer_offer(offer({payload: FMTP_BY_SENDER["high (FFmpeg)"]}, "recvonly"), Role.VIEW)
    assert re.search(rf"^m=video \d+ \S+ {payload}\r$", answer, re.MULTILINE)
    assert parameters(answer, payload)["profile-level-id"] == "64001f"


@pytest.mark.parametrize(
    ("fmtp", "chosen"),
    [
        ({"96": "high (FFmpeg)", "98": "constrained baseline"}, "98"),
        ({"96": "mode 0", "98": "high (FFmpeg)"}, "98"),
        ({"96": "mode 0, main", "98": "mode 0"}, "98"),
        ({"96": "high 10", "98": "main"}, "98"),
        ({"96": "main", "98": "main 4.1 (OBS)"}, "96"),
    ],
)
async def test_the_simplest_offered_profile_is_sent(fmtp: dict[str, str], chosen: str) -> None:
    answer, _ = await answer_offer(
        offer({key: FMTP_BY_SENDER[name] for key, name in fmtp.items()}, "recvonly"), Role.VIEW
    )
    assert re.search(rf"^m=video \d+ \S+ {chosen}\b", answer, re.MULTILINE)


def test_vp8_goes_first() -> None:
    sdp = (
        offer({"96": FMTP_BY_SENDER["high (FFmpeg)"]}).replace("SAVPF 96", "SAVPF 96 97")
        + "a=rtpmap:97 VP8/90000\r\n"
    )
    check_offer(sdp, Role.PUBLISH, Settings())
    assert choose_h264(sdp[sdp.index("m=video") :]) is None


@pytest.mark.parametrize(
    ("sdp", "named"),
    [
        (offer({"96": "packetization-mode=2;profile-level-id=42e01f"}), "packetization-mode=2"),
        (offer({"96": "packetization-mode=one"}), "packetization-mode=one"),
        (offer({"96": "packetization-mode=1;profile-level-id=high"}), "profile-level-id=high"),
        (offer({"96": "packetization-mode=1;profile-level-id=42e01"}), "profile-level-id=42e01,"),
        (offer({"96": None}, codecs="AV1"), "AV1"),
        (offer({"96": None}, codecs="H265"), "H265"),
        (offer({"96": None}).replace("SAVPF 96", "SAVPF 97"), "no codec"),
    ],
)
def test_unsupported_offers_are_refused_with_the_reason(sdp: str, named: str) -> None:
    with pytest.raises(Unacceptable, match=re.escape(named)):
        check_offer(sdp, Role.PUBLISH, Settings())


@given(st.text(st.characters(exclude_characters="\r\n", exclude_categories=["Cs"])))
def test_arbitrary_parameters_are_accepted_or_refused(text: str) -> None:
    sdp = offer({"96": text})
    reason = ""
    try:
        chosen = choose_h264(sdp[sdp.index("m=video") :])
    except Unacceptable as error:
        chosen, reason = None, str(error)
    if chosen is None:
        assert "H264 with" in reason
    else:
        assert set(parameters(with_offered_parameters(sdp, chosen))) == {
            "level-asymmetry-allowed",
            "packetization-mode",
            "profile-level-id",
        }


def test_in_packetization_mode_0_every_unit_is_one_packet() -> None:
    encoder, sender = VideoEncoder(H264_SINGLE_NAL, 25), _SingleNalUnits()
    decoder = av.CodecContext.create("h264", "r")
    sizes, decoded = [], 0
    for picture in noise(6):
        for packet in encoder.encode(picture, decoded * 3600, key=decoded == 0):
            units, _ = sender.pack(packet)
            sizes += [len(unit) for unit in units]
            assert all(1 <= unit[0] & 0x1F <= 23 for unit in units)  # no STAP-A, no FU-A
            decoded += len(decoder.decode(av.Packet(b"".join(b"\0\0\0\1" + unit for unit in units))))
    assert decoded >= 5
    assert len(sizes) > 30
    assert max(sizes) <= MAX_NAL_UNIT_BYTES


def noise(count: int) -> Iterator[av.VideoFrame]:
    chance = np.random.default_rng(1)
    for _ in range(count):
        yield av.VideoFrame.from_ndarray(chance.integers(0, 255, (384, 256), np.uint8), format="yuv420p")


async def test_aiortc_has_the_attributes_that_are_overridden() -> None:
    assert "_packetize" in vars(_SingleNalUnits.__mro__[1])
    assert hasattr(RTCPeerConnection().addTransceiver("video").sender, "_RTCRtpSender__encoder")
