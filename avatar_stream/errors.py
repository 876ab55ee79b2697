"""All errors that users can see, each with its HTTP status and, where it differs from its base, the exit code.

AvatarError (500, 1)
├── BadInput (400, 2)
│   ├── BadPicture (422)      a portrait that cannot be used
│   ├── BadClip (422)         a driving video that cannot be used
│   ├── BadOffer (400)        an SDP offer that is malformed or too long
│   ├── Unacceptable (406)    an SDP offer for something the server does not support
│   ├── TooLarge (413)        more bytes than the limit allows
│   ├── WrongType (415)       a request body of the wrong content type
│   ├── NameTaken (409)       the name belongs to another owner's session, or to another character
│   └── UnknownPortrait (404) no portrait with this id
├── Unauthorized (401)        no bearer token, or an invalid one
├── Forbidden (403)           the token lacks the scope, or the page is from another site
├── NotFound (404)            no session with this id
├── TooSlow (408)             the request body did not arrive in time
├── PreconditionFailed (412), PreconditionRequired (428)   the If-Match header is wrong or missing
├── NotSupported (422)        an ICE restart
├── TooMany (429)             too many requests from one address
├── LibraryFault (503)        the library of characters cannot be read or written
│   └── LibraryFull (507)     the disk of the library is full
├── ServerFull (503)          all session slots are in use, or the server is stopping
└── EngineUnavailable (503)   an engine cannot be loaded or built on this machine
"""

from typing import ClassVar


class AvatarError(Exception):
    """Base of all errors. The message is one line for users: what is wrong, then what to do."""

    status: ClassVar[int] = 500
    exit_code: ClassVar[int] = 1


class BadInput(AvatarError):
    """The user's input cannot be used."""

    status = 400
    exit_code = 2


class BadPicture(BadInput):
    """A portrait that cannot be read, or that does not show exactly one usable face."""

    status = 422


class BadClip(BadInput):
    """A driving clip without usable video or without a face."""

    status = 422


class BadOffer(BadInput):
    """An SDP offer that is malformed or over a limit."""


class Unacceptable(BadInput):
    """An SDP offer for something the server does not support."""

    status = 406


class UnknownPortrait(BadInput):
    """No portrait with this id."""

    status = 404


class NameTaken(BadInput):
    """The name belongs to another owner's session, or to another character."""

    status = 409


class NotFound(AvatarError):
    """No session with this id."""

    status = 404


class TooLarge(BadInput):
    """More bytes than the limit allows."""

    status = 413


class WrongType(BadInput):
    """The request body has another content type than ``wanted``."""

    status = 415

    def __init__(self, wanted: str) -> None:
        super().__init__(f"send the body as {wanted}")
        self.wanted = wanted


class Unauthorized(AvatarError):
    """No bearer token, or one that is unknown or expired."""

    status = 401


class Forbidden(AvatarError):
    """The token does not allow this, or a page of another site sent the request."""

    status = 403


class TooSlow(AvatarError):
    """A request's body did not arrive in time."""

    status = 408


class PreconditionFailed(AvatarError):
    """The If-Match header names another state than the session's."""

    status = 412


class PreconditionRequired(AvatarError):
    """The If-Match header is missing."""

    status = 428


class NotSupported(AvatarError):
    """An optional part of a standard that this server does not implement, such as an ICE restart."""

    status = 422


class TooMany(AvatarError):
    """Too many requests from one address."""

    status = 429


class ServerFull(AvatarError):
    """All session slots are in use, or the server is stopping."""

    status = 503


class LibraryFault(AvatarError):
    """The library of characters cannot be read or written: a disk fault, missing permissions, or a newer version."""

    status = 503


class LibraryFull(LibraryFault):
    """The disk of the library is full."""

    status = 507


class EngineUnavailable(AvatarError):
    """An engine cannot be loaded or built on this machine."""

    status = 503
