"""Train the live student: ``python -m engines.train RUN --data ../shared/data --tracks runs/tracks.npz``.

Resumes from ``RUN/last.pt`` when it is there; stop it at any time. Writes ``log.csv``, ``sheet.png`` and checkpoints.
"""

import argparse
import copy
import csv
import itertools
import time
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.data import DataLoader, IterableDataset

from engines.data.pairs import CONTEXT, Window, training_windows
from engines.measure import compare, dev_cases, sheet, to_tensor
from engines.networks.live import LiveConfig, LiveModel, decode, encode, noised


@dataclass
class Batch:
    """Tensors of one step; pictures in -1..1."""

    reference: Tensor  # [B, 3, 192, 192]
    shown: Tensor  # [B, N, 3, 192, 192]
    target: Tensor  # [B, N, 3, 192, 192]
    raster: Tensor  # [B, CONTEXT + N, 7, 96, 96] in 0..1
    gate: Tensor  # [B, N, 1, 192, 192] in 0..1


class Windows(IterableDataset[Window]):
    """The endless stream of windows, made in the loader's process."""

    def __init__(self, arguments: argparse.Namespace) -> None:
        self.arguments = arguments

    def __iter__(self):  # type: ignore[no-untyped-def]
        worker = torch.utils.data.get_worker_info()
        seed = int(time.time()) + (worker.id if worker else 0)
        a = self.arguments
        return training_windows(a.data, a.tracks, a.window, seed, a.still_share)


class Pool:
    """Windows in memory, each drawn a few times before it is replaced: making one costs as much as a step."""

    def __init__(self, arguments: argparse.Namespace, seed: int) -> None:
        ahead = 16 if arguments.workers else None
        loader = DataLoader(Windows(arguments), batch_size=None, num_workers=arguments.workers, prefetch_factor=ahead)
        self._source = iter(loader)
        self._random = np.random.default_rng(seed)
        self._capacity = arguments.pool
        self._windows: list[Window] = []
        self._fresh = arguments.fresh

    def draw(self, size: int) -> Batch:
        """A recoloured, mirrored batch; takes in a few new windows each time."""
        fresh = max(self._fresh, size - len(self._windows))
        for window in itertools.islice(self._source, fresh):
            if len(self._windows) < self._capacity:
                self._windows.append(window)
            else:
                self._windows[int(self._random.integers(self._capacity))] = window
        chosen = [self._windows[int(k)] for k in self._random.integers(len(self._windows), size=size)]
        batch = Batch(
            to_tensor(np.stack([w.reference for w in chosen])),
            to_tensor(np.stack([w.shown for w in chosen])),
            to_tensor(np.stack([w.target for w in chosen])),
            torch.from_numpy(np.stack([w.raster for w in chosen])).float() / 255,
            torch.from_numpy(np.stack([w.gate for w in chosen])).float()[:, :, None] / 255,
        )
        return augment(batch)


def augment(batch: Batch) -> Batch:
    """Mirror, soften and recolour each sample, the same in all of its pictures.

    A soft, flat portrait must get soft, flat teeth: what a mouth looks like is to be read off the reference.
    """
    size = len(batch.reference)
    batch = soften(batch)
    flip = torch.rand(size) < 0.5
    gain = 1 + 0.16 * (2 * torch.rand(size, 3, 1, 1) - 1)
    offset = 0.06 * (2 * torch.rand(size, 3, 1, 1) - 1)
    curve = 0.25 * torch.randn(size, 1, 1, 1)
    contrast = 1.1 - 0.6 * torch.rand(size, 1, 1, 1) ** 2
    middle = batch.reference.mean((1, 2, 3), keepdim=True)

    def change(pictures: Tensor) -> Tensor:
        extra = pictures.dim() - 4
        shape = (size,) + (1,) * extra
        values = (gain, offset, curve, contrast, middle)
        g, o, c, k, m = (x.reshape(*shape, *x.shape[1:]) for x in values)
        pictures = m + k * (pictures - m)
        # A bend of the tone curve that keeps black and white, in place of a power: much cheaper.
        out = ((pictures + c * (1 - pictures * pictures) * 0.5) * g + o).clamp(-1, 1)
        return torch.where(flip.reshape(*shape, 1, 1, 1), out.flip(-1), out)

    raster = torch.where(flip.reshape(-1, 1, 1, 1, 1), batch.raster.flip(-1), batch.raster)
    gate = torch.where(flip.reshape(-1, 1, 1, 1, 1), batch.gate.flip(-1), batch.gate)
    return Batch(change(batch.reference), change(batch.shown), change(batch.target), raster, gate)


def soften(batch: Batch) -> Batch:
    """Half of the samples lose detail, as enlarged or badly focused pictures have."""
    pictures = (batch.reference.clone(), batch.shown.clone(), batch.target.clone())
    hole = F.interpolate(batch.raster[:, CONTEXT:, 0], scale_factor=2)[:, :, None] > 0.5
    for k in (torch.rand(len(batch.reference)) < 0.5).nonzero()[:, 0].tolist():
        scale = 1 / float(torch.empty(()).uniform_(1.3, 5.0))
        for picture in pictures:
            sample = picture[k].reshape(-1, *picture.shape[-3:])
            low = F.interpolate(sample, scale_factor=scale, mode="bilinear", antialias=True)
            picture[k] = F.interpolate(low, sample.shape[-2:], mode="bilinear").reshape(picture[k].shape)
    # The dark of an unknown mouth is drawn on the soft picture: it stays sharp.
    shown = torch.where(hole, batch.shown, pictures[1])
    return Batch(pictures[0], shown, pictures[2], batch.raster, batch.gate)


def pixel_weights(raster: Tensor) -> Tensor:
    """Where a warp is blind weighs most: ``[B*N, 7, 96, 96]`` -> ``[B*N, 1, 192, 192]``."""
    hole, lips, eyes, iris, unknown = (raster[:, k : k + 1] for k in (0, 1, 2, 3, 6))
    ground = torch.full((1, 1, 96, 96), 0.35)
    ground[..., 8:94, 10:86] = 0.8
    weight = ground + 4.0 * hole + 1.5 * lips + 2.5 * eyes + 1.0 * iris + 1.0 * unknown
    return F.interpolate(F.avg_pool2d(weight, 3, 1, 1), scale_factor=2, mode="bilinear")


def reconstruction_loss(picture: Tensor, target: Tensor, weight: Tensor) -> Tensor:
    """Weighted Charbonnier on pixels and, for edges, on their differences; inputs ``[B, 3, h, w]`` in -1..1.

    The pixel term is quadratic up to about 80 grey levels: from pure noise the mean is the best first guess.
    """

    def charbonnier(error: Tensor, width: float) -> Tensor:
        return (error * error + width * width).sqrt() - width

    error = picture - target
    across = error[..., 1:] - error[..., :-1]
    down = error[..., 1:, :] - error[..., :-1, :]
    return (
        (charbonnier(error, 0.6) * weight).mean()
        + 0.04 * (charbonnier(across, 0.06) * weight[..., 1:]).mean()
        + 0.04 * (charbonnier(down, 0.06) * weight[..., 1:, :]).mean()
    ) / 0.05


def draw_levels(batch: int, window: int) -> Tensor:
    """Noise levels ``[B, N]``: mostly the staggered pattern that runs, sometimes any."""
    staggered = (torch.arange(window) + 1) / window
    levels = staggered.expand(batch, -1).clone()
    if window == 1:
        return torch.where(torch.rand(batch, 1) < 0.85, 1.0, torch.rand(batch, 1))
    other = torch.rand(batch, 1) < 0.1
    return torch.where(other, torch.rand(batch, window).sort(1).values, levels)


def loss_of(model: LiveModel, batch: Batch, self_rolled: float) -> Tensor:
    """One step's loss.

    With probability ``self_rolled`` the levels below 1 start, as they do when the window rolls, from the model's own
    guess at level 1 and not from the truth: else the second step trusts what it sees and only sharpens errors.
    """
    config = model.config
    size, window = batch.shown.shape[:2]
    code, sink, z_id = model.reference(batch.reference)
    landmarks = model.landmarks.sequence(batch.raster, window)
    conditioning = torch.stack(
        [model.conditioning(batch.shown[:, k], landmarks[:, k], code) for k in range(window)], 1
    )
    start = encode((batch.target - batch.shown).flatten(0, 1), config).unflatten(0, (size, window))
    start = start * config.residual_scale
    noise, levels = torch.randn_like(start), draw_levels(size, window)
    if torch.rand(()) < self_rolled:
        if window == 1:
            levels = torch.full_like(levels, 0.5)
        with torch.no_grad():
            start = model.denoiser(noise, conditioning, torch.ones_like(levels), z_id, sink)
    noisy = noised(start, noise, levels[:, :, None, None, None])
    guess = model.denoiser(noisy, conditioning, levels, z_id, sink)
    picture = batch.shown.flatten(0, 1) + batch.gate.flatten(0, 1) * decode(guess.flatten(0, 1), config)
    weight = pixel_weights(batch.raster[:, CONTEXT:].flatten(0, 1))
    return reconstruction_loss(picture, batch.target.flatten(0, 1), weight)


def main(given: list[str] | None = None) -> None:
    """Train until stopped, or for ``--minutes``."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run", type=Path)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--tracks", type=Path, required=True)
    parser.add_argument("--window", type=int, default=1)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--rate", type=float, default=4e-4)
    parser.add_argument("--minutes", type=float, default=1e9)
    parser.add_argument("--decay", action="store_true", help="let the learning rate fall to zero over --minutes")
    parser.add_argument("--self-rolled", type=float, default=0.3)
    parser.add_argument("--still-share", type=float, default=0.25)
    parser.add_argument("--pool", type=int, default=3000)
    parser.add_argument("--fresh", type=int, default=4, help="new windows a step")
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--check-every", type=int, default=500, help="steps between evaluations")
    arguments = parser.parse_args(given)
    torch.set_num_threads(arguments.threads)
    arguments.run.mkdir(parents=True, exist_ok=True)

    model = LiveModel(LiveConfig())
    optimizer = torch.optim.AdamW(model.parameters(), arguments.rate, betas=(0.9, 0.98), weight_decay=0.01)
    average = copy.deepcopy(model).requires_grad_(False)
    step, samples = 0, 0
    last = arguments.run / "last.pt"
    if last.exists():
        saved = torch.load(last, weights_only=True)
        model.load_state_dict(saved["model"])
        average.load_state_dict(saved["average"])
        optimizer.load_state_dict(saved["optimizer"])
        step, samples = saved["step"], saved["samples"]
        print(f"resumed at step {step}, {samples} samples", flush=True)
    model = model.to(memory_format=torch.channels_last)
    pool, cases = Pool(arguments, seed=step), dev_cases(arguments.data, arguments.tracks)
    losses: list[float] = []
    began = checked = time.monotonic()
    first = step
    while True:
        elapsed = (time.monotonic() - began) / 60
        rate = arguments.rate * min(1.0, (step + 1) / 200, (step - first + 1) / 20)
        if arguments.decay:
            rate *= max(0.02, 1 - elapsed / arguments.minutes)
        for group in optimizer.param_groups:
            group["lr"] = rate
        loss = loss_of(model, pool.draw(arguments.batch), arguments.self_rolled)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        step, samples = step + 1, samples + arguments.batch
        keep = min(0.999, 1 - 1 / (0.1 * step + 1))
        with torch.no_grad():
            torch._foreach_lerp_(list(average.parameters()), list(model.parameters()), 1 - keep)
        losses.append(float(loss.detach()))
        over = elapsed > arguments.minutes
        if step % arguments.check_every == 0 or over:
            gains, painted = compare(average, cases)
            pace = len(losses) * arguments.batch / (time.monotonic() - checked)
            report(arguments.run, step, samples, float(np.mean(losses)), pace, gains)
            shown = ([k for k in range(len(cases)) if cases[k].kind != "any"] or list(range(len(cases))))[::6]
            picture = sheet([cases[k] for k in shown], [painted[k] for k in shown])
            cv2.imwrite(str(arguments.run / "sheet.png"), cv2.cvtColor(picture, cv2.COLOR_RGB2BGR))
            state = {"model": model.state_dict(), "average": average.state_dict()}
            state |= {"optimizer": optimizer.state_dict(), "step": step, "samples": samples}
            torch.save(state, arguments.run / "new.pt")
            (arguments.run / "new.pt").rename(last)
            losses, checked = [], time.monotonic()
        if over:
            return


def report(run: Path, step: int, samples: int, loss: float, pace: float, gains: dict[str, float]) -> None:
    """One line on the screen and in ``log.csv``."""
    row = {"step": step, "samples": samples, "loss": round(loss, 5), "samples_per_s": round(pace, 1)}
    row |= {name: round(value, 3) for name, value in sorted(gains.items())}
    new = not (run / "log.csv").exists()
    with open(run / "log.csv", "a", newline="") as stream:
        writer = csv.DictWriter(stream, row)
        if new:
            writer.writeheader()
        writer.writerow(row)
    print(" ".join(f"{k}={v}" for k, v in row.items()), flush=True)


if __name__ == "__main__":
    main()
