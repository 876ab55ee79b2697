"""Does an engine compute what it should? Against onnxruntime on the CPU, over a rolled-out window, state included."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np

from avatar_stream.errors import EngineUnavailable
from avatar_stream.identity.library import SAMPLES, sample_pictures
from avatar_stream.media.files import Clip
from avatar_stream.portrait.aligned import aligned_input, rest_face
from avatar_stream.portrait.avatar import Avatar
from avatar_stream.portrait.interior import Interior
from avatar_stream.portrait.lip_edges import lips_meeting
from avatar_stream.portrait.portrait import prepare, read_picture
from avatar_stream.portrait.warp import PortraitWarp
from avatar_stream.portrait.window import WEIGHTS
from avatar_stream.runtime.choose import available, load
from avatar_stream.runtime.network import WINDOWS, Arrays, Job, Network, Ticker, tick_path
from avatar_stream.runtime.openvino_cpu import openvino_precision

TICKS = 500
LEAST_PSNR = 55.0
"""dB of the painted residual over the whole grey scale, below which an engine is not used. fp16 and bf16 lie well
above (bf16: 75 here); int8 (52) is judged by the picture (``engines.evaluate``) and must only not run away."""
LEAST_PSNR_INT8 = 40.0


@dataclass(frozen=True, slots=True)
class Parity:
    """How far an engine is from the reference over ``ticks`` ticks."""

    engine: str
    ticks: int
    psnr: float  # dB, over all residuals
    psnr_last: float  # dB, over the last tenth: an error that grows shows here
    largest: float  # grey levels, of any pixel
    state: float  # largest difference of the state at the end, as a share of its size

    @property
    def passed(self) -> bool:
        """It may be used."""
        least = LEAST_PSNR_INT8 if self.engine.endswith("int8") else LEAST_PSNR
        return min(self.psnr, self.psnr_last) >= least and math.isfinite(self.state)


def recorded_ticks(count: int = TICKS) -> tuple[Arrays, list[Arrays]]:
    """The reference input of a sample portrait, and the frames of ``count`` ticks of it under the sample driver."""
    portrait = prepare(read_picture(next(iter(sample_pictures().values()))), 256, square=True)
    clip = Clip(SAMPLES / "driver.mp4")
    pictures = [picture for _, picture in islice(clip.frames(), count)]
    clip.close()
    avatar = Avatar(portrait, None)
    rest = rest_face(portrait.crop, portrait.landmarks)
    meeting = lips_meeting(portrait.crop, portrait.landmarks)
    warp = PortraitWarp(portrait.crop, portrait.plate, portrait.matte, portrait.landmarks, meeting=meeting)
    interior = Interior(portrait.crop, portrait.landmarks)
    lap = []
    for k, picture in enumerate(pictures):
        moved = avatar.follow(picture, k / 25)
        target = moved.target
        warped = warp(target)
        interior.draw(warped.image, target, moved.view)
        seen = aligned_input(warped, target, rest)
        lap.append({"shown": seen.shown, "raster": seen.raster})
    avatar.close()
    there_and_back = lap + lap[::-1]
    return {"reference": rest.image[None]}, [there_and_back[k % len(there_and_back)] for k in range(count)]


def roll(
    ticker: Ticker, identity: Arrays, frames: list[Arrays], progress: Callable[[int, int], None] | None = None
) -> "Rolled":
    """Roll a window over ``frames``; ``progress`` hears how many are done, of how many."""
    stream = ticker.open(identity)
    residuals = []
    for k, frame in enumerate(frames):
        residuals.append(ticker.run([Job(stream, frame)])[0].astype(np.float16))
        if progress is not None:
            progress(k + 1, len(frames))
    return Rolled(residuals, stream.state())


@dataclass(frozen=True, slots=True)
class Rolled:
    """Residuals, kept as fp16 (a twentieth of a grey level at worst), and the state at the end."""

    residuals: list[np.ndarray[tuple[int, ...], np.dtype[np.float16]]]
    state: Arrays


def compare(name: str, found: Rolled, wanted: Rolled) -> Parity:
    """The distance of two roll-outs over the same ticks."""
    errors, largest = [], 0.0
    for a, b in zip(found.residuals, wanted.residuals, strict=True):
        error = np.abs(a.astype(np.float32) - b.astype(np.float32))
        errors.append(float((error**2).mean()))
        largest = max(largest, float(error.max()))
    state = max(
        float(np.abs(found.state[key].astype(np.float32) - value).max() / max(float(np.abs(value).max()), 1e-6))
        for key, value in ((key, value.astype(np.float32)) for key, value in wanted.state.items())
        if value.size
    )
    last = errors[-max(1, len(errors) // 10) :]
    return Parity(name, len(errors), _psnr(errors), _psnr(last), round(largest, 2), round(state, 4))


def identity_of(network: Network, face: Arrays, slots: int = WINDOWS[0]) -> Arrays:
    """What the reference network says of a face, as a ticker of so many slots wants it."""
    said = {name: value for name, value in network.run(face).items() if name != "z_id"}
    return said | {"modulation": said["modulation"][:, -slots:]}


def _psnr(squares: list[float]) -> float:
    mean = float(np.mean(squares))
    return round(10 * math.log10(255**2 / mean), 2) if mean > 0 else 99.0


def engines_here(weights: Path = WEIGHTS) -> list[tuple[str, str | None]]:
    """Runtime and precision of every engine that may be able to run here, the reference not among them."""
    found: list[tuple[str, str | None]] = []
    for runtime in available():
        if runtime == "openvino":
            found += [(runtime, "bf16")] if openvino_precision() == "bf16" else []
            found += [(runtime, "fp32")]
            found += [(runtime, "int8")] if tick_path(weights, precision="int8").is_file() else []
        elif runtime != "onnxruntime":
            found.append((runtime, None))
    return found


def check(
    ticks: int = TICKS, weights: Path = WEIGHTS, progress: Callable[[str, int, int], None] | None = None
) -> tuple[list[Parity], dict[str, str]]:
    """Every engine that runs here against the reference; and why those that should and do not, do not."""
    face, frames = recorded_ticks(ticks)
    network, ticker = load(weights, runtime="onnxruntime")
    identity = identity_of(network, face)

    def of(name: str) -> Callable[[int, int], None] | None:
        return (lambda done, total: progress(name, done, total)) if progress else None

    wanted = roll(ticker, identity, frames, of(ticker.name))
    passed, failed = [], {}
    for runtime, precision in engines_here(weights):
        try:
            _, ticker = load(weights, runtime=runtime, precision=precision)
            passed.append(compare(ticker.name, roll(ticker, identity, frames, of(ticker.name)), wanted))
        except EngineUnavailable as error:
            failed[runtime] = str(error)
    return passed, failed
