"""``PATCH`` on a WHIP or WHEP session: trickled candidates (RFC 8840, RFC 9725 section 4.3). Pure functions."""

from typing import Final

from avatar_stream.errors import BadInput, NotSupported, PreconditionFailed, PreconditionRequired
from avatar_stream.server.rtc.signalling import allowed_candidate, ice_user
from avatar_stream.settings import Settings

FRAGMENT: Final = "application/trickle-ice-sdpfrag"


Candidates = tuple[tuple[str, str], ...]
"""Candidates without their ``candidate:``, each with the ``mid`` of its section."""


def check_precondition(if_match: str | None, etag: str) -> None:
    """RFC 9725 section 4.3.1: a PATCH names the session's state it is meant for.

    Raises :class:`PreconditionRequired` (428) without one, :class:`PreconditionFailed` (412) for another state's.
    """
    if if_match is None:
        raise PreconditionRequired("say If-Match with the ETag of the answer")
    tags = [tag.strip().removeprefix("W/") for tag in if_match.split(",")]
    if "*" not in tags and etag not in tags:
        raise PreconditionFailed("If-Match names another state of this session")


def parse_fragment(text: str, username: str, private: bool, limits: Settings) -> Candidates:
    """The candidates of a fragment that may be used.

    ``username`` is the peer's ICE user fragment: another one asks for an ICE restart, which raises
    :class:`NotSupported` (422) and leaves the session as it is. A candidate that names what cannot be reached is
    dropped without a word, as the standard wants it, and so is the end of candidates: what is dropped may not be all
    there is, and the connection has a clock of its own. Raises :class:`BadInput` for what is no fragment.
    """
    lines = text.splitlines()
    if len(lines) > limits.max_lines:
        raise BadInput(f"the fragment has more than {limits.max_lines} lines")
    if any(line and not line.startswith(("a=", "m=")) for line in lines):
        raise BadInput("the fragment may have a= and m= lines only (RFC 8840)")
    said = ice_user(text)
    if not said:
        raise BadInput("the fragment has no ice-ufrag")
    if said != username:
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
