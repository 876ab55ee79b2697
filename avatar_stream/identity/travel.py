"""A character as one file that another library can take in: a zip with a manifest, signed by the library it comes
from (Ed25519, RFC 8032).
"""

import hashlib
import io
import json
import os
import time
import zipfile
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat

from avatar_stream.errors import BadInput, LibraryFault
from avatar_stream.identity.records import (
    Character,
    checked_consent,
    checked_name,
    checked_settings,
    checked_tags,
    checked_text,
    plain_json,
)
from avatar_stream.identity.store import Store
from avatar_stream.identity.style import checked_style

SUFFIX: Final = ".character"
VERSION: Final = 1
MOST_BYTES: Final = 200_000_000  # of all that is in such a file
_LENGTHS: Final = {"z_id": (0, 512), "likeness": (128,), "shape": (0, 60), "mood": (45,)}


@dataclass(frozen=True, slots=True)
class Imported:
    """A character that came in, and the fingerprint of the library that signed it."""

    character: Character
    signed_by: str


def library_key(store: Store) -> Ed25519PrivateKey:
    """The library's own key, made on first use and readable by its owner alone."""
    path = store.folder / "signing.key"
    try:
        if not path.exists():
            data = Ed25519PrivateKey.generate().private_bytes(Encoding.Raw, PrivateFormat.Raw, NoEncryption())
            unfinished = path.with_name(f".signing.{os.getpid()}")
            with open(unfinished, "xb", opener=lambda name, flags: os.open(name, flags, 0o600)) as file:
                file.write(data)
            try:
                os.link(unfinished, path)  # whoever is first: a key is never replaced
            except FileExistsError:
                pass
            finally:
                unfinished.unlink()
        return Ed25519PrivateKey.from_private_bytes(path.read_bytes())
    except (OSError, ValueError) as error:
        raise LibraryFault(f"the key of the library in {store.folder} failed: {error}") from error


def fingerprint(key: Ed25519PublicKey) -> str:
    """A public key's short name: what two people compare."""
    digest = hashlib.sha256(key.public_bytes(Encoding.Raw, PublicFormat.Raw)).hexdigest()
    return ":".join(digest[k : k + 4] for k in range(0, 16, 4))


def exported(store: Store, character: Character, who: str) -> bytes:
    """The character's record and its pictures as one signed file."""
    key = library_key(store)
    files = {one.kind: store.read(one.digest) for one in character.files if one.kind.startswith("source ")}
    manifest = {
        "version": VERSION,
        "exported": time.time(),
        "key": key.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw).hex(),
        "character": character.public(),
        "numbers": {name: [float(x) for x in getattr(character, name)] for name in _LENGTHS},
        "files": {kind: hashlib.sha256(data).hexdigest() for kind, data in files.items()},
    }
    text = plain_json(manifest).encode()
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("manifest.json", text)
        archive.writestr("signature", key.sign(text))
        for kind, data in files.items():
            archive.writestr(kind.replace(" ", "-"), data)
    store.note(who, "export", character.id, fingerprint(key.public_key()))
    return buffer.getvalue()


def imported(store: Store, data: bytes, *, owner: str, quota: int = 0) -> Imported:
    """Take in a file that :func:`exported` made; raises :class:`BadInput` for one that was changed since."""
    text, signature, files = _opened(data)
    try:
        manifest = json.loads(text)
        key = Ed25519PublicKey.from_public_bytes(bytes.fromhex(manifest["key"]))
        key.verify(signature, text)
        for kind, digest in manifest["files"].items():
            if hashlib.sha256(files[kind]).hexdigest() != digest:
                raise InvalidSignature
        if set(files) != set(manifest["files"]) or "source 0" not in files:
            raise InvalidSignature
        if manifest["version"] > VERSION:
            raise BadInput("this character was exported by a newer version: update avatar-stream to import it")
        character = _record(manifest, owner)
    except InvalidSignature:
        raise BadInput("this file was changed since it was exported: ask for it again") from None
    except (ValueError, KeyError, TypeError, AttributeError):
        raise BadInput("this is no exported character: avatar-stream identity export makes one") from None
    name = fingerprint(key)
    return Imported(store.add(character, files, quota=quota, who=f"{owner}, signed by {name}"), name)


def _opened(data: bytes) -> tuple[bytes, bytes, dict[str, bytes]]:
    """Manifest, signature and the files of an archive, none larger than it may be."""
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            if sum(one.file_size for one in archive.infolist()) > MOST_BYTES or len(archive.infolist()) > 12:
                raise BadInput("this file is larger than a character can be")
            names = archive.namelist()
            files = {name.replace("-", " "): archive.read(name) for name in names if name.startswith("source-")}
            return archive.read("manifest.json"), archive.read("signature"), files
    except (zipfile.BadZipFile, zlib.error, KeyError, ValueError, OSError, RuntimeError, EOFError):
        raise BadInput("this is no exported character: avatar-stream identity export makes one") from None


def _record(manifest: Mapping[str, Any], owner: str) -> Character:
    said, given = manifest["character"], manifest["numbers"]
    numbers: dict[str, Any] = {name: np.array(given[name], np.float32) for name in _LENGTHS}
    if any(len(numbers[name]) not in lengths for name, lengths in _LENGTHS.items()):
        raise ValueError("numbers")
    agreed = checked_consent(said["consent"]["statement"], str(said["consent"]["by"]), float(said["consent"]["at"]))
    return Character(
        "",
        checked_name(said["name"]),
        owner,
        agreed,
        float(said["created"]),
        0.0,
        checked_tags(said["tags"]),
        checked_text(said["description"], "a description"),
        checked_style(said["style"]),
        bool(said["protected"]),
        dict(said["quality"]),
        checked_settings(said["settings"]),
        **numbers,
    )
