"""Dev pairs in which a warp lacks information, and a model's gain over the warp on them."""

from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F

from avatar_stream.portrait.aligned import rest_face
from engines.data.batches import collate, to_tensor
from engines.data.packs import load_packs
from engines.data.pairs import CONTEXT_FRAMES, ClipWindows, RendererInput, Window
from engines.judges import psnr
from engines.networks.model import Model, add_noise
from engines.stages import decode_pictures, encode_window

PAIRS_PER_CLIP = 10


@dataclass(frozen=True, slots=True)
class Case:
    """One dev pair: ``kind`` is ``mouth`` (closed to open), ``lids`` (differ) or ``any``."""

    kind: str
    clip: str
    window: Window
    renderer_input: RendererInput


def dev_cases(packs: Path, per_clip: int = PAIRS_PER_CLIP) -> list[Case]:
    """Pairs of the dev people, the same in every run; at most ``per_clip`` of each kind from a clip."""
    random = np.random.default_rng(7)
    cases = []
    for clip in load_packs(packs, "dev", "clip"):
        windows = ClipWindows(clip)
        good = clip.has_face.nonzero()[0]
        closed = good[clip.mouth[good] < 0.025]
        opened = good[clip.mouth[good] > 0.06]
        turn = clip.yaw
        for kind, pairs in (
            ("mouth", [(i, j) for i in closed for j in opened]),
            ("lids", [(i, j) for i in good[::3] for j in good if clip.eyes[i] - clip.eyes[j] > 0.18]),
            ("any", [(i, j) for i in good[::7] for j in good[::5]]),
        ):
            pairs = [(i, j) for i, j in pairs if abs(turn[i] - turn[j]) < 25]
            for k in random.permutation(len(pairs))[:per_clip]:
                i, j = int(pairs[k][0]), int(pairs[k][1])
                cases.append(Case(kind, clip.name, windows.window(i, j, 1), windows.renderer_input(i, j)))
    return cases


@torch.no_grad()
def render_windows(
    model: Model, windows: list[Window], *, steps: int | None = None, with_identity: bool = True
) -> npt.NDArray[np.uint8]:
    """First frame of each window, denoised alone: RGB ``uint8 (b, 192, 192, 3)``.

    A quick check during training, without the compositor's mask and smoothing; ``engines.evaluate`` includes these.
    """
    steps = steps or model.tier.steps
    device = model.place.device
    batch = collate([first_frame(window) for window in windows]).resized(model.tier.size).to(device)
    encoded = encode_window(model, batch, with_identity=with_identity)
    _, sink, z_id = encoded.reference
    generator = torch.Generator().manual_seed(1)
    noise = torch.randn(encoded.residual[:1].shape, generator=generator).to(device).expand_as(encoded.residual)
    clean = torch.zeros_like(noise)
    for step in range(steps):
        level = noise.new_full(noise.shape[:2], 1 - step / steps)
        noisy = add_noise(clean, noise, level[:, :, None, None, None])
        clean = model.denoiser(noisy, encoded.conditioning, level, z_id, sink).float()
    picture = decode_pictures(model, batch, clean).float().clamp(-1, 1)
    if picture.shape[-1] != windows[0].shown.shape[-2]:
        picture = F.interpolate(picture, windows[0].shown.shape[1:3], mode="area")
    return ((picture + 1) * 127.5).round().byte().movedim(1, -1).cpu().numpy()


def first_frame(window: Window) -> Window:
    """The window cut down to its first frame."""
    shown, warp, target = (x[:1] for x in (window.shown, window.warp, window.target))
    return Window(
        window.reference, shown, warp, target, window.raster[: CONTEXT_FRAMES + 1], window.gate[:1], window.person
    )


@torch.no_grad()
def recognition_figures(model: Model, packs: Path) -> dict[str, float]:
    """How well ``z_id`` separates dev people: area under the ROC curve, mean similarity of same and different people.

    Same: frames of one clip, spread over it. Different: pairs of people, stills included.
    """
    faces, people = [], []
    for footage in load_packs(packs, "dev"):
        good = footage.has_face.nonzero()[0]
        for k in good[np.linspace(0, len(good) - 1, 8).astype(int)] if len(footage) > 1 else good:
            faces.append(rest_face(footage.picture(int(k)), footage.landmarks[k]).image)
            people.append(footage.identity)
    device = model.place.device
    batch = to_tensor(np.stack(faces)).to(device)
    if batch.shape[-1] != model.tier.size:
        batch = F.interpolate(batch, (model.tier.size,) * 2, mode="bilinear")
    z_id = torch.cat([model.identity(part) for part in batch.split(32)]).float().cpu().numpy()
    likeness = z_id @ z_id.T
    names = np.array(people)
    upper = np.triu(np.ones_like(likeness, bool), 1)
    same = likeness[upper & (names[:, None] == names[None])]
    other = likeness[upper & (names[:, None] != names[None])]
    area = float(np.mean(np.searchsorted(np.sort(other), same) / len(other))) if len(same) and len(other) else 0.0
    return {
        "dev/auc": round(area, 4),
        "dev/same": round(float(same.mean()), 3),
        "dev/other": round(float(other.mean()), 3),
    }


def face_regions(window: Window) -> dict[str, npt.NDArray[np.bool_]]:
    """Masks ``(192, 192)`` of the first target frame: mouth (lips and hole), hole, eyes, rest of the face."""
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


def gains_over_warp(
    model: Model, cases: list[Case], *, with_identity: bool = True
) -> tuple[dict[str, float], list[npt.NDArray[np.uint8]]]:
    """Mean PSNR gain over the warp in dB per kind and region, and the rendered pictures."""
    model.eval()
    pictures: list[npt.NDArray[np.uint8]] = []
    for k in range(0, len(cases), 16):
        windows = [case.window for case in cases[k : k + 16]]
        pictures += list(render_windows(model, windows, with_identity=with_identity))
    gains: dict[str, list[float]] = {}
    for case, picture in zip(cases, pictures, strict=True):
        truth, warp = case.window.target[0], case.window.warp[0]
        for name, mask in face_regions(case.window).items():
            if mask.sum() >= 12:
                gain = psnr(picture, truth, mask) - psnr(warp, truth, mask)
                gains.setdefault(f"{case.kind}/{name}", []).append(gain)
    return {name: float(np.mean(values)) for name, values in gains.items()}, pictures


def contact_sheet(
    cases: list[Case], pictures: list[npt.NDArray[np.uint8]], columns: int = 2
) -> npt.NDArray[np.uint8]:
    """Contact sheet with a cell per case: portrait, warp, model, truth."""
    cells = [
        np.hstack([c.window.reference, c.window.warp[0], p, c.window.target[0]])
        for c, p in zip(cases, pictures, strict=True)
    ]
    cells += [np.zeros_like(cells[0])] * (-len(cells) % columns)
    rows = [np.hstack(cells[k : k + columns]) for k in range(0, len(cells), columns)]
    return np.vstack(rows)
