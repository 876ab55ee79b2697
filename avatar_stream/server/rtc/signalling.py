"""Checks SDP offers and edits SDP answers. Pure functions, no I/O.

There are three kinds of peer: ``both`` sends its camera and receives the avatar (our ``/session``), ``publish`` only
sends (WHIP, RFC 9725), and ``view`` only receives (WHEP, draft-ietf-wish-whep).
"""

import ipaddress
import re
from enum import StrEnum
from typing import Final

from avatar_stream.errors import BadOffer, Unacceptable
from avatar_stream.server.rtc.h264 import choose_h264
from avatar_stream.settings import Settings


class Role(StrEnum):
    """The role of a peer in its session."""

    BOTH = "both"
    PUBLISH = "publish"
    VIEW = "view"


ALLOWED_DIRECTIONS: Final = {
    Role.BOTH: ("sendrecv",),
    Role.PUBLISH: ("sendonly", "sendrecv"),
    Role.VIEW: ("recvonly",),
}
ROLE_DESCRIPTIONS: Final = {
    Role.BOTH: "camera up, avatar down",
    Role.PUBLISH: "WHIP publishes",
    Role.VIEW: "WHEP watches",
}
REQUIRED_ATTRIBUTES: Final = ("a=ice-ufrag:", "a=ice-pwd:", "a=fingerprint:")


def check_offer(sdp: str, role: Role, limits: Settings) -> None:
    """Check an offer for a peer of this role.

    Raises :class:`BadOffer` if ``sdp`` is no offer or exceeds ``limits``, :class:`Unacceptable` if it asks for
    something that is not supported.

    aiortc parses in quadratic time on the event loop (47 s for 5,000 sections), so the sizes are checked here first.
    """
    if not sdp.startswith("v=0"):
        raise BadOffer("the body is not an SDP offer: it must start with v=0")
    if sdp.count("\n") > limits.max_lines:
        raise BadOffer(f"the offer has more than {limits.max_lines} lines")
    lines = sdp.splitlines()
    count = sum(line.startswith("m=") for line in lines)
    if count > limits.max_sections:
        raise BadOffer(f"the offer has {count} media sections, at most {limits.max_sections} are answered")
    if sum(line.startswith("a=candidate:") for line in lines) > limits.max_candidates:
        raise BadOffer(f"the offer has more than {limits.max_candidates} candidates")
    for needed in REQUIRED_ATTRIBUTES:
        if not any(line.startswith(needed) for line in lines):
            raise BadOffer(f"the offer has no {needed[2:-1]} line")
    sections = media_sections(sdp)
    kinds = [section[2:].split(" ", 1)[0] for section in sections]
    if kinds.count("video") != 1 or kinds.count("audio") > 1:
        raise Unacceptable("offer exactly one video section, and at most one audio section")
    if not set(kinds) <= {"video", "audio", "application"} or (role is not Role.BOTH and "application" in kinds):
        raise Unacceptable("offer video and audio only")
    mids = re.findall(r"^a=mid:(\S+)", "".join(sections), re.MULTILINE)
    bundle = re.search(r"^a=group:BUNDLE ([^\r\n]+)", sdp, re.MULTILINE)
    if len(sections) > 1 and (bundle is None or not set(mids) <= set(bundle[1].split())):
        raise Unacceptable("the sections must share one transport: bundle them (a=group:BUNDLE)")
    for kind, section in zip(kinds, sections, strict=True):
        if kind != "application" and not re.search(r"^a=rtcp-mux\s*$", section, re.MULTILINE):
            raise Unacceptable("RTP and RTCP must share one port: offer a=rtcp-mux")
        if kind == "video":
            _check_video(section, role)
        elif kind == "audio" and not re.search(r"^a=rtpmap:\d+ opus/48000", section, re.MULTILINE | re.IGNORECASE):
            raise Unacceptable("the audio section has no opus")
        elif kind == "audio" and role is Role.VIEW and direction(section, sdp) != "recvonly":
            raise Unacceptable("the audio section must be recvonly: WHEP watches")


def _check_video(section: str, role: Role) -> None:
    if direction(section, section) not in ALLOWED_DIRECTIONS[role]:
        raise Unacceptable(
            f"the video section must be {' or '.join(ALLOWED_DIRECTIONS[role])}: {ROLE_DESCRIPTIONS[role]}"
        )
    choose_h264(section)


def direction(section: str, sdp: str) -> str:
    """The direction of a media section; if it has none, the session's (RFC 8866 section 6.7)."""
    for text in (section, sdp.split("\nm=", 1)[0]):
        found = re.search(r"^a=(sendrecv|sendonly|recvonly|inactive)\s*$", text, re.MULTILINE)
        if found:
            return found[1]
    return "sendrecv"


def media_sections(sdp: str) -> list[str]:
    """The media sections of an SDP, each starting with its ``m=`` line."""
    return re.split(r"^(?=m=)", sdp, flags=re.MULTILINE)[1:]


def video_section(sdp: str) -> str:
    """The video section of an offer that :func:`check_offer` accepted."""
    return next((section for section in media_sections(sdp) if section.startswith("m=video")), "")


def agreed_codec(answer: str, kind: str) -> str:
    """The codec of an answer's ``kind`` section: ``VP8``, ``H264`` or ``opus``; empty if the section is refused."""
    for section in media_sections(answer):
        first = re.match(rf"m={kind} (\d+) \S+ (\d+)", section)
        if first and first[1] != "0":
            found = re.search(rf"^a=rtpmap:{first[2]} ([A-Za-z0-9]+)/", section, re.MULTILINE)
            return found[1] if found else ""
    return ""


def ice_ufrag(text: str) -> str:
    """The ICE user name fragment in an SDP or a part of one; empty if there is none."""
    found = re.search(r"^a=ice-ufrag:(\S+)", text, re.MULTILINE)
    return found[1] if found else ""


def allowed_candidate(line: str, private: bool) -> bool:
    """Whether media may be sent to the address in an ``a=candidate:`` line (RFC 8839 section 5.1).

    Without ``private`` a peer cannot make this server send packets into the server's own network: only global unicast
    addresses are allowed, and no names, because even an mDNS lookup is traffic. A peer with a private address can
    still connect: its own connectivity checks reveal its address.
    """
    words = line.strip().removeprefix("a=").removeprefix("candidate:").split()
    if len(words) < 8 or words[2].lower() != "udp" or not re.fullmatch(r"[0-9]{1,5}", words[5]):
        return False
    if not 0 < int(words[5]) < 65536:
        return False
    if words[4].endswith(".local"):
        return private
    try:
        address = ipaddress.ip_address(words[4])
    except ValueError:
        return False
    address = getattr(address, "ipv4_mapped", None) or address
    if address.is_multicast or address.is_unspecified or (address.version == 4 and address.is_reserved):
        return False
    return private or address.is_global


def without_refused_candidates(sdp: str, private: bool) -> str:
    """``sdp`` without the candidates that :func:`allowed_candidate` refuses.

    Also removes ``a=end-of-candidates``: a peer without candidates is still found by its connectivity checks.
    """

    def kept(line: str) -> bool:
        if line.startswith("a=candidate:"):
            return allowed_candidate(line, private)
        return not line.startswith("a=end-of-candidates")

    return "".join(line for line in sdp.splitlines(keepends=True) if kept(line))


def hint_bitrate(sdp: str, *, start: int = 700, minimum: int = 400) -> str:
    """Make Chromium start sending video at ``start`` kbit/s, and use ``minimum`` kbit/s at least.

    Without transport-wide feedback, which aiortc lacks, it starts at 250 and shrinks the picture to 480x360. Other
    browsers ignore these parameters.
    """
    return _with_parameters(sdp, f"x-google-start-bitrate={start};x-google-min-bitrate={minimum}")


def limit_pictures(sdp: str, macroblocks: int) -> str:
    """Limit the size of received pictures, in macroblocks of 16 x 16 pixels (RFC 7741 section 6.1)."""
    return _with_parameters(sdp, f"max-fs={macroblocks};max-fr=60", codecs="VP8")


def _with_parameters(sdp: str, parameters: str, codecs: str = "VP8|H264") -> str:
    """``sdp`` with ``parameters`` added to these video codecs (RFC 8866 section 6.15)."""
    payloads = re.findall(rf"^a=rtpmap:(\d+) (?:{codecs})/90000", sdp, re.MULTILINE)
    for payload in payloads:
        line = re.compile(rf"^(a=fmtp:{payload} [^\r\n]*)", re.MULTILINE)
        if line.search(sdp):
            sdp = line.sub(rf"\1;{parameters}", sdp, count=1)
        else:
            rtpmap = re.compile(rf"^(a=rtpmap:{payload} [^\r\n]*)(\r?\n)", re.MULTILINE)
            sdp = rtpmap.sub(rf"\1\2a=fmtp:{payload} {parameters}\2", sdp, count=1)
    return sdp


def mark_generated(sdp: str) -> str:
    """Set the session name (RFC 8866 section 5.3) to say that the media is AI-generated."""
    return re.sub(r"^s=[^\r\n]*", "s=AI-generated", sdp, count=1, flags=re.MULTILINE)
