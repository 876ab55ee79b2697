"""Records of enrolled people: the character, its consent and its files."""

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
    """The right to use a face: the ``statement``, ``by`` whom, and when (``at``, seconds since 1970)."""

    statement: str
    by: str
    at: float


@dataclass(frozen=True, slots=True)
class StoredFile:
    """A file of a record: its kind (such as ``source 0`` or ``portrait 384 square``) and its SHA-256 ``digest``."""

    kind: str
    digest: str


@dataclass(frozen=True, slots=True)
class Character:
    """One enrolled person.

    ``created`` and ``used`` are seconds since 1970. ``z_id (512,)``, of length 1, is the identity vector that
    conditions the network. ``likeness (128,)`` is the face embedding by which faces are compared (see
    ``avatar_stream.identity.likeness``). ``shape (60,)`` holds the identity coefficients of the 3-D face model, and
    ``mood (45,)`` the expression coefficients of the portrait. ``settings`` are session settings for this character,
    such as background and expression locks. ``protected``: only the owner may use this face.
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
        """Digest of the file of this kind; None if there is none."""
        return next((one.digest for one in self.files if one.kind == kind), None)

    def public(self) -> dict[str, Any]:
        """The fields for clients and listings, as JSON: all but vectors and files."""
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
    """Name of the account that runs this process, ``local`` if it has none."""
    try:
        return escaped(getpass.getuser()) or "local"
    except (KeyError, OSError):
        return "local"


def default_library() -> Path:
    """The default folder of the library."""
    return user_data_path("avatar-stream", appauthor=False) / "library"


def floats_to_bytes(values: Floats) -> bytes:
    """A vector as little-endian float32 bytes."""
    return np.asarray(values, "<f4").tobytes()


def floats_from_bytes(data: bytes) -> Floats:
    """The vector in bytes from :func:`floats_to_bytes`."""
    return np.frombuffer(data, "<f4").astype(np.float32)


def canonical_json(value: Any) -> str:
    """JSON with sorted keys, so that equal values give equal text. Raises ``ValueError`` for NaN and infinity."""
    return json.dumps(value, sort_keys=True, ensure_ascii=False, allow_nan=False)
