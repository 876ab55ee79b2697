"""H.264 offers of any profile (RFC 6184 section 8). Pure functions, no I/O.

aiortc answers constrained baseline and baseline in packetization mode 1. What is sent to us is decoded by FFmpeg,
which knows every profile and both modes, and what we send is constrained baseline, which every decoder knows: so any
offer can be answered. aiortc is shown the offer in its own terms, and the peer gets the answer in those that it
offered, because both must name the same profile and mode (section 8.2.2).
"""

import re
from collections.abc import Iterator
from typing import Final, NamedTuple

from aiortc.sdp import H264Profile, parse_h264_profile_level_id

from avatar_stream.errors import Unacceptable

BASELINE: Final = "42e01f"
"""Constrained baseline, level 3.1: what our encoder makes, and what an offer without a profile means."""

NATIVE: Final = f"level-asymmetry-allowed=1;packetization-mode=1;profile-level-id={BASELINE}"
SINGLE_UNITS, NON_INTERLEAVED = 0, 1  # packetization modes (section 6.2); 2 is interleaved, which WebRTC has not
SIMPLEST_FIRST: Final = list(H264Profile)


class H264(NamedTuple):
    """An H.264 payload of an offer that has no VP8."""

    payload: str
    parameters: str
    """Its ``a=fmtp`` as the peer wrote it; empty where there is none."""
    mode: int
    """Its packetization mode, 0 or 1."""


def choose_h264(video: str) -> H264 | None:
    """The payload of a video section to be used: packetization mode 1 and the simplest profile first.

    None where VP8 is offered, which is used then. Raises :class:`Unacceptable` where no payload can be used.
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


def as_aiortc_knows_it(offer: str, chosen: H264) -> str:
    """``offer`` with the chosen payload in aiortc's own terms."""
    return _with_parameters(offer, chosen.payload, NATIVE)


def as_it_was_offered(answer: str, chosen: H264) -> str:
    """``answer`` with the chosen payload in the peer's terms; without any it is constrained baseline, level 3.1."""
    profile = _parameters(chosen.parameters).get("profile-level-id", BASELINE)
    parameters = f"level-asymmetry-allowed=1;packetization-mode={chosen.mode};profile-level-id={profile}"
    return _with_parameters(answer, chosen.payload, parameters)


def _read(video: str, payload: str) -> H264:
    """Raises ``ValueError`` with the parameter that cannot be used."""
    found = re.search(rf"^a=fmtp:{payload}[ \t]+([^\r\n]*)", video, re.MULTILINE)
    text = found[1] if found else ""
    parameters = _parameters(text)
    mode, profile = parameters.get("packetization-mode", "0"), parameters.get("profile-level-id", BASELINE)
    if mode not in ("0", "1"):
        raise ValueError(f"H264 with packetization-mode={mode[:20]}, and 0 and 1 can be used")
    if not re.fullmatch(r"[0-9a-fA-F]{6}", profile):
        raise ValueError(f"H264 with profile-level-id={profile[:20]}, which must be six hexadecimal digits")
    return H264(payload, text, int(mode))


def _rank(parameters: str) -> int:
    try:
        profile, _ = parse_h264_profile_level_id(_parameters(parameters).get("profile-level-id", BASELINE))
    except ValueError:
        return len(SIMPLEST_FIRST)  # one that WebRTC has no name for, such as 10 bits: FFmpeg decodes it
    return SIMPLEST_FIRST.index(profile)


def _parameters(text: str) -> dict[str, str]:
    """Names are in lower case; white space around them is of no account."""

    def pairs() -> Iterator[tuple[str, str]]:
        for part in text.split(";"):
            name, _, value = part.partition("=")
            yield name.strip().lower(), value.strip()

    return dict(pairs())


def _with_parameters(sdp: str, payload: str, parameters: str) -> str:
    """``sdp`` with ``parameters`` in place of the H.264 payload's own, if it has any."""
    sdp = re.sub(rf"^a=fmtp:{payload}[ \t][^\r\n]*\r?\n", "", sdp, flags=re.MULTILINE)
    line = re.compile(rf"^(a=rtpmap:{payload} H264/90000[^\r\n]*)(\r?\n|$)", re.MULTILINE | re.IGNORECASE)
    return line.sub(rf"\1\r\na=fmtp:{payload} {parameters}\r\n", sdp, count=1)
