"""The photographs that made people are based on: training stills and pairs, with shape and colour changed."""

from pathlib import Path
from typing import Final

import cv2
import numpy as np
import numpy.typing as npt

from avatar_stream.face import geometry
from avatar_stream.face.fit import fit_still
from avatar_stream.face.mesh import Floats
from avatar_stream.face.tracker import StillTracker
from avatar_stream.identity.attributes import attributes_of
from avatar_stream.portrait.portrait import prepare_tracked, segment_person
from engines.data.packs import load_packs, read_still
from engines.data.pairs import plain_warp
from engines.data.portrayals import pair_rows
from engines.made.person import Sitter

Image = npt.NDArray[np.uint8]

PAIR_SIZE_PIXELS: Final = 384
PAIRS_SHARE: Final = 0.45  # of the people; pairs are sharper, but a tenth as many
MAX_TURN_DEGREES: Final = 15.0  # yaw of the photograph
# Eye distances in the photograph. In a wider mouth, lips hide nothing that training could learn.
MAX_MOUTH_OPENING: Final = 0.12
MIN_EYE_DISTANCE_PIXELS: Final = 70.0
IDENTITY_DEVIATION: Final = 0.35  # of the random change of identity coefficients


class Sitters:
    """Every photograph of the training split."""

    def __init__(self, packs: Path, pairs: Path | None, track: StillTracker) -> None:
        """``pairs`` is the folder of neutral and smiling pictures, or None."""
        self._track = track
        self._stills = [
            still
            for still in load_packs(packs, "train", "still")
            if _usable(still.landmarks[0]) and geometry.eye_distance(still.landmarks[0]) > MIN_EYE_DISTANCE_PIXELS
        ]
        self._pairs: list[Path] = []
        if pairs is not None and (pairs / "pairs.csv").exists():
            self._pairs = [pairs / row["file"] for row in pair_rows(pairs) if row["split"] == "train"]

    def __len__(self) -> int:
        return len(self._stills) + len(self._pairs)

    def draw(self, random: np.random.Generator) -> Sitter:
        """A random photograph, mirrored, reshaped and recoloured at random; RuntimeError if 20 fail."""
        for _ in range(20):
            sitter = self._augmented(*self._pick(random), random)
            if sitter is not None:
                return sitter
        raise RuntimeError("twenty photographs in a row show no face: the packs are damaged, make them again")

    def _pick(self, random: np.random.Generator) -> tuple[str, Image]:
        if self._pairs and (random.random() < PAIRS_SHARE or not self._stills):
            path = self._pairs[int(random.integers(len(self._pairs)))]
            picture = cv2.resize(read_still(path), (PAIR_SIZE_PIXELS, PAIR_SIZE_PIXELS), interpolation=cv2.INTER_AREA)
            return path.stem.split("_")[0], np.asarray(picture, np.uint8)
        still = self._stills[int(random.integers(len(self._stills)))]
        return still.identity, still.picture(0)

    def _augmented(self, name: str, picture: Image, random: np.random.Generator) -> Sitter | None:
        if random.random() < 0.5:
            picture = np.ascontiguousarray(picture[:, ::-1])
        landmarks = self._track(picture)
        if landmarks is None or not _usable(landmarks):
            return None
        if random.random() < 0.7:
            picture = reshape_identity(picture, landmarks, random)
            landmarks = self._track(picture)
            if landmarks is None or not _usable(landmarks):
                return None
        gain = np.exp(random.normal(0, 0.07) + random.normal(0, 0.025, 3))
        picture = np.clip(255 * (picture / 255.0) ** np.exp(random.normal(0, 0.12)) * gain, 0, 255)
        picture = picture.astype(np.uint8)
        matte = segment_person(picture)
        # Lids and eyes cannot be drawn behind glasses.
        if attributes_of(prepare_tracked(picture, landmarks, max(picture.shape), matte))["glasses"]:
            return None
        return Sitter(name, picture, landmarks, matte)


def reshape_identity(picture: Image, landmarks: Floats, random: np.random.Generator) -> Image:
    """The picture with another face shape: identity changed at random along the model's components."""
    fit, fitter = fit_still(landmarks)
    count = len(fitter.identity)
    step = random.normal(0, IDENTITY_DEVIATION, count).astype(np.float32)
    moved = np.tensordot(step, fitter.model.identities, 1)
    face = fit.face.copy()
    face[:468] += moved
    for iris, corners in ((slice(468, 473), [33, 133]), (slice(473, 478), [263, 362])):
        face[iris] += moved[corners].mean(0)
    return plain_warp(picture, landmarks)(fit.pose.apply(face)).image


def _usable(landmarks: Floats) -> bool:
    if not np.isfinite(landmarks).all():
        return False
    pitch, yaw, _ = geometry.euler_degrees(geometry.head_pose(landmarks).rotation)
    return (
        abs(yaw) < MAX_TURN_DEGREES
        and abs(pitch) < 1.5 * MAX_TURN_DEGREES
        and geometry.mouth_opening(landmarks) < MAX_MOUTH_OPENING
    )
