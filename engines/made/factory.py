"""The factory draws people one by one, tracks them again and packs them, with a contact sheet per thousand frames.

Person ``k`` of seed ``s`` is always the same. A pack is written completely and then renamed, so a killed run resumes
with the first missing pack.
"""

import json
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import cv2
import numpy as np
import numpy.typing as npt

from avatar_stream.face import geometry
from avatar_stream.face.mesh import LANDMARK_COUNT, Floats
from avatar_stream.face.tracker import StillTracker
from avatar_stream.portrait.portrait import segment_person
from engines.data.packs import Footage, encode_image, write_pack
from engines.made.expressions import RecordedMotion, face_states
from engines.made.eyes import lash_picture
from engines.made.head import HeadModel
from engines.made.people import Sitters
from engines.made.person import Person
from engines.made.raster import Canvas
from engines.made.skin import SkinLayout
from engines.made.studio import Studio

Image = npt.NDArray[np.uint8]

PEOPLE_PER_PACK: Final = 10
FRAMES_PER_SHEET: Final = 1000
PORTRAITS_PER_PERSON: Final = 4  # the photograph, neutral, a smile, a slight smile
JPEG_QUALITY_RANGE: Final = (80, 96)
SHEET_COLUMNS: Final = 22


@dataclass(frozen=True)
class Job:
    """What to make: ``people`` in total, or fewer if ``frames`` are reached before."""

    out: Path
    packs: Path
    data: Path
    seed: int = 0
    people: int = 1_000_000
    frames: int = 1_000_000


class Factory:
    """Makes people. It owns a drawing context: use one per process."""

    def __init__(self, job: Job) -> None:
        self.job = job
        self.head = HeadModel.load(job.data / "ict-facekit")
        self.canvas = Canvas(self.head, lash_picture(self.head))
        self.layout = SkinLayout(self.canvas)
        # MediaPipe does not free all memory of a closed graph, so one tracker serves all pictures.
        self.track = StillTracker()
        self.sitters = Sitters(job.packs, job.data / "pairs", self.track)
        self.recorded = RecordedMotion.read(job.packs, job.out / "recorded.npz")

    def person(self, number: int) -> tuple[Footage, list[str]]:
        """Person ``number``: footage whose first frame is the photograph, and the name of what each frame shows."""
        random = np.random.default_rng([self.job.seed, number])
        sitter = self.sitters.draw(random)
        person = Person(self.layout, sitter, random)
        studio = Studio(self.canvas, person)
        names, pictures = ["photograph"], [sitter.picture]
        for state in face_states(person.photo_coefficients, self.recorded, random):
            names.append(state.name)
            pictures.append(studio.render(state))
        options = [cv2.IMWRITE_JPEG_QUALITY, int(random.integers(*JPEG_QUALITY_RANGE))]
        frames = [encode_image(".jpg", cv2.cvtColor(picture, cv2.COLOR_RGB2BGR), options) for picture in pictures]
        faces = [track_encoded(frame, self.track) for frame in frames]
        portraits = {
            k: encode_image(".png", sitter.matte if k == 0 else segment_person(pictures[k]), [])
            for k in range(PORTRAITS_PER_PERSON)
            if np.isfinite(faces[k]).all()
        }
        name = f"made/{self.job.seed}-{number:06}"
        return Footage(name, f"made-{sitter.name}", "made", "made", frames, np.stack(faces), portraits), names

    def run(self) -> Iterator[Path]:
        """Write all missing packs; yield the path of each."""
        job, began, made = self.job, time.monotonic(), 0
        job.out.mkdir(parents=True, exist_ok=True)
        total, sheet_rows = 0, []
        for pack in range((job.people + PEOPLE_PER_PACK - 1) // PEOPLE_PER_PACK):
            path = job.out / f"train-{pack:05}.npz"
            if path.exists():
                total += json.loads(path.with_suffix(".json").read_text())["frames"]
                continue
            if total >= job.frames:
                break
            people = []
            last = min((pack + 1) * PEOPLE_PER_PACK, job.people)
            for number in range(pack * PEOPLE_PER_PACK, last):
                try:
                    footage, names = self.person(number)
                except (np.linalg.LinAlgError, cv2.error, ValueError) as error:
                    print(f"person {number} is left out: {error}", flush=True)
                    continue
                people.append((footage, names))
                sheet_rows.append(contact_strip(footage, names))
                total, made = total + len(footage), made + len(footage)
                if total // FRAMES_PER_SHEET > (total - len(footage)) // FRAMES_PER_SHEET:
                    self._sheet(f"sheet-{total // FRAMES_PER_SHEET * FRAMES_PER_SHEET:07}.jpg", sheet_rows)
                    sheet_rows = []
            yield self._write_pack(path, people, made, time.monotonic() - began, total)
        if sheet_rows:
            self._sheet("sheet-last.jpg", sheet_rows)

    def _write_pack(
        self, path: Path, people: list[tuple[Footage, list[str]]], made: int, seconds: float, total: int
    ) -> Path:
        """Write to a temporary file, then rename. The list comes first, so that no pack lacks its list."""
        frames = sum(len(footage) for footage, _ in people)
        seen = sum(int(footage.has_face.sum()) for footage, _ in people)
        listed = {"frames": frames, "tracked": seen, "people": {f.name: names for f, names in people}}
        partial = path.with_suffix(".json.part")
        partial.write_text(json.dumps(listed) + "\n")
        partial.rename(path.with_suffix(".json"))
        write_pack(path.with_name(f"part-{path.name}"), [footage for footage, _ in people]).rename(path)
        pace = made / max(seconds, 1e-3) * 3600
        print(
            f"{path.name}: {total} frames, face found in {seen} of {frames}, {pace:.0f} frames per hour", flush=True
        )
        return path

    def _sheet(self, name: str, rows: list[Image]) -> None:
        chosen = rows[:: max(1, len(rows) // 16)][:16]
        cv2.imwrite(str(self.job.out / name), np.vstack(chosen), [cv2.IMWRITE_JPEG_QUALITY, 88])


def track_encoded(frame: bytes, track: StillTracker) -> Floats:
    """Landmarks ``(478, 3)`` of an encoded picture; NaN if no face is found.

    Training uses the landmarks that a tracker finds in a made face, never those that it was drawn from.
    """
    picture = cv2.cvtColor(cv2.imdecode(np.frombuffer(frame, np.uint8), cv2.IMREAD_COLOR), cv2.COLOR_BGR2RGB)
    found = track(np.asarray(picture, np.uint8))
    return np.full((LANDMARK_COUNT, 3), np.nan, np.float32) if found is None else found


def contact_strip(footage: Footage, names: list[str], side: int = 120) -> Image:
    """One person's frames in a row, BGR, cropped to the photograph's face and labelled."""
    face = footage.landmarks[np.flatnonzero(footage.has_face)[0]] if footage.has_face.any() else None
    cells = []
    for k, name in enumerate(names[:SHEET_COLUMNS]):
        picture = cv2.cvtColor(footage.picture(k), cv2.COLOR_RGB2BGR)
        if face is not None:
            half = 1.05 * geometry.eye_distance(face)
            x, y = face[:468, :2].mean(0)
            top, left = max(int(y - half), 0), max(int(x - half), 0)
            picture = picture[top : int(y + half), left : int(x + half)]
        cell = cv2.resize(picture, (side, side), interpolation=cv2.INTER_AREA)
        colour = (255, 255, 255) if footage.has_face[k] else (0, 0, 255)
        cells.append(cv2.putText(cell, name, (3, side - 4), cv2.FONT_HERSHEY_SIMPLEX, 0.35, colour, 1, cv2.LINE_AA))
    while len(cells) < SHEET_COLUMNS:
        cells.append(np.zeros((side, side, 3), np.uint8))
    return np.hstack(cells).astype(np.uint8)
