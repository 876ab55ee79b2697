"""All fields of records are checked, from any source; invisible characters are refused or escaped."""

import io
import json
import pickle
import sqlite3
import zipfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from avatar_stream.cli.main import main
from avatar_stream.errors import BadInput, BadPicture, LibraryFault, UnknownPortrait
from avatar_stream.identity.checks import checked_name, checked_quality, checked_tags, checked_text
from avatar_stream.identity.export_import import export_character, import_character, library_key
from avatar_stream.identity.records import canonical_json
from avatar_stream.identity.store import Store
from avatar_stream.identity.visible_text import escaped
from avatar_stream.server.http.enrolment_requests import parse_changes, parse_enrolment
from avatar_stream.server.logs import TextLines
from tests.unit.test_store import PICTURES, files, make_character

INVISIBLE_TEXTS = [
    "\x1b[2J",
    "\x07",
    "\x7f",
    "\x9b31m",
    "\u202e",
    "\u2066",
    "\u200b",
    "\ufeff",
    "\ud800",
    "\x00",
    "\u200d",
]
VISIBLE_TEXTS = ["Ana Lima", "名前", "O'Neil; DROP", "می\u200cخواهم", "👩\u200d🚀", "नमस्ते", "عربي", "é"]  # noqa: RUF001
VALID_ENROLMENT = {"pictures": ["u-1"], "name": "Ana", "consent": "This is me, I agree"}


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    made = Store(tmp_path / "library")
    yield made
    made.close()


@pytest.mark.parametrize("text", INVISIBLE_TEXTS)
def test_invisible_characters_are_refused_everywhere(store: Store, text: str) -> None:
    sentence = f"before {text} after"
    for check in (checked_name, lambda one: checked_text(one, "a text"), lambda one: checked_tags([one])):
        with pytest.raises(BadInput, match=r"invisible character \("):
            check(sentence)
    kept = store.add(make_character(), PICTURES)
    with pytest.raises(BadInput):
        store.rename(kept.id, sentence, who="me")
    consent = replace(kept.consent, statement=sentence)
    for more in ({"description": sentence}, {"tags": (sentence,)}, {"consent": consent}, {"owner": sentence}):
        with pytest.raises(BadInput):
            store.add(make_character("Bo", **more), PICTURES)
    for field in ("name", "consent", "description"):
        with pytest.raises(BadInput):
            parse_enrolment(json.dumps(VALID_ENROLMENT | {field: sentence}).encode())
    with pytest.raises(BadInput):
        parse_changes(json.dumps({"name": sentence}).encode())
    # A query with such a text is no error of the library.
    for ask in (store.find, store.get, lambda key: store.remove(key, who="me")):
        with pytest.raises(UnknownPortrait):
            ask(f"c-{text}")
    assert store.characters(text=sentence) == []
    assert len(store.characters()) == 1


@pytest.mark.parametrize("text", VISIBLE_TEXTS)
def test_text_in_all_scripts_is_kept(text: str) -> None:
    assert checked_name(text) == text
    assert escaped(text) == text


def test_escaping_shows_the_code_points() -> None:
    assert escaped("a\x1b[31m\u202eb\ud800\U000e0041") == r"a\x1b[31m\u202eb\ud800\U000e0041"
    assert escaped("a\nb\x1b", keep="\n") == "a\nb\\x1b"


def test_control_characters_in_a_log_line_are_escaped() -> None:
    import logging

    record = logging.LogRecord("x", logging.INFO, "", 0, "opened %s", ("\x1b[2J\nERROR forged",), None)
    assert TextLines().format(record) == r"INFO x: opened \x1b[2J\x0aERROR forged"


def export_with_changed_manifest(store: Store, change: Any, pictures: dict[str, bytes] | None = None) -> bytes:
    """An exported character with a changed manifest, signed by its own library."""
    one = store.find("Ana") if store.characters() else store.add(make_character(), PICTURES)
    with zipfile.ZipFile(io.BytesIO(export_character(store, one, "me"))) as archive:
        parts = {name: archive.read(name) for name in archive.namelist()}
    manifest = json.loads(parts["manifest.json"])
    change(manifest)
    parts["manifest.json"] = json.dumps(manifest).encode()
    parts["signature"] = library_key(store).sign(parts["manifest.json"])
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        for name, data in (parts | (pictures or {})).items():
            archive.writestr(name, data)
    return out.getvalue()


def nested(depth: int) -> Any:
    found: Any = []
    for _ in range(depth):
        found = [found]
    return found


INVALID_FIELDS: list[tuple[str, Any]] = [
    ("quality", nested(900)), ("quality", {"advice": nested(900)}), ("quality", {"x": nested(2)}), ("quality", []),
    ("quality", {"score": "high"}), ("quality", {"score": float("nan")}), ("quality", {"score": True}),
    ("quality", {"attributes": {"glasses": 1}}), ("quality", {f"m{k}": 1 for k in range(50)}),
    ("quality", {"\x1b": 1}), ("quality", {"advice": ["\x1b"]}), ("quality", {"x": 10**400}),
    ("created", float("inf")), ("created", -1), ("created", 10**400), ("created", "1"), ("created", True),
    ("protected", "true"), ("protected", 1), ("tags", "red"), ("tags", [1]), ("tags", ["x"] * 30), ("tags", None),
    ("name", 3), ("name", "x" * 81), ("description", "x" * 2001), ("style", "cubism"), ("style", 3),
    ("consent", {}), ("consent", {"statement": "This is me, I agree", "by": "\x1b", "at": 1}),
    ("consent", {"statement": "This is me, I agree", "by": "me", "at": float("nan")}), ("consent", "yes I agree"),
    ("settings", {"keep": float("nan")}), ("settings", {"background": 3}), ("settings", {"beard": 1}),
    ("settings", {"expression": nested(900)}),
]  # fmt: skip
INVALID_VECTORS = [
    [1.0] * 127,
    ["1"] * 128,
    [float("nan")] * 128,
    [1e30] * 128,
    [True] * 128,
    [[1.0]] * 128,
    "x",
    None,
]


@pytest.mark.parametrize(("field", "value"), INVALID_FIELDS, ids=lambda one: str(one)[:30])
def test_every_field_of_an_import_is_checked(store: Store, tmp_path: Path, field: str, value: Any) -> None:
    data = export_with_changed_manifest(store, lambda manifest: manifest["character"].update({field: value}))
    there = Store(tmp_path / "there")
    with pytest.raises(BadInput, match=r"cannot be imported|not an exported character"):
        import_character(there, data, owner="them")
    assert there.characters() == []
    assert files(there) == []
    there.close()


@pytest.mark.parametrize("value", INVALID_VECTORS, ids=lambda one: str(one)[:20])
@pytest.mark.parametrize("field", ["z_id", "likeness", "shape", "mood"])
def test_an_imports_vectors_are_checked(store: Store, field: str, value: Any) -> None:
    with pytest.raises(BadInput):
        import_character(
            store,
            export_with_changed_manifest(store, lambda one: one["numbers"].update({field: value})),
            owner="them",
        )


def test_an_imports_pictures_are_checked(store: Store) -> None:
    from hashlib import sha256

    def unread(manifest: Any) -> None:
        manifest["files"]["source 0"] = sha256(b"no picture").hexdigest()

    with pytest.raises(BadPicture):
        import_character(
            store, export_with_changed_manifest(store, unread, {"source-0": b"no picture"}), owner="them"
        )
    data = PICTURES["source 0"]
    for name in ("source-7", "source-x", "source-..", "source-1-2"):

        def more(manifest: Any, name: str = name) -> None:
            manifest["files"][name.replace("-", " ")] = sha256(data).hexdigest()

        with pytest.raises(BadInput, match="numbered from 0"):
            import_character(store, export_with_changed_manifest(store, more, {name: data}), owner="them")
    deep = export_with_changed_manifest(store, lambda manifest: None)
    with zipfile.ZipFile(io.BytesIO(deep)) as archive:
        parts = {name: archive.read(name) for name in archive.namelist()}
    parts["manifest.json"] = b"[" * 100_000
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        for name, part in parts.items():
            archive.writestr(name, part)
    with pytest.raises(BadInput, match="not an exported character"):
        import_character(store, out.getvalue(), owner="them")


DAMAGED_COLUMNS: list[tuple[str, Any]] = [
    ("quality", "[" * 900 + "]" * 900), ("quality", "[" * 100_000), ("quality", '{"score": NaN}'), ("quality", 3),
    ("quality", None), ("tags", '"red"'), ("consent", "{}"), ("settings", '{"keep": 9}'), ("z_id", b"123"),
    ("likeness", "text"), ("mood", b""), ("created", "yesterday"), ("used", float("inf")), ("protected", 7),
    ("style", "cubism"), ("description", "x" * 3000), ("name", "x" * 99), ("name", b"\xff"),
]  # fmt: skip


def damage_row(store: Store, key: str, column: str, value: Any) -> None:
    """Change a row of the database directly."""
    with sqlite3.connect(store.folder / "library.db") as connection:
        connection.execute("PRAGMA ignore_check_constraints = ON")
        if value is None:
            value = b""
        connection.execute(f"UPDATE characters SET {column} = ? WHERE id = ?", (value, key))
    connection.close()


@pytest.mark.parametrize(("column", "value"), DAMAGED_COLUMNS, ids=lambda one: str(one)[:20])
def test_a_damaged_row_is_reported_and_others_are_listed(
    store: Store, caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str], column: str, value: Any
) -> None:
    ana, bo = store.add(make_character("Ana"), PICTURES), store.add(make_character("Bo"), PICTURES)
    damage_row(store, ana.id, column, value)
    with pytest.raises(LibraryFault, match=ana.id) as raised:
        store.get(ana.id)
    assert "\n" not in str(raised.value)
    assert [one.name for one in store.characters()] == [one.name for one in store.characters()] == ["Bo"]
    assert len(caplog.records) == 1  # once, although it is listed several times
    assert [one for one in store.problems() if ana.id in one]
    assert main(["identity", "list", "--library", str(store.folder)]) == 0
    output = capsys.readouterr()
    assert bo.id in output.out
    assert output.err.count("\n") == 1
    assert ana.id in output.err
    assert main(["identity", "show", ana.id, "--library", str(store.folder)]) == 1
    assert capsys.readouterr().err.count("\n") == 1
    # It can still be removed completely.
    assert main(["identity", "remove", ana.id, "--library", str(store.folder)]) == 0
    assert store.problems() == []


def test_a_row_cannot_name_a_file_outside_the_library(store: Store, tmp_path: Path) -> None:
    ana = store.add(make_character(), PICTURES)
    outside = tmp_path / "precious"
    outside.write_text("kept")
    with sqlite3.connect(store.folder / "library.db") as connection:
        connection.execute("UPDATE files SET digest = ? WHERE kind = 'source 1'", ("../../../precious",))
    connection.close()
    with pytest.raises(LibraryFault, match="damaged"):
        store.get(ana.id)
    store.remove(ana.id, who="me")
    assert outside.read_text() == "kept"


def test_a_damaged_record_keeps_its_protection(store: Store) -> None:
    ana = store.add(make_character(protected=True), PICTURES)
    damage_row(store, ana.id, "quality", "{")
    assert [(one.id, one.owner, len(one.likeness)) for one in store.protected()] == [(ana.id, "me", 128)]


def test_invisible_characters_in_old_records_are_shown_escaped(
    store: Store, capsys: pytest.CaptureFixture[str]
) -> None:
    ana = store.add(make_character(), PICTURES)
    evil = "\x1b]0;owned\x07\u202e"
    consent = {"statement": f"This is me {evil}", "by": evil, "at": 1.0}
    for column, value in (
        ("name", f"Ana{evil}"), ("owner", f"me{evil}"), ("description", evil), ("tags", canonical_json([evil])),
        ("consent", canonical_json(consent)), ("quality", json.dumps({"advice": [evil, "\ud800"]})),
    ):  # fmt: skip
        damage_row(store, ana.id, column, value)
    with sqlite3.connect(store.folder / "library.db") as connection:
        connection.execute("UPDATE audit SET who = ?, detail = ?, at = ?", (evil, f"said {evil}", float("inf")))
    connection.close()
    library = ("--library", str(store.folder))
    for words in (("show", ana.id), ("list",), ("audit",), ("audit", "--json"), ("check",), ("find", "owned")):
        assert main(["identity", *words, *library]) == 0
        output = capsys.readouterr()
        assert escaped(output.out + output.err, keep="\n") == output.out + output.err, words
    one = store.get(ana.id)
    canonical_json(one.public()).encode()  # as sent to the page
    pickle.loads(pickle.dumps(one))
    from avatar_stream.identity.card import identity_card

    assert identity_card(one, np.zeros((96, 96, 3), np.uint8)).shape == (420, 860, 3)


def test_quality_measures_of_a_newer_version_are_kept() -> None:
    measures = {"score": 0.5, "sharpness": 3, "note": "fine", "notes": ["a"], "sure": True}
    assert checked_quality(measures) == measures


@pytest.mark.parametrize(
    "more",
    [
        {"protected": "true"}, {"protected": 1}, {"protected": "yes"}, {"protected": None}, {"tags": "red"},
        {"tags": {"a": 1}}, {"tags": [1]}, {"tags": None}, {"name": 3}, {"name": None}, {"consent": ["x"]},
        {"description": None}, {"style": 1}, {"style": "cubism"}, {"pictures": [3]}, {"pictures": ["u"] * 6},
        {"pictures": {"a": 1}}, {"beard": True}, {"Protected": True}, {"\x1b[2J": 1}, {"owner": "bo"},
    ],
)  # fmt: skip
def test_invalid_enrolments_are_refused_with_a_reason(more: dict[str, Any]) -> None:
    assert parse_enrolment(json.dumps(VALID_ENROLMENT | {"protected": True}).encode())["protected"] is True
    with pytest.raises(BadInput) as raised:
        parse_enrolment(json.dumps(VALID_ENROLMENT | more).encode())
    assert escaped(str(raised.value)) == str(raised.value)


@pytest.mark.parametrize(
    "body", [{"name": 1}, {"name": None}, {"settings": None}, {"name": "Ana", "owner": "bo"}, {"protected": True}]
)
def test_invalid_changes_are_refused_with_a_reason(body: Any) -> None:
    with pytest.raises(BadInput):
        parse_changes(json.dumps(body).encode())


def test_a_refused_enrolment_leaves_no_data(store: Store) -> None:
    store.add(make_character("Ana"), PICTURES)
    before = {place.name for place in files(store)}
    new = {"source 0": PICTURES["source 0"] + b"a face of 40 kB" * 3000}
    for wrong in (
        make_character("ana"),
        make_character("Bo", description="\ud800"),
        make_character("Bo", quality={"x": float("nan")}),
    ):
        with pytest.raises(BadInput):
            store.add(wrong, new)
    with pytest.raises(BadInput):
        store.add(make_character("Bo"), new, quota=1)
    # An error after the files were written removes them, too.
    with sqlite3.connect(store.folder / "library.db") as connection:
        connection.execute("CREATE TRIGGER no BEFORE INSERT ON audit BEGIN SELECT RAISE(ABORT, 'no'); END")
    connection.close()
    with pytest.raises(LibraryFault):
        store.add(make_character("Bo"), new)
    assert {place.name for place in files(store)} == before
