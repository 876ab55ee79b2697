"""The library on disk: an SQLite database (WAL), and files named by the SHA-256 of their content.

A file is written under another name, synced to disk and renamed before a record refers to it. If a crash leaves files
without a record, they are deleted when the library is opened next. Every change holds the database's write lock, so
several processes may share a library.
"""

import contextlib
import logging
import secrets
import sqlite3
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any, Final

from avatar_stream.errors import BadInput, LibraryFault, LibraryFull, NameTaken, UnknownPortrait
from avatar_stream.face.mesh import Floats
from avatar_stream.identity.checks import (
    DIGEST_PATTERN,
    ID_PATTERN,
    MAX_TIMESTAMP,
    VECTOR_LENGTHS,
    checked_character,
    checked_name,
    checked_settings,
    checked_sources,
)
from avatar_stream.identity.database import Database
from avatar_stream.identity.file_store import FileStore
from avatar_stream.identity.records import Character, StoredFile, canonical_json, floats_from_bytes
from avatar_stream.identity.schema import COLUMNS, AuditEntry, printable, to_audit_entry, to_character, to_row

log = logging.getLogger(__name__)

CHARACTER_ID_PREFIX: Final = "c-"


@dataclass(frozen=True, slots=True)
class ProtectedFace:
    """A face that only its owner may use."""

    id: str
    owner: str
    likeness: Floats


class Store:
    """A library in ``folder``, which is created if missing. Thread-safe. Raises :class:`LibraryFault` on disk faults.

    A read-only folder is opened for reading: changes are refused, and uses are logged but not stored.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._files, self._database = FileStore(folder / "files"), Database(folder)
        self._reported: set[str] = set()
        with self._database.translated_errors():
            self._files.make()
        with self._database.reading():
            self._delete_orphaned_files()

    def close(self) -> None:
        """Close the database."""
        self._database.close()

    # Reading

    def get(self, key: str, owner: str | None = None) -> Character:
        """The character with this id, of ``owner`` if one is given; raises :class:`UnknownPortrait`."""
        found: list[Character] = []
        faults: list[LibraryFault] = []
        if ID_PATTERN.fullmatch(key):
            query = "SELECT * FROM characters WHERE id = ? AND (? IS NULL OR owner = ?)"
            found, faults = self._read(query, (key, owner, owner))
        if faults:
            raise faults[0]
        if not found:
            raise UnknownPortrait("there is no such character: it may have been removed")
        return found[0]

    def named(self, id_or_name: str) -> tuple[str, str]:
        """Id and name of the character with this id or name. Its record may be damaged.

        Raises :class:`UnknownPortrait`, and :class:`BadInput` if several characters have this name.
        """
        with self._database.reading() as connection:
            query = "SELECT id, name FROM characters WHERE id = ? OR name = ?"
            found = connection.execute(
                query, (_encodable(id_or_name), _encodable(" ".join(id_or_name.split())))
            ).fetchall()
        if not found:
            raise UnknownPortrait(f"there is no character {id_or_name!r}: avatar-stream identity list shows all")
        if len(found) > 1:
            raise BadInput(f"{len(found)} characters are called {id_or_name!r}: use an id instead")
        return found[0][0], printable(found[0][1])

    def find(self, id_or_name: str) -> Character:
        """The character with this id or name; raises as :meth:`named` does."""
        return self.get(self.named(id_or_name)[0])

    def characters(self, *, owner: str | None = None, text: str = "", tag: str = "") -> list[Character]:
        """As :meth:`listed`, without damaged records. The damage is logged once."""
        found, faults = self.listed(owner=owner, text=text, tag=tag)
        for fault in faults:
            if str(fault) not in self._reported:
                self._reported.add(str(fault))
                log.error("%s", fault)
        return found

    def listed(
        self, *, owner: str | None = None, text: str = "", tag: str = ""
    ) -> tuple[list[Character], list[LibraryFault]]:
        """Characters sorted by name, and a fault for each damaged record.

        They belong to ``owner`` (None: anyone), have ``text`` in name, tags or description, and the tag ``tag``.
        """
        pattern = "%" + _encodable(text).replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_") + "%"
        query = (
            "SELECT * FROM characters WHERE (? IS NULL OR owner = ?) AND (name LIKE ? ESCAPE '\\'"
            " OR description LIKE ? ESCAPE '\\' OR tags LIKE ? ESCAPE '\\') ORDER BY name"
        )
        found, faults = self._read(query, (owner, owner, pattern, pattern, pattern))
        return [one for one in found if not tag or tag.lower() in one.tags], faults

    def protected(self) -> list[ProtectedFace]:
        """The protected faces, also those of records that are damaged elsewhere."""
        with self._database.reading() as connection:
            rows = connection.execute("SELECT id, owner, likeness FROM characters WHERE protected != 0").fetchall()
        length = 4 * VECTOR_LENGTHS["likeness"][0]
        return [
            ProtectedFace(id, owner, floats_from_bytes(data))
            for id, owner, data in rows
            if isinstance(data, bytes) and len(data) == length
        ]

    def read(self, digest: str) -> bytes:
        """A file's bytes; raises :class:`LibraryFault` if it is missing or damaged."""
        with self._database.translated_errors():
            return self._files.read(digest)

    def uses(self, limit: int = 100) -> list[AuditEntry]:
        """The last ``limit`` lines of the audit, the last written first (clocks may jump)."""
        with self._database.reading() as connection:
            rows = connection.execute("SELECT * FROM audit ORDER BY rowid DESC LIMIT ?", (limit,))
            return [to_audit_entry(row) for row in rows]

    def problems(self) -> list[str]:
        """A sentence for each fault of the library; empty if it has none."""
        with self._database.reading() as connection:
            found = [f"database: {row[0]}" for row in connection.execute("PRAGMA integrity_check") if row[0] != "ok"]
            found += ["a file without a character" for _ in connection.execute("PRAGMA foreign_key_check")]
            digests = [str(row[0]) for row in connection.execute("SELECT DISTINCT digest FROM files")]
        characters, faults = self.listed()
        found += [str(fault) for fault in faults]
        found += [f"the picture of {one.name} is missing" for one in characters if one.file("source 0") is None]
        for digest in filter(DIGEST_PATTERN.fullmatch, digests):  # faults of the others are in the record's
            try:
                self.read(digest)
            except LibraryFault as error:
                found.append(str(error))
        return found

    # Changing

    def add(self, character: Character, files: Mapping[str, bytes], *, quota: int = 0, who: str = "") -> Character:
        """Store a character and its pictures (``source 0``, ``source 1``, ...) under a new id.

        Raises :class:`BadInput` if the record is invalid (see ``checks``) or the owner already has ``quota``
        characters (0: no limit), and :class:`NameTaken`.
        """
        checked_sources(files)
        character = checked_character(
            {one.name: getattr(character, one.name) for one in fields(Character)}
            | {"id": CHARACTER_ID_PREFIX + secrets.token_hex(8), "files": (), "consent": _consent(character)}
        )
        with self._change() as connection:
            count = connection.execute("SELECT COUNT(*) FROM characters WHERE owner = ?", (character.owner,))
            if quota and count.fetchone()[0] >= quota:
                raise BadInput(f"one owner may keep {quota} characters at most: remove one first")
            taken = connection.execute(
                "SELECT 1 FROM characters WHERE owner = ? AND name = ?", (character.owner, character.name)
            )
            if taken.fetchone():
                raise NameTaken(f"there is a character called {character.name!r} already: choose another name")
            character = replace(
                character, files=tuple(StoredFile(kind, self._files.write(data)) for kind, data in files.items())
            )
            connection.execute(
                f"INSERT INTO characters ({', '.join(COLUMNS)}) VALUES ({', '.join('?' * len(COLUMNS))})",
                to_row(character),
            )
            connection.executemany(
                "INSERT INTO files VALUES (?, ?, ?)",
                [(character.id, one.kind, one.digest) for one in character.files],
            )
            _write_audit(connection, who or character.owner, "add", character.id, character.consent.statement)
        return character

    def attach(self, key: str, kind: str, data: bytes) -> None:
        """Add a file to a character, or replace the one of the same kind."""
        with self._change() as connection:
            if not connection.execute("SELECT 1 FROM characters WHERE id = ?", (key,)).fetchone():
                raise UnknownPortrait("there is no such character: it may have been removed")
            connection.execute("INSERT OR REPLACE INTO files VALUES (?, ?, ?)", (key, kind, self._files.write(data)))

    def rename(self, key: str, name: str, *, who: str) -> str:
        """Rename a character and return the normalised name; raises :class:`NameTaken`."""
        name = checked_name(name)
        with self._change() as connection:
            before = self.get(key)
            try:
                connection.execute("UPDATE characters SET name = ? WHERE id = ?", (name, key))
            except sqlite3.IntegrityError:
                raise NameTaken(f"there is a character called {name!r} already: choose another name") from None
            _write_audit(connection, who, "rename", key, f"{before.name} to {name}")
        return name

    def set_settings(self, key: str, settings: Mapping[str, Any], *, who: str) -> None:
        """Store the settings of a character; raises :class:`BadInput`."""
        text = canonical_json(checked_settings(settings))
        with self._change() as connection:
            self.get(key)
            connection.execute("UPDATE characters SET settings = ? WHERE id = ?", (text, key))
            _write_audit(connection, who, "settings", key, text)

    def use(self, key: str, who: str, how: str) -> None:
        """Add the use of a character to the audit; on a full disk it is only logged."""
        if self._skip_if_read_only(who, "use", key):
            return
        try:
            with self._change() as connection:
                connection.execute("UPDATE characters SET used = ? WHERE id = ?", (_now(), key))
                _write_audit(connection, who, "use", key, how)
        except LibraryFull as error:
            log.warning("the use of %s by %s is not in the audit: %s", key, who, error)

    def note(self, who: str, action: str, key: str, detail: str) -> None:
        """Add a line to the audit."""
        if self._skip_if_read_only(who, action, key):
            return
        with self._change() as connection:
            _write_audit(connection, who, action, key, detail)

    def remove(self, key: str, *, who: str) -> None:
        """Delete a character with its files, also from the library's own backups, and add this to the audit.

        This also works for a damaged record and on a full disk.
        """
        with self._database.reading() as connection:
            if not connection.execute("SELECT 1 FROM characters WHERE id = ?", (_encodable(key),)).fetchone():
                raise UnknownPortrait("there is no such character: it may have been removed")
            digests = {row[0] for row in connection.execute("SELECT digest FROM files WHERE character = ?", (key,))}
        try:
            self._delete(key, who)
        except LibraryFull:
            self._free_space(key)
            self._delete(key, who)
        self._delete_unreferenced(digests)
        with self._database.reading() as connection:
            # Also remove it from the WAL.
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
            for backup in self.folder.glob("before-*.db"):
                with contextlib.closing(sqlite3.connect(backup)) as old:
                    old.execute("PRAGMA secure_delete = ON")
                    known = {row[0] for row in old.execute("SELECT name FROM sqlite_master")}
                    for table, column in (("files", "character"), ("characters", "id"), ("audit", "character")):
                        if table in known:
                            old.execute(f"DELETE FROM {table} WHERE {column} = ?", (key,))
                    old.commit()

    # Internals

    @contextlib.contextmanager
    def _change(self) -> Iterator[sqlite3.Connection]:
        """A transaction with the library's write lock. If it fails, files written in it are deleted again."""
        with self._database.changing(self._files.undo) as connection:
            self._files.begin()
            yield connection

    def _delete(self, key: str, who: str) -> None:
        with self._change() as connection:
            connection.execute("DELETE FROM characters WHERE id = ?", (key,))
            # The audit keeps the entries, but not their texts.
            connection.execute("UPDATE audit SET detail = '' WHERE character = ?", (key,))
            _write_audit(connection, who, "remove", key, "")

    def _free_space(self, key: str) -> None:
        """Delete this character's files ahead of its record, and all prepared portraits, which can be made again."""
        query = (
            "SELECT DISTINCT digest FROM files WHERE (character = ? OR kind LIKE 'portrait %') AND digest NOT IN"
            " (SELECT digest FROM files WHERE character != ? AND kind NOT LIKE 'portrait %')"
        )
        with self._database.reading() as connection:
            for (digest,) in connection.execute(query, (key, key)).fetchall():
                self._files.delete(digest)

    def _read(self, query: str, values: Sequence[Any]) -> tuple[list[Character], list[LibraryFault]]:
        with self._database.reading() as connection:
            cursor = connection.execute(query, values)
            names = [one[0] for one in cursor.description]
            rows = [dict(zip(names, row, strict=True)) for row in cursor]
            files: dict[str, list[StoredFile]] = {}
            if len(rows) == 1:
                kept = connection.execute("SELECT * FROM files WHERE character = ?", (rows[0]["id"],))
            else:
                kept = connection.execute("SELECT * FROM files")
            for key, kind, digest in kept:
                files.setdefault(key, []).append(StoredFile(kind, digest))
        found, faults = [], []
        for row in rows:
            try:
                found.append(to_character(row, files.get(row["id"], ())))
            except LibraryFault as fault:
                faults.append(fault)
        return found, faults

    def _skip_if_read_only(self, who: str, action: str, key: str) -> bool:
        """Whether the library is read-only. If so, the action is logged, for it cannot be stored."""
        with self._database.reading():
            if self._database.read_only:
                log.warning("%s of %s by %s is not in the audit: the library is read-only", action, key, who)
            return self._database.read_only

    def _delete_unreferenced(self, digests: set[str]) -> None:
        """Delete those of the files that no record refers to."""
        with self._change() as connection:
            for digest in digests:
                if not connection.execute("SELECT 1 FROM files WHERE digest = ?", (digest,)).fetchone():
                    self._files.delete(digest)

    def _delete_orphaned_files(self) -> None:
        """Delete files without a record, which a crash may have left, unless the library is read-only."""
        if self._database.read_only:
            return
        with self._change() as connection:
            self._files.delete_all_except(row[0] for row in connection.execute("SELECT digest FROM files"))


def _write_audit(connection: sqlite3.Connection, who: str, action: str, key: str, detail: str) -> None:
    connection.execute("INSERT INTO audit VALUES (?, ?, ?, ?, ?)", (_now(), who, action, key, detail))


def _now() -> float:
    """Seconds since 1970, limited to valid times if the clock is wrong."""
    return min(max(time.time(), 0.0), MAX_TIMESTAMP)


def _encodable(text: str) -> str:
    """Text that SQLite accepts: lone surrogates are escaped."""
    return text.encode("utf-8", "backslashreplace").decode()


def _consent(character: Character) -> dict[str, Any]:
    consent = character.consent
    return {"statement": consent.statement, "by": consent.by, "at": consent.at}
