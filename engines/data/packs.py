"""Packs hold everything that training needs from a data folder, in a few files.

``python -m engines.data.packs DATA OUT`` tracks every clip and still once and writes ``OUT/<split>-<number>.npz``.
Each file is smaller than ``MAX_PACK_BYTES`` and holds a random mix of the split's people. Training from packs needs
neither MediaPipe nor the data folder. If two splits of the manifest share an identity, nothing is written.
"""

import argparse
import csv
import json
import zlib
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt

from avatar_stream.errors import BadInput
from avatar_stream.face import geometry
from avatar_stream.face.mesh import LANDMARK_COUNT, Floats
from avatar_stream.face.tracker import FaceTracker, landmarks_of_still
from avatar_stream.portrait.portrait import segment_person

Image = npt.NDArray[np.uint8]
MAX_PACK_BYTES = 56_000_000
PORTRAITS_PER_CLIP = 24
STEPS_PER_PIXEL = 32  # precision of stored landmarks


@dataclass
class Footage:
    """A clip, or a still as a clip of one frame; pictures stay compressed until they are used.

    ``landmarks`` ``float32 (frames, 478, 3)`` in pixels, NaN where no face was found; ``portraits`` maps the frames
    that may serve as portraits to their encoded person mattes.
    """

    name: str
    identity: str
    kind: str
    tier: str
    frames: list[bytes]
    landmarks: Floats
    portraits: dict[int, bytes] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.frames)

    def picture(self, frame: int) -> Image:
        """The frame as RGB ``(h, w, 3)``."""
        return np.asarray(cv2.cvtColor(_decode_image(self.frames[frame]), cv2.COLOR_BGR2RGB), np.uint8)

    def matte(self, frame: int) -> Image:
        """Matte of the person in a portrait frame, ``(h, w)``."""
        return np.asarray(_decode_image(self.portraits[frame])[..., 0], np.uint8)

    @cached_property
    def has_face(self) -> npt.NDArray[np.bool_]:
        """Which frames have a face, ``(frames,)``."""
        return np.isfinite(self.landmarks).all((1, 2))

    @cached_property
    def mouth(self) -> Floats:
        """Mouth opening by frame, NaN where no face was found."""
        return np.array([geometry.mouth_opening(x) for x in self.landmarks], np.float32)

    @cached_property
    def eyes(self) -> Floats:
        """Mean eye opening by frame."""
        return np.array([np.mean(geometry.eye_openings(x)) for x in self.landmarks], np.float32)

    @cached_property
    def gaze(self) -> Floats:
        """Gaze by frame, ``(frames, 2)``."""
        return np.stack([geometry.gaze(x) for x in self.landmarks])

    @cached_property
    def yaw(self) -> Floats:
        """Yaw in degrees by frame; 0 where no face was found."""
        return np.array(
            [
                geometry.euler_degrees(geometry.head_pose(x).rotation)[1] if ok else 0
                for x, ok in zip(self.landmarks, self.has_face, strict=True)
            ],
            np.float32,
        )


def load_packs(
    folder: Path, split: str, kind: str | None = None, *, only: str | None = None, without: str | None = None
) -> list[Footage]:
    """All footage of a split in which any frame has a face, sorted by name.

    ``only`` and ``without`` name a fold, ``K/N``: the K-th (from 1) of N random parts of the people. Raises
    :class:`BadInput` if there are no packs.
    """
    paths = sorted(folder.glob(f"{split}-*.npz"))
    if not paths:
        raise BadInput(f"no {split} packs in {folder}: make them with python -m engines.data.packs DATA {folder}")
    found = [footage for max_bytes in paths for footage in _read(max_bytes)]
    found = [f for f in found if f.has_face.any() and kind in (None, f.kind)]
    found = [f for f in found if only is None or in_fold(f.identity, only)]
    found = [f for f in found if without is None or not in_fold(f.identity, without)]
    return sorted(found, key=lambda f: f.name)


def in_fold(identity: str, fold: str) -> bool:
    """Whether a person belongs to a fold ``K/N``; raises :class:`BadInput` if ``fold`` is malformed."""
    part, _, parts = fold.partition("/")
    if not (part.isdecimal() and parts.isdecimal() and 1 <= int(part) <= int(parts)):
        raise BadInput(f"a fold is K/N with K from 1 to N, not {fold}")
    return zlib.crc32(identity.encode()) % int(parts) == int(part) - 1


def write_packs(data: Path, out: Path, max_bytes: int = MAX_PACK_BYTES) -> list[Path]:
    """Track and pack everything that ``data/manifest.csv`` lists; returns the written files."""
    with open(data / "manifest.csv") as stream:
        rows = list(csv.DictReader(stream))
    check_splits(rows)
    out.mkdir(parents=True, exist_ok=True)
    written = []
    for split in sorted({row["split"] for row in rows}):
        chosen = [row for row in rows if row["split"] == split]
        order = np.random.default_rng(0).permutation(len(chosen))
        waiting: list[Footage] = []
        size = number = 0
        for done, k in enumerate(order, 1):
            footage = track(data, chosen[k])
            cost = sum(map(len, footage.frames)) + sum(map(len, footage.portraits.values()))
            cost += 2 * footage.landmarks.size
            if waiting and size + cost > max_bytes:
                written.append(write_pack(out / f"{split}-{number:02}.npz", waiting))
                waiting, size, number = [], 0, number + 1
            waiting.append(footage)
            size += cost
            if done % 100 == 0:
                print(f"{split}: {done} of {len(chosen)}", flush=True)
        written.append(write_pack(out / f"{split}-{number:02}.npz", waiting))
    return written


def check_splits(rows: list[dict[str, str]]) -> None:
    """Raise :class:`BadInput` if a person is in two splits: measurements on them would be worthless."""
    splits: dict[str, set[str]] = defaultdict(set)
    for row in rows:
        splits[row["identity"]].add(row["split"])
    shared = sorted(identity for identity, names in splits.items() if len(names) > 1)
    if shared:
        raise BadInput(f"people in more than one split: {', '.join(shared[:5])}; correct the manifest")


def track(data: Path, row: dict[str, str]) -> Footage:
    """Pictures and landmarks of one manifest row; clips are not smoothed, so that landmarks fit frames."""
    path = data / row["file"]
    missing = np.full((LANDMARK_COUNT, 3), np.nan, np.float32)
    if row["kind"] == "still":
        face = landmarks_of_still(read_still(path))
        kept = [path.read_bytes()]
        found = [missing if face is None else face]
        portraits: dict[int, bytes] = {}
    else:
        pictures = read_clip(path)
        tracker = FaceTracker(smooth=False, hold=0)
        faces = [tracker.update(picture, k / 25).landmarks for k, picture in enumerate(pictures)]
        tracker.close()
        found = [missing if face is None else face for face in faces]
        quality = [
            cv2.IMWRITE_JPEG_QUALITY,
            95,
            cv2.IMWRITE_JPEG_SAMPLING_FACTOR,
            cv2.IMWRITE_JPEG_SAMPLING_FACTOR_444,
        ]
        kept = [encode_image(".jpg", cv2.cvtColor(p, cv2.COLOR_RGB2BGR), quality) for p in pictures]
        portraits = {
            k: encode_image(".png", segment_person(pictures[k]), []) for k in portrait_frames(np.stack(found))
        }
    return Footage(row["file"], row["identity"], row["kind"], row.get("tier", ""), kept, np.stack(found), portraits)


def portrait_frames(landmarks: Floats) -> list[int]:
    """Frames of a clip for portraits: half spread over the 60 % with the most closed mouths, half over time."""
    usable = np.isfinite(landmarks).all((1, 2)).nonzero()[0]
    if not len(usable):
        return []
    mouth = np.array([geometry.mouth_opening(landmarks[k]) for k in usable])
    half = PORTRAITS_PER_CLIP // 2
    closed = usable[np.argsort(mouth)][np.linspace(0, (len(usable) - 1) * 0.6, half).astype(int)]
    spread = usable[np.linspace(0, len(usable) - 1, half).astype(int)]
    return [int(k) for k in np.unique(np.concatenate([closed, spread]))]


def read_clip(path: Path) -> Image:
    """All frames of a clip as RGB ``uint8 (n, h, w, 3)``."""
    capture = cv2.VideoCapture(str(path))
    frames: list[Image] = []
    while True:
        ok, frame = capture.read()
        if not ok:
            return np.stack(frames).astype(np.uint8)
        frames.append(np.asarray(cv2.cvtColor(frame, cv2.COLOR_BGR2RGB), np.uint8))


def read_still(path: Path) -> Image:
    """A still as RGB ``uint8 (h, w, 3)``."""
    image = cv2.imread(str(path))
    if image is None:
        raise FileNotFoundError(path)
    return cv2.cvtColor(image, cv2.COLOR_BGR2RGB).astype(np.uint8)


def encode_image(extension: str, image: Image, options: list[int]) -> bytes:
    """Encode a picture (BGR or grey) as a file with this ``extension``; ``options`` are OpenCV's."""
    ok, data = cv2.imencode(extension, image, options)
    assert ok
    return data.tobytes()


def _decode_image(data: bytes) -> Image:
    return np.asarray(cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR), np.uint8)


def write_pack(path: Path, footage: list[Footage]) -> Path:
    """Write one pack; ``load_packs`` reads it."""
    index = [
        {
            "name": f.name,
            "identity": f.identity,
            "kind": f.kind,
            "tier": f.tier,
            "frames": [len(x) for x in f.frames],
            "portraits": {str(k): len(x) for k, x in f.portraits.items()},
        }
        for f in footage
    ]
    pictures = b"".join(b"".join(f.frames) + b"".join(f.portraits.values()) for f in footage)
    landmarks = np.concatenate([f.landmarks for f in footage])
    steps = np.nan_to_num(np.round(landmarks * STEPS_PER_PIXEL), nan=-32768).astype(np.int16)
    np.savez_compressed(
        path,
        index=np.frombuffer(json.dumps(index).encode(), np.uint8),
        pictures=np.frombuffer(pictures, np.uint8),
        landmarks=steps,
    )
    print(path, f"{path.stat().st_size / 1e6:.1f} MB, {len(footage)} files", flush=True)
    return path


def _read(path: Path) -> Iterator[Footage]:
    with np.load(path) as stored:
        index = json.loads(stored["index"].tobytes())
        pictures, steps = stored["pictures"].tobytes(), stored["landmarks"]
    at = row = 0

    def take(size: int) -> bytes:
        nonlocal at
        at += size
        return pictures[at - size : at]

    for entry in index:
        frames = [take(size) for size in entry["frames"]]
        mattes = {int(k): take(size) for k, size in entry["portraits"].items()}
        stepped = steps[row : row + len(frames)]
        row += len(frames)
        landmarks = np.where(stepped == -32768, np.nan, stepped.astype(np.float32) / STEPS_PER_PIXEL).astype(
            np.float32
        )
        yield Footage(entry["name"], entry["identity"], entry["kind"], entry["tier"], frames, landmarks, mattes)


def main(given: list[str] | None = None) -> None:
    """Pack a data folder."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path)
    parser.add_argument("out", type=Path)
    arguments = parser.parse_args(given)
    write_packs(arguments.data, arguments.out)


if __name__ == "__main__":
    main()
