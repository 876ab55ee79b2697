"""Measures the engines of a machine: ``python -m engines.gpu_report OUT``. Made for a GPU; runs on any CPU, too.

Trains nothing. Builds TensorRT plans if possible, and checks every engine against onnxruntime over a rolled-out
window. Measures milliseconds per tick for 1 to 16 sessions in one run, the whole loop at 256 and 512 without the
codec, how many live streams of 25 frames per second that allows, memory, and each tick relative to its floor: the
least time that this machine's measured matrix rate and copy bandwidth allow. Writes ``report.json`` and
``report.md``.
"""

import argparse
import json
import time
from collections.abc import Callable
from dataclasses import asdict
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import onnx

from avatar_stream.errors import AvatarError
from avatar_stream.identity.library import SAMPLES, sample_pictures
from avatar_stream.media.files import Clip
from avatar_stream.pipeline.avatar import Avatar
from avatar_stream.portrait.portrait import prepare, read_picture
from avatar_stream.runtime import choose, tensorrt_build
from avatar_stream.runtime.network import Arrays, Job, Ticker, tick_path
from avatar_stream.runtime.networks import WEIGHTS, Networks
from avatar_stream.runtime.openvino_cpu import openvino_precision
from avatar_stream.runtime.plans import PlanCache
from avatar_stream.runtime.rollout import identity_inputs
from avatar_stream.runtime.work import multiply_adds
from avatar_stream.tools import parity
from engines.report import table

FRAME_RATE = 25


def measure_floor(seconds: float) -> dict[str, float]:
    """Measure this machine's matrix rate (operations/s) and copy bandwidth (bytes/s), for ``seconds`` each.

    The rate is for fp16 on a GPU, for bf16 on a CPU with native bf16, otherwise for fp32.
    """
    import torch

    device = "cuda" if torch.cuda.is_available() else "cpu"
    native = torch.bfloat16 if openvino_precision() == "bf16" else torch.float32  # emulated bf16 is 100 times slower
    dtype = torch.float16 if device == "cuda" else native
    side = 8192 if device == "cuda" else 1536

    def wait() -> None:
        if device == "cuda":
            torch.cuda.synchronize()

    def best(work: Callable[[], Any]) -> float:
        shortest, until = float("inf"), time.perf_counter() + seconds
        while time.perf_counter() < until:
            began = time.perf_counter()
            work()
            wait()
            shortest = min(shortest, time.perf_counter() - began)
        return shortest

    a = torch.randn(side, side, device=device).to(dtype)
    big = torch.empty(1 << (30 if device == "cuda" else 27), dtype=torch.uint8, device=device)
    to = torch.empty_like(big)
    return {
        "operations_per_s": 2 * side**3 / best(lambda: a @ a),
        "copied_bytes_per_s": 2 * big.numel() / best(lambda: to.copy_(big)),
    }


def measure_ticks(ticker: Ticker, identity: Arrays, frames: list[Arrays], seconds: float) -> dict[int, float]:
    """Median milliseconds of a run, by the number of sessions in it."""
    found = {}
    for count in ticker.batches:
        streams = [ticker.open(identity) for _ in range(count)]
        times: list[float] = []
        until = time.perf_counter() + seconds
        while time.perf_counter() < until or len(times) < 8:
            frame = frames[len(times) % len(frames)]
            began = time.perf_counter()
            ticker.run([Job(stream, frame) for stream in streams])
            times.append(time.perf_counter() - began)
        found[count] = round(float(np.median(times[3:])) * 1e3, 3)
    return found


def measure_loop(networks: Networks, size: int, frames: int) -> dict[str, Any]:
    """The whole loop on one thread without the codec: frames per second, and milliseconds per frame by stage."""
    portrait = prepare(read_picture(next(iter(sample_pictures().values()))), size, square=True)
    clip = Clip(SAMPLES / "driver.mp4")
    driver = [picture for _, picture in islice(clip.frames(), frames)]
    clip.close()
    avatar = Avatar(portrait, networks)
    for k, picture in enumerate(driver[:8]):
        avatar.draw(avatar.follow(picture, k / FRAME_RATE))
    for counted in (avatar.times, avatar.renderer.times):
        counted.totals.clear()
    began = time.perf_counter()
    for k, picture in enumerate(driver):
        avatar.draw(avatar.follow(picture, k / FRAME_RATE))
    took = time.perf_counter() - began
    stages = avatar.times.totals | avatar.renderer.times.totals
    avatar.close()
    return {
        "fps": round(len(driver) / took, 1),
        "stages": {name: round(total / len(driver), 2) for name, total in stages.items()},
    }


def report(weights: Path, seconds: float, parity_ticks: int, frames: int) -> dict[str, Any]:
    """Measure everything; the result is written as ``report.json``."""
    out: dict[str, Any] = {
        "gpu": tensorrt_build.gpu_name(),
        "floor": measure_floor(seconds),
        "built": _build(weights),
    }
    rows, failed = parity.check(parity_ticks, weights)
    out["parity"] = [asdict(row) | {"passed": row.passed} for row in rows]
    out["cannot_run"] = failed
    face, recorded = parity.recorded_ticks(60)
    operations = 2 * multiply_adds(tick_path(weights))
    moved = _weight_bytes(tick_path(weights))
    out["engines"] = {}
    for name in choose.available_runtimes():
        try:
            network, ticker = choose.load(weights, runtime=name)
        except AvatarError as error:
            out["cannot_run"][name] = str(error)
            continue
        times = measure_ticks(ticker, identity_inputs(network, face), recorded, seconds)
        least = {
            n: max(n * operations / out["floor"]["operations_per_s"], moved / out["floor"]["copied_bytes_per_s"])
            for n in times
        }
        networks = Networks(runtime=name, folder=weights)
        out["engines"][ticker.name] = {
            "ms_by_sessions": times,
            "share_of_floor": {n: round(least[n] * 1e3 / ms, 3) for n, ms in times.items()},
            "streams_the_network_holds": max(int(n * 1e3 / FRAME_RATE / ms) for n, ms in times.items()),
            "loop": {str(size): measure_loop(networks, size, frames) for size in (256, 512)},
        }
    out["gpu_memory_mb"] = _gpu_memory()
    return out


def _weight_bytes(graph: Path) -> int:
    """Size of a graph's weights in bytes."""
    model = onnx.load(str(graph), load_external_data=False)
    entries = [entry for weight in model.graph.initializer for entry in weight.external_data]
    return sum(int(entry.value) for entry in entries if entry.key == "length")


def _build(weights: Path) -> dict[str, str]:
    try:
        key = tensorrt_build.plan_key(tick_path(weights))
        began = time.perf_counter()
        PlanCache().store(key, tensorrt_build.build(tick_path(weights)))
        return {key.gpu: f"{key.tensorrt}, {time.perf_counter() - began:.1f} s"}
    except AvatarError as error:
        return {"not built": str(error)}


def _gpu_memory() -> float | None:
    if tensorrt_build.gpu_name() is None:
        return None
    from cuda.bindings import runtime as cuda

    free, total = tensorrt_build.check_cuda(cuda.cudaMemGetInfo())
    return round((total - free) / 1e6, 1)


def as_markdown(found: dict[str, Any]) -> str:
    """The report as Markdown."""
    limit = found["floor"]
    lines = [
        f"GPU: {found['gpu'] or 'none'}; matrix rate {limit['operations_per_s'] / 1e12:.2f} TFLOP/s, "
        f"copies {limit['copied_bytes_per_s'] / 1e9:.1f} GB/s (measured)\n"
    ]
    rows = []
    for name, engine in found["engines"].items():
        for n, ms in engine["ms_by_sessions"].items():
            rows.append([name, n, ms, f"{engine['share_of_floor'][n]:.1%}", engine["streams_the_network_holds"]])
    lines.append(table(["engine", "sessions", "ms per run", "share of the floor", "streams at 25 fps"], rows))
    loops = [
        [name, size, row["fps"], ", ".join(f"{stage} {ms}" for stage, ms in row["stages"].items())]
        for name, engine in found["engines"].items()
        for size, row in engine["loop"].items()
    ]
    lines.append(table(["engine", "size", "fps, no codec", "ms per frame"], loops))
    checks = [
        [row["engine"], row["psnr"], row["psnr_last"], row["largest"], row["passed"]] for row in found["parity"]
    ]
    lines.append(
        table(["against onnxruntime fp32", "dB", "dB, last tenth", "largest, grey levels", "passed"], checks)
    )
    lines += [f"{name}: {why}\n" for name, why in (found["built"] | found["cannot_run"]).items()]
    return "\n".join(lines)


def main(given: list[str] | None = None) -> None:
    """Measure, write the report and print it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("--weights", type=Path, default=WEIGHTS)
    parser.add_argument("--seconds", type=float, default=3, help="length of each measurement")
    parser.add_argument("--ticks", type=int, default=parity.DEFAULT_TICKS, help="of the parity check")
    parser.add_argument("--frames", type=int, default=150, help="of the whole loop")
    arguments = parser.parse_args(given)
    found = report(arguments.weights, arguments.seconds, arguments.ticks, arguments.frames)
    arguments.out.mkdir(parents=True, exist_ok=True)
    (arguments.out / "report.json").write_text(json.dumps(found, indent=1) + "\n")
    (arguments.out / "report.md").write_text(as_markdown(found))
    print(as_markdown(found))


if __name__ == "__main__":
    main()
