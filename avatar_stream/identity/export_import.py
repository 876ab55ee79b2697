"""A character as one file that another library can take in: a zip with a manifest, signed by the library it comes
from (Ed25519, RFC 8032).
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
MAX_BYTES: Final = 200_000_000  # of all that is in such a file
MAX_MANIFEST_BYTES: Final = 1_000_000
NOT_AN_EXPORT: Final = "this is no exported character: avatar-stream identity export makes one"
_FIELDS: Final = (
    "name", "consent", "created", "tags", "description", "style", "protected", "quality", "settings",
)  # fmt: skip


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


def export_character(store: Store, character: Character, who: str) -> bytes:
    """The character's record and its pictures as one signed file."""
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


def import_character(store: Store, data: bytes, *, owner: str, name: str = "", quota: int = 0) -> Imported:
    """Take in a file that :func:`export_character` made, under its own name or as ``name``.

    Raises :class:`BadInput` for a file that was changed since or is not sound, and ``NameTaken``.
    """
    character, files, signer = read_export(data, owner)
    if name:
        character = replace(character, name=name)
    return Imported(store.add(character, files, quota=quota, who=f"{owner}, signed by {signer}"), signer)


def read_export(data: bytes, owner: str) -> tuple[Character, dict[str, bytes], str]:
    """The character of such a file as ``owner``'s, its pictures, and the fingerprint of who signed it."""
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
        said = dict(manifest["character"])
        given = {one: said[one] for one in _FIELDS} | {one: manifest["numbers"][one] for one in VECTOR_LENGTHS}
    except InvalidSignature:
        raise BadInput("this file was changed since it was exported: ask for it again") from None
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        raise BadInput(NOT_AN_EXPORT) from None
    try:
        checked_sources(files)
        character = checked_character(given | {"id": "", "owner": owner, "used": 0.0, "files": ()})
    except BadInput as error:
        raise BadInput(f"this character cannot be taken in: {error}") from None
    for picture in files.values():
        read_picture(picture)
    return character, files, fingerprint(key)


def _read_archive(data: bytes) -> tuple[bytes, bytes, dict[str, bytes]]:
    """Manifest, signature and the files of an archive, none larger than it may be."""
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            entries = archive.infolist()
            if len(entries) > MAX_SOURCES + 2 or sum(one.file_size for one in entries) > MAX_BYTES:
                raise BadInput("this file is larger than a character can be")
            if max(archive.getinfo(name).file_size for name in ("manifest.json", "signature")) > MAX_MANIFEST_BYTES:
                raise BadInput("this file is larger than a character can be")
            names = archive.namelist()
            files = {name.replace("-", " "): archive.read(name) for name in names if name.startswith("source-")}
            return archive.read("manifest.json"), archive.read("signature"), files
    except BadInput:
        raise
    except Exception:  # whatever the decoders of the standard library make of bytes that are no archive
        raise BadInput(NOT_AN_EXPORT) from None
