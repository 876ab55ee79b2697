"""The library on disk: adding, searching, removing, importing, migrating, and surviving faults."""

import json
import multiprocessing
import os
import random
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest

from avatar_stream.errors import AvatarError, BadInput, LibraryFault, NameTaken, UnknownPortrait
from avatar_stream.identity.checks import checked_consent, checked_name, checked_tags
from avatar_stream.identity.export_import import export_character, import_character
from avatar_stream.identity.records import Character, Consent
from avatar_stream.identity.schema import MIGRATIONS, to_row
from avatar_stream.identity.store import Store
from tests.waiting import TEST_TIMEOUT


def png(shade: int, words: bytes = b"") -> bytes:
    """A small grey picture, with ``words`` after its end, which readers ignore."""
    return bytes(cv2.imencode(".png", np.full((96, 96, 3), shade, np.uint8))[1]) + words


PICTURES = {"source 0": png(1, b"a picture"), "source 1": png(2, b"another")}


def make_character(name: str = "Ana", owner: str = "me", **more: object) -> Character:
    made = Character(
        "", name, owner, Consent("This is me, I agree", owner, 1.0), time.time(), 0.0,
        z_id=np.ones(512, np.float32) / 512**0.5, likeness=np.ones(128, np.float32) / 10,
        shape=np.zeros(60, np.float32), mood=np.zeros(45, np.float32),
    )  # fmt: skip
    return replace(made, **more)  # type: ignore[arg-type]


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    made = Store(tmp_path / "library")
    yield made
    made.close()


def files(store: Store) -> list[Path]:
    return [place for place in (store.folder / "files").glob("*/*") if place.is_file()]


def test_an_added_character_can_be_read(store: Store) -> None:
    added = store.add(make_character(tags=("red",), description="the one with the hat"), PICTURES)
    assert added.id.startswith("c-")
    found = store.get(added.id)
    assert found.name == "Ana"
    assert found.tags == ("red",)
    assert np.allclose(found.z_id, added.z_id)
    assert {store.read(one.digest) for one in found.files} == set(PICTURES.values())
    assert store.find("ana").id == store.find(added.id).id == added.id
    assert store.problems() == []
    again = Store(store.folder)
    assert again.get(added.id).name == "Ana"
    again.close()


def test_characters_are_found_by_search(store: Store) -> None:
    for name, tags in (("Ana", ("red",)), ("Bo", ("blue",)), ("100%", ())):
        store.add(make_character(name, tags=tags, description=f"calls themselves {name}"), PICTURES)
    store.add(make_character("Cy", owner="other"), PICTURES)
    assert [one.name for one in store.characters(owner="me")] == ["100%", "Ana", "Bo"]
    assert [one.name for one in store.characters(text="blue")] == ["Bo"]
    assert [one.name for one in store.characters(tag="RED")] == ["Ana"]
    assert [one.name for one in store.characters(text="0%")] == ["100%"]
    assert store.characters(text="'; DROP TABLE characters; --") == []


def test_a_character_is_found_among_a_thousand(store: Store) -> None:
    with store._change() as connection:
        for k in range(1000):
            connection.execute(
                f"INSERT INTO characters VALUES ({', '.join('?' * 16)})",
                to_row(make_character(f"person {k}", id=f"c-{k:016x}", description=f"number {k}")),
            )
    assert len(store.characters()) == 1000
    assert [one.name for one in store.characters(text="number 777")] == ["person 777"]


def test_a_removed_character_leaves_no_data(store: Store) -> None:
    keeps, goes = (
        store.add(make_character("Ana"), PICTURES),
        store.add(make_character("Bo"), {"source 0": b"only Bo's face"}),
    )
    store.remove(goes.id, who="me")
    with pytest.raises(UnknownPortrait):
        store.get(goes.id)
    assert len(files(store)) == 2
    store.close()
    everything = b"".join(place.read_bytes() for place in store.folder.rglob("*") if place.is_file())
    assert b"only Bo's face" not in everything
    assert everything.count(b"This is me, I agree") < 4  # Ana's record and audit; nothing of Bo's
    opened = Store(store.folder)
    assert opened.get(keeps.id).name == "Ana"
    assert [line.action for line in opened.uses()][:1] == ["remove"]
    opened.close()


def test_removing_a_character_keeps_shared_pictures(store: Store) -> None:
    first, second = store.add(make_character("Ana"), PICTURES), store.add(make_character("Bo"), PICTURES)
    store.remove(first.id, who="me")
    assert all(store.read(one.digest) for one in store.get(second.id).files)


def test_names_are_unique_per_owner(store: Store) -> None:
    ana, bo = store.add(make_character("Ana"), PICTURES), store.add(make_character("Bo"), PICTURES)
    with pytest.raises(NameTaken):
        store.add(make_character("ANA"), PICTURES)
    with pytest.raises(NameTaken):
        store.rename(bo.id, "ana", who="me")
    store.add(make_character("Ana", owner="other"), PICTURES)
    with pytest.raises(BadInput, match="use an id"):
        store.find("Ana")
    store.rename(ana.id, "  Ana   Lima ", who="me")
    assert store.get(ana.id).name == "Ana Lima"
    assert len(files(store)) == 2


@pytest.mark.parametrize("name", ["", "   ", "a\x00b", "x" * 81, "‮evil"])
def test_invalid_names_are_refused(name: str) -> None:
    with pytest.raises(BadInput):
        checked_name(name)


@pytest.mark.parametrize("name", ["../../etc/passwd", "C:\\Windows", "名前", "O'Neil; DROP TABLE"])
def test_unusual_names_are_stored_safely(store: Store, name: str) -> None:
    added = store.add(make_character(checked_name(name)), PICTURES)
    assert store.get(added.id).name == name
    assert {place.parent.parent.name for place in files(store)} == {"files"}


def test_consent_and_tags_are_checked() -> None:
    with pytest.raises(BadInput, match="with what right"):
        checked_consent("ok", "me", 0.0)
    assert checked_tags(["Red", "red", " blue "]) == ("red", "blue")
    with pytest.raises(BadInput):
        checked_tags(str(k) for k in range(30))


def test_the_quota_is_enforced(store: Store) -> None:
    store.add(make_character("Ana"), PICTURES, quota=1)
    with pytest.raises(BadInput, match="may keep 1 characters"):
        store.add(make_character("Bo"), PICTURES, quota=1)
    store.add(make_character("Bo", owner="other"), PICTURES, quota=1)


def test_uses_are_audited(store: Store) -> None:
    ana = store.add(make_character(), PICTURES)
    store.use(ana.id, "guest", "session abc")
    line = store.uses()[0]
    assert (line.who, line.action, line.character, line.detail) == ("guest", "use", ana.id, "session abc")
    assert store.get(ana.id).used > 0


def test_ended_threads_leave_no_connections_open(store: Store) -> None:
    """Each session uses the store from its own thread."""
    ana = store.add(make_character(), PICTURES)
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(30):
        with ThreadPoolExecutor(4) as threads:
            list(threads.map(lambda k: store.use(ana.id, f"guest {k}", "session"), range(4)))
    assert len(os.listdir("/proc/self/fd")) <= before + 1
    assert len(store.uses(1000)) == 121


def test_a_newer_library_is_not_opened(tmp_path: Path) -> None:
    Store(tmp_path).close()
    with sqlite3.connect(tmp_path / "library.db") as connection:
        connection.execute("PRAGMA user_version = 99")
    with pytest.raises(LibraryFault, match="newer version"):
        Store(tmp_path)


def test_an_older_library_is_migrated(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    old = Store(tmp_path)
    ana = old.add(make_character(), PICTURES)
    old.close()
    more = (*MIGRATIONS, "CREATE TABLE more (what TEXT)")
    monkeypatch.setattr("avatar_stream.identity.database.MIGRATIONS", more)
    new = Store(tmp_path)
    assert new.get(ana.id).name == "Ana"
    backup = tmp_path / "before-2.db"
    assert backup.exists()
    # Removed data is also gone from the backup of the old library.
    new.remove(ana.id, who="me")
    with sqlite3.connect(backup) as connection:
        assert connection.execute("SELECT COUNT(*) FROM characters").fetchone() == (0,)
    new.close()


def test_a_damaged_file_is_detected(store: Store) -> None:
    ana = store.add(make_character(), PICTURES)
    digest = ana.file("source 0")
    assert digest is not None
    store._files.path(digest).write_bytes(b"something else")
    with pytest.raises(LibraryFault, match="damaged"):
        store.read(digest)
    assert len(store.problems()) == 1


def test_adding_to_a_full_disk_leaves_no_files(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(fd: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(LibraryFault, match="No space left"):
        store.add(make_character(), PICTURES)
    monkeypatch.undo()
    assert store.characters() == []
    assert files(store) == []
    store.add(make_character(), PICTURES)


def test_a_library_folder_that_is_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(LibraryFault, match=r"Not a directory|File exists"):
        Store(tmp_path / "file")


def test_a_character_can_be_exported_and_imported(store: Store, tmp_path: Path) -> None:
    ana = store.add(make_character(tags=("red",), settings={"keep": 0.5}), PICTURES)
    data = export_character(store, ana, "me")
    there = Store(tmp_path / "there")
    done = import_character(there, data, owner="them")
    assert done.character.id != ana.id
    assert (done.character.owner, done.character.consent.statement) == ("them", ana.consent.statement)
    assert done.character.settings == {"keep": 0.5}
    assert np.allclose(done.character.likeness, ana.likeness)
    assert {there.read(one.digest) for one in done.character.files} == set(PICTURES.values())
    with pytest.raises(NameTaken):
        import_character(there, data, owner="them")
    there.close()


def test_a_tampered_export_is_refused(store: Store, tmp_path: Path) -> None:
    data = export_character(store, store.add(make_character(), PICTURES), "me")
    there = Store(tmp_path / "there")
    for old, new in ((b"a picture", b"b picture"), (b'"name": "Ana"', b'"name": "Eve"'), (b"I agree", b"I argue")):
        assert old in data
        with pytest.raises(BadInput):
            import_character(there, data.replace(old, new), owner="them")
    for wrong in (b"", b"PK", data[:200], data[: len(data) // 2], json.dumps({}).encode()):
        with pytest.raises(BadInput, match="not an exported character"):
            import_character(there, wrong, owner="them")
    assert there.characters() == []
    assert files(there) == []
    there.close()


def _add_many(folder: Path, owner: str, count: int) -> None:
    store = Store(folder)
    for k in range(count):
        store.add(make_character(f"{owner} {k}", owner=owner), PICTURES | {"source 2": f"{owner} {k}".encode()})
    store.close()


def test_two_processes_add_at_once(tmp_path: Path) -> None:
    spawn = multiprocessing.get_context("spawn")
    workers = [spawn.Process(target=_add_many, args=(tmp_path, owner, 12)) for owner in "abcd"]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(TEST_TIMEOUT)
        assert worker.exitcode == 0
    store = Store(tmp_path)
    assert len(store.characters()) == 48
    assert store.problems() == []
    store.close()


BUSY_PROGRAM = """
import sys, random
from pathlib import Path
from tests.unit.test_store import PICTURES, make_character
from avatar_stream.identity.schema import to_row
from avatar_stream.identity.store import Store
from avatar_stream.identity.export_import import export_character, import_character
from dataclasses import replace
store, k = Store(Path(sys.argv[1])), 0
print("ready", flush=True)
while True:
    k += 1
    name = f"{random.random()}"
    one = store.add(make_character(name), PICTURES | {"source 2": name.encode() * 3000})
    if k % 3 == 0:
        data = export_character(store, one, "me")
        store.remove(one.id, who="me")
        import_character(store, data, owner="me")
    elif k % 3 == 1:
        store.remove(one.id, who="me")
"""


@pytest.mark.slow
def test_a_library_is_consistent_after_a_kill(tmp_path: Path) -> None:
    """Killed at random moments while adding, removing, importing; ``python -m tests.unit.test_store`` repeats it."""
    kill_many(tmp_path, 8)


def kill_many(folder: Path, times: int) -> None:
    random_ = random.Random(5)
    for _ in range(times):
        worker = subprocess.Popen([sys.executable, "-c", BUSY_PROGRAM, str(folder)], stdout=subprocess.PIPE)
        try:
            assert worker.stdout is not None
            assert worker.stdout.readline() == b"ready\n"
            time.sleep(random_.uniform(0, 0.25))
        finally:
            worker.kill()
            worker.wait()
        store = Store(folder)
        assert store.problems() == []
        named = {one.digest for character in store.characters() for one in character.files}
        assert {place.name for place in files(store)} == named
        store.close()


def test_store_errors_are_sentences() -> None:
    assert issubclass(LibraryFault, AvatarError)


if __name__ == "__main__":
    import tempfile

    with tempfile.TemporaryDirectory() as place:
        kill_many(Path(place), 200)
    print("200 kills, sound every time")
