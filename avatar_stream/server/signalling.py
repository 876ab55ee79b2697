"""SDP as text: what an offer may ask, and what our answer says. Pure functions, no I/O."""

import re
from typing import Final

from avatar_stream.errors import BadOffer

MAX_LINES: Final = 2_000
MAX_SECTIONS: Final = 3
MAX_CANDIDATES: Final = 40


def check_offer(sdp: str) -> None:
    """Raise :class:`BadOffer` unless ``sdp`` is one we can answer.

    aiortc parses in quadratic time on the event loop (47 s for 5,000 sections), so everything is counted here first.
    """
    lines = sdp.splitlines()
    if not lines or lines[0].strip() != "v=0":
        raise BadOffer("the body is not an SDP offer: it must start with v=0")
    if len(lines) > MAX_LINES:
        raise BadOffer(f"the offer has more than {MAX_LINES} lines")
    sections = [line for line in lines if line.startswith("m=")]
    if len(sections) > MAX_SECTIONS:
        raise BadOffer(f"the offer has {len(sections)} media sections, at most {MAX_SECTIONS} are answered")
    if sum(line.startswith("a=candidate:") for line in lines) > MAX_CANDIDATES:
        raise BadOffer(f"the offer has more than {MAX_CANDIDATES} candidates")
    videos = [section for section in media_sections(sdp) if section.startswith("m=video")]
    if len(videos) != 1:
        raise BadOffer("offer exactly one video section: the camera up and the avatar down share it")
    if not re.search(r"^a=sendrecv\s*$", videos[0], re.MULTILINE):
        raise BadOffer("the video section must be sendrecv: camera up, avatar down")
    if not re.search(r"^a=rtpmap:\d+ (VP8|H264)/90000", videos[0], re.MULTILINE):
        raise BadOffer("the offer has neither VP8 nor H264: one of them is needed")
    for needed in ("a=ice-ufrag:", "a=ice-pwd:", "a=fingerprint:"):
        if not any(line.startswith(needed) for line in lines):
            raise BadOffer(f"the offer has no {needed[2:-1]} line")


def media_sections(sdp: str) -> list[str]:
    """The media sections of an SDP, each from its ``m=`` line on."""
    return re.split(r"^(?=m=)", sdp, flags=re.MULTILINE)[1:]


def hint_bitrate(sdp: str, *, start: int = 700, minimum: int = 400) -> str:
    """Tell Chromium to start its camera at ``start`` kbit/s.

    Without transport-wide feedback, which aiortc lacks, it starts at 250 and shrinks the picture to 480x360. Other
    browsers ignore the parameters.
    """
    payloads = re.findall(r"^a=rtpmap:(\d+) (?:VP8|H264)/90000", sdp, re.MULTILINE)
    hint = f"x-google-start-bitrate={start};x-google-min-bitrate={minimum}"
    for payload in payloads:
        line = re.compile(rf"^(a=fmtp:{payload} [^\r\n]*)", re.MULTILINE)
        if line.search(sdp):
            sdp = line.sub(rf"\1;{hint}", sdp, count=1)
        else:
            rtpmap = re.compile(rf"^(a=rtpmap:{payload} [^\r\n]*)(\r?\n)", re.MULTILINE)
            sdp = rtpmap.sub(rf"\1\2a=fmtp:{payload} {hint}\2", sdp, count=1)
    return sdp
