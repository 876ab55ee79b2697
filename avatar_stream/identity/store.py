"""The library on disk: one SQLite database (WAL) and files named by what is in them.

A file is written whole under another name, flushed and renamed before the database names it; whatever a crash leaves
that no record names is swept when the library is opened next. Every change holds the database's write lock, so that
several processes may share a library.
"""

import contextlib
import hashlib
import os
import secrets
import sqlite3
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

from avatar_stream.errors import BadInput, LibraryFault, NameTaken, UnknownPortrait
from avatar_stream.identity.records import (
    Character,
    StoredFile,
    checked_name,
    plain_json,
)
from avatar_stream.identity.schema import COLUMNS, MIGRATIONS, Use, to_character, to_row

PREFIX: Final = "c-"
BUSY: Final = 20.0  # seconds that another process may hold the lock


class Store:
    """A library in ``folder``, made if need be. Thread-safe; raises :class:`LibraryFault` where the disk fails."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._files = folder / "files"
        self._lock = threading.RLock()  # one connection for all threads: sessions come and go with theirs
        with self._explained():
            self._files.mkdir(parents=True, exist_ok=True, mode=0o700)
            self._connection = self._opened()
            self._migrate()
            self._sweep()

    def close(self) -> None:
        """Let go of the database."""
        with self._lock:
            self._connection.close()

    # Reading

    def get(self, key: str) -> Character:
        """The character of an id; raises :class:`UnknownPortrait`."""
        with self._explained():
            rows = self._read("SELECT * FROM characters WHERE id = ?", (key,))
        if not rows:
            raise UnknownPortrait("there is no such character: it may have been removed")
        return rows[0]

    def find(self, said: str) -> Character:
        """The character of an id or a name; raises :class:`UnknownPortrait`."""
        with self._explained():
            found = self._read("SELECT * FROM characters WHERE id = ? OR name = ?", (said, " ".join(said.split())))
        if not found:
            raise UnknownPortrait(
                f"there is no character {said!r}: avatar-stream identity list shows those there are"
            )
        if len(found) > 1:
            raise BadInput(f"{len(found)} characters are called {said!r}: give the id of one")
        return found[0]

    def characters(self, *, owner: str | None = None, text: str = "", tag: str = "") -> list[Character]:
        """Those of an ``owner`` (None: everybody's) whose name, tags or description contain ``text``, by name."""
        pattern = "%" + text.replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_") + "%"
        query = (
            "SELECT * FROM characters WHERE (? IS NULL OR owner = ?) AND (name LIKE ? ESCAPE '\\'"
            " OR description LIKE ? ESCAPE '\\' OR tags LIKE ? ESCAPE '\\') ORDER BY name"
        )
        with self._explained():
            found = self._read(query, (owner, owner, pattern, pattern, pattern))
        return [one for one in found if not tag or tag.lower() in one.tags]

    def protected(self) -> list[Character]:
        """Those whose face nobody else may use."""
        with self._explained():
            return self._read("SELECT * FROM characters WHERE protected = 1", ())

    def read(self, digest: str) -> bytes:
        """A file's bytes; raises :class:`LibraryFault` where they are not what they were."""
        with self._explained():
            data = self._place(digest).read_bytes()
        if hashlib.sha256(data).hexdigest() != digest:
            raise LibraryFault(f"a file of the library is damaged ({digest[:12]}): enrol the person again")
        return data

    def uses(self, limit: int = 100) -> list[Use]:
        """The last lines of the audit, newest first."""
        with self._explained():
            rows = self._connection.execute("SELECT * FROM audit ORDER BY at DESC, rowid DESC LIMIT ?", (limit,))
            return [Use(*row) for row in rows]

    def problems(self) -> list[str]:
        """What is not as it should be, a sentence each: nothing in a sound library."""
        with self._explained():
            connection = self._connection
            found = [f"database: {row[0]}" for row in connection.execute("PRAGMA integrity_check") if row[0] != "ok"]
            found += ["a file of nobody" for _ in connection.execute("PRAGMA foreign_key_check")]
            digests = [row[0] for row in connection.execute("SELECT DISTINCT digest FROM files")]
        for digest in digests:
            try:
                self.read(digest)
            except LibraryFault as error:
                found.append(str(error))
        return found

    # Changing

    def add(self, character: Character, files: Mapping[str, bytes], *, quota: int = 0, who: str = "") -> Character:
        """Keep a character with its files, by kind, under a new id.

        Raises :class:`NameTaken`, and :class:`BadInput` where the owner has ``quota`` characters already (0: as many
        as there is room for).
        """
        with self._change() as connection:
            count = connection.execute("SELECT COUNT(*) FROM characters WHERE owner = ?", (character.owner,))
            if quota and count.fetchone()[0] >= quota:
                raise BadInput(f"there is room for {quota} characters of one owner: remove one first")
            taken = connection.execute(
                "SELECT 1 FROM characters WHERE owner = ? AND name = ?", (character.owner, character.name)
            )
            if taken.fetchone():
                raise NameTaken(f"there is a character called {character.name!r} already: choose another name")
            kept = tuple(StoredFile(kind, self._write(data)) for kind, data in files.items())
            character = replace(character, id=PREFIX + secrets.token_hex(8), files=kept)
            connection.execute(
                f"INSERT INTO characters ({', '.join(COLUMNS)}) VALUES ({', '.join('?' * len(COLUMNS))})",
                to_row(character),
            )
            connection.executemany(
                "INSERT INTO files VALUES (?, ?, ?)", [(character.id, one.kind, one.digest) for one in kept]
            )
            _note(connection, who or character.owner, "add", character.id, character.consent.statement)
        return character

    def attach(self, key: str, kind: str, data: bytes) -> None:
        """Keep one more file of a character, in place of one of the same kind."""
        with self._change() as connection:
            if not connection.execute("SELECT 1 FROM characters WHERE id = ?", (key,)).fetchone():
                raise UnknownPortrait("there is no such character: it may have been removed")
            connection.execute("INSERT OR REPLACE INTO files VALUES (?, ?, ?)", (key, kind, self._write(data)))

    def rename(self, key: str, name: str, *, who: str) -> None:
        """Give a character another name; raises :class:`NameTaken`."""
        name = checked_name(name)
        with self._change() as connection:
            before = self.get(key)
            try:
                connection.execute("UPDATE characters SET name = ? WHERE id = ?", (name, key))
            except sqlite3.IntegrityError:
                raise NameTaken(f"there is a character called {name!r} already: choose another name") from None
            _note(connection, who, "rename", key, f"{before.name} to {name}")

    def set_settings(self, key: str, settings: Mapping[str, Any], *, who: str) -> None:
        """Keep the settings that go with a character."""
        with self._change() as connection:
            self.get(key)
            connection.execute("UPDATE characters SET settings = ? WHERE id = ?", (plain_json(dict(settings)), key))
            _note(connection, who, "settings", key, plain_json(dict(settings)))

    def use(self, key: str, who: str, how: str) -> None:
        """Write down that a character was used."""
        with self._change() as connection:
            connection.execute("UPDATE characters SET used = ? WHERE id = ?", (time.time(), key))
            _note(connection, who, "use", key, how)

    def note(self, who: str, action: str, key: str, detail: str) -> None:
        """A line of the audit."""
        with self._change() as connection:
            _note(connection, who, action, key, detail)

    def remove(self, key: str, *, who: str) -> None:
        """Remove a character, its files, and what the library's own backups hold of it; the audit says so."""
        with self._change() as connection:
            character = self.get(key)
            connection.execute("DELETE FROM characters WHERE id = ?", (key,))
            # What was said in words goes too; that there was somebody stays.
            connection.execute("UPDATE audit SET detail = '' WHERE character = ?", (key,))
            _note(connection, who, "remove", key, "")
        with self._explained():
            self._drop({one.digest for one in character.files})
            # Not in the log of changes, either.
            self._connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
            for backup in self.folder.glob("before-*.db"):
                with contextlib.closing(sqlite3.connect(backup)) as old:
                    old.execute("PRAGMA secure_delete = ON")
                    known = {row[0] for row in old.execute("SELECT name FROM sqlite_master")}
                    for table, column in (("files", "character"), ("characters", "id"), ("audit", "character")):
                        if table in known:
                            old.execute(f"DELETE FROM {table} WHERE {column} = ?", (key,))
                    old.commit()

    # Underneath

    def _opened(self) -> sqlite3.Connection:
        found = sqlite3.connect(
            self.folder / "library.db", timeout=BUSY, isolation_level=None, check_same_thread=False
        )
        until = time.monotonic() + BUSY
        while True:
            try:
                found.execute("PRAGMA journal_mode = WAL")
                break
            except sqlite3.OperationalError as error:
                # Two who open a new library at once: SQLite does not wait here, whatever the timeout.
                if error.sqlite_errorcode != sqlite3.SQLITE_BUSY or time.monotonic() > until:
                    raise
                time.sleep(0.02)
        for pragma in ("synchronous = FULL", "foreign_keys = ON", "secure_delete = ON"):
            found.execute(f"PRAGMA {pragma}")
        return found

    @contextlib.contextmanager
    def _change(self) -> Iterator[sqlite3.Connection]:
        """The write lock of the library; what was done is undone where something fails."""
        with self._explained():
            connection = self._connection
            connection.execute("BEGIN IMMEDIATE")
            try:
                yield connection
                connection.execute("COMMIT")
            except BaseException:
                if connection.in_transaction:
                    connection.execute("ROLLBACK")
                raise

    @contextlib.contextmanager
    def _explained(self) -> Iterator[None]:
        """One thread at a time; faults of disk and database as one sentence."""
        try:
            with self._lock:
                yield
        except OSError as error:
            raise LibraryFault(f"the library in {self.folder} failed: {error.strerror or error}") from error
        except sqlite3.Error as error:
            raise LibraryFault(f"the library in {self.folder} failed: {error}") from error

    def _migrate(self) -> None:
        connection = self._connection
        version = int(connection.execute("PRAGMA user_version").fetchone()[0])
        if version > len(MIGRATIONS):
            raise LibraryFault(
                f"the library in {self.folder} was written by a newer version: update avatar-stream to open it"
            )
        if version == len(MIGRATIONS):
            return
        with self._change() as connection:
            version = int(connection.execute("PRAGMA user_version").fetchone()[0])
            if 0 < version < len(MIGRATIONS):
                # A connection of its own: this one is in the middle of a change.
                before = sqlite3.connect(self.folder / "library.db")
                backup = sqlite3.connect(self.folder / f"before-{len(MIGRATIONS)}.db")
                with contextlib.closing(before), contextlib.closing(backup):
                    before.backup(backup)
            for number in range(version, len(MIGRATIONS)):
                for statement in MIGRATIONS[number].split(";"):
                    connection.execute(statement)
            connection.execute(f"PRAGMA user_version = {len(MIGRATIONS)}")

    def _read(self, query: str, values: Sequence[Any]) -> list[Character]:
        cursor = self._connection.execute(query, values)
        names = [one[0] for one in cursor.description]
        rows = [dict(zip(names, row, strict=True)) for row in cursor]
        files: dict[str, list[StoredFile]] = {}
        if len(rows) == 1:
            found = self._connection.execute("SELECT * FROM files WHERE character = ?", (rows[0]["id"],))
        else:
            found = self._connection.execute("SELECT * FROM files")
        for key, kind, digest in found:
            files.setdefault(key, []).append(StoredFile(kind, digest))
        return [to_character(row, files.get(row["id"], ())) for row in rows]

    def _place(self, digest: str) -> Path:
        return self._files / digest[:2] / digest

    def _write(self, data: bytes) -> str:
        digest = hashlib.sha256(data).hexdigest()
        place = self._place(digest)
        if place.exists() and hashlib.sha256(place.read_bytes()).hexdigest() == digest:
            return digest
        place.parent.mkdir(exist_ok=True, mode=0o700)
        unfinished = place.with_name(f".{digest}.{os.getpid()}")
        try:
            with open(unfinished, "xb", opener=lambda path, flags: os.open(path, flags, 0o600)) as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            os.replace(unfinished, place)
        finally:
            unfinished.unlink(missing_ok=True)
        return digest

    def _drop(self, digests: set[str]) -> None:
        """Delete files that no record names any more."""
        with self._change() as connection:
            for digest in digests:
                if not connection.execute("SELECT 1 FROM files WHERE digest = ?", (digest,)).fetchone():
                    self._place(digest).unlink(missing_ok=True)

    def _sweep(self) -> None:
        """Delete what a crash has left: files that no record names. Only who may write has anything to sweep."""
        if not os.access(self.folder, os.W_OK):
            return
        with self._change() as connection:
            named = {row[0] for row in connection.execute("SELECT digest FROM files")}
            for place in self._files.glob("*/*"):
                if place.name not in named:
                    place.unlink(missing_ok=True)


def _note(connection: sqlite3.Connection, who: str, action: str, key: str, detail: str) -> None:
    connection.execute("INSERT INTO audit VALUES (?, ?, ?, ?, ?)", (time.time(), who, action, key, detail))
