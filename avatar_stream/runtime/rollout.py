"""A window rolled over frames on an engine, and how far it is from another engine's: what an engine is judged by."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from avatar_stream.runtime.network import WINDOW_SLOTS, Arrays, Job, Network, Ticker

MIN_PSNR: Final = 55.0
"""dB of the painted residual over the whole grey scale, below which an engine is not used. fp16 and bf16 lie well
above (bf16: 75 here); int8 (47) is judged by the picture (``engines.evaluate``) and must only not run away."""
MIN_PSNR_INT8: Final = 40.0
IDENTICAL_PSNR: Final = 99.0
"""dB that stand for no difference at all."""


def min_psnr(precision: str) -> float:
    """How many dB from fp32 this precision must be, at least."""
    return MIN_PSNR_INT8 if precision.endswith("int8") else MIN_PSNR


def is_accurate(precision: str, decibels: float) -> bool:
    """So many dB are enough for this precision. NaN never is."""
    return decibels >= min_psnr(precision)


@dataclass(frozen=True, slots=True)
class Rollout:
    """Residuals, kept as fp16 (a twentieth of a grey level at worst), and the state at the end."""

    residuals: list[npt.NDArray[np.float16]]
    state: Arrays


def roll_out(
    ticker: Ticker, identity: Arrays, frames: list[Arrays], progress: Callable[[int, int], None] | None = None
) -> Rollout:
    """Roll a window over ``frames``; ``progress`` hears how many are done, of how many."""
    stream = ticker.open(identity)
    residuals = []
    for k, frame in enumerate(frames):
        residuals.append(ticker.run([Job(stream, frame)])[0].astype(np.float16))
        if progress is not None:
            progress(k + 1, len(frames))
    return Rollout(residuals, stream.state())


def squared_errors(found: Rollout, wanted: Rollout) -> list[float]:
    """The mean squared difference of each tick's residuals, in grey levels squared."""
    pairs = zip(found.residuals, wanted.residuals, strict=True)
    return [float(((a.astype(np.float32) - b.astype(np.float32)) ** 2).mean()) for a, b in pairs]


def psnr(squares: list[float]) -> float:
    """dB of these mean squared errors over the whole grey scale; 0 where one is not finite."""
    mean = float(np.mean(squares))
    if not math.isfinite(mean):
        return 0.0
    return round(10 * math.log10(255**2 / mean), 2) if mean > 0 else IDENTICAL_PSNR


def identity_inputs(network: Network, face: Arrays, slots: int = WINDOW_SLOTS[0]) -> Arrays:
    """What the reference network says of a face, as a ticker of so many slots wants it."""
    said = {name: value for name, value in network.run(face).items() if name != "z_id"}
    return said | {"modulation": said["modulation"][:, -slots:]}


def probe_frames(count: int) -> list[Arrays]:
    """Frames that stand for a face's where there is none: smooth colours that move, and lines.

    They tell a wrong engine from a right one more clearly than a face does: int8 whose sums saturate is 34 dB from
    fp32 over them and 40 over a face, int8 whose sums do not 45 and 47.
    """
    random = np.random.default_rng(0)
    waves = random.uniform(-0.12, 0.12, (6, 3, 2))  # radians a pixel
    lines = random.uniform((20, 20, 6), (76, 76, 30), (7, 3, 3))  # x, y and radius of three circles a channel
    noise = random.normal(0, 6, (192, 192, 3))
    y, x = np.mgrid[:192, :192].astype(np.float32)
    rows, columns = np.mgrid[:96, :96].astype(np.float32)
    raster = np.zeros((7, 96, 96), np.uint8)
    for channel, circles in zip(raster, lines, strict=True):
        for left, top, radius in circles:
            channel[np.abs(np.hypot(columns - left, rows - top) - radius) < 0.8] = 255
    frames = []
    for k in range(count):
        colours = sum(
            np.sin(x[..., None] * wave[:, 0] + y[..., None] * wave[:, 1] + 0.2 * k + number)
            for number, wave in enumerate(waves)
        )
        frames.append({"shown": np.clip(128 + 30 * colours + noise, 0, 255).astype(np.uint8), "raster": raster})
    return frames
