"""Export and import of a character as one file: a zip with a manifest, signed by the exporting library (Ed25519,
RFC 8032).
"""

import hashlib
import io
import json
import os
import time
import zipfile
from dataclasses import dataclass, replace
from typing import Final

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat

from avatar_stream.errors import BadInput, LibraryFault
from avatar_stream.identity.checks import MAX_SOURCES, VECTOR_LENGTHS, checked_character, checked_sources
from avatar_stream.identity.records import Character, canonical_json
from avatar_stream.identity.store import Store
from avatar_stream.portrait.portrait import read_picture

EXPORT_SUFFIX: Final = ".character"
FORMAT_VERSION: Final = 1
MAX_BYTES: Final = 200_000_000  # of all uncompressed entries
MAX_MANIFEST_BYTES: Final = 1_000_000
NOT_AN_EXPORT: Final = "this is not an exported character: make one with avatar-stream identity export"
_FIELDS: Final = (
    "name", "consent", "created", "tags", "description", "style", "protected", "quality", "settings",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class ImportedCharacter:
    """An imported character, and the fingerprint of the library that signed it."""

    character: Character
    signed_by: str


def library_key(store: Store) -> Ed25519PrivateKey:
    """The library's signing key, created on first use and readable only by the account."""
    path = store.folder / "signing.key"
    try:
        if not path.exists():
            data = Ed25519PrivateKey.generate().private_bytes(Encoding.Raw, PrivateFormat.Raw, NoEncryption())
            unfinished = path.with_name(f".signing.{os.getpid()}")
            with open(unfinished, "xb", opener=lambda name, flags: os.open(name, flags, 0o600)) as file:
                file.write(data)
            try:
                os.link(unfinished, path)  # fails if another process was first: a key is never replaced
            except FileExistsError:
                pass
            finally:
                unfinished.unlink()
        return Ed25519PrivateKey.from_private_bytes(path.read_bytes())
    except (OSError, ValueError) as error:
        raise LibraryFault(f"cannot use the signing key of the library in {store.folder}: {error}") from error


def fingerprint(key: Ed25519PublicKey) -> str:
    """Short hash of a public key, which two people can compare."""
    digest = hashlib.sha256(key.public_bytes(Encoding.Raw, PublicFormat.Raw)).hexdigest()
    return ":".join(digest[k : k + 4] for k in range(0, 16, 4))


def export_character(store: Store, character: Character, who: str) -> bytes:
    """The character's record and pictures as one signed file, with an audit entry by ``who``."""
    key = library_key(store)
    files = {one.kind: store.read(one.digest) for one in character.files if one.kind.startswith("source ")}
    manifest = {
        "version": FORMAT_VERSION,
        "exported": time.time(),
        "key": key.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw).hex(),
        "character": character.public(),
        "numbers": {name: [float(x) for x in getattr(character, name)] for name in VECTOR_LENGTHS},
        "files": {kind: hashlib.sha256(data).hexdigest() for kind, data in files.items()},
    }
    text = canonical_json(manifest).encode()
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("manifest.json", text)
        archive.writestr("signature", key.sign(text))
        for kind, data in files.items():
            archive.writestr(kind.replace(" ", "-"), data)
    store.note(who, "export", character.id, fingerprint(key.public_key()))
    return buffer.getvalue()


def import_character(store: Store, data: bytes, *, owner: str, name: str = "", quota: int = 0) -> ImportedCharacter:
    """Add a character from a file that :func:`export_character` made, under its own name or as ``name``.

    Raises :class:`BadInput` if the file was changed or is invalid, and ``NameTaken``.
    """
    character, files, signer = read_export(data, owner)
    if name:
        character = replace(character, name=name)
    return ImportedCharacter(store.add(character, files, quota=quota, who=f"{owner}, signed by {signer}"), signer)


def read_export(data: bytes, owner: str) -> tuple[Character, dict[str, bytes], str]:
    """The character of an export, with ``owner`` as owner; its pictures; the signing library's fingerprint."""
    text, signature, files = _read_archive(data)
    try:
        manifest = json.loads(text)
        key = Ed25519PublicKey.from_public_bytes(bytes.fromhex(manifest["key"]))
        key.verify(signature, text)
        digests = manifest["files"]
        if {kind: hashlib.sha256(picture).hexdigest() for kind, picture in files.items()} != digests:
            raise InvalidSignature
        if not isinstance(manifest["version"], int) or manifest["version"] > FORMAT_VERSION:
            raise BadInput("this character was exported by a newer version: update avatar-stream to import it")
        record = dict(manifest["character"])
        given = {one: record[one] for one in _FIELDS} | {one: manifest["numbers"][one] for one in VECTOR_LENGTHS}
    except InvalidSignature:
        raise BadInput("this file was changed after its export: get a new copy") from None
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        raise BadInput(NOT_AN_EXPORT) from None
    try:
        checked_sources(files)
        character = checked_character(given | {"id": "", "owner": owner, "used": 0.0, "files": ()})
    except BadInput as error:
        raise BadInput(f"this character cannot be imported: {error}") from None
    for picture in files.values():
        read_picture(picture)
    return character, files, fingerprint(key)


def _read_archive(data: bytes) -> tuple[bytes, bytes, dict[str, bytes]]:
    """Manifest, signature and files of an archive, checked for size before they are read."""
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            entries = archive.infolist()
            if len(entries) > MAX_SOURCES + 2 or sum(one.file_size for one in entries) > MAX_BYTES:
                raise BadInput("this file is too large for a character")
            if max(archive.getinfo(name).file_size for name in ("manifest.json", "signature")) > MAX_MANIFEST_BYTES:
                raise BadInput("this file is too large for a character")
            names = archive.namelist()
            files = {name.replace("-", " "): archive.read(name) for name in names if name.startswith("source-")}
            return archive.read("manifest.json"), archive.read("signature"), files
    except BadInput:
        raise
    except Exception:  # zipfile raises many types for bytes that are not an archive
        raise BadInput(NOT_AN_EXPORT) from None
