"""Who may: bearer tokens with scopes, signed links for viewers, which pages and names may call. No I/O but the file.

Tokens are random and long, so that a plain SHA-256 of each is what the file keeps: who reads the file cannot use it.
A link is ``v.SESSION.LIFE.ISSUED.EXPIRES.MAC``, an HMAC-SHA256 over the rest, and is sent as a bearer token like any
other. LIFE names one session from its beginning to its end: the next one of the same name, whoever it belongs to, is
another, and has no links yet.
"""

import base64
import hashlib
import hmac
import math
import re
import secrets
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from avatar_stream.errors import BadInput, Forbidden, Unauthorized

SCOPES: Final = ("publish", "view", "admin")
LONGEST: Final = 512  # characters of a token
NAME: Final = re.compile(r"[a-z0-9][a-z0-9-]{0,63}")
LOCAL_NAMES: Final = ("localhost", "127.0.0.1", "[::1]")


@dataclass(frozen=True, slots=True)
class Token:
    """One line of the tokens file: ``NAME SCOPE[,SCOPE] SHA256``."""

    name: str
    scopes: frozenset[str]
    digest: str


@dataclass(frozen=True, slots=True)
class Caller:
    """Who asks. ``session`` is the name of the one that a viewer's link is for; None: any.

    The rest is a link's: the ``life`` of that session, the link's number, and when it ends (seconds since 1970).
    """

    name: str
    scopes: frozenset[str]
    session: str | None = None
    life: str = ""
    issued: int = 0
    expires: float = math.inf

    @property
    def sees(self) -> str | None:
        """Whose characters they may see and show; None: everybody's."""
        return None if self is ANYBODY or "admin" in self.scopes else self.name


ANYBODY: Final = Caller("anybody", frozenset(SCOPES))
"""Everybody, on a server that only this machine can reach."""


def make_token(name: str, scopes: Iterable[str]) -> tuple[str, str]:
    """A new token and its line for the file; raises :class:`BadInput` for a bad name or scope."""
    chosen = sorted(set(scopes))
    if not NAME.fullmatch(name):
        raise BadInput("a token's name has small letters, digits and dashes, 64 at most")
    if not chosen or not set(chosen) <= set(SCOPES):
        raise BadInput(f"scopes are {', '.join(SCOPES)}")
    token = secrets.token_urlsafe(24)
    return token, f"{name} {','.join(chosen)} {digest(token)}"


def parse_tokens(text: str) -> list[Token]:
    """The tokens of a file; ``#`` starts a comment. Raises :class:`BadInput` with the line's number."""
    found = []
    for number, line in enumerate(text.splitlines(), 1):
        words = line.split("#")[0].split()
        if not words:
            continue
        scopes = words[1].split(",") if len(words) == 3 else []
        sound = scopes and set(scopes) <= set(SCOPES) and re.fullmatch(r"[0-9a-f]{64}", words[2])
        if not sound or not NAME.fullmatch(words[0]):
            raise BadInput(
                f"line {number} of the tokens file is not NAME SCOPES SHA256: avatar-stream token makes one"
            )
        found.append(Token(words[0], frozenset(scopes), words[2]))
    return found


def read_tokens(path: Path) -> list[Token]:
    """The tokens of the file at ``path``; raises :class:`BadInput`."""
    try:
        found = parse_tokens(path.read_text())
    except (OSError, UnicodeDecodeError) as error:
        raise BadInput(f"cannot read the tokens file {path}: {getattr(error, 'strerror', None) or error}") from None
    if not found:
        raise BadInput(f"{path} has no token: avatar-stream token NAME --file {path} adds one")
    return found


class Access:
    """Decides on every request. Without tokens everybody may everything: only for a loopback server."""

    def __init__(self, tokens: Sequence[Token]) -> None:
        self._tokens = tuple(tokens)
        self._secret = secrets.token_bytes(32)
        self._issued = 0
        self._void: dict[str, int] = {}  # by life, while it lasts, of sessions with links: the last one that is void

    @property
    def open(self) -> bool:
        """No token is needed."""
        return not self._tokens

    def who(self, authorization: str | None, now: float) -> Caller:
        """The caller that an Authorization header names (RFC 6750 section 2.1); raises :class:`Unauthorized`.

        ``now`` is in seconds since 1970.
        """
        if self.open:
            return ANYBODY
        kind, _, token = (authorization or "").partition(" ")
        token = token.strip()
        if kind.lower() != "bearer" or not token or len(token) > LONGEST or not token.isascii():
            raise Unauthorized("this server wants a token: send Authorization: Bearer TOKEN")
        if token.startswith("v."):
            return self._linked(token, now)
        said, found = digest(token), None
        for known in self._tokens:  # all of them, whichever fits: the time taken says nothing
            if hmac.compare_digest(known.digest, said):
                found = known
        if found is None:
            raise Unauthorized("this token is not known here")
        return Caller(found.name, found.scopes)

    def link(self, session: str, life: str, expires: float) -> str:
        """A token that lets its bearer view ``session``, in this ``life`` of it, until ``expires``.

        ``expires`` is in seconds since 1970. :meth:`end` must be called when that life ends.
        """
        self._issued += 1
        self._void.setdefault(life, 0)
        said = f"v.{session}.{life}.{self._issued}.{int(expires)}"
        return f"{said}.{self._mac(said)}"

    def revoke(self, life: str) -> None:
        """Void every link to a session made until now."""
        if life in self._void:
            self._void[life] = self._issued

    def end(self, life: str) -> None:
        """Void every link to a session for good: it has ended."""
        self._void.pop(life, None)

    def fault(self, caller: Caller, now: float) -> str:
        """Why the link that ``caller`` came by is void; empty where it is good, or they came by none."""
        if caller.session is None:
            return ""
        if now > caller.expires:
            return "this link is over"
        if caller.life not in self._void:
            return "the session of this link has ended"
        return "this link was revoked" if caller.issued <= self._void[caller.life] else ""

    def _linked(self, token: str, now: float) -> Caller:
        said, _, mac = token.rpartition(".")
        parts = said.split(".")
        if len(parts) != 5 or not hmac.compare_digest(self._mac(said).encode(), mac.encode()):
            raise Unauthorized("this link is not valid here: ask for a new one")
        _, session, life, issued, expires = parts
        name = link_name(session, life)
        caller = Caller(name, frozenset({"view"}), session, life, int(issued), float(expires))
        if fault := self.fault(caller, now):
            raise Unauthorized(f"{fault}: ask for a new one")
        return caller

    def _mac(self, said: str) -> str:
        digest = hmac.new(self._secret, said.encode(), hashlib.sha256).digest()
        return base64.urlsafe_b64encode(digest[:18]).decode()


def link_name(session: str, life: str) -> str:
    """The name of whoever comes by a link to this life of ``session``; no token has such a name."""
    return f"link:{session}:{life}"


def require(caller: Caller, scope: str, session: str | None = None) -> None:
    """Raise :class:`Forbidden` unless ``caller`` has ``scope``, and for ``session`` where its link is for one."""
    if scope not in caller.scopes:
        raise Forbidden(f"this token does not allow this: it takes the scope {scope}")
    if caller.session is not None and caller.session != session:
        raise Forbidden("this link is for another session")


def require_life(caller: Caller, life: str) -> None:
    """Raise :class:`Unauthorized` where ``caller`` came by a link to an earlier session of the same name."""
    if caller.session is not None and caller.life != life:
        raise Unauthorized("the session of this link has ended: ask for a new one")


def require_owner(caller: Caller, owner: str) -> None:
    """Raise :class:`Forbidden` unless ``caller`` has the token called ``owner``, or is an admin."""
    if caller.name != owner and "admin" not in caller.scopes:
        raise Forbidden("this session was opened with another token")


def check_host(host: str, allowed: Sequence[str], loopback: bool) -> None:
    """Raise :class:`Forbidden` for a Host that is not ours: a foreign page's name that leads here (DNS rebinding).

    A loopback server is called localhost; others by any name unless ``allowed`` lists them. ``localhost`` is nobody
    else's name and always fine: health checks use it.
    """
    name = re.sub(r":\d*$", "", host.strip().lower())
    names = {*LOCAL_NAMES, *(x.lower() for x in allowed)}
    if (allowed or loopback) and name not in names:
        raise Forbidden("this server is not called by this name: say --allow-host to let it be")


def allowed_origin(origin: str | None, host: str, allowed: Sequence[str]) -> str | None:
    """The origin to say in Access-Control-Allow-Origin; None for a page of our own or a program.

    Raises :class:`Forbidden` for a page of another site that ``allowed`` does not list.
    """
    if origin is None:
        return None
    if origin.partition("://")[2].lower() == host.strip().lower():
        return None
    if origin in allowed or "*" in allowed:
        return origin
    raise Forbidden("pages of other sites may not use this server: say --allow-origin to let one")


def digest(token: str) -> str:
    """What a tokens file keeps of a token."""
    return hashlib.sha256(token.encode()).hexdigest()
