"""What is kept of a person: an identity card, and the consent it was made with."""

import getpass
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from platformdirs import user_data_path

from avatar_stream.face.mesh import Floats
from avatar_stream.identity.visible_text import escaped


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


def account_name() -> str:
    """Who uses this machine's commands: the account's name."""
    try:
        return escaped(getpass.getuser()) or "local"
    except (KeyError, OSError):
        return "local"


def default_library() -> Path:
    """Where a library is unless one says otherwise."""
    return user_data_path("avatar-stream", appauthor=False) / "library"


def floats_to_bytes(values: Floats) -> bytes:
    """Numbers as they are kept."""
    return np.asarray(values, "<f4").tobytes()


def floats_from_bytes(data: bytes) -> Floats:
    """And back."""
    return np.frombuffer(data, "<f4").astype(np.float32)


def canonical_json(value: Any) -> str:
    """JSON that is the same for the same value; raises ``ValueError`` for a number that is not finite."""
    return json.dumps(value, sort_keys=True, ensure_ascii=False, allow_nan=False)
