"""Windows from pictures of one person that are no film: neutral and smiling pairs, and what ``engines.made`` makes.

``python -m engines.data.portrayals DATA/pairs OUT`` packs the pairs: ``OUT/train-pairs.npz``, ``OUT/dev-pairs.npz``.
"""

import argparse
import copy
import csv
from pathlib import Path
from typing import Final

import cv2
import numpy as np

from avatar_stream.face import geometry
from avatar_stream.face.geometry import Pose
from avatar_stream.face.motion import Motion, MotionEstimator
from avatar_stream.face.tracker import landmarks_of_still
from avatar_stream.portrait.portrait import segment_person
from engines.data.packs import Footage, encoded, in_fold, load_packs, read_still, write_pack
from engines.data.pairs import CONTEXT, LIVE, ClipWindows, Window, agree, make_window, plain_warp

PAIR_SIZE: Final = 512  # pixels, as a session's portrait
CANDIDATES: Final = 2
ALSO_DEV: Final = "1/7"  # the fold of people that ten of ``pairs.csv`` are joined by, so that twenty are measured
CALM_FRAMES: Final = 12  # of the person's calmest picture, which a driver sees before another one
BACK: Final = 0.12  # share of the way back to the portrait that a frame before may be


class PortrayalWindows(ClipWindows):
    """Windows from one person's pictures: any portrait, any other picture, the frames before between both."""

    def __init__(self, footage: Footage, person: int = 0) -> None:
        super().__init__(footage, person)
        self._driver: MotionEstimator | None = None
        self._moved: dict[int, tuple[Motion, Pose]] = {}

    def draw(self, n: int, random: np.random.Generator) -> Window:
        """A random window, the pair chosen for difference."""
        clip = self.clip
        i = int(random.choice(self.portraits))
        others = [int(j) for j in clip.good.nonzero()[0] if j != i]
        drawn = [others[int(k)] for k in random.integers(len(others), size=CANDIDATES)]
        chosen = max(drawn, key=lambda j: self._difference(i, j) + float(random.uniform(0, 0.5)))
        window = self.between(i, chosen, n, live=bool(random.random() < LIVE), random=random)
        # There are thousands of people, and the next window is somebody else's.
        self._prepared.clear()
        self._moved.clear()
        self._driver = None
        return window

    def between(
        self, i: int, j: int, n: int, *, live: bool = False, random: np.random.Generator | None = None
    ) -> Window:
        """Portrait i, target j; ``live`` as in :meth:`ClipWindows.window`."""
        clip = self.clip
        painter, retarget, (left, top, width, height) = self.prepared(i)
        offset = np.array([left, top, 0], np.float32)
        truth, rest = clip.landmarks[j] - offset, clip.landmarks[i] - offset
        target = truth
        if live:
            motion, pose = self._as_driven(j)
            face = np.asarray(pose.apply(retarget.with_expression(motion)) - offset, np.float32)
            target = face if agree(face, truth) else truth
        step = 0.0 if random is None else BACK * float(random.random())
        shares = [1 - step * k for k in range(CONTEXT + n)][::-1]
        targets = [np.asarray(rest + (target - rest) * share, np.float32) for share in shares]
        picture = clip.picture(j)[top : top + height, left : left + width]
        truths = [np.asarray(truth + moved - target, np.float32) for moved in targets[CONTEXT:]]
        last = plain_warp(picture, truth) if n > 1 else None
        pictures = [picture if k == n - 1 or last is None else last(truths[k]).image for k in range(n)]
        return make_window(painter, targets, pictures, self.person, None if target is truth else truths, random)

    def _width(self, k: int) -> float:
        face = self.clip.landmarks[k]
        return float(np.linalg.norm(face[61] - face[291]) / geometry.eye_distance(face))

    def _mood(self, k: int) -> float:
        """Least for a mouth that is closed and does not smile."""
        return 4 * float(self.clip.mouth[k]) + self._width(k)

    def _difference(self, i: int, j: int) -> float:
        clip = self.clip
        return float(
            5 * abs(clip.mouth[j] - clip.mouth[i])
            + 3 * abs(self._width(i) - self._width(j))
            + 2 * abs(clip.eyes[j] - clip.eyes[i])
            + 2.5 * np.linalg.norm(clip.gaze[j] - clip.gaze[i])
        )

    def _as_driven(self, j: int) -> tuple[Motion, Pose]:
        """Picture j as the live path reads it from a driver whose calm face it has seen."""
        if self._driver is None:
            self._driver = MotionEstimator()
            calm = self.clip.landmarks[min(self.portraits, key=self._mood)]
            for _ in range(CALM_FRAMES):
                self._driver(calm)
        if j not in self._moved:
            driver = copy.deepcopy(self._driver)
            motion = driver(self.clip.landmarks[j])
            assert driver.fit is not None
            self._moved[j] = (motion, driver.fit.pose)
        return self._moved[j]


def portrayals(folder: Path, first_person: int) -> list[list[PortrayalWindows]]:
    """All of a folder's packs, made people and pairs apart; each group is drawn from as often as the other."""
    footage = [f for f in load_packs(folder, "train") if f.good.sum() > 1 and f.portraits]
    people = {name: first_person + k for k, name in enumerate(sorted({f.identity for f in footage}))}
    kinds = sorted({f.kind for f in footage})
    return [[PortrayalWindows(f, people[f.identity]) for f in footage if f.kind == kind] for kind in kinds]


def pair_rows(folder: Path) -> list[dict[str, str]]:
    """The rows of ``pairs.csv``; more people than there are for ``dev``, always the same ones."""
    with open(folder / "pairs.csv") as stream:
        rows = list(csv.DictReader(stream))
    return [row | {"split": "dev" if in_fold(row["person"], ALSO_DEV) else row["split"]} for row in rows]


def pair_footage(folder: Path, split: str) -> list[Footage]:
    """Everybody of a split of ``pairs.csv`` who has a neutral and a smiling picture, in this order."""
    rows = [row for row in pair_rows(folder) if row["split"] == split]
    files = {(row["person"], row["expression"]): row["file"] for row in rows}
    out = []
    for person in sorted({row["person"] for row in rows}):
        names = [files.get((person, expression)) for expression in ("neutral", "smiling")]
        if None in names:
            continue
        pictures = [read_still(folder / str(name)) for name in names]
        size = (PAIR_SIZE, PAIR_SIZE)
        small = [np.asarray(cv2.resize(p, size, interpolation=cv2.INTER_AREA), np.uint8) for p in pictures]
        found = [landmarks_of_still(picture) for picture in small]
        if any(face is None for face in found):
            continue
        frames = [
            encoded(".jpg", cv2.cvtColor(picture, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, 95])
            for picture in small
        ]
        mattes = {k: encoded(".png", segment_person(picture), []) for k, picture in enumerate(small)}
        faces = np.stack([face for face in found if face is not None])
        out.append(Footage(f"pairs/{person}", person, "pair", "pair", frames, faces, mattes))
    return out


def main(given: list[str] | None = None) -> None:
    """Pack the pairs."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("pairs", type=Path)
    parser.add_argument("out", type=Path)
    arguments = parser.parse_args(given)
    arguments.out.mkdir(parents=True, exist_ok=True)
    for split in ("train", "dev"):
        write_pack(arguments.out / f"{split}-pairs.npz", pair_footage(arguments.pairs, split))


if __name__ == "__main__":
    main()
