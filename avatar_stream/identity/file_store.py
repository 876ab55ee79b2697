"""The files of a library, each named by the SHA-256 of what is in it."""

import hashlib
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from avatar_stream.errors import LibraryFault
from avatar_stream.identity.checks import DIGEST_PATTERN


class FileStore:
    """Files below ``folder``. Raises ``OSError`` where the disk fails; callers that change files must hold
    the library's lock.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.written: list[Path] = []
        """Written since :meth:`begin`."""

    def begin(self) -> None:
        """What is written from now on can be undone."""
        self.written = []

    def undo(self) -> None:
        """Delete what was written since :meth:`begin`."""
        for path in self.written:
            path.unlink(missing_ok=True)

    def make(self) -> None:
        """Make the folder, unless it is there."""
        self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)

    def path(self, digest: str) -> Path:
        """Where a file is."""
        return self._folder / digest[:2] / digest

    def read(self, digest: str) -> bytes:
        """A file's bytes; raises :class:`LibraryFault` where it is gone or not what it was."""
        try:
            data = self.path(digest).read_bytes()
        except FileNotFoundError:
            raise LibraryFault(f"a file of the library is gone ({digest[:12]}): enrol the person again") from None
        if hashlib.sha256(data).hexdigest() != digest:
            raise LibraryFault(f"a file of the library is damaged ({digest[:12]}): enrol the person again")
        return data

    def write(self, data: bytes) -> str:
        """Write a file whole under another name, flush and rename it; its digest."""
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
        """Delete a file, if it is there; what is no digest names none."""
        if isinstance(digest, str) and DIGEST_PATTERN.fullmatch(digest):
            self.path(digest).unlink(missing_ok=True)

    def sweep(self, named: Iterable[str]) -> None:
        """Delete every file that is not among ``named``."""
        known = set(named)
        for path in self._folder.glob("*/*"):
            if path.name not in known:
                path.unlink(missing_ok=True)
