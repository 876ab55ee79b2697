"""Batches of windows: sampled from a pool in memory, mirrored, blurred and recoloured."""

import itertools
from collections.abc import Iterator
from dataclasses import dataclass, fields
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.data import DataLoader, IterableDataset, get_worker_info

from engines.data.made import MadeWindows, Motions
from engines.data.packs import load_packs
from engines.data.pairs import ClipWindows, StillWindows, Window
from engines.data.portrayals import portrayal_groups


@dataclass(frozen=True)
class Mix:
    """Where windows come from: frames per window, the shares of made targets and of stills; the rest are clips."""

    packs: Path
    frames: int = 1
    made: float = 0.4
    stills: float = 0.15
    seed: int = 0
    without: str | None = None  # a fold ``K/N`` of people to leave out
    faces: Path | None = None  # packs of made faces and of pairs of the same person
    faces_share: float = 0.25  # share of all windows that come from ``faces``


@dataclass
class Batch:
    """Tensors of one step; pictures in -1..1, at the tier's size."""

    reference: Tensor  # [B, 3, s, s]
    shown: Tensor  # [B, N, 3, s, s]
    target: Tensor  # [B, N, 3, s, s]
    raster: Tensor  # [B, CONTEXT_FRAMES + N, 7, s/2, s/2] in 0..1
    gate: Tensor  # [B, N, 1, s, s] in 0..1
    person: Tensor  # [B] int64

    def to(self, device: torch.device) -> "Batch":
        """A copy on another device."""
        return Batch(*(getattr(self, f.name).to(device, non_blocking=True) for f in fields(self)))

    def resized(self, size: int) -> "Batch":
        """A copy for a tier of another size: enough to test that tier's networks, not to release them."""
        if self.reference.shape[-1] == size:
            return self

        def scaled(x: Tensor, side: int) -> Tensor:
            flat = F.interpolate(x.reshape(-1, *x.shape[-3:]), (side, side), mode="bilinear")
            return flat.reshape(*x.shape[:-2], side, side)

        reference, shown, target = (scaled(x, size) for x in (self.reference, self.shown, self.target))
        return Batch(reference, shown, target, scaled(self.raster, size // 2), scaled(self.gate, size), self.person)


class Windows(IterableDataset[Window]):
    """An endless stream of windows of the training people, made in the loader's process."""

    def __init__(self, mix: Mix) -> None:
        self.mix = mix

    def __iter__(self) -> Iterator[Window]:
        worker = get_worker_info()
        cv2.setNumThreads(1)
        mix = self.mix
        random = np.random.default_rng([mix.seed, worker.id if worker else 0])
        footage = load_packs(mix.packs, "train", without=mix.without)
        people = {name: k for k, name in enumerate(sorted({f.identity for f in footage}))}
        clips = [ClipWindows(f, people[f.identity]) for f in footage if f.kind == "clip"]
        stills = [StillWindows(f, people[f.identity]) for f in footage if f.kind == "still"]
        motions = Motions(footage) if clips and stills else None
        made = [MadeWindows(s.still, motions, s.person) for s in stills] if motions else []
        share_made, share_stills = (mix.made if made else 0, mix.stills if stills else 0)
        if not clips:
            share_stills = 1 - share_made
        faces = portrayal_groups(mix.faces, len(people)) if mix.faces else []
        while True:
            if faces and random.random() < mix.faces_share:
                group = faces[int(random.integers(len(faces)))]
                yield group[int(random.integers(len(group)))].draw(mix.frames, random)
                continue
            kind = random.random()
            sources = made if kind < share_made else stills if kind < share_made + share_stills else clips
            yield sources[int(random.integers(len(sources)))].draw(mix.frames, random)


def count_people(packs: Path) -> int:
    """The number of people in the training packs."""
    return len({footage.identity for footage in load_packs(packs, "train")})


class Pool:
    """Windows in memory, each used a few times before it is replaced: making one costs as much as a training step."""

    def __init__(self, mix: Mix, *, capacity: int, fresh: int, workers: int) -> None:
        loader = DataLoader(
            Windows(mix), batch_size=None, num_workers=workers, prefetch_factor=16 if workers else None
        )
        self._source = iter(loader)
        self._random = np.random.default_rng(mix.seed)
        self._capacity, self._fresh = capacity, fresh
        self._windows: list[Window] = []

    def draw(self, size: int) -> Batch:
        """A batch of ``size`` windows, not augmented (see :func:`augment`); adds a few new windows to the pool."""
        fresh = max(self._fresh, 4 * size - len(self._windows))
        for window in itertools.islice(self._source, fresh):
            if len(self._windows) < self._capacity:
                self._windows.append(window)
            else:
                self._windows[int(self._random.integers(self._capacity))] = window
        chosen = [self._windows[int(k)] for k in self._random.integers(len(self._windows), size=size)]
        return collate(chosen)


def collate(windows: list[Window]) -> Batch:
    """Stack windows into the tensors of a batch."""
    return Batch(
        to_tensor(np.stack([w.reference for w in windows])),
        to_tensor(np.stack([w.shown for w in windows])),
        to_tensor(np.stack([w.target for w in windows])),
        torch.from_numpy(np.stack([w.raster for w in windows])).float() / 255,
        torch.from_numpy(np.stack([w.gate for w in windows])).float()[:, :, None] / 255,
        torch.tensor([w.person for w in windows]),
    )


def to_tensor(images: npt.NDArray[np.uint8]) -> Tensor:
    """Convert ``uint8 [..., h, w, 3]`` to ``[..., 3, h, w]`` in -1..1."""
    return torch.from_numpy(images).movedim(-1, -3).float() / 127.5 - 1


def augment(batch: Batch) -> Batch:
    """Mirror, blur and recolour each sample, all its pictures alike.

    A blurred, flat portrait must get blurred, flat teeth: the network must take a mouth's look from the reference.
    """
    size, device = len(batch.reference), batch.reference.device
    batch = soften(batch)

    def uniform(*shape: int) -> Tensor:
        return torch.rand(size, *shape, device=device)

    flip = uniform() < 0.5
    gain = 1 + 0.16 * (2 * uniform(3, 1, 1) - 1)
    offset = 0.06 * (2 * uniform(3, 1, 1) - 1)
    curve = 0.25 * torch.randn(size, 1, 1, 1, device=device)
    contrast = 1.1 - 0.6 * uniform(1, 1, 1) ** 2
    middle = batch.reference.mean((1, 2, 3), keepdim=True)

    def change(pictures: Tensor) -> Tensor:
        extra = pictures.dim() - 4
        shape = (size,) + (1,) * extra
        values = (gain, offset, curve, contrast, middle)
        g, o, c, k, m = (x.reshape(*shape, *x.shape[1:]) for x in values)
        pictures = m + k * (pictures - m)
        # A parabola bends the tone curve and keeps black and white; it is much cheaper than a power.
        out = ((pictures + c * (1 - pictures * pictures) * 0.5) * g + o).clamp(-1, 1)
        return torch.where(flip.reshape(*shape, 1, 1, 1), out.flip(-1), out)

    raster = torch.where(flip.reshape(-1, 1, 1, 1, 1), batch.raster.flip(-1), batch.raster)
    gate = torch.where(flip.reshape(-1, 1, 1, 1, 1), batch.gate.flip(-1), batch.gate)
    return Batch(change(batch.reference), change(batch.shown), change(batch.target), raster, gate, batch.person)


def soften(batch: Batch) -> Batch:
    """Blur half of the samples, as enlarged or badly focused pictures are."""
    pictures = (batch.reference.clone(), batch.shown.clone(), batch.target.clone())
    for k in (torch.rand(len(batch.reference)) < 0.5).nonzero()[:, 0].tolist():
        scale = 1 / float(torch.empty(()).uniform_(1.3, 5.0))
        for picture in pictures:
            sample = picture[k].reshape(-1, *picture.shape[-3:])
            low = F.interpolate(sample, scale_factor=scale, mode="bilinear", antialias=True)
            picture[k] = F.interpolate(low, sample.shape[-2:], mode="bilinear").reshape(picture[k].shape)
    return Batch(pictures[0], pictures[1], pictures[2], batch.raster, batch.gate, batch.person)
