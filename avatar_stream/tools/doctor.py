"""``avatar-stream doctor``: what is installed, which engine is used and why, and what a camera page needs."""

import importlib.metadata
import math
import platform
import sys
from typing import Any

from avatar_stream.errors import AvatarError
from avatar_stream.extras import pip_command, reinstall_command
from avatar_stream.identity.library import sample_pictures
from avatar_stream.runtime import choose, onnx_runtime, tensorrt_build
from avatar_stream.runtime.choose import DEFAULT_CPU_THREADS
from avatar_stream.runtime.network import WEIGHTS_FILE, tick_path
from avatar_stream.runtime.networks import WEIGHTS
from avatar_stream.runtime.precision import measurements, ranked_precisions
from avatar_stream.runtime.processor import processor_name
from avatar_stream.runtime.rollout import is_accurate, min_psnr

PACKAGES = ("avatar-stream", "aiortc", "av", "mediapipe", "numpy", "openvino", "onnxruntime", "starlette", "uvicorn")
CAMERA_HINTS = (
    "Browsers allow the camera only on https pages and on http://localhost.",
    "From another machine: forward the port (ssh -L 8080:localhost:8080 HOST), or serve with --host, --tokens and"
    " --certificate, or behind an https proxy (docs/deploy.md).",
    "Chromium shows a page's permissions under the icon to the left of the address.",
)


def examine() -> dict[str, Any]:
    """The report as data (see :func:`sentences`). ``problems`` is empty if the server can run."""
    versions = {name: _installed(name) for name in PACKAGES}
    problems = [
        f"{name} is not installed: {reinstall_command()}" for name, version in versions.items() if version is None
    ]
    if not all(path.is_file() for path in (WEIGHTS / "reference.onnx", tick_path(WEIGHTS), WEIGHTS / WEIGHTS_FILE)):
        problems.append("the network's weights are missing from the package: install it again")
    if not sample_pictures():
        problems.append("the sample portraits are missing from the package: install it again")
    problems += _import_problems()
    engine, why = _engine()
    precisions = _precisions() if engine.startswith("openvino") else []
    return {
        "python": platform.python_version(),
        "system": platform.platform(),
        "processor": processor_name(),
        "packages": versions,
        "engine": engine,
        "why": why,
        "precisions": precisions,
        "hints": list(CAMERA_HINTS),
        "problems": problems,
    }


def sentences(report: dict[str, Any]) -> str:
    """The report as text."""
    lines = [f"Python {report['python']} on {report['system']}", f"Processor: {report['processor']}", "", "Packages:"]
    lines += [f"  {name:<15}{version or 'missing'}" for name, version in report["packages"].items()]
    lines += ["", f"Engine: {report['engine']}, {report['why']}"]
    lines += [f"  {one['precision']:<6}{one['verdict']}" for one in report["precisions"]]
    if report["precisions"]:
        lines += ["  avatar-stream engine check compares them over more pictures."]
    lines += ["", "The camera page:"]
    lines += [f"  {hint}" for hint in report["hints"]]
    if report["problems"]:
        lines += ["", "Problems:"] + [f"  {problem}" for problem in report["problems"]]
    else:
        lines += ["", "No problems found."]
    return "\n".join(lines)


def _installed(package: str) -> str | None:
    """Version of a package; None if it is not installed."""
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def _engine() -> tuple[str, str]:
    available = choose.available_runtimes()
    if not available:
        return "warp", "because neither openvino nor onnxruntime is installed"
    if available[0] == "tensorrt":
        return "tensorrt fp16", f"because there is {tensorrt_build.gpu_name()} and TensorRT"
    if available[0] == "cuda":
        return "onnxruntime cuda fp16", f"because there is {tensorrt_build.gpu_name()} and onnxruntime-gpu"
    if available[0] == "onnxruntime":
        return "onnxruntime fp32", "because openvino is not installed"
    found = ranked_precisions(WEIGHTS, DEFAULT_CPU_THREADS)
    why = "because it is the fastest accurate one on this processor"
    return f"openvino {next(iter(found))}", why if len(
        measurements(WEIGHTS, DEFAULT_CPU_THREADS)
    ) > 1 else "because it is the only precision on this processor"


def _precisions() -> list[dict[str, Any]]:
    """Each precision that OpenVINO can use here: ``ms`` per frame, ``psnr`` in dB against fp32, and a verdict.

    These are the measurements by which the engine was chosen. The list is empty if there was no choice.
    """
    used = next(iter(ranked_precisions(WEIGHTS, DEFAULT_CPU_THREADS)))
    found = measurements(WEIGHTS, DEFAULT_CPU_THREADS)
    rows: list[dict[str, Any]] = []
    for name, one in found.items() if len(found) > 1 else ():
        distance = "exact" if name == "fp32" else f"{one.psnr:.1f} dB from fp32"
        if math.isinf(one.ms):
            verdict = "not used: it cannot run on this processor"
        elif not is_accurate(name, one.psnr):
            verdict = f"not used: it is inaccurate on this processor ({distance}, {min_psnr(name):g} are needed)"
        else:
            verdict = f"{'used' if name == used else 'accurate, but slower'} ({one.ms:.1f} ms a frame, {distance})"
        ms = None if math.isinf(one.ms) else one.ms
        rows.append(
            {
                "precision": name,
                "ms": ms,
                "psnr": one.psnr if math.isfinite(one.psnr) else None,
                "used": name == used,
                "verdict": verdict,
            }
        )
    if rows and used not in found:
        rows.append({"precision": used, "ms": None, "psnr": None, "used": True, "verdict": "used: it is exact"})
    return rows


def _import_problems() -> list[str]:
    problems = []
    for module in ("cv2", "mediapipe", "av"):
        try:
            __import__(module)
        except (ImportError, AvatarError) as error:
            hint = "apt-get install -y libgl1 libglib2.0-0" if ".so" in str(error) else reinstall_command()
            problems.append(f"{module} cannot be imported ({error}): {hint}")
    if _installed("onnxruntime") and _installed("onnxruntime-gpu") and not onnx_runtime.has_cuda():
        remove, renew = pip_command("uninstall -y onnxruntime"), "install --force-reinstall --no-deps onnxruntime-gpu"
        command = f"{remove} && {pip_command(renew)}"
        problems.append(f"onnxruntime has overwritten onnxruntime-gpu, which is the same module: {command}")
    if sys.version_info >= (3, 13):
        problems.append("mediapipe 0.10.21 has no wheel for this Python: use 3.11 or 3.12")
    return problems
