"""What is kept of a person: an identity card, and the consent it was made with."""

import getpass
import json
import unicodedata
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import numpy as np
from platformdirs import user_data_path

from avatar_stream.errors import BadInput
from avatar_stream.face.expression import Expression
from avatar_stream.face.mesh import Floats
from avatar_stream.portrait.background import UPLOADED, checked

LONGEST_NAME: Final = 80
LONGEST_TEXT: Final = 2000
MOST_TAGS: Final = 20
LEAST_CONSENT: Final = 10  # characters of a statement that says something


@dataclass(frozen=True, slots=True)
class Consent:
    """That a face may be used: the ``statement``, ``by`` whom and when (``at``, seconds since 1970)."""

    statement: str
    by: str
    at: float


@dataclass(frozen=True, slots=True)
class StoredFile:
    """A file of a record: its SHA-256, and what it is (``source``, ``prepared 384``, ...)."""

    kind: str
    digest: str


@dataclass(frozen=True, slots=True)
class Character:
    """One enrolled person.

    ``z_id (512,)``, of length 1, is what conditions the network; ``likeness (128,)`` what the guard compares (see
    ``avatar_stream.identity.likeness``); ``shape`` who the 3-D face model takes them for and ``mood (45,)`` their own
    expression. ``settings`` go with the character: expression locks, background. ``protected``: nobody else may use
    this face.
    """

    id: str
    name: str
    owner: str
    consent: Consent
    created: float
    used: float
    tags: tuple[str, ...] = ()
    description: str = ""
    style: str = ""
    protected: bool = False
    quality: Mapping[str, Any] = field(default_factory=dict)
    settings: Mapping[str, Any] = field(default_factory=dict)
    z_id: Floats = field(default_factory=lambda: np.zeros(0, np.float32))
    likeness: Floats = field(default_factory=lambda: np.zeros(0, np.float32))
    shape: Floats = field(default_factory=lambda: np.zeros(0, np.float32))
    mood: Floats = field(default_factory=lambda: np.zeros(0, np.float32))
    files: tuple[StoredFile, ...] = ()

    def file(self, kind: str) -> str | None:
        """Digest of its file of a kind."""
        return next((one.digest for one in self.files if one.kind == kind), None)

    def public(self) -> dict[str, Any]:
        """What a page or a listing may know."""
        return {
            "id": self.id,
            "name": self.name,
            "owner": self.owner,
            "tags": list(self.tags),
            "description": self.description,
            "style": self.style,
            "protected": self.protected,
            "consent": {"statement": self.consent.statement, "by": self.consent.by, "at": self.consent.at},
            "created": self.created,
            "used": self.used,
            "quality": dict(self.quality),
            "settings": dict(self.settings),
        }


def account() -> str:
    """Who uses this machine's commands: the account's name."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return "local"


def default_library() -> Path:
    """Where a library is unless one says otherwise."""
    return user_data_path("avatar-stream", appauthor=False) / "library"


def checked_name(name: str) -> str:
    """A name as it is kept; raises :class:`BadInput` for an empty, endless or unprintable one."""
    name = unicodedata.normalize("NFC", " ".join(name.split()))
    if not name or len(name) > LONGEST_NAME or not name.isprintable():
        raise BadInput(f"a name has 1 to {LONGEST_NAME} printable characters")
    return name


def checked_text(text: str, what: str) -> str:
    """A sentence as it is kept; raises :class:`BadInput` for one that is too long."""
    text = " ".join(text.split())
    if len(text) > LONGEST_TEXT:
        raise BadInput(f"{what} has at most {LONGEST_TEXT} characters")
    return text


def checked_tags(tags: Iterable[str]) -> tuple[str, ...]:
    """Tags as they are kept: each once, in small letters."""
    found = tuple(dict.fromkeys(checked_name(tag).lower() for tag in tags))
    if len(found) > MOST_TAGS:
        raise BadInput(f"a character has at most {MOST_TAGS} tags")
    return found


def checked_consent(statement: str, by: str, at: float) -> Consent:
    """The consent of an enrolment; raises :class:`BadInput` where nothing was said."""
    statement = checked_text(statement, "a statement of consent")
    if len(statement) < LEAST_CONSENT:
        raise BadInput(
            'say with what right this face is used, for example --consent "This is me" or '
            '"Ana Lima agreed in writing on 3 May 2026"'
        )
    return Consent(statement, by, at)


def checked_settings(settings: Any) -> dict[str, Any]:
    """Settings that go with a character; raises :class:`BadInput`."""
    if not isinstance(settings, Mapping) or not set(settings) <= {"background", "keep", "expression"}:
        raise BadInput("settings are background, keep and expression")
    found: dict[str, Any] = {}
    if "background" in settings:
        found["background"] = checked(str(settings["background"]))
        if found["background"].startswith(UPLOADED):
            raise BadInput("a picture as background is not kept with a character: choose another one to keep")
    if "keep" in settings:
        keep = settings["keep"]
        if isinstance(keep, bool) or not isinstance(keep, int | float) or not 0 <= keep <= 1:
            raise BadInput("keep is a number from 0 to 1")
        found["keep"] = float(keep)
    if "expression" in settings:
        found["expression"] = Expression.from_json(settings["expression"]).to_json()
    return found


def numbers(values: Floats) -> bytes:
    """Numbers as they are kept."""
    return np.asarray(values, "<f4").tobytes()


def from_numbers(data: bytes) -> Floats:
    """And back."""
    return np.frombuffer(data, "<f4").astype(np.float32)


def plain_json(value: Any) -> str:
    """JSON that is the same for the same value."""
    return json.dumps(value, sort_keys=True, ensure_ascii=False)
