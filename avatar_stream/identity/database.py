"""The connection to a library's SQLite database.

It copes with a full disk, with a library that is read-only, and with a file that is deleted or replaced while in use.
"""

import contextlib
import errno
import os
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

from avatar_stream.errors import LibraryFault, LibraryFull
from avatar_stream.identity.schema import MIGRATIONS

LOCK_TIMEOUT: Final = 20.0  # seconds to wait for another process to release the lock
_DISK_FULL_ERRNOS: Final = (errno.ENOSPC, errno.EDQUOT)
_DISK_FULL_CODES: Final = (sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR_SHMSIZE)


class Database:
    """One connection shared by all threads. Every method raises :class:`LibraryFault` on faults."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.path = folder, folder / "library.db"
        self.read_only = False
        self._lock = threading.RLock()
        self._depth = 0  # nested calls of reading() in the thread that holds the lock
        self._connection: sqlite3.Connection | None = None
        self._is_exclusive = False  # the connection locks out other processes: see _open_exclusive
        self._file_identity: tuple[int, ...] | None = None  # of the open file

    def close(self) -> None:
        """Close the file."""
        with self._lock:
            self._close_connection()

    @contextlib.contextmanager
    def reading(self) -> Iterator[sqlite3.Connection]:
        """The connection, for one thread at a time."""
        with self.translated_errors(), self._lock:
            self._depth += 1
            try:
                yield self._current_connection()
            finally:
                self._depth -= 1
                if self._is_exclusive and not self._depth:
                    self._close_connection()

    @contextlib.contextmanager
    def changing(self, undo: Callable[[], None] = lambda: None) -> Iterator[sqlite3.Connection]:
        """A transaction with the write lock. If the block fails, it is rolled back and ``undo`` is called."""
        with self.reading() as connection:
            if self.read_only:
                raise LibraryFault(f"the library in {self.folder} is read-only: make it writable to change it")
            connection.execute("BEGIN IMMEDIATE")
            try:
                yield connection
                connection.execute("COMMIT")
            except BaseException:
                undo()
                if connection.in_transaction:
                    connection.execute("ROLLBACK")
                raise
            if not self._is_same_file():
                raise LibraryFault(f"{self.path} was replaced while it was changed: try again")

    # Internals

    def _current_connection(self) -> sqlite3.Connection:
        if self._connection is not None and self._connection.in_transaction:
            return self._connection
        same = self._file_identity is None or self._is_same_file()
        if self._connection is not None and same:
            return self._connection
        self._close_connection()
        self._connection = self._open()
        self._file_identity = self._read_file_identity()
        return self._connection

    def _is_same_file(self) -> bool:
        """Whether the open file is still the library's; raises :class:`LibraryFault` if that was deleted."""
        found = self._read_file_identity()
        if found is None:
            raise LibraryFault(
                f"{self.path} was deleted while it was in use: put it back, or start again with an empty library"
            )
        return found == self._file_identity

    def _read_file_identity(self) -> tuple[int, ...] | None:
        try:
            found = self.path.stat()
        except FileNotFoundError:
            return None
        place = found.st_dev, found.st_ino
        # A read-only library is read without a lock, so open it again when it has changed.
        return (*place, found.st_size, found.st_mtime_ns) if self.read_only else place

    def _close_connection(self) -> None:
        connection, self._connection, self._is_exclusive = self._connection, None, False
        if connection is None:
            return
        with contextlib.suppress(sqlite3.Error):
            if self._file_identity != self._read_file_identity():
                # Another file was put in its place. Write the WAL back, so that it is not applied to that file.
                connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        connection.close()

    def _open(self) -> sqlite3.Connection:
        exists = self.path.exists()
        self.read_only = exists and not (os.access(self.folder, os.W_OK) and os.access(self.path, os.W_OK))
        if self.read_only:
            return self._open_read_only()
        try:
            connection = _connect(str(self.path))
            try:
                _enable_wal(connection)
            except BaseException:
                connection.close()
                raise
        except sqlite3.OperationalError as error:
            if not exists or error.sqlite_errorcode not in _DISK_FULL_CODES:
                raise
            connection = self._open_exclusive()
        try:
            for pragma in ("synchronous = FULL", "foreign_keys = ON", "secure_delete = ON"):
                connection.execute(f"PRAGMA {pragma}")
            self._migrate(connection)
        except BaseException:
            connection.close()
            raise
        return connection

    def _open_exclusive(self) -> sqlite3.Connection:
        """Open with an exclusive lock, for a full disk: this needs no space for the file that processes share (-shm).

        The connection is closed after each use, so that other processes wait only briefly, and so that the next use
        opens normally once there is space.
        """
        connection = _connect(str(self.path))
        connection.execute("PRAGMA locking_mode = EXCLUSIVE")
        connection.execute("PRAGMA journal_mode = WAL")
        self._is_exclusive = True
        return connection

    def _open_read_only(self) -> sqlite3.Connection:
        address = self.path.absolute().as_uri()
        try:
            # This mode sees the changes of another account that writes to the library.
            connection = _connect(f"{address}?mode=ro")
            version = _version(connection)
        except sqlite3.OperationalError:
            log = self.path.with_name(f"{self.path.name}-wal")
            if log.exists() and log.stat().st_size:
                raise LibraryFault(
                    f"the library in {self.folder} was not closed cleanly and is read-only: "
                    "open it once where it is writable"
                ) from None
            connection = _connect(f"{address}?immutable=1")
            version = _version(connection)
        if version < len(MIGRATIONS):
            raise LibraryFault(
                f"the library in {self.folder} was written by an older version and is read-only: "
                "open it once where it is writable"
            )
        self._refuse_newer(version)
        return connection

    def _migrate(self, connection: sqlite3.Connection) -> None:
        version = _version(connection)
        self._refuse_newer(version)
        if version == len(MIGRATIONS):
            return
        connection.execute("BEGIN IMMEDIATE")
        try:
            version = _version(connection)
            if 0 < version < len(MIGRATIONS):
                # On another connection, because this one is in a transaction.
                before = sqlite3.connect(self.path)
                backup = sqlite3.connect(self.folder / f"before-{len(MIGRATIONS)}.db")
                with contextlib.closing(before), contextlib.closing(backup):
                    before.backup(backup)
            for number in range(version, len(MIGRATIONS)):
                for statement in MIGRATIONS[number].split(";"):
                    connection.execute(statement)
            connection.execute(f"PRAGMA user_version = {len(MIGRATIONS)}")
            connection.execute("COMMIT")
        except BaseException:
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            raise

    def _refuse_newer(self, version: int) -> None:
        if version > len(MIGRATIONS):
            raise LibraryFault(
                f"the library in {self.folder} was written by a newer version: update avatar-stream to open it"
            )

    @contextlib.contextmanager
    def translated_errors(self) -> Iterator[None]:
        """Turn faults of disk and database into :class:`LibraryFault`."""
        try:
            yield
        except OSError as error:
            if error.errno in _DISK_FULL_ERRNOS:
                raise self._disk_full_error() from error
            raise LibraryFault(f"the library in {self.folder} failed: {error.strerror or error}") from error
        except sqlite3.Error as error:
            if getattr(error, "sqlite_errorcode", None) in _DISK_FULL_CODES:
                raise self._disk_full_error() from error
            raise LibraryFault(f"the library in {self.folder} failed: {error}") from error

    def _disk_full_error(self) -> LibraryFull:
        return LibraryFull(
            f"No space left on the disk of the library in {self.folder}: make room, "
            "for example with avatar-stream identity remove"
        )


def _connect(name: str) -> sqlite3.Connection:
    found = sqlite3.connect(
        name, timeout=LOCK_TIMEOUT, isolation_level=None, check_same_thread=False, uri=name.startswith("file:")
    )
    found.text_factory = _as_text
    return found


def _as_text(data: bytes) -> str:
    """Invalid UTF-8 is escaped, so that one damaged record does not break a listing."""
    return data.decode("utf-8", "backslashreplace")


def _enable_wal(connection: sqlite3.Connection) -> None:
    deadline = time.monotonic() + LOCK_TIMEOUT
    while True:
        try:
            connection.execute("PRAGMA journal_mode = WAL")
            return
        except sqlite3.OperationalError as error:
            # Two processes open a new library at once. SQLite ignores the timeout here.
            if error.sqlite_errorcode != sqlite3.SQLITE_BUSY or time.monotonic() > deadline:
                raise
            time.sleep(0.02)


def _version(connection: sqlite3.Connection) -> int:
    return int(connection.execute("PRAGMA user_version").fetchone()[0])
