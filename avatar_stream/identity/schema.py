"""The schema of the library's database, and the conversion between rows and records."""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from avatar_stream.errors import BadInput, LibraryFault
from avatar_stream.face.mesh import Floats
from avatar_stream.identity.checks import (
    MAX_NAME_LENGTH,
    MAX_TEXT_LENGTH,
    MAX_TIMESTAMP,
    VECTOR_LENGTHS,
    checked_character,
)
from avatar_stream.identity.records import Character, StoredFile, canonical_json, floats_from_bytes, floats_to_bytes
from avatar_stream.identity.visible_text import escaped

MAX_JSON_LENGTH: Final = 200_000  # characters in a column

MIGRATIONS: Final = (
    """
    CREATE TABLE characters (
        id TEXT PRIMARY KEY, name TEXT NOT NULL COLLATE NOCASE, owner TEXT NOT NULL, tags TEXT NOT NULL,
        description TEXT NOT NULL, style TEXT NOT NULL, protected INTEGER NOT NULL, consent TEXT NOT NULL,
        created REAL NOT NULL, used REAL NOT NULL, quality TEXT NOT NULL, settings TEXT NOT NULL,
        z_id BLOB NOT NULL, likeness BLOB NOT NULL, shape BLOB NOT NULL, mood BLOB NOT NULL, UNIQUE (owner, name)
    );
    CREATE TABLE files (
        character TEXT NOT NULL REFERENCES characters (id) ON DELETE CASCADE,
        kind TEXT NOT NULL, digest TEXT NOT NULL, PRIMARY KEY (character, kind)
    );
    CREATE INDEX files_by_digest ON files (digest);
    CREATE TABLE audit (at REAL NOT NULL, who TEXT NOT NULL, action TEXT NOT NULL, character TEXT NOT NULL,
        detail TEXT NOT NULL);
    """,
)
COLUMNS: Final = (
    "id", "name", "owner", "tags", "description", "style", "protected", "consent", "created", "used", "quality",
    "settings", "z_id", "likeness", "shape", "mood",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class AuditEntry:
    """A line of the audit: when (seconds since 1970), who, what, and on which character."""

    at: float
    who: str
    action: str
    character: str
    detail: str


def to_row(one: Character) -> tuple[Any, ...]:
    """A character as a row, in the order of ``COLUMNS``."""
    consent = {"statement": one.consent.statement, "by": one.consent.by, "at": one.consent.at}
    return (
        one.id, one.name, one.owner, canonical_json(list(one.tags)), one.description, one.style, int(one.protected),
        canonical_json(consent), one.created, one.used, canonical_json(dict(one.quality)),
        canonical_json(dict(one.settings)), floats_to_bytes(one.z_id), floats_to_bytes(one.likeness),
        floats_to_bytes(one.shape), floats_to_bytes(one.mood),
    )  # fmt: skip


def to_character(row: Mapping[str, Any], files: Iterable[StoredFile]) -> Character:
    """A validated character from its row and files; raises :class:`LibraryFault` with its name if it is damaged."""
    try:
        return checked_character(
            {name: row[name] for name in ("id", "name", "owner", "description", "style", "created", "used")}
            | {name: _parsed(row, name) for name in ("tags", "consent", "quality", "settings")}
            | {name: _numbers(row, name) for name in VECTOR_LENGTHS}
            | {"protected": _flag(row["protected"]), "files": tuple(files)},
            stored=True,
        )
    except BadInput as error:
        who = f"{printable(row['name'])} ({printable(row['id'])})"
        raise LibraryFault(f"the record of {who} is damaged, {error}: restore it or remove it") from None


def to_audit_entry(row: Sequence[Any]) -> AuditEntry:
    """A line of the audit from its row; an impossible time becomes 0."""
    at, *words = row
    is_valid = isinstance(at, int | float) and 0 <= at <= MAX_TIMESTAMP
    return AuditEntry(float(at) if is_valid else 0.0, *(printable(word, MAX_TEXT_LENGTH) for word in words))


def printable(value: Any, max_length: int = MAX_NAME_LENGTH) -> str:
    """A value of the database as visible text, cut to ``max_length`` characters."""
    return escaped(str(value)[:max_length])


def _parsed(row: Mapping[str, Any], name: str) -> Any:
    text = row[name]
    try:
        if isinstance(text, str) and len(text) <= MAX_JSON_LENGTH:
            return json.loads(text)
    except (ValueError, RecursionError):
        pass
    raise BadInput(f"its {name} cannot be read")


def _numbers(row: Mapping[str, Any], name: str) -> Floats:
    data = row[name]
    if not isinstance(data, bytes) or len(data) % 4:
        raise BadInput(f"its {name} cannot be read")
    return floats_from_bytes(data)


def _flag(value: Any) -> Any:
    return bool(value) if value in (0, 1) else value
