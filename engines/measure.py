"""Dev pairs where a warp is blind, and how much better than the warp a model paints them."""

from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from avatar_stream.face import geometry
from avatar_stream.portrait.aligned import mix
from engines.data.pairs import ClipWindows, Source, Window, load_clips
from engines.networks.live import LiveModel, decode, noised

PAIRS_PER_CLIP = 10


@dataclass(frozen=True, slots=True)
class Case:
    """One dev pair: ``kind`` is ``mouth`` (closed to open), ``lids`` (differ) or ``any``."""

    kind: str
    clip: str
    window: Window
    source: Source


def dev_cases(data: Path, tracks: Path, per_clip: int = PAIRS_PER_CLIP) -> list[Case]:
    """Fixed pairs of the dev people, the same for every run."""
    random = np.random.default_rng(7)
    cases = []
    for clip in load_clips(data, tracks, "dev"):
        windows = ClipWindows(clip)
        good = clip.good.nonzero()[0]
        closed = good[clip.mouth[good] < 0.025]
        opened = good[clip.mouth[good] > 0.06]
        turn = np.array([geometry.euler_degrees(geometry.head_pose(x).rotation)[1] for x in clip.landmarks])
        for kind, pairs in (
            ("mouth", [(i, j) for i in closed for j in opened]),
            ("lids", [(i, j) for i in good[::3] for j in good if clip.eyes[i] - clip.eyes[j] > 0.18]),
            ("any", [(i, j) for i in good[::7] for j in good[::5]]),
        ):
            pairs = [(i, j) for i, j in pairs if abs(turn[i] - turn[j]) < 25]
            for k in random.permutation(len(pairs))[:per_clip]:
                i, j = int(pairs[k][0]), int(pairs[k][1])
                cases.append(Case(kind, clip.name, windows.window(i, j, 1), windows.source(i, j)))
    return cases


def to_tensor(images: npt.NDArray[np.uint8]) -> Tensor:
    """``uint8 [..., h, w, 3]`` to ``[..., 3, h, w]`` in -1..1."""
    return torch.from_numpy(images).movedim(-1, -3).float() / 127.5 - 1


@torch.no_grad()
def paint(model: LiveModel, windows: list[Window], levels: tuple[float, ...] = (1.0, 0.5)) -> npt.NDArray[np.uint8]:
    """First frame of each window, denoised alone over ``levels``: RGB ``uint8 (b, 192, 192, 3)``.

    A quick look for training: without the compositor's mask and smoothing, which ``engines.evaluate`` includes.
    """
    shown = to_tensor(np.stack([w.shown[0] for w in windows]))
    code, sink, z_id = model.reference(to_tensor(np.stack([w.reference for w in windows])))
    rasters = torch.from_numpy(np.stack([w.raster[:-1] if len(w.shown) > 1 else w.raster for w in windows]))
    landmarks = model.landmarks.sequence(rasters.float() / 255, 1)[:, 0]
    conditioning = model.conditioning(shown, landmarks, code)[:, None]
    generator = torch.Generator().manual_seed(1)
    config = model.config
    noise = torch.randn(1, 1, config.latent, config.grid, config.grid, generator=generator)
    noise = noise.expand(len(windows), -1, -1, -1, -1)
    clean = torch.zeros_like(noise)
    for level in levels:
        at = torch.full((len(windows), 1), level)
        clean = model.denoiser(noised(clean, noise, level), conditioning, at, z_id, sink)
    gate = torch.from_numpy(np.stack([w.gate[0] for w in windows])).float()[:, None] / 255
    warp = to_tensor(np.stack([w.warp[0] for w in windows]))
    picture = (warp + torch.from_numpy(mix()) * (shown + gate * decode(clean[:, 0], config) - warp)).clamp(-1, 1)
    return ((picture + 1) * 127.5).round().byte().movedim(1, -1).numpy()


def regions(window: Window) -> dict[str, npt.NDArray[np.bool_]]:
    """Masks ``(192, 192)`` of the first target frame: mouth (lips and inside), hole, eyes, rest of the face."""
    raster = window.raster[len(window.raster) - len(window.shown)]

    def grown(channels: npt.NDArray[np.uint8], pixels: int) -> npt.NDArray[np.bool_]:
        mask = cv2.resize(channels, (192, 192), interpolation=cv2.INTER_LINEAR) > 100
        return cv2.dilate(mask.astype(np.uint8), np.ones((pixels, pixels), np.uint8)) > 0

    mouth = grown(raster[0] | raster[1], 5)
    lids = raster[2] | raster[4]
    lids[:28] = 0
    eyes = grown(lids, 7)
    oval = np.zeros((192, 192), bool)
    oval[20:188, 24:168] = True
    return {"mouth": mouth, "hole": grown(raster[0], 1), "eyes": eyes, "rest": oval & ~mouth & ~eyes}


def psnr(a: npt.NDArray[np.uint8], b: npt.NDArray[np.uint8], mask: npt.NDArray[np.bool_]) -> float:
    """Peak signal-to-noise ratio in dB over ``mask``."""
    error = (a[mask].astype(np.float64) - b[mask]) ** 2
    return float(10 * np.log10(255**2 / max(error.mean(), 1e-3)))


def compare(model: LiveModel, cases: list[Case]) -> tuple[dict[str, float], list[npt.NDArray[np.uint8]]]:
    """Mean PSNR gain over the warp per kind and region (dB), and the painted pictures."""
    model.eval()
    painted: list[npt.NDArray[np.uint8]] = []
    for k in range(0, len(cases), 16):
        painted += list(paint(model, [case.window for case in cases[k : k + 16]]))
    gains: dict[str, list[float]] = {}
    for case, picture in zip(cases, painted, strict=True):
        truth, warp = case.window.target[0], case.window.warp[0]
        for name, mask in regions(case.window).items():
            if mask.sum() >= 12:
                gain = psnr(picture, truth, mask) - psnr(warp, truth, mask)
                gains.setdefault(f"{case.kind}/{name}", []).append(gain)
    return {name: float(np.mean(values)) for name, values in gains.items()}, painted


def sheet(cases: list[Case], painted: list[npt.NDArray[np.uint8]], columns: int = 2) -> npt.NDArray[np.uint8]:
    """Contact sheet: portrait, warp, model, truth."""
    cells = [
        np.hstack([c.window.reference, c.window.warp[0], p, c.window.target[0]])
        for c, p in zip(cases, painted, strict=True)
    ]
    cells += [np.zeros_like(cells[0])] * (-len(cells) % columns)
    rows = [np.hstack(cells[k : k + columns]) for k in range(0, len(cells), columns)]
    return np.vstack(rows)
