"""Authorization: bearer tokens with scopes, signed links for viewers, checks of Host and Origin.

The only I/O is reading the tokens file.

Tokens are long and random, so the file keeps only a plain SHA-256 of each: a reader of the file cannot use them.
A link is ``v.SESSION.INSTANCE.ISSUED.EXPIRES.MAC``. MAC is an HMAC-SHA256 over the rest. Clients send a link as a
bearer token. INSTANCE is the unique id of one session. A later session may have the same name, even with another
owner, but it has another instance id, so old links do not work for it.
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
MAX_TOKEN_LENGTH: Final = 512  # characters
NAME_PATTERN: Final = re.compile(r"[a-z0-9][a-z0-9-]{0,63}")
LOCAL_NAMES: Final = ("localhost", "127.0.0.1", "[::1]")


@dataclass(frozen=True, slots=True)
class Token:
    """One line of the tokens file: ``NAME SCOPE[,SCOPE] SHA256``."""

    name: str
    scopes: frozenset[str]
    digest: str


@dataclass(frozen=True, slots=True)
class Caller:
    """The sender of a request. A viewer's link is for one ``session``, by its name; None: any.

    The other fields belong to a link: the session's ``instance_id``, the link's number, and its expiry time (seconds
    since 1970).
    """

    name: str
    scopes: frozenset[str]
    session: str | None = None
    instance_id: str = ""
    issued: int = 0
    expires: float = math.inf

    @property
    def visible_owner(self) -> str | None:
        """The owner whose characters the caller may see and show; None: all owners."""
        return None if self is ANYBODY or "admin" in self.scopes else self.name


ANYBODY: Final = Caller("anybody", frozenset(SCOPES))
"""The caller on a server without tokens, which only this machine can reach."""


def make_token(name: str, scopes: Iterable[str]) -> tuple[str, str]:
    """Make a token. Returns it and its line for the tokens file; raises :class:`BadInput` for a bad name or scope."""
    chosen = sorted(set(scopes))
    if not NAME_PATTERN.fullmatch(name):
        raise BadInput("a token's name has at most 64 small letters, digits and dashes")
    if not chosen or not set(chosen) <= set(SCOPES):
        raise BadInput(f"scopes are {', '.join(SCOPES)}")
    token = secrets.token_urlsafe(24)
    return token, f"{name} {','.join(chosen)} {digest(token)}"


def parse_tokens(text: str) -> list[Token]:
    """Parse the text of a tokens file; ``#`` starts a comment. Raises :class:`BadInput` with the line's number."""
    found = []
    for number, line in enumerate(text.splitlines(), 1):
        words = line.split("#")[0].split()
        if not words:
            continue
        scopes = words[1].split(",") if len(words) == 3 else []
        sound = scopes and set(scopes) <= set(SCOPES) and re.fullmatch(r"[0-9a-f]{64}", words[2])
        if not sound or not NAME_PATTERN.fullmatch(words[0]):
            raise BadInput(
                f"line {number} of the tokens file is not NAME SCOPES SHA256: avatar-stream token makes one"
            )
        found.append(Token(words[0], frozenset(scopes), words[2]))
    return found


def read_tokens(path: Path) -> list[Token]:
    """Read the tokens file at ``path``; raises :class:`BadInput`."""
    try:
        found = parse_tokens(path.read_text())
    except (OSError, UnicodeDecodeError) as error:
        raise BadInput(f"cannot read the tokens file {path}: {getattr(error, 'strerror', None) or error}") from None
    if not found:
        raise BadInput(f"{path} has no token: avatar-stream token NAME --file {path} adds one")
    return found


class Access:
    """Authenticates callers and issues links. Without tokens anyone may do anything: only for a loopback server."""

    def __init__(self, tokens: Sequence[Token]) -> None:
        self._tokens = tuple(tokens)
        self._secret = secrets.token_bytes(32)
        self._issued = 0
        self._void: dict[str, int] = {}
        """The number of the last void link of each running session with links, by its instance id."""

    @property
    def open(self) -> bool:
        """No token is needed."""
        return not self._tokens

    def authenticate(self, authorization: str | None, now: float) -> Caller:
        """The caller of an Authorization header (RFC 6750 section 2.1); raises :class:`Unauthorized`.

        ``now`` is in seconds since 1970.
        """
        if self.open:
            return ANYBODY
        kind, _, token = (authorization or "").partition(" ")
        token = token.strip()
        if kind.lower() != "bearer" or not token or len(token) > MAX_TOKEN_LENGTH or not token.isascii():
            raise Unauthorized("this server wants a token: send Authorization: Bearer TOKEN")
        if token.startswith("v."):
            return self._linked(token, now)
        hashed, found = digest(token), None
        for known in self._tokens:  # always compare all: the time must not reveal which one matched
            if hmac.compare_digest(known.digest, hashed):
                found = known
        if found is None:
            raise Unauthorized("this token is not known here")
        return Caller(found.name, found.scopes)

    def link(self, session: str, instance_id: str, expires: float) -> str:
        """A token that lets its bearer view the session with this name and instance id until ``expires``.

        ``expires`` is in seconds since 1970. Call :meth:`end` when the session ends.
        """
        self._issued += 1
        self._void.setdefault(instance_id, 0)
        payload = f"v.{session}.{instance_id}.{self._issued}.{int(expires)}"
        return f"{payload}.{self._mac(payload)}"

    def revoke(self, instance_id: str) -> None:
        """Void all links to a session that exist now."""
        if instance_id in self._void:
            self._void[instance_id] = self._issued

    def end(self, instance_id: str) -> None:
        """Void all links to a session for good, because it has ended."""
        self._void.pop(instance_id, None)

    def void_reason(self, caller: Caller, now: float) -> str:
        """Why the caller's link is void; empty if it is valid or the caller has no link."""
        if caller.session is None:
            return ""
        if now > caller.expires:
            return "this link is over"
        if caller.instance_id not in self._void:
            return "the session of this link has ended"
        return "this link was revoked" if caller.issued <= self._void[caller.instance_id] else ""

    def _linked(self, token: str, now: float) -> Caller:
        payload, _, mac = token.rpartition(".")
        parts = payload.split(".")
        if len(parts) != 5 or not hmac.compare_digest(self._mac(payload).encode(), mac.encode()):
            raise Unauthorized("this link is not valid here: ask for a new one")
        _, session, instance_id, issued, expires = parts
        name = link_name(session, instance_id)
        caller = Caller(name, frozenset({"view"}), session, instance_id, int(issued), float(expires))
        if reason := self.void_reason(caller, now):
            raise Unauthorized(f"{reason}: ask for a new one")
        return caller

    def _mac(self, payload: str) -> str:
        digest = hmac.new(self._secret, payload.encode(), hashlib.sha256).digest()
        return base64.urlsafe_b64encode(digest[:18]).decode()


def link_name(session: str, instance_id: str) -> str:
    """The caller's name for links to this session instance; no token can have such a name."""
    return f"link:{session}:{instance_id}"


def require(caller: Caller, scope: str, session: str | None = None) -> None:
    """Raise :class:`Forbidden` if ``caller`` lacks ``scope`` or has a link to a session other than ``session``."""
    if scope not in caller.scopes:
        raise Forbidden(f"this token does not allow this: it takes the scope {scope}")
    if caller.session is not None and caller.session != session:
        raise Forbidden("this link is for another session")


def require_instance(caller: Caller, instance_id: str) -> None:
    """Raise :class:`Unauthorized` if the caller's link is for an earlier session of the same name."""
    if caller.session is not None and caller.instance_id != instance_id:
        raise Unauthorized("the session of this link has ended: ask for a new one")


def require_owner(caller: Caller, owner: str) -> None:
    """Raise :class:`Forbidden` unless ``caller`` has the token named ``owner``, or is an admin."""
    if caller.name != owner and "admin" not in caller.scopes:
        raise Forbidden("this session was opened with another token")


def check_host(host: str, allowed: Sequence[str], loopback: bool) -> None:
    """Raise :class:`Forbidden` for a Host header with a foreign name, which an attacker points here (DNS rebinding).

    A loopback server accepts local names only. Other servers accept any name, or those in ``allowed`` if there are
    any. ``localhost`` is always accepted: nobody else can own it, and health checks use it.
    """
    name = re.sub(r":\d*$", "", host.strip().lower())
    names = {*LOCAL_NAMES, *(x.lower() for x in allowed)}
    if (allowed or loopback) and name not in names:
        raise Forbidden("this server does not accept this host name: allow it with --allow-host")


def allowed_origin(origin: str | None, host: str, allowed: Sequence[str]) -> str | None:
    """The origin for Access-Control-Allow-Origin; None for a page of this server or a program.

    Raises :class:`Forbidden` for a page of another site that ``allowed`` does not list.
    """
    if origin is None:
        return None
    if origin.partition("://")[2].lower() == host.strip().lower():
        return None
    if origin in allowed or "*" in allowed:
        return origin
    raise Forbidden("pages of other sites may not use this server: allow one with --allow-origin")


def digest(token: str) -> str:
    """The hash of a token that the tokens file keeps."""
    return hashlib.sha256(token.encode()).hexdigest()
