"""Runs a window over frames, and compares the results of two engines, to judge whether an engine is accurate."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from avatar_stream.runtime.network import WINDOW_SLOTS, Arrays, Job, Network, Ticker

MIN_PSNR: Final = 55.0
"""Minimum PSNR of the residual relative to the whole grey scale, in dB, for an engine to be used. fp16 and bf16 are
well above (bf16: 75 here). int8 (47) is judged by picture quality (``engines.evaluate``); it must
only not diverge."""
MIN_PSNR_INT8: Final = 40.0
IDENTICAL_PSNR: Final = 99.0
"""dB, stands for no difference at all."""


def min_psnr(precision: str) -> float:
    """Minimum PSNR of a precision to fp32, in dB."""
    return MIN_PSNR_INT8 if precision.endswith("int8") else MIN_PSNR


def is_accurate(precision: str, decibels: float) -> bool:
    """Whether a PSNR in dB is enough for this precision. NaN never is."""
    return decibels >= min_psnr(precision)


@dataclass(frozen=True, slots=True)
class Rollout:
    """Residuals, stored as fp16 (at most a twentieth of a grey level off), and the final state."""

    residuals: list[npt.NDArray[np.float16]]
    state: Arrays


def roll_out(
    ticker: Ticker, identity: Arrays, frames: list[Arrays], progress: Callable[[int, int], None] | None = None
) -> Rollout:
    """Run a window over ``frames``; ``progress(done, total)`` is called after each."""
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
    """PSNR of these mean squared errors relative to the whole grey scale, in dB; 0 if one is not finite."""
    mean = float(np.mean(squares))
    if not math.isfinite(mean):
        return 0.0
    return round(10 * math.log10(255**2 / mean), 2) if mean > 0 else IDENTICAL_PSNR


def identity_inputs(network: Network, face: Arrays, slots: int = WINDOW_SLOTS[0]) -> Arrays:
    """Run the reference network on a face; returns the identity inputs of a ticker with ``slots`` slots."""
    outputs = {name: value for name, value in network.run(face).items() if name != "z_id"}
    return outputs | {"modulation": outputs["modulation"][:, -slots:]}


def probe_frames(count: int) -> list[Arrays]:
    """Synthetic frames in place of a face's: smooth moving colours, and lines.

    They expose an inaccurate engine more clearly than a face does: int8 with saturated sums has 34 dB to fp32 over
    them and 40 over a face; int8 without has 45 and 47.
    """
    random = np.random.default_rng(0)
    waves = random.uniform(-0.12, 0.12, (6, 3, 2))  # radians per pixel
    lines = random.uniform((20, 20, 6), (76, 76, 30), (7, 3, 3))  # x, y and radius of three circles per channel
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
