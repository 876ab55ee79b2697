"""Builds TensorRT plans with ``tensorrt_rtx`` (RTX cards, takes seconds) or ``tensorrt`` (all others): one API.

Building needs no GPU with ``tensorrt_rtx``; running needs one, and ``cuda-bindings``.
"""

import importlib
from collections.abc import Callable, Iterator, Sequence
from functools import cache
from pathlib import Path
from typing import Any

from avatar_stream.errors import EngineUnavailable
from avatar_stream.extras import install_command
from avatar_stream.runtime.plans import PlanCache, PlanKey, network_hash

BATCH_SIZES = (1, 2, 4, 8, 16)
TENSORRT_MODULES = ("tensorrt_rtx", "tensorrt")


def tensorrt_module(target: str | None = None) -> Any:
    """The installed TensorRT module, preferably the RTX one; None if none works.

    Without a ``target``, it must be able to run on this machine's GPU, if there is one.
    """
    for module in _installed():
        if target or _can_run_on(module, gpu_name()):
            return module
    return None


def _installed() -> Iterator[Any]:
    for name in TENSORRT_MODULES:
        try:
            module = importlib.import_module(name)
        except Exception:  # a TensorRT without its libraries raises various exceptions
            continue
        if hasattr(module, "Builder"):
            yield module


def _can_run_on(trt: Any, gpu: str | None) -> bool:
    """Whether plans run on this GPU. TensorRT for RTX builds for all GPUs; an H100 (sm90) cannot load the plan."""
    number = gpu.rpartition("sm")[2] if gpu else ""
    if trt.__name__ != "tensorrt_rtx" or not number.isdecimal():
        return True
    return hasattr(trt.ComputeCapability, f"SM{number}") or int(number) >= 120


def _require_tensorrt(target: str | None) -> Any:
    """Like :func:`tensorrt_module`, but raises :class:`EngineUnavailable`, which says what to install."""
    found = tensorrt_module(target)
    if found is None and any(_installed()):
        raise EngineUnavailable(
            f"TensorRT for RTX does not run on {gpu_name()}: {install_command('tensorrt')}, or the same with [cuda]"
        )
    if found is None:
        line = install_command("tensorrt-rtx")
        raise EngineUnavailable(f"TensorRT is not installed: {line} for RTX cards, with [tensorrt] for others")
    return found


@cache
def gpu_name() -> str | None:
    """Name and compute capability of the first NVIDIA GPU, as ``NVIDIA L4 sm89``; None without one."""
    try:
        from cuda.bindings import runtime as cuda

        error, count = cuda.cudaGetDeviceCount()
        if int(error) or not count:
            return None
        found = check_cuda(cuda.cudaGetDeviceProperties(0))
        return f"{found.name.decode().rstrip(chr(0))} sm{found.major}{found.minor}"
    except Exception:  # no driver: the bindings raise various exceptions
        return None


def plan_key(network: Path, sessions: Sequence[int] = BATCH_SIZES, target: str | None = None) -> PlanKey:
    """The key of ``network``'s plan on this machine, or for a ``target`` such as ``sm89``."""
    trt = _require_tensorrt(target)
    gpu = target or gpu_name()
    if gpu is None:
        raise EngineUnavailable("there is no NVIDIA GPU here: name the GPU to build for, for example --target sm89")
    version = f"{trt.__name__} {trt.__version__}"
    return PlanKey(network_hash(network), version, gpu, "" if target else _driver(), "fp16", tuple(sessions))


def cached_plan(network: Path, cache_: PlanCache | None = None) -> bytes:
    """The plan of ``network`` for this machine; raises :class:`EngineUnavailable` if it was not built yet."""
    found = (cache_ or PlanCache()).find(plan_key(network))
    if found is None:
        raise EngineUnavailable("there is no TensorRT plan yet: run avatar-stream engine build")
    return found.read_bytes()


def build(
    network: Path,
    sessions: Sequence[int] = BATCH_SIZES,
    target: str | None = None,
    progress: Callable[[str, int, int], None] | None = None,
) -> bytes:
    """Compile an exported network to a plan, in the precision it was exported in (fp16).

    ``progress(phase, step, steps)`` is called after each step.
    Raises :class:`EngineUnavailable` with TensorRT's error.
    """
    trt = _require_tensorrt(target)
    messages: list[str] = []
    logger = logger_of(trt, messages)
    builder = trt.Builder(logger)
    graph = builder.create_network(0)
    parser = trt.OnnxParser(graph, logger)
    if not parser.parse_from_file(str(network)):
        reasons = [parser.get_error(k).desc() for k in range(parser.num_errors)]
        raise EngineUnavailable(f"TensorRT cannot read {network.name}: {first_line(reasons + messages)}")
    config = builder.create_builder_config()
    if target:
        wanted = getattr(trt.ComputeCapability, target.upper(), None) if hasattr(trt, "ComputeCapability") else None
        if wanted is None:
            raise EngineUnavailable(f"{trt.__name__} {trt.__version__} cannot build for {target}")
        config.num_compute_capabilities = 1
        config.set_compute_capability(wanted, 0)
    profile = builder.create_optimization_profile()
    for k in range(graph.num_inputs):
        port = graph.get_input(k)
        rest = tuple(port.shape)[1:]
        profile.set_shape(port.name, *((n, *rest) for n in (sessions[0], sessions[len(sessions) // 2], sessions[-1])))
    config.add_optimization_profile(profile)
    if progress is not None:
        config.progress_monitor = _monitor(trt, progress)
    plan = builder.build_serialized_network(graph, config)
    if plan is None:
        raise EngineUnavailable(f"TensorRT cannot build {network.name}: {first_line(messages)}")
    return bytes(plan)


def check_cuda(answer: Any) -> Any:
    """The results of a CUDA call; raises :class:`EngineUnavailable` if it failed."""
    error, *values = answer
    if int(error):
        raise EngineUnavailable(f"a CUDA call failed ({getattr(error, 'name', error)})")
    return values[0] if len(values) == 1 else values


def logger_of(trt: Any, messages: list[str]) -> Any:
    """A TensorRT logger that collects errors in ``messages``."""

    class Logger(trt.ILogger):  # type: ignore[misc]
        def __init__(self) -> None:
            trt.ILogger.__init__(self)

        def log(self, severity: Any, message: str) -> None:
            if severity <= trt.ILogger.Severity.ERROR:
                messages.append(message)

    return Logger()


def first_line(messages: list[str]) -> str:
    """The first line of the error messages."""
    lines = [line.strip() for text in messages for line in text.splitlines() if line.strip()]
    return lines[0][:200] if lines else "it gave no reason"


def _driver() -> str:
    from cuda.bindings import runtime as cuda

    return str(check_cuda(cuda.cudaDriverGetVersion()))


def _monitor(trt: Any, progress: Callable[[str, int, int], None]) -> Any:
    class Monitor(trt.IProgressMonitor):  # type: ignore[misc]
        def __init__(self) -> None:
            trt.IProgressMonitor.__init__(self)
            self._steps: dict[str, int] = {}

        def phase_start(self, phase_name: str, parent_phase: str | None, num_steps: int) -> None:
            self._steps[phase_name] = num_steps

        def phase_finish(self, phase_name: str) -> None:
            self._steps.pop(phase_name, None)

        def step_complete(self, phase_name: str, step: int) -> bool:
            progress(phase_name, step + 1, self._steps.get(phase_name, step + 1))
            return True

    return Monitor()
