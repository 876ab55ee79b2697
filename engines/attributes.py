"""Trains the classifier that detects glasses: ``python -m engines.attributes --packs runs/packs``.

``data/glasses.csv`` labels 455 stills, by eye at 118 pixels. Writes ``avatar_stream/identity/glasses.npz`` and prints
its errors: by five-fold cross-validation on the training people, and on the dev people.
"""

import argparse
import csv
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F

from avatar_stream.face.mesh import Floats
from avatar_stream.face.tone import skin_tone
from avatar_stream.identity import attributes
from avatar_stream.identity.attributes import eye_features
from avatar_stream.identity.likeness import FACE_SIZE, likeness_face
from engines.data.packs import Footage, load_packs

Image = npt.NDArray[np.uint8]
LABELS_FILE = Path(__file__).parent / "data" / "glasses.csv"
AUGMENTED_COPIES = 6  # of every face
FOLD_COUNT = 5


def load_labelled(packs: Path, split: str) -> tuple[list[Image], Floats, Floats]:
    """Aligned faces of a split's labelled stills, labels ``(n,)`` (1: glasses), skin brightness ``(n,)``."""
    with open(LABELS_FILE) as stream:
        labels = {row["file"]: float(row["glasses"]) for row in csv.DictReader(stream)}
    stills: list[Footage] = [one for one in load_packs(packs, split, "still") if one.name in labels]
    faces = [likeness_face(one.picture(0), one.landmarks[0]) for one in stills]
    tones = [skin_tone(one.picture(0), one.landmarks[0]).mean() for one in stills]
    return faces, np.array([labels[one.name] for one in stills], np.float32), np.array(tones, np.float32)


def augment(face: Image, random: np.random.Generator) -> Image:
    """Vary light, position and sharpness of a face; mirror half of them."""
    if random.random() < 0.5:
        face = np.ascontiguousarray(face[:, ::-1])
    turn = cv2.getRotationMatrix2D((FACE_SIZE / 2, FACE_SIZE / 2), random.uniform(-4, 4), random.uniform(0.95, 1.05))
    turn[:, 2] += random.uniform(-2, 2, 2)
    moved = cv2.warpAffine(face, turn, (FACE_SIZE, FACE_SIZE), borderMode=cv2.BORDER_REPLICATE)
    if random.random() < 0.3:
        moved = cv2.GaussianBlur(moved, (0, 0), random.uniform(0.3, 1.2))
    return np.clip(moved * random.uniform(0.7, 1.25) + random.uniform(-25, 25), 0, 255).astype(np.uint8)


def fit_logistic_regression(inputs: Floats, wanted: Floats) -> tuple[Floats, float]:
    """Weights and offset of a logistic regression."""
    x, y = torch.from_numpy(inputs), torch.from_numpy(wanted)
    weights, offset = (torch.zeros(n, requires_grad=True) for n in (x.shape[1], 1))
    rarer = ((len(y) - y.sum()) / y.sum()).sqrt()
    optimizer = torch.optim.LBFGS([weights, offset], max_iter=200)

    def loss() -> torch.Tensor:
        optimizer.zero_grad()
        found = F.binary_cross_entropy_with_logits(x @ weights + offset, y, pos_weight=rarer)
        found = found + 2e-3 * (weights**2).sum()
        found.backward()
        return found

    optimizer.step(loss)
    return weights.detach().numpy(), float(offset.detach())


def describe_scores(scores: Floats, wanted: Floats) -> str:
    """Counts of detections and false detections, as text."""
    detected, true = scores > 0, wanted > 0
    right = int((detected & true).sum())
    false = int(detected.sum()) - right
    return f"{right} of {int(true.sum())} detected, {false} of {int((~true).sum())} falsely detected"


def main(given: list[str] | None = None) -> None:
    """Train, write, measure."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--packs", type=Path, required=True)
    arguments = parser.parse_args(given)
    random = np.random.default_rng(0)
    faces, wanted, tones = load_labelled(arguments.packs, "train")
    views = [
        [eye_features(face), *(eye_features(augment(face, random)) for _ in range(AUGMENTED_COPIES))]
        for face in faces
    ]
    plain = np.stack([one[0] for one in views])
    middle = plain.mean(0)

    def train(chosen: list[int]) -> tuple[Floats, float]:
        inputs = np.stack([view for k in chosen for view in views[k]]) - middle
        return fit_logistic_regression(inputs.astype(np.float32), np.repeat(wanted[chosen], AUGMENTED_COPIES + 1))

    scores = np.zeros(len(faces), np.float32)
    for fold in range(FOLD_COUNT):
        weights, offset = train([k for k in range(len(faces)) if k % FOLD_COUNT != fold])
        scores[fold::FOLD_COUNT] = (plain[fold::FOLD_COUNT] - middle) @ weights + offset
    print("left out of training:", describe_scores(scores, wanted))
    order = np.argsort(tones)
    for name, part in zip(("darkest", "middle", "lightest"), np.array_split(order, 3), strict=True):
        print(f"  the {name} third of skins:", describe_scores(scores[part], wanted[part]))
    weights, offset = train(list(range(len(faces))))
    path = Path(attributes.__file__).parent / "glasses.npz"
    np.savez_compressed(path, weights=weights.astype(np.float16), middle=middle.astype(np.float16), offset=offset)
    dev, truth, _ = load_labelled(arguments.packs, "dev")
    found = np.stack([eye_features(face) for face in dev])
    print("dev:", describe_scores((found - middle) @ weights + offset, truth))


if __name__ == "__main__":
    main()
