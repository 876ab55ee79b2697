"""OpenVINO on the CPU, in int8, or in bf16 if the CPU supports it, else fp32."""

from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from avatar_stream.runtime.compiled import compile_cached
from avatar_stream.runtime.network import FRAME_INPUTS, Arrays, HostStream, Job, Ports, batched, unbatch
from avatar_stream.runtime.plans import network_hash
from avatar_stream.runtime.processor import processor_key
from avatar_stream.runtime.saturation import reduce_weights, reduction_hash


class OpenVinoNetwork:
    """See :class:`avatar_stream.runtime.network.Network`."""

    def __init__(self, path: Path, threads: int, full_precision: bool = False) -> None:
        """``full_precision`` forces fp32."""
        self.name = f"openvino {_precision_of(path, full_precision)}"
        self._request = _compile(path, threads, 1, full_precision).create_infer_request()

    def run(self, inputs: Arrays) -> Arrays:
        """See ``Network``."""
        self._request.infer(inputs, share_inputs=True)
        return _outputs(self._request)


class OpenVinoTicker:
    """See :class:`avatar_stream.runtime.network.Ticker`.

    It runs one session at a time by default: on a CPU a batch takes as long as separate runs.
    """

    def __init__(
        self, path: Path, threads: int, *, full_precision: bool = False, batches: tuple[int, ...] = (1,)
    ) -> None:
        """``full_precision`` forces fp32."""
        self.name = f"openvino {_precision_of(path, full_precision)}"
        self.batches = batches
        compiled = {sessions: _compile(path, threads, sessions, full_precision) for sessions in {1, *batches}}
        self._requests = {sessions: network.create_infer_request() for sessions, network in compiled.items()}
        inputs = compiled[1].inputs
        self._ports: Ports = {port.any_name: (tuple(port.shape), port.element_type.to_dtype()) for port in inputs}
        self._outputs = {name: k for k, port in enumerate(compiled[1].outputs) for name in port.names}
        self.slots = self._ports["modulation"][0][1]

    def open(self, identity: Arrays) -> HostStream:
        """See ``Ticker``."""
        return HostStream(identity, self._ports)

    def run(self, jobs: Sequence[Job]) -> list[npt.NDArray[np.float32]]:
        """See ``Ticker``."""
        request = self._requests[len(jobs)]
        if len(jobs) > 1:
            request.infer(batched(jobs), share_inputs=True)
            return unbatch(jobs, _outputs(request))
        stream, frame = jobs[0].stream, jobs[0].frame
        for name in FRAME_INPUTS:
            request.set_tensor(name, _tensor(np.ascontiguousarray(frame[name])[None]))
        if stream.binding is None:
            # Tensors that share the stream's memory, for both directions; created once per stream.
            stream.binding = (
                [
                    [
                        (name, _tensor(state_in[name]), self._outputs[f"next_{name}"], _tensor(state_out[name]))
                        for name in state_in
                    ]
                    for state_in, state_out in (stream.states, stream.states[::-1])
                ],
                [(name, _tensor(value)) for name, value in stream.identity.items()],
            )
        states, identity = stream.binding
        for name, tensor in identity:
            request.set_tensor(name, tensor)
        for name, state_in, output, state_out in states[stream.current]:
            request.set_tensor(name, state_in)
            request.set_output_tensor(output, state_out)
        request.infer()
        stream.swap()
        return [np.array(request.get_output_tensor(self._outputs["residual"]).data[0], np.float32)]


def _tensor(value: npt.NDArray[Any]) -> Any:
    from openvino import Tensor

    return Tensor(value, shared_memory=True)


def _outputs(request: Any) -> Arrays:
    out: Arrays = {}
    for index, port in enumerate(request.model_outputs):
        # A port may have internal names beside its exported one.
        out |= dict.fromkeys(port.names, request.get_output_tensor(index).data.copy())
    return out


def _compile(path: Path, threads: int, sessions: int, full_precision: bool) -> Any:
    settings = {
        "PERFORMANCE_HINT": "LATENCY",
        "INFERENCE_PRECISION_HINT": "f32" if full_precision or openvino_precision() == "fp32" else "bf16",
        "INFERENCE_NUM_THREADS": threads,
    }
    core = openvino_core()
    key = f"{network_hash(path)} {reduction_hash()} {sessions} {settings} {processor_key()}"
    return compile_cached(
        core, key, settings, lambda: core.compile_model(read_model(path, sessions), "CPU", settings)
    )


def _precision_of(path: Path, full_precision: bool) -> str:
    if ".int8." in path.name:
        return "int8"
    return "fp32" if full_precision else openvino_precision()


def read_model(path: Path, sessions: int = 1) -> Any:
    """Read an ONNX file as an OpenVINO model with a fixed first dimension: the number of sessions in one run."""
    model = openvino_core().read_model(str(path))
    reduce_weights(model)
    model.reshape({port.any_name: [sessions, *list(port.partial_shape)[1:]] for port in model.inputs})
    return model


@cache
def openvino_precision() -> str:
    """``bf16`` if this CPU supports it natively, else ``fp32``."""
    return "bf16" if "BF16" in openvino_core().get_property("CPU", "OPTIMIZATION_CAPABILITIES") else "fp32"


@cache
def openvino_core() -> Any:
    """The OpenVINO core of this process."""
    import openvino

    return openvino.Core()
