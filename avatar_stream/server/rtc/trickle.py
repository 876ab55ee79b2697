"""``PATCH`` on a WHIP or WHEP session: trickled candidates (RFC 8840, RFC 9725 section 4.3). Pure functions."""

from typing import Final

from avatar_stream.errors import BadInput, NotSupported, PreconditionFailed, PreconditionRequired
from avatar_stream.server.rtc.signalling import allowed_candidate, ice_ufrag
from avatar_stream.settings import Settings

FRAGMENT_TYPE: Final = "application/trickle-ice-sdpfrag"

Candidates = tuple[tuple[str, str], ...]
"""Pairs of a candidate, without its prefix ``candidate:``, and the ``mid`` of its section."""


def check_precondition(if_match: str | None, etag: str) -> None:
    """RFC 9725 section 4.3.1: a PATCH must carry the ETag of the session in If-Match.

    Raises :class:`PreconditionRequired` (428) without If-Match, :class:`PreconditionFailed` (412) if no ETag matches.
    """
    if if_match is None:
        raise PreconditionRequired("send If-Match with the ETag of the answer")
    tags = [tag.strip().removeprefix("W/") for tag in if_match.split(",")]
    if "*" not in tags and etag not in tags:
        raise PreconditionFailed("If-Match does not have the current ETag of this session")


def parse_fragment(text: str, ufrag: str, private: bool, limits: Settings) -> Candidates:
    """The allowed candidates of a fragment (see :func:`allowed_candidate`).

    ``ufrag`` is the peer's ICE user name fragment. Another one asks for an ICE restart, which raises
    :class:`NotSupported` (422) and does not change the session. Candidates that are not allowed are dropped silently,
    as the standard requires. The end of candidates is ignored: the peer may still be found by its checks, and the
    connection has its own timeout. Raises :class:`BadInput` if ``text`` is no fragment.
    """
    lines = text.splitlines()
    if len(lines) > limits.max_lines:
        raise BadInput(f"the fragment has more than {limits.max_lines} lines")
    if any(line and not line.startswith(("a=", "m=")) for line in lines):
        raise BadInput("the fragment may have a= and m= lines only (RFC 8840)")
    found_ufrag = ice_ufrag(text)
    if not found_ufrag:
        raise BadInput("the fragment has no ice-ufrag")
    if found_ufrag != ufrag:
        raise NotSupported("ICE restart is not supported: open a new session")
    found: list[tuple[str, str]] = []
    mid = ""
    for line in lines:
        if line.startswith("m="):
            mid = ""
        elif line.startswith("a=mid:"):
            mid = line[6:].strip()
        elif line.startswith("a=candidate:"):
            found.append((line.removeprefix("a=candidate:").strip(), mid))
    if len(found) > limits.max_candidates:
        raise BadInput(f"the fragment has more than {limits.max_candidates} candidates")
    return tuple(pair for pair in found if allowed_candidate(pair[0], private))
