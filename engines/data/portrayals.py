"""Windows from separate pictures of one person: neutral and smiling pairs, and made faces of ``engines.made``.

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
from engines.data.packs import Footage, encode_image, in_fold, load_packs, read_still, write_pack
from engines.data.pairs import (
    CONTEXT_FRAMES,
    LIVE_SHARE,
    ClipWindows,
    Window,
    landmarks_agree,
    make_window,
    plain_warp,
)

PAIR_SIZE_PIXELS: Final = 512  # as a session's portrait
TARGET_CANDIDATES: Final = 2
EXTRA_DEV_FOLD: Final = "1/7"  # people added to the ten dev people of ``pairs.csv``, so that twenty are measured
NEUTRAL_FRAMES: Final = 12  # of the person's calmest picture, which the motion estimator sees first
MAX_BACK_STEP: Final = 0.12  # per earlier frame: share of the way from the target back to the portrait


class PortrayalWindows(ClipWindows):
    """Windows from one person's pictures: portrait and target are any two; earlier frames are interpolated."""

    def __init__(self, footage: Footage, person: int = 0) -> None:
        super().__init__(footage, person)
        self._driver: MotionEstimator | None = None
        self._motion_and_pose: dict[int, tuple[Motion, Pose]] = {}

    def draw(self, n: int, random: np.random.Generator) -> Window:
        """A random window; the target is the candidate that differs most from the portrait."""
        clip = self.clip
        i = int(random.choice(self.portraits))
        others = [int(j) for j in clip.has_face.nonzero()[0] if j != i]
        drawn = [others[int(k)] for k in random.integers(len(others), size=TARGET_CANDIDATES)]
        chosen = max(drawn, key=lambda j: self._difference(i, j) + float(random.uniform(0, 0.5)))
        window = self.pair_window(i, chosen, n, live=bool(random.random() < LIVE_SHARE), random=random)
        # The next window shows another of thousands of people, so caches would only cost memory.
        self._prepared.clear()
        self._motion_and_pose.clear()
        self._driver = None
        return window

    def pair_window(
        self, i: int, j: int, n: int, *, live: bool = False, random: np.random.Generator | None = None
    ) -> Window:
        """Portrait i, target j; ``live`` as in :meth:`ClipWindows.window`."""
        clip = self.clip
        prepared, retarget, (left, top, width, height) = self.prepare(i)
        offset = np.array([left, top, 0], np.float32)
        truth, rest = clip.landmarks[j] - offset, clip.landmarks[i] - offset
        target = truth
        if live:
            motion, pose = self._as_driven(j)
            face = np.asarray(pose.apply(retarget.with_expression(motion)) - offset, np.float32)
            target = face if landmarks_agree(face, truth) else truth
        step = 0.0 if random is None else MAX_BACK_STEP * float(random.random())
        shares = [1 - step * k for k in range(CONTEXT_FRAMES + n)][::-1]
        targets = [np.asarray(rest + (target - rest) * share, np.float32) for share in shares]
        picture = clip.picture(j)[top : top + height, left : left + width]
        truths = [np.asarray(truth + moved - target, np.float32) for moved in targets[CONTEXT_FRAMES:]]
        last = plain_warp(picture, truth) if n > 1 else None
        pictures = [picture if k == n - 1 or last is None else last(truths[k]).image for k in range(n)]
        return make_window(prepared, targets, pictures, self.person, None if target is truth else truths, random)

    def _width(self, k: int) -> float:
        face = self.clip.landmarks[k]
        return float(np.linalg.norm(face[61] - face[291]) / geometry.eye_distance(face))

    def _expressiveness(self, k: int) -> float:
        """Lowest for a closed mouth that does not smile."""
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
        """Motion and head pose of picture j, as the live path estimates them after seeing the calm face."""
        if self._driver is None:
            self._driver = MotionEstimator()
            calm = self.clip.landmarks[min(self.portraits, key=self._expressiveness)]
            for _ in range(NEUTRAL_FRAMES):
                self._driver(calm)
        if j not in self._motion_and_pose:
            driver = copy.deepcopy(self._driver)
            motion = driver(self.clip.landmarks[j])
            assert driver.fit is not None
            self._motion_and_pose[j] = (motion, driver.fit.pose)
        return self._motion_and_pose[j]


def portrayal_groups(folder: Path, first_person: int) -> list[list[PortrayalWindows]]:
    """Windows of a folder's training packs, grouped by kind (made people, pairs); persons count from
    ``first_person``.
    """
    footage = [f for f in load_packs(folder, "train") if f.has_face.sum() > 1 and f.portraits]
    people = {name: first_person + k for k, name in enumerate(sorted({f.identity for f in footage}))}
    kinds = sorted({f.kind for f in footage})
    return [[PortrayalWindows(f, people[f.identity]) for f in footage if f.kind == kind] for kind in kinds]


def pair_rows(folder: Path) -> list[dict[str, str]]:
    """The rows of ``pairs.csv``, with the people of ``EXTRA_DEV_FOLD`` moved to ``dev``."""
    with open(folder / "pairs.csv") as stream:
        rows = list(csv.DictReader(stream))
    return [row | {"split": "dev" if in_fold(row["person"], EXTRA_DEV_FOLD) else row["split"]} for row in rows]


def pair_footage(folder: Path, split: str) -> list[Footage]:
    """Everybody in a split of ``pairs.csv`` with a neutral and a smiling picture; frames are in this order."""
    rows = [row for row in pair_rows(folder) if row["split"] == split]
    files = {(row["person"], row["expression"]): row["file"] for row in rows}
    out = []
    for person in sorted({row["person"] for row in rows}):
        names = [files.get((person, expression)) for expression in ("neutral", "smiling")]
        if None in names:
            continue
        pictures = [read_still(folder / str(name)) for name in names]
        size = (PAIR_SIZE_PIXELS, PAIR_SIZE_PIXELS)
        small = [np.asarray(cv2.resize(p, size, interpolation=cv2.INTER_AREA), np.uint8) for p in pictures]
        found = [landmarks_of_still(picture) for picture in small]
        if any(face is None for face in found):
            continue
        frames = [
            encode_image(".jpg", cv2.cvtColor(picture, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, 95])
            for picture in small
        ]
        mattes = {k: encode_image(".png", segment_person(picture), []) for k, picture in enumerate(small)}
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
