"""Trains the network that checks whether an avatar still looks like its person.

``python -m engines.likeness --packs runs/packs``: the network learns to output dlib's face recognition embedding (128
numbers; a distance below 0.6 means one person) from an aligned face, at a hundredth of the cost. The portrait model
is not conditioned on it, so it detects that model's faults. Writes ``avatar_stream/identity/likeness.onnx`` and
prints how well it separates people whom it was not trained on.
"""

import argparse
import itertools
import time
from pathlib import Path
from typing import Any

import dlib
import face_recognition_models as models
import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from avatar_stream.face import mesh
from avatar_stream.face.mesh import Floats
from avatar_stream.identity import likeness
from avatar_stream.identity.likeness import FACE_SIZE, likeness_face
from engines.data.packs import Footage, load_packs
from engines.data.pairs import perturb_landmarks, plain_warp

Image = npt.NDArray[np.uint8]
CHANNEL_WIDTHS = (32, 64, 96, 160, 224)
EMBEDDING_LENGTH = 128
FRAMES_PER_CLIP = 24
WARPED_COPIES = 2  # per still
# dlib's five points: outer and inner corners of the eyes, and the base of the nose.
DLIB_LANDMARKS = (
    mesh.LEFT_LID_UPPER[-1],
    mesh.LEFT_LID_UPPER[0],
    mesh.RIGHT_LID_UPPER[0],
    mesh.RIGHT_LID_UPPER[-1],
    2,
)


class Teacher:
    """dlib's ResNet on known landmarks."""

    def __init__(self) -> None:
        self._network = dlib.face_recognition_model_v1(models.face_recognition_model_location())
        self._detector = dlib.get_frontal_face_detector()
        self._shape = dlib.shape_predictor(models.pose_predictor_five_point_model_location())

    def __call__(self, picture: Image, landmarks: Floats) -> Floats:
        """Embedding ``(128,)`` of the face in RGB ``picture``."""
        points = landmarks[list(DLIB_LANDMARKS), :2]
        points = points[[1, 0, 3, 2, 4]] if points[0, 0] < points[2, 0] else points
        left, top = landmarks[:468, :2].min(0)
        right, bottom = landmarks[:468, :2].max(0)
        box = dlib.rectangle(int(left), int(top), int(right), int(bottom))
        parts = dlib.full_object_detection(box, dlib.points([dlib.point(round(x), round(y)) for x, y in points]))
        return np.array(self._network.compute_face_descriptor(np.ascontiguousarray(picture), parts), np.float32)


def training_faces(
    footage: list[Footage], random: np.random.Generator
) -> tuple[Image, Floats, npt.NDArray[np.int64]]:
    """Aligned faces ``(n, FACE_SIZE, FACE_SIZE, 3)``, the teacher's embeddings ``(n, 128)``, and person numbers."""
    teacher = Teacher()
    faces, embeddings, persons = [], [], []
    people = {name: k for k, name in enumerate(sorted({one.identity for one in footage}))}

    def add(picture: Image, landmarks: Floats, person: str) -> None:
        faces.append(likeness_face(picture, landmarks))
        embeddings.append(teacher(picture, landmarks))
        persons.append(people[person])

    for one in footage:
        good = one.has_face.nonzero()[0]
        if one.kind == "clip":
            for k in good[:: max(1, len(good) // FRAMES_PER_CLIP)]:
                add(one.picture(int(k)), one.landmarks[k], one.identity)
            continue
        picture, landmarks = one.picture(0), one.landmarks[0]
        add(picture, landmarks, one.identity)
        moved = plain_warp(picture, landmarks)
        for _ in range(WARPED_COPIES):
            target = perturb_landmarks(landmarks, random)
            add(moved(target).image, target, one.identity)
    return np.stack(faces), np.stack(embeddings), np.array(persons)


class LikenessNetwork(nn.Module):
    """Strided and depthwise convolutions (Howard et al., "MobileNets", 2017) to an embedding of 128 numbers."""

    def __init__(self) -> None:
        super().__init__()
        layers: list[nn.Module] = [
            nn.Conv2d(3, CHANNEL_WIDTHS[0], 3, 2, 1),
            nn.BatchNorm2d(CHANNEL_WIDTHS[0]),
            nn.ReLU(),
        ]
        for before, after in itertools.pairwise(CHANNEL_WIDTHS):
            layers += _block(before, after, 2) + _block(after, after, 1)
        self.body = nn.Sequential(
            *layers, nn.Conv2d(CHANNEL_WIDTHS[-1], CHANNEL_WIDTHS[-1], 3, groups=CHANNEL_WIDTHS[-1]), nn.Flatten()
        )
        self.out = nn.Linear(CHANNEL_WIDTHS[-1], EMBEDDING_LENGTH)

    def forward(self, face: Tensor) -> Tensor:
        """RGB ``[B, FACE_SIZE, FACE_SIZE, 3]``, 0 to 255 -> ``[B, 128]``."""
        x = face.permute(0, 3, 1, 2) / 127.5 - 1
        middle = x.mean((2, 3), keepdim=True)
        spread = x.std((2, 3), keepdim=True)
        return self.out(self.body((x - middle) / (spread + 0.1)))


def _block(before: int, after: int, stride: int) -> list[nn.Module]:
    return [
        nn.Conv2d(before, before, 3, stride, 1, groups=before, bias=False),
        nn.BatchNorm2d(before),
        nn.ReLU(),
        nn.Conv2d(before, after, 1, bias=False),
        nn.BatchNorm2d(after),
        nn.ReLU(),
    ]


def augment(faces: Tensor, random: torch.Generator) -> Tensor:
    """Vary light, position, sharpness and noise of faces; mirror half of them."""
    n = len(faces)

    def uniform(low: float, high: float, *shape: int) -> Tensor:
        return low + (high - low) * torch.rand(n, *shape, generator=random)

    x = faces.float().permute(0, 3, 1, 2)
    turn, zoom = uniform(-0.09, 0.09), uniform(0.95, 1.06)
    theta = torch.stack(
        [
            torch.stack([zoom * turn.cos(), -zoom * turn.sin(), uniform(-0.04, 0.04)], 1),
            torch.stack([zoom * turn.sin(), zoom * turn.cos(), uniform(-0.04, 0.04)], 1),
        ],
        1,
    )
    grid = F.affine_grid(theta, list(x.shape), align_corners=False)
    x = F.grid_sample(x, grid, padding_mode="border", align_corners=False)
    x = torch.where(uniform(0, 1, 1, 1, 1) < 0.5, x.flip(3), x)  # mirrored, it is still the same person
    small = F.interpolate(F.avg_pool2d(x, 2), scale_factor=2, mode="bilinear")
    x = x + uniform(0, 1, 1, 1, 1) * (small - x)
    x = (x - 128) * uniform(0.7, 1.25, 1, 1, 1) + 128 + uniform(-30, 30, 1, 1, 1)
    x = x * uniform(0.88, 1.12, 3, 1, 1) + torch.randn(x.shape, generator=random) * uniform(0, 6, 1, 1, 1)
    return x.clamp(0, 255).permute(0, 2, 3, 1)


def train_network(
    faces: Image, embeddings: Floats, persons: npt.NDArray[np.int64], minutes: float
) -> LikenessNetwork:
    """Train the network for ``minutes``."""
    torch.manual_seed(1)
    random = torch.Generator().manual_seed(2)
    network = LikenessNetwork()
    people = nn.Linear(EMBEDDING_LENGTH, int(persons.max()) + 1, bias=False)
    optimizer = torch.optim.AdamW([*network.parameters(), *people.parameters()], 2e-3, weight_decay=1e-2)
    x, y, who = torch.from_numpy(faces), torch.from_numpy(embeddings), torch.from_numpy(persons)
    began, step = time.monotonic(), 0
    while (done := (time.monotonic() - began) / (60 * minutes)) < 1:
        for group in optimizer.param_groups:
            group["lr"] = 3e-3 * min(1, step / 200 + 0.02) * (0.02 + 0.98 * 0.5 * (1 + np.cos(np.pi * done)))
        chosen = torch.randint(len(x), (96,), generator=random)
        found = network(augment(x[chosen], random))
        loss = F.mse_loss(found, y[chosen]) * EMBEDDING_LENGTH
        # Distances between people matter more than absolute embeddings.
        near, wanted = (torch.cdist(z, z) for z in (found, y[chosen]))
        loss = loss + ((near - wanted) ** 2).mean()
        # Classify persons as well, because the teacher's embedding varies between pictures of one person.
        logits = 12 * F.normalize(found) @ F.normalize(people.weight).T
        loss = loss + 0.02 * F.cross_entropy(logits, who[chosen])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        step += 1
        if step % 200 == 0:
            print(f"step {step}: {loss.item():.4f}, {done:.0%}", flush=True)
    return network.eval()


def verification_figures(embed: Any, footage: list[Footage]) -> dict[str, float]:
    """How well embeddings separate people: distances, equal error rate, and recall at 0.1 % false alarms."""
    vectors: dict[str, list[Floats]] = {}
    for one in footage:
        good = one.has_face.nonzero()[0]
        step = max(1, len(good) // 20)
        vectors.setdefault(one.identity, []).extend(
            embed(one.picture(int(k)), one.landmarks[k]) for k in good[::step]
        )
    same, other = [], []
    names = sorted(vectors)
    for a, name in enumerate(names):
        own = np.stack(vectors[name])
        if len(own) > 1:
            same.append(np.linalg.norm(own[:, None] - own[None], axis=-1)[np.triu_indices(len(own), 1)])
        other += [np.linalg.norm(own[:, None] - np.stack(vectors[b])[None], axis=-1).ravel() for b in names[a + 1 :]]
    s, o = np.concatenate(same), np.concatenate(other)
    limits = np.linspace(0, 1.5, 301)
    missed, false = np.array([[(s > t).mean(), (o < t).mean()] for t in limits]).T
    k = int(np.argmin(np.abs(missed - false)))
    return {
        "same": float(s.mean()), "other": float(o.mean()), "equal error": float((missed[k] + false[k]) / 2),
        "at distance": float(limits[k]), "distance at 0.1 % false alarms": float(np.quantile(o, 0.001)),
        "recall there": float((s < np.quantile(o, 0.001)).mean()),
    }  # fmt: skip


def export(network: LikenessNetwork, path: Path) -> None:
    """Export to ONNX."""
    shape = torch.zeros(1, FACE_SIZE, FACE_SIZE, 3)
    torch.onnx.export(
        network, (shape,), str(path), input_names=["face"], output_names=["likeness"], dynamo=False,
        dynamic_axes={"face": {0: "n"}, "likeness": {0: "n"}},
    )  # fmt: skip


def main(given: list[str] | None = None) -> None:
    """Train, write, measure."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--packs", type=Path, required=True)
    parser.add_argument("--minutes", type=float, default=20)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--measure", action="store_true", help="only measure the shipped network")
    arguments = parser.parse_args(given)
    torch.set_num_threads(arguments.threads)
    path = Path(likeness.__file__).parent / "likeness.onnx"
    if not arguments.measure:
        footage = load_packs(arguments.packs, "train")
        faces, embeddings, persons = training_faces(footage, np.random.default_rng(5))
        print(f"{len(faces)} faces of {persons.max() + 1} people", flush=True)
        export(train_network(faces, embeddings, persons, arguments.minutes), path)
    clips, stills = (load_packs(arguments.packs, "dev", kind) for kind in ("clip", "still"))
    ours, teacher = likeness.Likeness(), Teacher()
    for name, embed in (("ours", ours.of), ("dlib", teacher)):
        print(
            name,
            {key: round(value, 4) for key, value in verification_figures(embed, clips + stills).items()},
            flush=True,
        )


if __name__ == "__main__":
    main()
