"""Chooses the runtime: the best one that works on this machine."""

import importlib.util
import logging
from pathlib import Path

from avatar_stream.errors import EngineUnavailable
from avatar_stream.extras import pip_command
from avatar_stream.runtime import onnx_runtime, openvino_cpu, tensorrt_build, tensorrt_gpu
from avatar_stream.runtime.network import WINDOW_SLOTS, Network, Ticker, tick_path
from avatar_stream.runtime.precision import ranked_precisions

log = logging.getLogger(__name__)

RUNTIMES = ("tensorrt", "cuda", "openvino", "onnxruntime")
"""Best first. ``cuda`` is onnxruntime with its CUDA provider."""
DEFAULT_CPU_THREADS = 2
"""Threads of a CPU runtime by default."""


def available_runtimes() -> list[str]:
    """Runtimes that are installed and whose device is there, best first."""
    gpu = tensorrt_build.gpu_name() is not None
    here = {
        "tensorrt": gpu and tensorrt_build.tensorrt_module() is not None,
        "cuda": gpu and _installed("onnxruntime") and onnx_runtime.has_cuda(),
        "openvino": _installed("openvino"),
        "onnxruntime": _installed("onnxruntime"),
    }
    return [name for name in RUNTIMES if here[name]]


def load(
    folder: Path,
    *,
    runtime: str | None = None,
    precision: str | None = None,
    threads: int = DEFAULT_CPU_THREADS,
    slots: int = WINDOW_SLOTS[0],
) -> tuple[Network, Ticker]:
    """Load the reference network and the tick network of ``folder`` on ``runtime`` (None: the best that works here).

    ``precision`` is ``"int8"``, ``"fp32"`` or None: the fastest that is accurate here (see :mod:`.precision`).
    Raises :class:`EngineUnavailable` if no runtime works, or not the given one.
    """
    wanted = [runtime] if runtime else available_runtimes()
    for name in wanted:
        try:
            return _load(name, folder, precision, threads, slots)
        except Exception as error:
            if runtime:
                raise EngineUnavailable(f"the engine {name} cannot run here: {_first_line(error)}") from error
            log.warning("the engine %s cannot run here (%s): trying the next best", name, _first_line(error))
    raise EngineUnavailable(
        f"no engine can run the networks here: {pip_command('install openvino')}, or use --engine warp"
    )


def _load(name: str, folder: Path, precision: str | None, threads: int, slots: int) -> tuple[Network, Ticker]:
    reference, tick = folder / "reference.onnx", tick_path(folder, slots)
    quantised = tick_path(folder, slots, "int8")
    if name == "tensorrt":
        plan = tensorrt_build.cached_plan(tick)
        return _reference_network(reference, threads), tensorrt_gpu.TensorRtTicker(plan)
    if name == "cuda":
        ticker = onnx_runtime.OnnxRuntimeTicker(tick, threads, "cuda", tensorrt_build.BATCH_SIZES)
        return onnx_runtime.OnnxRuntimeNetwork(reference, threads), ticker
    if name == "openvino":
        precision = precision or next(iter(ranked_precisions(folder, threads, slots)))
        if precision == "int8":
            tick = quantised
        full_precision = precision == "fp32"
        return (
            openvino_cpu.OpenVinoNetwork(reference, threads, full_precision),
            openvino_cpu.OpenVinoTicker(tick, threads, full_precision=full_precision),
        )
    path = quantised if precision == "int8" else tick
    return onnx_runtime.OnnxRuntimeNetwork(reference, threads), onnx_runtime.OnnxRuntimeTicker(path, threads)


def _reference_network(path: Path, threads: int) -> Network:
    """The reference network on the CPU: it runs only once per portrait."""
    if _installed("openvino"):
        return openvino_cpu.OpenVinoNetwork(path, threads)
    return onnx_runtime.OnnxRuntimeNetwork(path, threads)


def _installed(package: str) -> bool:
    return importlib.util.find_spec(package) is not None


def _first_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0][:200]
