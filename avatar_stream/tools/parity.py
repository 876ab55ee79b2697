"""Check of an engine's accuracy: it is compared with onnxruntime on the CPU over many ticks, including the state."""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path

import numpy as np

from avatar_stream.errors import EngineUnavailable
from avatar_stream.identity.library import SAMPLES, sample_pictures
from avatar_stream.media.files import Clip
from avatar_stream.pipeline.avatar import Avatar
from avatar_stream.portrait.aligned import aligned_input, rest_face
from avatar_stream.portrait.interior.closed_lips import close_lips
from avatar_stream.portrait.interior.layer import Interior
from avatar_stream.portrait.portrait import prepare, read_picture
from avatar_stream.portrait.warp import PortraitWarp
from avatar_stream.runtime.choose import DEFAULT_CPU_THREADS, available_runtimes, load
from avatar_stream.runtime.network import Arrays, tick_path
from avatar_stream.runtime.networks import WEIGHTS
from avatar_stream.runtime.openvino_cpu import openvino_precision
from avatar_stream.runtime.precision import ranked_precisions
from avatar_stream.runtime.rollout import Rollout, identity_inputs, is_accurate, psnr, roll_out, squared_errors

DEFAULT_TICKS = 500


@dataclass(frozen=True, slots=True)
class Parity:
    """How far an engine is from the reference over ``ticks`` ticks."""

    engine: str
    ticks: int
    psnr: float  # dB, over all residuals
    psnr_last: float  # dB, over the last tenth of the ticks, which shows an error that grows
    largest: float  # largest error of a pixel, in grey levels
    state: float  # largest error of the final state, relative to its largest value
    used: bool = True  # whether this processor may use the engine

    @property
    def passed(self) -> bool:
        """Whether it is accurate enough."""
        return is_accurate(self.engine, min(self.psnr, self.psnr_last)) and math.isfinite(self.state)


def recorded_ticks(count: int = DEFAULT_TICKS) -> tuple[Arrays, list[Arrays]]:
    """The reference input of a sample portrait, and the network inputs of ``count`` ticks with the sample driver."""
    portrait = prepare(read_picture(next(iter(sample_pictures().values()))), 256, square=True)
    clip = Clip(SAMPLES / "driver.mp4")
    pictures = [picture for _, picture in islice(clip.frames(), count)]
    clip.close()
    avatar = Avatar(portrait, None)
    rest = rest_face(portrait.crop, portrait.landmarks)
    closed_lips = close_lips(portrait.crop, portrait.landmarks)
    warp = PortraitWarp(portrait.crop, portrait.plate, portrait.matte, portrait.landmarks, closed_lips=closed_lips)
    interior = Interior(portrait.crop, portrait.landmarks)
    forward = []
    for k, picture in enumerate(pictures):
        retargeted = avatar.follow(picture, k / 25)
        target = retargeted.target
        warped = warp(target)
        interior.draw(warped.image, target, retargeted.view)
        aligned = aligned_input(warped, target, rest)
        forward.append({"shown": aligned.shown, "raster": aligned.raster})
    avatar.close()
    back_and_forth = forward + forward[::-1]
    return {"reference": rest.image[None]}, [back_and_forth[k % len(back_and_forth)] for k in range(count)]


def compare(name: str, found: Rollout, wanted: Rollout) -> Parity:
    """The error of ``found`` against ``wanted``, over the same ticks."""
    errors = squared_errors(found, wanted)
    pairs = zip(found.residuals, wanted.residuals, strict=True)
    largest = max(float(np.abs(a.astype(np.float32) - b.astype(np.float32)).max()) for a, b in pairs)
    state = max(
        float(np.abs(found.state[key].astype(np.float32) - value).max() / max(float(np.abs(value).max()), 1e-6))
        for key, value in ((key, value.astype(np.float32)) for key, value in wanted.state.items())
        if value.size
    )
    last = errors[-max(1, len(errors) // 10) :]
    return Parity(name, len(errors), psnr(errors), psnr(last), round(largest, 2), round(state, 4))


def engines_here(weights: Path = WEIGHTS) -> list[tuple[str, str | None]]:
    """Runtime and precision of every engine that may run on this machine, without the reference."""
    found: list[tuple[str, str | None]] = []
    for runtime in available_runtimes():
        if runtime == "openvino":
            found += [(runtime, "bf16")] if openvino_precision() == "bf16" else []
            found += [(runtime, "fp32")]
            found += [(runtime, "int8")] if tick_path(weights, precision="int8").is_file() else []
        elif runtime != "onnxruntime":
            found.append((runtime, None))
    return found


def check(
    ticks: int = DEFAULT_TICKS, weights: Path = WEIGHTS, progress: Callable[[str, int, int], None] | None = None
) -> tuple[list[Parity], dict[str, str]]:
    """Compare every engine of this machine with the reference. Also returns the errors of engines that cannot run."""
    face, frames = recorded_ticks(ticks)
    network, ticker = load(weights, runtime="onnxruntime")
    identity = identity_inputs(network, face)

    def progress_of(name: str) -> Callable[[int, int], None] | None:
        return (lambda done, total: progress(name, done, total)) if progress else None

    wanted = roll_out(ticker, identity, frames, progress_of(ticker.name))
    passed, failed = [], {}
    for runtime, precision in engines_here(weights):
        try:
            _, ticker = load(weights, runtime=runtime, precision=precision)
            found = compare(ticker.name, roll_out(ticker, identity, frames, progress_of(ticker.name)), wanted)
            used = (
                runtime != "openvino"
                or precision == "fp32"
                or precision in ranked_precisions(weights, DEFAULT_CPU_THREADS)
            )
            passed.append(replace(found, used=used))
        except EngineUnavailable as error:
            failed[runtime] = str(error)
    return passed, failed
