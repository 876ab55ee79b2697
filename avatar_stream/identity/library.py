"""The portraits of a server: shipped samples and what people upload, prepared on first use and kept."""

import secrets
import threading
from collections import OrderedDict
from dataclasses import dataclass
from pathlib import Path

import cv2

from avatar_stream.errors import UnknownPortrait
from avatar_stream.portrait.portrait import Portrait, prepare, read_picture

SAMPLES = Path(__file__).parent.parent / "samples"
DEFAULT = "noor"


@dataclass(frozen=True, slots=True)
class Identity:
    """One entry as a page sees it."""

    id: str
    name: str
    sample: bool


def sample_pictures() -> dict[str, Path]:
    """Shipped portraits by id: averages of at least 20 people each, which show nobody, and paintings."""
    return {path.stem: path for path in sorted(SAMPLES.glob("*.jpg"))}


class Library:
    """Thread-safe. Uploads live in memory: a portrait a stranger sends is not written to disk."""

    def __init__(self, *, size: int, uploads: int) -> None:
        self._size = size
        self._limit = uploads
        self._samples = sample_pictures()
        self._uploaded: OrderedDict[str, Portrait] = OrderedDict()
        self._prepared: dict[str, Portrait] = {}
        self._lock = threading.Lock()

    @property
    def default(self) -> str:
        """Id of the portrait a new session starts with."""
        return DEFAULT if DEFAULT in self._samples else next(iter(self._samples))

    def entries(self) -> list[Identity]:
        """The shipped samples. Uploads are known only to who sent them."""
        return [Identity(id, id.replace("-", " ").title(), True) for id in self._samples]

    def add(self, data: bytes, name: str = "your picture") -> str:
        """Prepare an uploaded picture and return its id; raises ``BadPicture``."""
        portrait = prepare(read_picture(data), self._size, name=name, square=True)
        key = f"u-{secrets.token_urlsafe(12)}"
        with self._lock:
            self._uploaded[key] = portrait
            while len(self._uploaded) > self._limit:
                self._uploaded.popitem(last=False)
        return key

    def check(self, key: str) -> None:
        """Raise :class:`UnknownPortrait` unless there is such a portrait. Waits for nobody."""
        if key not in self._samples and key not in self._uploaded:
            raise UnknownPortrait("this portrait is not on the server any more: choose it again")

    def get(self, key: str) -> Portrait:
        """The prepared portrait; preparing takes a moment, so call it off the event loop."""
        with self._lock:
            known = self._uploaded.get(key) or self._prepared.get(key)
            if known is not None:
                return known
            self.check(key)
            path = self._samples[key]
            self._prepared[key] = prepare(read_picture(path), self._size, name=path.name, square=True)
            return self._prepared[key]

    def picture(self, key: str) -> bytes:
        """The portrait at rest as a JPEG."""
        if key in self._samples:
            return self._samples[key].read_bytes()  # square already, and quicker than preparing them all
        image = cv2.cvtColor(self.get(key).picture, cv2.COLOR_RGB2BGR)
        return bytes(cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, 90])[1])
