"""Training windows: a portrait, the same face's next frames warped from it, and what they really look like.

From clips: frame i is the portrait, frames j, j+1, ... the target, chosen to differ. From stills: the picture with
its mouth closed, lids moved and head turned by a warp is the portrait, the untouched picture the target.
"""

import csv
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt

from avatar_stream.face import geometry, mesh
from avatar_stream.face.mesh import Floats
from avatar_stream.portrait.aligned import RestFace, aligned_input, rest_face, to_aligned
from avatar_stream.portrait.portrait import Portrait, prepare_tracked
from avatar_stream.portrait.warp import PortraitWarp
from engines.data.track import read_clip, read_still

Image = npt.NDArray[np.uint8]
CONTEXT = 2  # frames before the window that the landmark encoder has seen
PORTRAITS_PER_CLIP = 24
CANDIDATES = 6


@dataclass(frozen=True, slots=True)
class Window:
    """One training sample of ``n`` consecutive frames; images are RGB ``uint8`` in the aligned frame."""

    reference: Image  # (192, 192, 3)
    shown: Image  # (n, 192, 192, 3) what the network starts from
    warp: Image  # (n, 192, 192, 3) the warp alone, for comparison
    target: Image  # (n, 192, 192, 3)
    raster: Image  # (CONTEXT + n, 7, 96, 96)
    gate: Image  # (n, 192, 192) where the network may paint, 0..255


@dataclass(frozen=True, slots=True)
class Source:
    """A prepared portrait and the landmarks it is to be moved to, in crop pixels."""

    portrait: Portrait
    target: Floats


@dataclass
class Clip:
    """A decoded clip with landmarks and per-frame measures."""

    name: str
    frames: Image
    landmarks: Floats
    mouth: Floats
    eyes: Floats
    gaze: Floats
    good: npt.NDArray[np.bool_]


def load_clips(data: Path, tracks: Path, split: str) -> list[Clip]:
    """Every clip of a split, in memory."""
    stored = np.load(tracks)
    clips = []
    for row in _rows(data, split, "clip"):
        landmarks = stored[row["file"]]
        frames = read_clip(data / row["file"])[: len(landmarks)]
        good = np.isfinite(landmarks).all((1, 2))
        safe = np.where(good[:, None, None], landmarks, landmarks[good][0])
        clips.append(
            Clip(
                row["file"],
                frames,
                safe.astype(np.float32),
                np.array([geometry.mouth_opening(x) for x in safe], np.float32),
                np.array([np.mean(geometry.eye_openings(x)) for x in safe], np.float32),
                np.stack([geometry.gaze(x) for x in safe]),
                good,
            )
        )
    return clips


def load_stills(data: Path, tracks: Path, split: str) -> list[tuple[Image, Floats]]:
    """Every tracked still of a split: picture and landmarks."""
    stored = np.load(tracks)
    rows = _rows(data, split, "still")
    found = [(row["file"], stored[row["file"]][0]) for row in rows]
    return [(read_still(data / f), x) for f, x in found if np.isfinite(x).all()]


def difference(clip: Clip, i: int, j: int) -> float:
    """How much frame j asks of a portrait i that a warp cannot give."""
    mouth = max(float(clip.mouth[j] - clip.mouth[i]), 0.0)
    eyes = abs(float(clip.eyes[j] - clip.eyes[i]))
    gaze = float(np.linalg.norm(clip.gaze[j] - clip.gaze[i]))
    return 8 * mouth + 2.0 * eyes + 2.5 * gaze


class ClipWindows:
    """Windows from one clip; portraits are prepared once, on first use."""

    def __init__(self, clip: Clip) -> None:
        self.clip = clip
        self._portraits: dict[int, tuple[PortraitWarp, RestFace, tuple[int, int, int, int]]] = {}
        # Half spread over the mouth's range (closed ones most), half over time.
        usable = clip.good.nonzero()[0]
        by_mouth = usable[np.argsort(clip.mouth[usable])]
        closed = by_mouth[np.linspace(0, len(by_mouth) * 0.6, PORTRAITS_PER_CLIP // 2).astype(int)]
        spread = usable[np.linspace(0, len(usable) - 1, PORTRAITS_PER_CLIP // 2).astype(int)]
        self.portraits = [int(i) for i in np.unique(np.concatenate([closed, spread]))]

    def window(self, i: int, j: int, n: int) -> Window:
        """Portrait i, targets j .. j+n-1."""
        clip = self.clip
        if i not in self._portraits:
            portrait = prepare_tracked(clip.frames[i], clip.landmarks[i], 512)
            warp = PortraitWarp(portrait.crop, portrait.plate, portrait.matte, portrait.landmarks)
            rest = rest_face(portrait.crop, portrait.landmarks)
            self._portraits[i] = (warp, rest, portrait.box)
        warp, rest, (left, top, width, height) = self._portraits[i]
        frames = [min(max(k, 0), len(clip.frames) - 1) for k in range(j - CONTEXT, j + n)]
        targets = [clip.landmarks[k] - np.array([left, top, 0], np.float32) for k in frames]
        pictures = [clip.frames[k][top : top + height, left : left + width] for k in frames[CONTEXT:]]
        return _window(warp, rest, targets, pictures)

    def source(self, i: int, j: int) -> "Source":
        """What the live engine needs to show portrait i as frame j."""
        portrait = prepare_tracked(self.clip.frames[i], self.clip.landmarks[i], 512)
        return Source(portrait, self.clip.landmarks[j] - np.array([*portrait.box[:2], 0], np.float32))

    def draw(self, n: int, random: np.random.Generator) -> Window:
        """A random window, the pair chosen for difference."""
        clip = self.clip
        i = int(random.choice(self.portraits))
        last = len(clip.frames) - n
        candidates = [int(j) for j in random.integers(0, last + 1, CANDIDATES) if clip.good[j : j + n].all()]
        if not candidates:
            return self.draw(n, random)
        return self.window(i, max(candidates, key=lambda j: difference(clip, i, j)), n)


class StillWindows:
    """Windows from one still."""

    def __init__(self, picture: Image, landmarks: Floats) -> None:
        self.picture, self.landmarks = picture, landmarks
        self._everything = np.full(picture.shape[:2], 255, np.uint8)
        self._warp = PortraitWarp(picture, picture, self._everything, landmarks)

    def draw(self, n: int, random: np.random.Generator) -> Window:
        """The still with its face changed is the portrait; the frames come back from there to the still itself."""
        changed = _changed(self.landmarks, random)
        portrait = self._warp(changed).image
        back = PortraitWarp(portrait, portrait, self._everything, changed)
        step = 0.12 * float(random.random())
        path = [1 - step * k for k in range(CONTEXT + n)][::-1]
        targets = [(changed + (self.landmarks - changed) * s).astype(np.float32) for s in path]
        shown = zip(path[CONTEXT:], targets[CONTEXT:], strict=True)
        pictures = [self.picture if s == 1 else self._warp(t).image for s, t in shown]
        return _window(back, rest_face(portrait, changed), targets, pictures)


def _changed(landmarks: Floats, random: np.random.Generator) -> Floats:
    """Mouth (mostly) closed, lids and irises moved, head turned a little."""
    pose = geometry.head_pose(landmarks)
    face = pose.undo(landmarks)
    close = float(random.choice([1.0, 1.0, 0.8, random.random()]))
    upper, lower = list(mesh.INNER_LIP_UPPER), list(mesh.INNER_LIP_LOWER)
    gap = face[lower, 1] - face[upper, 1]
    for ring, outer, share in ((upper, list(mesh.OUTER_LIP_UPPER), 0.35), (lower, list(mesh.OUTER_LIP_LOWER), -0.65)):
        move = close * gap * share * random.uniform(0.85, 1.0)
        face[ring, 1] += move if close < 1 else gap * share
        face[outer, 1] += move * 0.9
    face[list(mesh.JAW), 1] -= 0.45 * close * float(gap.max())
    if random.random() < 0.5:
        lids = float(random.choice([random.uniform(-0.15, 0.6), random.uniform(0.0, 0.25)]))
        for up, low in (
            (mesh.RIGHT_LID_UPPER, mesh.RIGHT_LID_LOWER),
            (mesh.LEFT_LID_UPPER, mesh.LEFT_LID_LOWER),
        ):
            inner_up, inner_low = list(up[1:-1]), list(low[1:-1])
            face[inner_up, 1] += lids * 0.9 * (face[inner_low, 1] - face[inner_up, 1])
    if random.random() < 0.6:
        look = random.normal(0, [0.03, 0.012]).astype(np.float32)
        face[468:478, :2] += np.clip(look, -0.06, 0.06)
    turn = geometry.from_rotation_vector(random.normal(0, [0.06, 0.12, 0.04]))
    moved = geometry.Pose(
        pose.scale * float(random.uniform(0.95, 1.05)), pose.rotation @ turn, pose.translation
    ).apply(face)
    return np.asarray(moved, np.float32)


def _window(warp: PortraitWarp, rest: RestFace, targets: list[Floats], pictures: list[Image]) -> Window:
    shown, plain, wanted, rasters, gates = [], [], [], [], []
    # The frame furthest back only has to look plausible to the landmark encoder: the next one stands for it.
    for k, target in enumerate(targets[1:], 1):
        warped = warp(target)
        seen = aligned_input(warped, target, rest)
        rasters.append(seen.raster)
        if k >= CONTEXT:
            shown.append(seen.shown)
            gates.append((seen.gate * 255).astype(np.uint8))
            plain.append(to_aligned(warped.image, seen.matrix))
            wanted.append(to_aligned(pictures[k - CONTEXT], seen.matrix))
    rasters.insert(0, rasters[0])
    return Window(rest.image, np.stack(shown), np.stack(plain), np.stack(wanted), np.stack(rasters), np.stack(gates))


def training_windows(data: Path, tracks: Path, n: int, seed: int, still_share: float) -> Iterator[Window]:
    """Endless windows of ``n`` frames from the training people."""
    cv2.setNumThreads(1)
    random = np.random.default_rng(seed)
    clips = [ClipWindows(clip) for clip in load_clips(data, tracks, "train")]
    stills = [StillWindows(*still) for still in load_stills(data, tracks, "train")]
    while True:
        if random.random() < still_share:
            yield stills[int(random.integers(len(stills)))].draw(n, random)
        else:
            yield clips[int(random.integers(len(clips)))].draw(n, random)


def _rows(data: Path, split: str, kind: str) -> list[dict[str, str]]:
    with open(data / "manifest.csv") as stream:
        return [row for row in csv.DictReader(stream) if row["split"] == split and row["kind"] == kind]
