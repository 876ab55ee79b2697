"""Motion files: JSON lines, first a header, then one line per frame (see ``ArkitFrame.to_json``)."""

import json
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import Final

from avatar_stream.errors import BadClip, BadInput
from avatar_stream.face.arkit import ArkitFrame
from avatar_stream.strict_json import read_json

MOTION_FILE_SUFFIX: Final = ".jsonl"
FORMAT: Final = "avatar-stream-motion"
VERSION: Final = 1
MAX_LINE_CHARACTERS: Final = 16_384


class MotionWriter:
    """Writes a motion file with ``rate`` frames a second; raises ``BadInput`` if it cannot be opened."""

    def __init__(self, path: Path, rate: Fraction) -> None:
        try:
            self._file = path.open("w", encoding="utf-8")
        except OSError as error:
            raise BadInput(f"cannot write {path}: {error.strerror or error}") from None
        self._write_line({"format": FORMAT, "version": VERSION, "rate": round(float(rate), 3)})

    def write(self, frame: ArkitFrame | None, time: float) -> None:
        """Append a frame at ``time`` seconds; None if no face was seen."""
        self._write_line({"time": round(time, 3)} if frame is None else frame.to_json(time))

    def close(self) -> None:
        """Finish the file."""
        self._file.close()

    def _write_line(self, value: object) -> None:
        self._file.write(json.dumps(value, separators=(",", ":")) + "\n")


class MotionFile:
    """A motion file; :meth:`frames` may be iterated repeatedly. Raises ``BadClip`` if the file is not valid."""

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            with path.open(encoding="utf-8") as file:
                first = file.readline(MAX_LINE_CHARACTERS)
                self.expected = sum(1 for _ in file)
            head = read_json(first, "its first line")
        except OSError as error:
            raise BadClip(f"cannot open {path}: {error.strerror or error}") from None
        except (BadInput, ValueError):
            head = None
        if not isinstance(head, dict) or head.get("format") != FORMAT:
            raise BadClip(f"{path} is not a motion file: make one with avatar-stream record-motion")
        if head.get("version") != VERSION:
            raise BadClip(f"{path} was recorded by a newer avatar-stream: update to play it")
        rate = head.get("rate", 25)
        if not isinstance(rate, int | float) or isinstance(rate, bool) or not 1 <= rate <= 240:
            raise BadClip(f'{path}: "rate" must be a number of frames a second from 1 to 240')
        self.rate = Fraction(rate).limit_denominator(1001)

    def frames(self) -> Iterator[tuple[float, ArkitFrame | None]]:
        """Yields (time in seconds, frame) per line; raises ``BadClip`` with the number of an invalid line."""
        with self.path.open(encoding="utf-8") as file:
            file.readline()
            for number, line in enumerate(iter(lambda: file.readline(MAX_LINE_CHARACTERS + 1), ""), 2):
                try:
                    if len(line) > MAX_LINE_CHARACTERS:
                        raise BadInput(f"a line must not be longer than {MAX_LINE_CHARACTERS} characters")
                    message = read_json(line, "a frame")
                    time = message.get("time") if isinstance(message, dict) else None
                    if isinstance(time, bool) or not isinstance(time, int | float) or not 0 <= time < 1e6:
                        raise BadInput('"time" must be a number of seconds from 0 to 1000000')
                    yield float(time), ArkitFrame.from_json(message) if "blendShapes" in message else None
                except BadInput as error:
                    raise BadClip(f"{self.path}, line {number}: {error}") from None
