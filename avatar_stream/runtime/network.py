"""Load an ONNX network on the best runtime this machine has.

OpenVINO runs it first (on CPUs with bf16 matrix units ten times faster than onnxruntime), in bf16 where the CPU
computes that natively and in fp32 elsewhere; never in a precision left to chance. onnxruntime is the fallback.
"""

import importlib.util
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

Arrays = dict[str, npt.NDArray[Any]]


class Network(Protocol):
    """A loaded network. Not thread-safe: one thread at a time."""

    name: str
    """Runtime and precision, for reports: ``openvino bf16``."""

    shapes: dict[str, tuple[int, ...]]
    """Input shapes by name, for one session."""

    def run(self, inputs: Arrays) -> Arrays:
        """Outputs by name. The arrays are copies and stay valid."""


class OpenVinoNetwork:
    """OpenVINO on the CPU."""

    def __init__(self, path: Path, threads: int) -> None:
        core = openvino_core()
        precision = openvino_precision()
        settings = {
            "PERFORMANCE_HINT": "LATENCY",
            "INFERENCE_PRECISION_HINT": "bf16" if precision == "bf16" else "f32",
            "INFERENCE_NUM_THREADS": threads,
        }
        self._compiled = core.compile_model(read_model(path), "CPU", settings)
        self._request = self._compiled.create_infer_request()
        self.name = "openvino int8" if ".int8." in path.name else f"openvino {precision}"
        self.shapes = {port.any_name: tuple(port.shape) for port in self._compiled.inputs}
        # A port may carry internal names beside the one it was exported under.
        self._outputs = [sorted(port.names) for port in self._compiled.outputs]

    def run(self, inputs: Arrays) -> Arrays:
        """See :class:`Network`."""
        self._request.infer(inputs, share_inputs=True)
        out: Arrays = {}
        for index, names in enumerate(self._outputs):
            value = self._request.get_output_tensor(index).data.copy()
            out |= dict.fromkeys(names, value)
        return out


class OnnxRuntimeNetwork:
    """onnxruntime on any CPU, fp32."""

    def __init__(self, path: Path, threads: int) -> None:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        self._session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        self.name = "onnxruntime fp32"
        self.shapes = {node.name: (1, *node.shape[1:]) for node in self._session.get_inputs()}
        self._outputs = [node.name for node in self._session.get_outputs()]

    def run(self, inputs: Arrays) -> Arrays:
        """See :class:`Network`."""
        return dict(zip(self._outputs, self._session.run(self._outputs, inputs), strict=True))


RUNTIMES: dict[str, Callable[[Path, int], Network]] = {"openvino": OpenVinoNetwork, "onnxruntime": OnnxRuntimeNetwork}


def available_runtimes() -> list[str]:
    """Names of the runtimes that are installed, best first."""
    return [name for name in RUNTIMES if importlib.util.find_spec(name) is not None]


def load_network(path: Path, *, runtime: str | None = None, threads: int = 2) -> Network:
    """Load ``path`` on ``runtime`` (None: the best there is) with at most ``threads`` threads."""
    chosen = runtime or available_runtimes()[0]
    return RUNTIMES[chosen](path, threads)


def zeros(network: Network, names: list[str]) -> Arrays:
    """Start values of the named inputs."""
    return {name: np.zeros(network.shapes[name], np.float32) for name in names}


def read_model(path: Path, sessions: int = 1) -> Any:
    """An ONNX file as an OpenVINO model with its first dimension, the sessions served by one run, fixed."""
    model = openvino_core().read_model(str(path))
    model.reshape({port.any_name: [sessions, *list(port.partial_shape)[1:]] for port in model.inputs})
    return model


@cache
def openvino_precision() -> str:
    """``bf16`` where this CPU multiplies it natively, else ``fp32``."""
    return "bf16" if "BF16" in openvino_core().get_property("CPU", "OPTIMIZATION_CAPABILITIES") else "fp32"


@cache
def openvino_core() -> Any:
    """The one OpenVINO core of this process."""
    import openvino

    return openvino.Core()
