"""Every error a user can meet, each with the HTTP status it maps to and the exit code of the command.

AvatarError (500, 1)
├── BadInput (400, 2)
│   ├── BadPicture (422)      a portrait that cannot be used
│   ├── BadClip (422)         a driving video that cannot be used
│   ├── BadOffer (400)        an SDP offer that cannot be answered
│   └── UnknownPortrait (404)
├── NotFound (404)            no such session
├── TooLarge (413, 2)
├── ServerFull (503)
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
    """An SDP offer that is malformed or asks for what we do not do."""


class UnknownPortrait(BadInput):
    """No portrait with this id."""

    status = 404


class NotFound(AvatarError):
    """No such session."""

    status = 404


class TooLarge(BadInput):
    """More bytes than the limit allows."""

    status = 413


class ServerFull(AvatarError):
    """All session slots are taken."""

    status = 503


class EngineUnavailable(AvatarError):
    """An engine cannot be loaded or built here."""

    status = 503
