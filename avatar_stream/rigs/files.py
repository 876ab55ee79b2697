"""Recorded motion: a JSON object a line, first what the file is, then frame by frame (see ``ArkitFrame.to_json``)."""

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
    """Writes frames to a file, ``rate`` of them a second."""

    def __init__(self, path: Path, rate: Fraction) -> None:
        try:
            self._file = path.open("w", encoding="utf-8")
        except OSError as error:
            raise BadInput(f"cannot write {path}: {error.strerror or error}") from None
        self._line({"format": FORMAT, "version": VERSION, "rate": round(float(rate), 3)})

    def write(self, frame: ArkitFrame | None, time: float) -> None:
        """Append a frame at ``time`` seconds; None where nobody was seen."""
        self._line({"time": round(time, 3)} if frame is None else frame.to_json(time))

    def close(self) -> None:
        """Finish the file."""
        self._file.close()

    def _line(self, what: object) -> None:
        self._file.write(json.dumps(what, separators=(",", ":")) + "\n")


class MotionFile:
    """A recorded motion; iterate :meth:`frames` as often as wanted. Raises ``BadClip`` where it is none."""

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
            raise BadClip(f"{path} is no recorded motion: make one with avatar-stream record-motion")
        if head.get("version") != VERSION:
            raise BadClip(f"{path} was recorded by a newer avatar-stream: update to play it")
        rate = head.get("rate", 25)
        if not isinstance(rate, int | float) or isinstance(rate, bool) or not 1 <= rate <= 240:
            raise BadClip(f'{path}: "rate" must be a number of frames a second from 1 to 240')
        self.rate = Fraction(rate).limit_denominator(1001)

    def frames(self) -> Iterator[tuple[float, ArkitFrame | None]]:
        """(seconds, frame) of every line; raises ``BadClip`` with the line that is wrong."""
        with self.path.open(encoding="utf-8") as file:
            file.readline()
            for number, line in enumerate(iter(lambda: file.readline(MAX_LINE_CHARACTERS + 1), ""), 2):
                try:
                    if len(line) > MAX_LINE_CHARACTERS:
                        raise BadInput(f"longer than {MAX_LINE_CHARACTERS} characters")
                    message = read_json(line, "a frame")
                    time = message.get("time") if isinstance(message, dict) else None
                    if isinstance(time, bool) or not isinstance(time, int | float) or not 0 <= time < 1e6:
                        raise BadInput('"time" must be seconds')
                    yield float(time), ArkitFrame.from_json(message) if "blendShapes" in message else None
                except BadInput as error:
                    raise BadClip(f"{self.path}, line {number}: {error}") from None
