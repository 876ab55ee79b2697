"""H.264 offers of any profile (RFC 6184 section 8). Pure functions, no I/O.

aiortc answers only constrained baseline and baseline in packetization mode 1. But FFmpeg, which decodes the camera,
supports every profile and both modes, and our encoder makes constrained baseline, which every decoder supports. So
any offer can be answered. The offer is rewritten to parameters that aiortc accepts. The answer is rewritten to the
parameters that the peer offered, because both must name the same profile and mode (section 8.2.2).
"""

import re
from collections.abc import Iterator
from typing import Final, NamedTuple

from aiortc.sdp import H264Profile, parse_h264_profile_level_id

from avatar_stream.errors import Unacceptable

CONSTRAINED_BASELINE: Final = "42e01f"
"""Constrained baseline, level 3.1: the output of our encoder, and the default of an offer without a profile."""

AIORTC_PARAMETERS: Final = f"level-asymmetry-allowed=1;packetization-mode=1;profile-level-id={CONSTRAINED_BASELINE}"
SINGLE_NAL_UNIT_MODE, NON_INTERLEAVED_MODE = 0, 1  # packetization modes (section 6.2); WebRTC has no interleaved mode
PROFILES: Final = list(H264Profile)  # simplest first


class H264(NamedTuple):
    """An H.264 payload type of an offer without VP8."""

    payload: str
    parameters: str
    """Its ``a=fmtp`` parameters as the peer wrote them; empty if there are none."""
    mode: int
    """Its packetization mode, 0 or 1."""


def choose_h264(video: str) -> H264 | None:
    """Choose the H.264 payload of a video section: packetization mode 1 first, then the simplest profile.

    None if VP8 is offered, which is preferred. Raises :class:`Unacceptable` if no payload can be used.
    """
    first = video.split("\n", 1)[0].split()
    payloads, names = first[3:], dict(re.findall(r"^a=rtpmap:(\d+) ([\w.-]+)/90000", video, re.MULTILINE))
    offered = [names.get(payload, "").upper() for payload in payloads]
    if "VP8" in offered:
        return None
    found, refused = [], []
    for payload in (payload for payload, name in zip(payloads, offered, strict=True) if name == "H264"):
        try:
            found.append(_read(video, payload))
        except ValueError as error:
            refused.append(str(error))
    if not found:
        others = ", ".join(
            dict.fromkeys(name for name in offered if name not in ("", "H264", "RTX", "RED", "ULPFEC"))
        )
        reason = "; ".join(refused) or f"it has {others or 'no codec'}"
        raise Unacceptable(f"the offer has neither VP8 nor H264 that can be used: {reason[:300]}")
    return min(found, key=lambda one: (-one.mode, _rank(one.parameters)))


def with_aiortc_parameters(offer: str, chosen: H264) -> str:
    """``offer`` with parameters for the chosen payload that aiortc accepts."""
    return _with_parameters(offer, chosen.payload, AIORTC_PARAMETERS)


def with_offered_parameters(answer: str, chosen: H264) -> str:
    """``answer`` with the chosen payload's offered profile and mode (default: constrained baseline, level 3.1)."""
    profile = _parameters(chosen.parameters).get("profile-level-id", CONSTRAINED_BASELINE)
    parameters = f"level-asymmetry-allowed=1;packetization-mode={chosen.mode};profile-level-id={profile}"
    return _with_parameters(answer, chosen.payload, parameters)


def _read(video: str, payload: str) -> H264:
    """Parse a payload's parameters; raises ``ValueError`` that names an unusable one."""
    found = re.search(rf"^a=fmtp:{payload}[ \t]+([^\r\n]*)", video, re.MULTILINE)
    text = found[1] if found else ""
    parameters = _parameters(text)
    mode, profile = (
        parameters.get("packetization-mode", "0"),
        parameters.get("profile-level-id", CONSTRAINED_BASELINE),
    )
    if mode not in ("0", "1"):
        raise ValueError(f"H264 with packetization-mode={mode[:20]}: only 0 and 1 can be used")
    if not re.fullmatch(r"[0-9a-fA-F]{6}", profile):
        raise ValueError(f"H264 with profile-level-id={profile[:20]}, which must be six hexadecimal digits")
    return H264(payload, text, int(mode))


def _rank(parameters: str) -> int:
    try:
        profile, _ = parse_h264_profile_level_id(
            _parameters(parameters).get("profile-level-id", CONSTRAINED_BASELINE)
        )
    except ValueError:
        return len(PROFILES)  # a profile that aiortc does not know, such as 10 bits: FFmpeg decodes it
    return PROFILES.index(profile)


def _parameters(text: str) -> dict[str, str]:
    """Parameters by name in lower case, without surrounding white space."""

    def pairs() -> Iterator[tuple[str, str]]:
        for part in text.split(";"):
            name, _, value = part.partition("=")
            yield name.strip().lower(), value.strip()

    return dict(pairs())


def _with_parameters(sdp: str, payload: str, parameters: str) -> str:
    """``sdp`` with the H.264 payload's parameters set to ``parameters``."""
    sdp = re.sub(rf"^a=fmtp:{payload}[ \t][^\r\n]*\r?\n", "", sdp, flags=re.MULTILINE)
    line = re.compile(rf"^(a=rtpmap:{payload} H264/90000[^\r\n]*)(\r?\n|$)", re.MULTILINE | re.IGNORECASE)
    return line.sub(rf"\1\r\na=fmtp:{payload} {parameters}\r\n", sdp, count=1)
