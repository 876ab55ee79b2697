"""The portraits of a server: shipped samples, uploads, and the characters of its store."""

import contextlib
import secrets
import threading
from collections import Counter, OrderedDict
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import cv2
import numpy as np

from avatar_stream.errors import BadInput, LibraryFault, UnknownPortrait
from avatar_stream.identity.enrol import Enrolled, as_jpeg, enrol, likeness_of, portrait_of, refuse_protected
from avatar_stream.identity.records import Character
from avatar_stream.identity.store import CHARACTER_ID_PREFIX, Store
from avatar_stream.portrait.background import UPLOADED_BACKGROUND_PREFIX
from avatar_stream.portrait.portrait import Image, Portrait, prepare, read_picture

SAMPLES = Path(__file__).parent.parent / "samples"
FIRST_SPEECH_FRAME: Final = 36  # of the sample clip; before it the face rests, which costs less to draw
DEFAULT_PORTRAIT = "noor"
MAX_PREPARED: Final = 24  # prepared portraits in memory
MAX_UPLOAD_SIDE: Final = 1280  # pixels; the longer side of an upload that is kept for enrolment


@dataclass(frozen=True, slots=True)
class LibraryEntry:
    """A portrait in the list that clients get."""

    id: str
    name: str
    sample: bool
    style: str = ""
    tags: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Upload:
    """An uploaded picture with its owner: prepared as a portrait, and as a JPEG for enrolment."""

    owner: str
    portrait: Portrait
    data: bytes


@dataclass(frozen=True, slots=True)
class Background:
    """An uploaded background picture with its owner."""

    owner: str
    picture: Image


def sample_pictures() -> dict[str, Path]:
    """Paths of the shipped portraits by id: averages of at least 20 people, which show nobody, and paintings."""
    return {path.stem: path for path in sorted(SAMPLES.glob("*.jpg"))}


class Library:
    """Portraits, uploads and characters with their owners. Thread-safe.

    Uploads stay in memory: they are written to disk only if they are enrolled.

    Each method treats what belongs to another owner as if it did not exist. ``owner=None`` may see everything: it
    is the only user of a server that nobody else can reach.
    """

    def __init__(self, *, size: int, uploads: int, store: Store | None = None, quota: int = 0) -> None:
        self._size = size
        self._limit = uploads
        self._samples = sample_pictures()
        self._uploaded: OrderedDict[str, Upload] = OrderedDict()
        self._prepared: OrderedDict[str, Portrait] = OrderedDict()
        self._backgrounds: OrderedDict[str, Background] = OrderedDict()
        self._lock = threading.Lock()
        self._store, self._quota = store, quota

    @property
    def store(self) -> Store:
        """The store of characters; raises :class:`BadInput` on a server without one."""
        if self._store is None:
            raise BadInput("this server keeps no characters: start it with --library FOLDER")
        return self._store

    @property
    def keeps_characters(self) -> bool:
        """Whether characters can be enrolled on this server."""
        return self._store is not None

    @property
    def default(self) -> str:
        """Id of the portrait that a new session starts with."""
        return DEFAULT_PORTRAIT if DEFAULT_PORTRAIT in self._samples else next(iter(self._samples))

    def entries(self, owner: str | None = None) -> list[LibraryEntry]:
        """An owner's characters and the shipped samples, without uploads."""
        found = self._store.characters(owner=owner) if self._store else []
        return [LibraryEntry(one.id, one.name, False, one.style, one.tags) for one in found] + self.samples()

    def samples(self) -> list[LibraryEntry]:
        """The shipped samples."""
        return [LibraryEntry(id, id.replace("-", " ").title(), True) for id in self._samples]

    def is_sample(self, key: str) -> bool:
        """Whether it is a shipped sample, which anyone may see."""
        return key in self._samples

    def add(self, data: bytes, name: str = "your picture", owner: str = "") -> str:
        """Prepare an upload and return its id. Raises ``BadPicture``, and ``Forbidden`` for a protected face."""
        picture = read_picture(data)
        portrait = prepare(picture, self._size, name=name, square=True)
        if self._store is not None and self._store.protected():
            refuse_protected(self._store, likeness_of(portrait), owner)
        key = f"u-{secrets.token_urlsafe(12)}"
        with self._lock:
            self._uploaded[key] = Upload(owner, portrait, as_jpeg(_shrunk(picture), 95))
            _limit_entries(self._uploaded, self._limit)
        return key

    def add_background(self, data: bytes, owner: str = "") -> str:
        """Keep an uploaded background picture and return its id; raises ``BadPicture``."""
        picture = _shrunk(read_picture(data))
        key = UPLOADED_BACKGROUND_PREFIX + secrets.token_urlsafe(12)
        with self._lock:
            self._backgrounds[key] = Background(owner, picture)
            _limit_entries(self._backgrounds, self._limit)
        return key

    def background(self, key: str, owner: str | None = None) -> Image:
        """An owner's background picture; raises :class:`UnknownPortrait`."""
        with self._lock:
            found = self._backgrounds.get(key)
        if found is None or owner not in (None, found.owner):
            raise UnknownPortrait("this background is not on the server any more: upload it again")
        return found.picture

    def enrol(self, uploads: Iterable[str], owner: str, *, visible_to: str | None = None, **about: Any) -> Enrolled:
        """Enrol a character from uploads that belong to ``visible_to`` (None: to anyone). The uploads are kept.

        ``about`` are arguments of :func:`avatar_stream.identity.enrol.enrol`.
        """
        found = [self._upload(key, visible_to) for key in uploads]
        if any(one is None for one in found):
            raise UnknownPortrait("a picture is not on the server any more: upload it again")
        pictures = [one.data for one in found if one is not None]
        return enrol(self.store, pictures, owner=owner, quota=self._quota, **about)

    def character(self, key: str, owner: str | None) -> Character:
        """An owner's character; raises :class:`UnknownPortrait`."""
        if self._store is not None and key.startswith(CHARACTER_ID_PREFIX):
            with contextlib.suppress(UnknownPortrait):
                return self._store.get(key, owner)
        raise UnknownPortrait("this portrait is not on the server any more: choose it again")

    def check(self, key: str, owner: str | None = None) -> None:
        """Raise :class:`UnknownPortrait` unless ``owner`` may show this portrait.

        This prepares uploads and characters, which takes a moment, and raises what :meth:`get` raises.
        """
        if key not in self._samples:
            self.get(key, owner)

    def get(self, key: str, owner: str | None = None) -> Portrait:
        """The prepared portrait. Preparing takes a moment, so do not call it on the event loop."""
        if key not in self._samples:
            if (sent := self._upload(key, owner)) is not None:
                return sent.portrait
            self.character(key, owner)
        with self._lock:
            if (known := self._prepared.get(key)) is not None:
                self._prepared.move_to_end(key)
                return known
            if key in self._samples:
                path = self._samples[key]
                made = prepare(read_picture(path), self._size, name=path.name, square=True)
            else:
                made = portrait_of(self.store, self.store.get(key), self._size, square=True)
            self._prepared[key] = made
            while len(self._prepared) > MAX_PREPARED:
                self._prepared.popitem(last=False)
            return made

    def record_use(self, key: str, who: str, how: str) -> None:
        """Write to the audit that ``who`` shows a character."""
        if self._store is not None and key.startswith(CHARACTER_ID_PREFIX):
            self._store.use(key, who, how)

    def change(
        self, key: str, owner: str | None, who: str, name: str | None, settings: dict[str, Any] | None
    ) -> Character:
        """Rename an owner's character, or store its settings; raises :class:`UnknownPortrait`."""
        self.character(key, owner)
        if name is not None:
            self.store.rename(key, name, who=who)
        if settings is not None:
            self.store.set_settings(key, settings, who=who)
        return self.store.get(key)

    def remove(self, key: str, owner: str | None, who: str) -> None:
        """Delete a character or an upload; raises :class:`UnknownPortrait`."""
        if self._upload(key, owner) is not None:
            with self._lock:
                self._uploaded.pop(key, None)
            return
        self._check_owner(key, owner)
        self.store.remove(key, who=who)
        with self._lock:
            self._prepared.pop(key, None)

    def picture(self, key: str, owner: str | None = None) -> bytes:
        """The portrait at rest as a JPEG."""
        if key in self._samples:
            return self._samples[key].read_bytes()  # it is square already, and this is faster than preparing it
        return as_jpeg(self.get(key, owner).picture)

    def _upload(self, key: str, owner: str | None) -> Upload | None:
        with self._lock:
            found = self._uploaded.get(key)
        return found if found is not None and owner in (None, found.owner) else None

    def _check_owner(self, key: str, owner: str | None) -> None:
        """Raise :class:`UnknownPortrait` unless this is ``owner``'s character. Its record may be damaged."""
        with contextlib.suppress(LibraryFault):
            self.character(key, owner)


def _limit_entries(entries: "OrderedDict[str, Any]", limit: int) -> None:
    """Drop the oldest entries of the owner with the most, so that no owner displaces the entries of others."""
    while len(entries) > limit:
        owner, _ = Counter(one.owner for one in entries.values()).most_common(1)[0]
        del entries[next(key for key, one in entries.items() if one.owner == owner)]


def _shrunk(picture: Image) -> Image:
    scale = MAX_UPLOAD_SIDE / max(picture.shape[:2])
    if scale >= 1:
        return picture
    return np.asarray(cv2.resize(picture, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA), np.uint8)
