"""Every error a user can meet, each with the HTTP status it maps to and the exit code of the command.

AvatarError (500, 1)
├── BadInput (400, 2)
│   ├── BadPicture (422)      a portrait that cannot be used
│   ├── BadClip (422)         a driving video that cannot be used
│   ├── BadOffer (400)        a text that is no SDP offer, or too much of one
│   ├── Unacceptable (406)    an offer that asks for what we do not do
│   ├── TooLarge (413)
│   ├── WrongType (415)       a body of another type than the resource takes
│   ├── NameTaken (409)       a session of this name is somebody else's
│   └── UnknownPortrait (404)
├── Unauthorized (401)        no token, or not a good one
├── Forbidden (403)           a good token without the scope; another site's page
├── NotFound (404)            no such session
├── TooSlow (408)             a body that does not arrive
├── PreconditionFailed (412), PreconditionRequired (428)
├── NotSupported (422)        an ICE restart
├── TooMany (429)             one address wants more than its share
├── LibraryFault (500)        the library of characters cannot be read or written
│   └── LibraryFull (507)     its disk is full
├── ServerFull (503)          all places are taken, or the server is stopping
└── EngineUnavailable (503)   no runtime, or not the one asked for, can run the networks
"""

from typing import ClassVar


class AvatarError(Exception):
    """Base of all errors; the message is one line for a person and says what to do."""

    status: ClassVar[int] = 500
    exit_code: ClassVar[int] = 1


class BadInput(AvatarError):
    """Something given by the user cannot be used."""

    status = 400
    exit_code = 2


class BadPicture(BadInput):
    """A portrait that cannot be read or shows no single usable face."""

    status = 422


class BadClip(BadInput):
    """A driving clip without usable video or without a face."""

    status = 422


class BadOffer(BadInput):
    """An SDP offer that is malformed or over a limit."""


class Unacceptable(BadInput):
    """An SDP offer that asks for what we do not do."""

    status = 406


class UnknownPortrait(BadInput):
    """No portrait with this id."""

    status = 404


class NameTaken(BadInput):
    """A session of this name belongs to somebody else."""

    status = 409


class NotFound(AvatarError):
    """No such session."""

    status = 404


class TooLarge(BadInput):
    """More bytes than the limit allows."""

    status = 413


class WrongType(BadInput):
    """A body of another type than ``wanted``."""

    status = 415

    def __init__(self, wanted: str) -> None:
        super().__init__(f"send the body as {wanted}")
        self.wanted = wanted


class Unauthorized(AvatarError):
    """No bearer token, or one that is unknown or over."""

    status = 401


class Forbidden(AvatarError):
    """The token does not allow this, or a page of another site asks."""

    status = 403


class TooSlow(AvatarError):
    """A request's body did not arrive in time."""

    status = 408


class PreconditionFailed(AvatarError):
    """If-Match names another state than the session's."""

    status = 412


class PreconditionRequired(AvatarError):
    """If-Match is missing."""

    status = 428


class NotSupported(AvatarError):
    """Something the standard lets a server refuse."""

    status = 422


class TooMany(AvatarError):
    """One address asks for more than its share."""

    status = 429


class ServerFull(AvatarError):
    """All places are taken, or the server is stopping."""

    status = 503


class LibraryFault(AvatarError):
    """The library of characters cannot be read or written: its disk, its rights, its version."""

    status = 503


class LibraryFull(LibraryFault):
    """The disk of the library is full."""

    status = 507


class EngineUnavailable(AvatarError):
    """An engine cannot be loaded or built here."""

    status = 503
