"""The files of a library, each named by the SHA-256 of its content."""

import hashlib
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from avatar_stream.errors import LibraryFault
from avatar_stream.identity.checks import DIGEST_PATTERN


class FileStore:
    """Files below ``folder``. Raises ``OSError`` on disk faults. Hold the library's lock to change files."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.written: list[Path] = []
        """Files written since :meth:`begin`."""

    def begin(self) -> None:
        """Start a change: :meth:`undo` deletes the files written from now on."""
        self.written = []

    def undo(self) -> None:
        """Delete the files written since :meth:`begin`."""
        for path in self.written:
            path.unlink(missing_ok=True)

    def make(self) -> None:
        """Make the folder, unless it exists."""
        self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)

    def path(self, digest: str) -> Path:
        """Path of the file with this digest."""
        return self._folder / digest[:2] / digest

    def read(self, digest: str) -> bytes:
        """A file's bytes; raises :class:`LibraryFault` if it is missing or damaged."""
        try:
            data = self.path(digest).read_bytes()
        except FileNotFoundError:
            raise LibraryFault(f"a file of the library is missing ({digest[:12]}): enrol the person again") from None
        if hashlib.sha256(data).hexdigest() != digest:
            raise LibraryFault(f"a file of the library is damaged ({digest[:12]}): enrol the person again")
        return data

    def write(self, data: bytes) -> str:
        """Write a file and return its digest. It is written under another name, synced to disk and renamed."""
        digest = hashlib.sha256(data).hexdigest()
        path = self.path(digest)
        if path.exists() and hashlib.sha256(path.read_bytes()).hexdigest() == digest:
            return digest
        path.parent.mkdir(exist_ok=True, mode=0o700)
        unfinished = path.with_name(f".{digest}.{os.getpid()}")
        try:
            with open(unfinished, "xb", opener=lambda path, flags: os.open(path, flags, 0o600)) as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            os.replace(unfinished, path)
            self.written.append(path)
        finally:
            unfinished.unlink(missing_ok=True)
        return digest

    def delete(self, digest: Any) -> None:
        """Delete a file if it exists; values that are not digests are ignored."""
        if isinstance(digest, str) and DIGEST_PATTERN.fullmatch(digest):
            self.path(digest).unlink(missing_ok=True)

    def delete_all_except(self, digests: Iterable[str]) -> None:
        """Delete every file that is not among ``digests``."""
        known = set(digests)
        for path in self._folder.glob("*/*"):
            if path.name not in known:
                path.unlink(missing_ok=True)
