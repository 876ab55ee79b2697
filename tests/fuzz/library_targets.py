"""Inputs of a library of characters: exported files, the JSON of enrolments and changes, rows of the database.

An accepted character must be valid wherever it is used: pickled between processes, in the database, as JSON in
UTF-8, in a terminal.
"""

import contextlib
import hashlib
import io
import json
import pickle
import sqlite3
import zipfile
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from typing import Any

import numpy as np
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from PIL import Image

from avatar_stream.errors import AvatarError
from avatar_stream.identity.checks import VECTOR_LENGTHS
from avatar_stream.identity.export_import import read_export
from avatar_stream.identity.records import Character, Consent, StoredFile, canonical_json
from avatar_stream.identity.schema import COLUMNS, MIGRATIONS, to_character, to_row
from avatar_stream.identity.visible_text import invisible_characters
from avatar_stream.server.http.enrolment_requests import parse_changes, parse_enrolment

SIGNING_KEY = Ed25519PrivateKey.from_private_bytes(bytes(32))
PUBLIC_KEY_HEX = SIGNING_KEY.public_key().public_bytes_raw().hex().encode()
COLUMN_SEPARATOR = b"\x1e"  # between the columns of a row


def character_file(data: bytes) -> None:
    """A whole file that claims to be an exported character."""
    with contextlib.suppress(AvatarError):
        character, _, _ = read_export(data, "somebody")
        _check_character(character)


def character_manifest(data: bytes) -> None:
    """A manifest with a valid signature. ``KEY`` and ``PICTURE`` are replaced by the key and the picture's digest."""
    manifest = data.replace(b"KEY", PUBLIC_KEY_HEX).replace(
        b"PICTURE", hashlib.sha256(_picture()).hexdigest().encode()
    )
    with contextlib.suppress(AvatarError):
        character, _, _ = read_export(_archive(manifest, SIGNING_KEY.sign(manifest)), "somebody")
        _check_character(character)


def enrolment(data: bytes) -> None:
    """The JSON bodies of an enrolment and of a change."""
    with contextlib.suppress(AvatarError):
        record = parse_enrolment(data)
        json.dumps(record, ensure_ascii=False).encode()
        assert not invisible_characters(
            "".join((record["name"], record["consent"], record["description"], *record["tags"]))
        )
    with contextlib.suppress(AvatarError):
        name, settings = parse_changes(data)
        canonical_json(settings).encode()
        assert not invisible_characters(name or "")


def row(data: bytes) -> None:
    """A row of the database: columns of any type, each after a letter for its type."""
    values = dict.fromkeys((*COLUMNS, "kind", "digest"))
    for name, record in zip(values, data.split(COLUMN_SEPARATOR), strict=False):
        values[name] = _value(record)
    files = [StoredFile(values.pop("kind"), values.pop("digest"))]  # type: ignore[arg-type]
    with contextlib.suppress(AvatarError):
        _check_character(to_character(values, files))


TARGETS: dict[str, Callable[[bytes], None]] = {
    "character_file": character_file,
    "character_manifest": character_manifest,
    "enrolment": enrolment,
    "row": row,
}


def seeds() -> dict[str, list[bytes]]:
    """Valid inputs."""
    full = _character()
    plain = replace(full, quality={}, settings={}, tags=(), description="", z_id=np.zeros(0, np.float32))
    manifests = [canonical_json(_manifest(one)).encode() for one in (full, plain)]
    signed = manifests[0].replace(b"KEY", PUBLIC_KEY_HEX)
    signed = signed.replace(b"PICTURE", hashlib.sha256(_picture()).hexdigest().encode())
    record = {
        "pictures": ["u-1", "u-2"], "name": "Ana", "consent": "This is me, I agree", "tags": ["red"],
        "description": "with glasses", "style": "oil", "protected": True,
    }  # fmt: skip
    rows = [
        COLUMN_SEPARATOR.join(_written(value) for value in (*to_row(one), "source 0", "0" * 64))
        for one in (full, plain)
    ]
    return {
        "character_file": [_archive(signed, SIGNING_KEY.sign(signed))],
        "character_manifest": manifests,
        "enrolment": [
            json.dumps(record).encode(),
            json.dumps({"name": "Ana", "settings": full.settings}).encode(),
            b'{"name": "\\u001b[2J\\ud800"}',
        ],
        "row": rows,
    }


def _check_character(character: Character) -> None:
    """Check that an accepted character can be pickled, stored and printed."""
    pickle.loads(pickle.dumps(character))
    text = canonical_json(character.public())
    text.encode()
    assert not invisible_characters(text), text
    values = to_row(replace(character, id="c-0123456789abcdef"))
    with _database() as connection:
        connection.execute(f"INSERT INTO characters VALUES ({', '.join('?' * len(values))})", values)
        connection.execute("DELETE FROM characters")


@cache
def _picture() -> bytes:
    out = io.BytesIO()
    Image.new("RGB", (96, 96), (90, 80, 70)).save(out, "PNG")
    return out.getvalue()


@cache
def _database() -> sqlite3.Connection:
    found = sqlite3.connect(":memory:", isolation_level=None)
    for statement in MIGRATIONS[-1].split(";"):
        found.execute(statement)
    return found


def _archive(manifest: bytes, signature: bytes) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        archive.writestr("manifest.json", manifest)
        archive.writestr("signature", signature)
        archive.writestr("source-0", _picture())
    return out.getvalue()


def _character() -> Character:
    return Character(
        "c-0123456789abcdef", "Ana", "me", Consent("This is me, I agree", "me", 1.0), 1.8e9, 1.8e9, ("red",),
        "with glasses", "oil", True,
        {"score": 0.9, "yaw": -3.5, "advice": ["the picture is soft"], "attributes": {"glasses": True}},
        {"keep": 0.5, "background": "blur", "expression": {"hold": ["smile"], "limits": {"jawOpen": [0, 0.3]}}},
        np.ones(512, np.float32) / 512**0.5, np.ones(128, np.float32) / 10, np.zeros(60, np.float32),
        np.zeros(45, np.float32),
    )  # fmt: skip


def _manifest(one: Character) -> dict[str, Any]:
    return {
        "version": 1,
        "key": "KEY",
        "character": one.public(),
        "numbers": {name: [float(x) for x in getattr(one, name)] for name in VECTOR_LENGTHS},
        "files": {"source 0": "PICTURE"},
    }


def _value(record: bytes) -> Any:
    kind, text = record[:1], record[1:]
    if kind == b"b":
        return text
    with contextlib.suppress(ValueError):
        if kind in b"if" and kind:
            return int(text) if kind == b"i" else float(text)
    return text.decode("utf-8", "backslashreplace") if kind == b"t" else None


def _written(value: Any) -> bytes:
    if isinstance(value, bytes):
        return b"b" + value
    kind = {int: b"i", float: b"f", str: b"t"}[type(value)]
    return kind + str(value).encode()
