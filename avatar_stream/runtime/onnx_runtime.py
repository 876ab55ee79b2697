"""onnxruntime: fp32 on any CPU, and CUDA with ``onnxruntime-gpu`` and a GPU."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from avatar_stream.runtime.network import FRAME_INPUTS, Arrays, HostStream, Job, Ports, batched, state_names, unbatch

NUMPY_TYPES = {"tensor(float)": np.float32, "tensor(float16)": np.float16, "tensor(uint8)": np.uint8}
PROVIDERS = {"cuda": "CUDAExecutionProvider", "cpu": "CPUExecutionProvider"}


def has_cuda() -> bool:
    """Whether onnxruntime was built with CUDA. A missing GPU is only noticed when a session is created."""
    import onnxruntime

    return PROVIDERS["cuda"] in onnxruntime.get_available_providers()


def _session(path: Path, threads: int, device: str) -> Any:
    import onnxruntime

    if device == "cuda":
        if not has_cuda():
            raise RuntimeError(
                "onnxruntime-gpu is missing or overwritten by plain onnxruntime: run avatar-stream doctor"
            )
        # While it searches for the fastest convolutions, it logs each unsuitable one as an error.
        onnxruntime.set_default_logger_severity(4)
        if hasattr(onnxruntime, "preload_dlls"):
            onnxruntime.preload_dlls()  # the libraries of CUDA and cuDNN may be pip packages
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 3
    # Without VNNI, sums of products of signed weights and unsigned activations saturate: use unsigned weights there.
    options.add_session_config_entry("session.x64quantprecision", "1")
    session = onnxruntime.InferenceSession(str(path), options, providers=[PROVIDERS[device]])
    if session.get_providers()[0] != PROVIDERS[device]:  # onnxruntime falls back to the CPU silently
        raise RuntimeError(f"onnxruntime cannot use {device} here")
    return session


class OnnxRuntimeNetwork:
    """See :class:`avatar_stream.runtime.network.Network`."""

    def __init__(self, path: Path, threads: int, device: str = "cpu") -> None:
        self._session = _session(path, threads, device)
        self.name = _name(path, device)
        self._outputs = [node.name for node in self._session.get_outputs()]

    def run(self, inputs: Arrays) -> Arrays:
        """See ``Network``."""
        return dict(zip(self._outputs, self._session.run(self._outputs, inputs), strict=True))


class OnnxRuntimeTicker:
    """See :class:`avatar_stream.runtime.network.Ticker`.

    The state of a single session stays on ``device``; batches of several are stacked in host memory.
    """

    def __init__(self, path: Path, threads: int, device: str = "cpu", batches: tuple[int, ...] = (1,)) -> None:
        self._session = _session(path, threads, device)
        self._device = device
        self.name = _name(path, device)
        self.batches = batches
        self._ports: Ports = {
            node.name: ((1, *node.shape[1:]), NUMPY_TYPES[node.type]) for node in self._session.get_inputs()
        }
        self._outputs = [node.name for node in self._session.get_outputs()]
        self.slots = self._ports["modulation"][0][1]

    def open(self, identity: Arrays) -> "OrtStream":
        """See ``Ticker``."""
        return OrtStream(identity, self._ports, self._device)

    def run(self, jobs: Sequence[Job]) -> list[npt.NDArray[np.float32]]:
        """See ``Ticker``."""
        if len(jobs) > 1:
            streams = [job.stream.on_host() for job in jobs]
            stacked = [Job(stream, job.frame) for stream, job in zip(streams, jobs, strict=True)]
            found = self._session.run(self._outputs, batched(stacked))
            residuals = unbatch(stacked, dict(zip(self._outputs, found, strict=True)))
            for job, stream in zip(jobs, streams, strict=True):
                job.stream.load_state(stream.state_in)
            return residuals
        stream, frame = jobs[0].stream, jobs[0].frame
        binding = self._session.io_binding()
        for name in FRAME_INPUTS:
            binding.bind_cpu_input(name, np.ascontiguousarray(frame[name])[None])
        for name, value in (stream.identity | stream.state_in).items():
            binding.bind_ortvalue_input(name, value)
        for name, value in stream.state_out.items():
            binding.bind_ortvalue_output(f"next_{name}", value)
        binding.bind_output("residual", "cpu")
        self._session.run_with_iobinding(binding)
        stream.current = 1 - stream.current
        residual = binding.get_outputs()[-1].numpy()  # in binding order
        return [np.array(residual[0], np.float32)]


class OrtStream:
    """Identity and two copies of the state, as onnxruntime values on its device."""

    def __init__(self, identity: Arrays, ports: Ports, device: str) -> None:
        self._ports, self._device = ports, device
        wanted = [name for name in ports if name in identity]
        self.identity = {name: self._value(np.asarray(identity[name], ports[name][1])) for name in wanted}
        self._states = [{name: self._value(np.zeros(*ports[name])) for name in state_names(ports)} for _ in range(2)]
        self.current = 0

    @property
    def state_in(self) -> dict[str, Any]:
        """The input state."""
        return self._states[self.current]

    @property
    def state_out(self) -> dict[str, Any]:
        """Values for the next state."""
        return self._states[1 - self.current]

    def reset(self) -> None:
        """See ``Stream``."""
        self.load_state({name: np.zeros(*self._ports[name]) for name in self.state_in})

    def state(self) -> Arrays:
        """See ``Stream``."""
        return {name: np.array(value.numpy()) for name, value in self.state_in.items()}

    def load_state(self, state: Arrays) -> None:
        """Replace the input state."""
        for name, value in state.items():
            self.state_in[name].update_inplace(np.ascontiguousarray(value))

    def on_host(self) -> HostStream:
        """A copy in host memory, for a batch."""
        stream = HostStream({name: value.numpy() for name, value in self.identity.items()}, self._ports)
        for name, value in self.state().items():
            stream.state_in[name][:] = value
        return stream

    def _value(self, value: npt.NDArray[Any]) -> Any:
        import onnxruntime

        # On the CPU the value shares the array's memory, so it needs a copy of its own.
        return onnxruntime.OrtValue.ortvalue_from_numpy(np.array(value, order="C"), self._device, 0)


def _name(path: Path, device: str) -> str:
    # The graphs are fp16; on a CPU onnxruntime computes them in fp32.
    precision = "int8" if ".int8." in path.name else "fp16" if device == "cuda" else "fp32"
    return f"onnxruntime {'cuda ' if device == 'cuda' else ''}{precision}"
