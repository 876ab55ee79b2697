"""How the library's database is laid out, and characters as its rows."""

import json
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Final

from avatar_stream.identity.records import Character, Consent, StoredFile, from_numbers, numbers, plain_json

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
class Use:
    """A line of the audit: when, who, what, of which character."""

    at: float
    who: str
    action: str
    character: str
    detail: str


def to_row(one: Character) -> tuple[Any, ...]:
    """A character in the order of ``COLUMNS``."""
    consent = {"statement": one.consent.statement, "by": one.consent.by, "at": one.consent.at}
    return (
        one.id, one.name, one.owner, plain_json(list(one.tags)), one.description, one.style, int(one.protected),
        plain_json(consent), one.created, one.used, plain_json(dict(one.quality)), plain_json(dict(one.settings)),
        numbers(one.z_id), numbers(one.likeness), numbers(one.shape), numbers(one.mood),
    )  # fmt: skip


def to_character(row: dict[str, Any], files: Iterable[StoredFile]) -> Character:
    """And back, with its files."""
    return Character(
        id=row["id"],
        name=row["name"],
        owner=row["owner"],
        description=row["description"],
        style=row["style"],
        created=row["created"],
        used=row["used"],
        tags=tuple(json.loads(row["tags"])),
        protected=bool(row["protected"]),
        consent=Consent(**json.loads(row["consent"])),
        quality=json.loads(row["quality"]),
        settings=json.loads(row["settings"]),
        z_id=from_numbers(row["z_id"]),
        likeness=from_numbers(row["likeness"]),
        shape=from_numbers(row["shape"]),
        mood=from_numbers(row["mood"]),
        files=tuple(files),
    )
