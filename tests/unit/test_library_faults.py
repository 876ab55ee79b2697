"""A library on a full, read-only or externally changed disk; interrupted exports; jumps of the clock."""

import contextlib
import os
import shutil
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from avatar_stream.cli.main import main
from avatar_stream.errors import BadInput, LibraryFault, LibraryFull
from avatar_stream.identity.find_portrait import find_portrait
from avatar_stream.identity.store import Store
from tests.unit.test_store import PICTURES, files, make_character, png


@contextlib.contextmanager
def small_disk(place: Path, *options: str) -> Iterator[Path]:
    """A small tmpfs at ``place``; skips the test if this account may not mount one."""
    place.mkdir(exist_ok=True)
    command = ["mount", "-t", "tmpfs", *options, "tmpfs", str(place)]
    try:
        subprocess.run(command, check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("needs the right to mount a disk of memory")
    try:
        yield place
    finally:
        subprocess.run(["umount", "-l", str(place)], check=True)


def fill_disk(place: Path) -> None:
    """Fill the disk completely."""
    for size in (65536, 4096, 1):
        with contextlib.suppress(OSError), open(place / f"filler {size}", "wb", buffering=0) as file:
            while True:
                file.write(b"x" * size)


def run_identity_command(folder: Path, *words: str) -> "subprocess.CompletedProcess[str]":
    """Run ``avatar-stream identity`` in another process, which opens the library again."""
    code = [sys.executable, "-m", "avatar_stream.cli", "identity", *words, "--library", str(folder)]
    return subprocess.run(code, capture_output=True, text=True, check=False, timeout=120)


@pytest.mark.parametrize("served", [False, True], ids=["closed", "open elsewhere"])
def test_with_a_full_disk_listing_and_removing_work(tmp_path: Path, served: bool) -> None:
    with small_disk(tmp_path / "disk", "-o", "size=1m") as disk:
        folder = disk / "library"
        store = Store(folder)
        ana = store.add(make_character("Ana"), {"source 0": png(3, b"x" * 100_000)})
        store.add(make_character("Bo"), PICTURES)
        if not served:
            store.close()
        fill_disk(disk)
        assert os.statvfs(disk).f_bavail == 0
        listed = run_identity_command(folder, "list")
        assert listed.returncode == 0, listed.stderr
        assert "Ana" in listed.stdout
        assert "Bo" in listed.stdout
        refused = run_identity_command(folder, "rename", "Bo", "Bob")
        if refused.returncode:
            assert "make room" in refused.stderr
            assert refused.stderr.count("\n") == 1
        listed = run_identity_command(folder, "remove", "Ana")
        assert listed.returncode == 0, listed.stderr
        store = store if served else Store(folder)
        assert "Ana" not in [one.name for one in store.characters()]
        assert not any(line.detail for line in store.uses() if line.character == ana.id)
        assert store.problems() == []
        # There is room again: enrolling works.
        store.add(make_character("Cy"), PICTURES)
        other = Store(folder)
        assert len(other.characters()) == 2
        other.close()
        store.close()


def test_with_a_full_disk_enrolling_is_refused_and_nothing_is_lost(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with small_disk(tmp_path / "disk", "-o", "size=1m") as disk:
        store = Store(disk / "library")
        ana = store.add(make_character("Ana"), PICTURES)
        fill_disk(disk)
        with pytest.raises(LibraryFull, match="make room"):
            store.add(make_character("Bo"), {"source 0": png(9, b"x" * 200_000)})
        assert [one.name for one in store.characters()] == ["Ana"]
        assert len(files(store)) == 2
        for _ in range(200):  # the audit runs out of room, which must not fail sessions
            store.use(ana.id, "me", "session " + "x" * 200)
        assert "by me is not in the audit" in caplog.text
        assert store.get(ana.id).name == "Ana"
        store.close()


def test_removing_keeps_pictures_that_others_share(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A simulated full disk, as mounting one needs root: the first attempt fails."""
    store = Store(tmp_path)
    ana, bo = (
        store.add(make_character("Ana"), PICTURES),
        store.add(make_character("Bo"), {"source 0": PICTURES["source 0"]}),
    )
    store.attach(bo.id, "portrait 384 square", b"made anew when needed")
    delete, tries = Store._delete, []

    def full_once(self: Store, key: str, who: str) -> None:
        tries.append({place.name for place in files(self)})
        if len(tries) == 1:
            raise LibraryFull("No space left")
        delete(self, key, who)

    monkeypatch.setattr(Store, "_delete", full_once)
    store.remove(ana.id, who="me")
    shared = store.get(bo.id).file("source 0")
    assert [len(names) for names in tries] == [3, 1]  # its other picture and the prepared portrait were removed first
    assert tries[1] == {shared}
    assert store.read(str(shared)) == PICTURES["source 0"]
    store.close()


def test_a_read_only_library(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with small_disk(tmp_path / "disk", "-o", "size=8m") as disk:
        store = Store(disk / "library")
        ana = store.add(make_character("Ana"), PICTURES)
        store.close()
        subprocess.run(["mount", "-o", "remount,ro", str(disk)], check=True)
        store = Store(disk / "library")
        assert [one.name for one in store.characters()] == ["Ana"]
        assert store.read(str(ana.file("source 0"))) == PICTURES["source 0"]
        store.use(ana.id, "me", "render")  # logged, as the audit cannot be written
        assert "by me is not in the audit" in caplog.text
        for change in (
            lambda: store.add(make_character("Bo"), PICTURES),
            lambda: store.rename(ana.id, "Bo", who="me"),
            lambda: store.remove(ana.id, who="me"),
        ):
            with pytest.raises(LibraryFault, match="is read-only"):
                change()
        assert store.problems() == []
        store.close()
        for words, code in ((("list",), 0), (("show", "Ana"), 0), (("audit",), 0), (("remove", "Ana"), 1)):
            done = run_identity_command(disk / "library", *words)
            assert done.returncode == code, done.stderr
            assert "Traceback" not in done.stderr
        # Once the disk is writable again, the same store can write.
        store = Store(disk / "library")
        subprocess.run(["mount", "-o", "remount,rw", str(disk)], check=True)
        with contextlib.closing(Store(disk / "library")) as other:
            other.add(make_character("Bo"), PICTURES)
        assert len(store.characters()) == 2
        store.rename(ana.id, "Anna", who="me")
        store.close()


def test_an_empty_read_only_disk_is_refused(tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk", "-o", "size=1m,ro") as disk, pytest.raises(LibraryFault, match="Read-only"):
        Store(disk / "library")


def test_a_deleted_database_accepts_no_characters(tmp_path: Path) -> None:
    store = Store(tmp_path)
    ana = store.add(make_character("Ana"), PICTURES)
    before = {place.name for place in files(store)}
    kept = tmp_path / "kept.db"
    (tmp_path / "library.db").rename(kept)
    for work in (
        lambda: store.add(make_character("Bo"), {"source 0": png(7)}),
        lambda: store.get(ana.id),
        lambda: store.use(ana.id, "me", "session"),
        store.characters,
    ):
        with pytest.raises(LibraryFault, match="deleted while it was in use"):
            work()
    assert not (tmp_path / "library.db").exists()
    assert {place.name for place in files(store)} == before
    kept.rename(tmp_path / "library.db")
    assert store.get(ana.id).name == "Ana"
    store.add(make_character("Bo"), PICTURES)
    store.close()


def test_a_replaced_database_is_reopened(tmp_path: Path) -> None:
    store = Store(tmp_path / "library")
    store.add(make_character("Ana"), PICTURES)
    backup = tmp_path / "backup.db"
    with sqlite3.connect(store.folder / "library.db") as old, sqlite3.connect(backup) as new:
        old.backup(new)
    old.close()
    new.close()
    store.add(make_character("Bo"), PICTURES)  # into the write-ahead log beside the database
    os.replace(backup, store.folder / "library.db")
    assert [one.name for one in store.characters()] == ["Ana"]
    added = store.add(make_character("Cy"), PICTURES)
    store.close()
    again = Store(tmp_path / "library")
    assert [one.name for one in again.characters()] == ["Ana", "Cy"]
    assert again.get(added.id).name == "Cy"
    assert again.problems() == []
    again.close()


def test_a_database_deleted_during_a_change(tmp_path: Path) -> None:
    store = Store(tmp_path)
    with pytest.raises(LibraryFault, match="deleted"), store._change():
        (tmp_path / "library.db").unlink()
    store.close()


def test_a_missing_folder_of_files_is_reported(tmp_path: Path) -> None:
    store = Store(tmp_path)
    ana = store.add(make_character("Ana"), PICTURES)
    shutil.rmtree(tmp_path / "files")
    with pytest.raises(LibraryFault, match="is missing"):
        store.read(str(ana.file("source 0")))
    assert len(store.problems()) == 2
    with pytest.raises(LibraryFault):
        store.add(make_character("Bo"), PICTURES)
    assert [one.name for one in store.characters()] == ["Ana"]
    with pytest.raises(LibraryFault, match="picture of Ana cannot be read"):
        find_portrait("Ana", 128, library=tmp_path, use="render")
    store.close()


def test_an_interrupted_export_leaves_no_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = Store(tmp_path / "library")
    store.add(make_character("Ana"), PICTURES)
    store.close()
    goal = tmp_path / "ana.character"
    goal.write_bytes(b"what was there before")

    def killed(fd: int) -> None:
        raise KeyboardInterrupt

    words = ["identity", "export", "Ana", "-o", str(goal), "--library", str(tmp_path / "library")]
    Store(tmp_path / "library").close()
    assert main([*words[:-2], "--library", str(tmp_path / "library")]) == 0  # creates the key, which is flushed, too
    goal.write_bytes(b"what was there before")
    fsync = os.fsync
    monkeypatch.setattr("avatar_stream.cli.identity.os.fsync", killed)
    assert main(words) == 130
    monkeypatch.setattr("avatar_stream.cli.identity.os.fsync", fsync)
    assert goal.read_bytes() == b"what was there before"
    assert not list(tmp_path.glob(".ana*"))
    assert main(words) == 0
    assert goal.read_bytes().startswith(b"PK")


@pytest.mark.parametrize("wrong", [-5.0, 0.0, 4e9, 1e300], ids=["before 1970", "1970", "2096", "never"])
def test_jumps_of_the_clock_do_not_break_a_library(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, wrong: float
) -> None:
    store = Store(tmp_path)
    ana = store.add(make_character("Ana"), PICTURES)
    monkeypatch.setattr("avatar_stream.identity.store.time.time", lambda: wrong)
    store.use(ana.id, "me", "while it was wrong")
    monkeypatch.undo()
    store.use(ana.id, "me", "after")
    assert [line.detail for line in store.uses()][:2] == ["after", "while it was wrong"]
    assert abs(store.get(ana.id).used - time.time()) < 3600
    assert main(["identity", "audit", "--library", str(tmp_path)]) == 0
    assert main(["identity", "show", "Ana", "--library", str(tmp_path)]) == 0
    store.close()


def test_two_stores_share_one_library(tmp_path: Path) -> None:
    one, other = Store(tmp_path), Store(tmp_path)
    ana = one.add(make_character("Ana"), PICTURES)
    other.rename(ana.id, "Anna", who="other")
    assert one.get(ana.id).name == "Anna"
    with pytest.raises(BadInput, match="already"):
        one.add(make_character("anna"), PICTURES)
    one.remove(ana.id, who="one")
    with pytest.raises(BadInput, match="no such character"):
        other.use(ana.id, "other", "session") if other.get(ana.id) else None
    assert files(other) == []
    one.close()
    assert other.characters() == []
    other.close()
