"""TensorRT on an NVIDIA GPU. State stays on the device, frames use pinned memory, and a tick is one CUDA graph."""

import ctypes
import importlib
import weakref
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from avatar_stream.errors import EngineUnavailable
from avatar_stream.runtime.network import FRAME_INPUTS, Arrays, Job, state_names
from avatar_stream.runtime.tensorrt_build import BATCH_SIZES, check_cuda, first_line, logger_of, tensorrt_module


class TensorRtTicker:
    """See :class:`avatar_stream.runtime.network.Ticker`.

    For a single session, its two copies of the state are bound directly and alternate. For several, states are
    gathered and scattered on the device. One CUDA graph copies frames in, runs the network, and copies residuals out.
    """

    def __init__(
        self, plan: bytes, batches: tuple[int, ...] = BATCH_SIZES, *, trt: Any = None, cuda: Any = None
    ) -> None:
        """``trt`` and ``cuda`` replace TensorRT and ``cuda.bindings.runtime`` in tests."""
        self._trt = trt or tensorrt_module()
        self.cuda = cuda or importlib.import_module("cuda.bindings.runtime")
        self._messages: list[str] = []
        self._runtime = self._trt.Runtime(logger_of(self._trt, self._messages))
        self._engine = self._runtime.deserialize_cuda_engine(plan)
        if self._engine is None:
            raise EngineUnavailable(f"TensorRT cannot load the plan: {first_line(self._messages)}")
        self.name = f"{self._trt.__name__} fp16"
        self.batches = batches
        engine = self._engine
        names = [engine.get_tensor_name(k) for k in range(engine.num_io_tensors)]
        self.shapes = {name: tuple(engine.get_tensor_shape(name))[1:] for name in names}
        self.types = {name: np.dtype(self._trt.nptype(engine.get_tensor_dtype(name))) for name in names}
        self.state_names = state_names(names)
        fresh = (*FRAME_INPUTS, *self.state_names, "residual")
        self.identity_names = [n for n in names if n not in fresh and not n.startswith("next_")]
        self.slots = self.shapes["modulation"][0]
        self.cuda_stream = check_cuda(self.cuda.cudaStreamCreate())
        self._contexts: dict[int, Any] = {}
        self._shared_runs: dict[int, _CapturedRun] = {}

    def open(self, identity: Arrays) -> "DeviceStream":
        """See ``Ticker``."""
        stream = DeviceStream(self)
        for name in self.identity_names:
            value = np.ascontiguousarray(identity[name], self.types[name])
            self.copy(stream.identity[name].address, value.ctypes.data, value.nbytes, "HostToDevice")
            self.synchronize()  # the source array is freed after this iteration
        return stream

    def run(self, jobs: Sequence[Job]) -> list[npt.NDArray[np.float32]]:
        """See ``Ticker``."""
        count = len(jobs)
        if count == 1:
            stream = jobs[0].stream
            run = stream.runs[stream.current] or _CapturedRun(
                self, 1, stream.identity, stream.states[stream.current], stream.states[1 - stream.current]
            )
            stream.runs[stream.current] = run
            stream.current = 1 - stream.current
        else:
            if count not in self._shared_runs:
                made = [
                    self.buffers(names, count) for names in (self.identity_names, self.state_names, self.state_names)
                ]
                self._shared_runs[count] = _CapturedRun(self, count, *made)
            run = self._shared_runs[count]
            self._copy_states(jobs, run, gather=True)
        for k, job in enumerate(jobs):
            for name in FRAME_INPUTS:
                run.frames[name][k] = job.frame[name]
        run.launch()
        if count > 1:
            self._copy_states(jobs, run, gather=False)
        self.synchronize()
        return [np.array(residual, np.float32) for residual in run.residual]

    def buffers(self, names: Sequence[str], count: int) -> "dict[str, _Buffer]":
        """Allocate zeroed device memory for the named tensors of ``count`` sessions."""
        return {name: _Buffer(self.cuda, count * self.size(name)) for name in names}

    def size(self, name: str) -> int:
        """Bytes of one session's tensor."""
        return int(np.prod(self.shapes[name])) * self.types[name].itemsize

    def synchronize(self) -> None:
        """Wait for the device."""
        check_cuda(self.cuda.cudaStreamSynchronize(self.cuda_stream))

    def _copy_states(self, jobs: Sequence[Job], run: "_CapturedRun", gather: bool) -> None:
        for k, job in enumerate(jobs):
            stream = job.stream
            state = stream.states[stream.current]
            shared_state = run.state_in if gather else run.state_out
            pairs = [(state[name], shared_state[name], self.size(name)) for name in self.state_names]
            if gather:
                pairs += [
                    (stream.identity[name], run.identity[name], self.size(name)) for name in self.identity_names
                ]
            for own, shared, size in pairs:
                addresses = (shared.address + k * size, own.address)
                target, source = addresses if gather else addresses[::-1]
                self.copy(target, source, size, "DeviceToDevice")

    def copy(self, target: int, source: int, size: int, kind: str) -> None:
        direction = getattr(self.cuda.cudaMemcpyKind, f"cudaMemcpy{kind}")
        check_cuda(self.cuda.cudaMemcpyAsync(target, source, size, direction, self.cuda_stream))

    def context(self, count: int) -> Any:
        """The execution context for ``count`` sessions."""
        if count not in self._contexts:
            context = self._engine.create_execution_context()
            for name in (*FRAME_INPUTS, *self.identity_names, *self.state_names):
                context.set_input_shape(name, (count, *self.shapes[name]))
            self._contexts[count] = context
        return self._contexts[count]


class _Buffer:
    """Zeroed device memory that is freed with this object."""

    def __init__(self, cuda: Any, size: int) -> None:
        self.address = int(check_cuda(cuda.cudaMalloc(size)))
        self.size = size
        check_cuda(cuda.cudaMemset(self.address, 0, size))
        weakref.finalize(self, cuda.cudaFree, self.address)


class DeviceStream:
    """One identity and two copies of the state on the device. See :class:`avatar_stream.runtime.network.Stream`."""

    def __init__(self, ticker: TensorRtTicker) -> None:
        self._ticker = ticker
        self.identity = ticker.buffers(ticker.identity_names, 1)
        self.states = [ticker.buffers(ticker.state_names, 1) for _ in range(2)]
        self.runs: list[_CapturedRun | None] = [None, None]
        self.current = 0

    def reset(self) -> None:
        """See ``Stream``."""
        for buffer in self.states[self.current].values():
            check_cuda(self._ticker.cuda.cudaMemset(buffer.address, 0, buffer.size))

    def state(self) -> Arrays:
        """See ``Stream``."""
        out: Arrays = {}
        for name, buffer in self.states[self.current].items():
            value = np.empty((1, *self._ticker.shapes[name]), self._ticker.types[name])
            self._ticker.copy(value.ctypes.data, buffer.address, buffer.size, "DeviceToHost")
            self._ticker.synchronize()
            out[name] = value
        return out


class _CapturedRun:
    """A run for ``count`` sessions with fixed memory, captured as a CUDA graph at its first launch."""

    def __init__(
        self,
        ticker: TensorRtTicker,
        count: int,
        identity: dict[str, _Buffer],
        state_in: dict[str, _Buffer],
        state_out: dict[str, _Buffer],
    ) -> None:
        self._ticker, self._count = ticker, count
        self.identity, self.state_in, self.state_out = identity, state_in, state_out
        self._device = ticker.buffers((*FRAME_INPUTS, "residual"), count)
        self.frames = {name: self._pinned(name) for name in FRAME_INPUTS}
        self.residual = self._pinned("residual")
        self._graph: Any = None

    def launch(self) -> None:
        """Copy frames to the device, run the network, copy the residuals back; returns before that is done."""
        ticker = self._ticker
        if self._graph is None:
            self._enqueue()  # TensorRT loads its kernels in a first run outside the capture
            ticker.synchronize()
            mode = ticker.cuda.cudaStreamCaptureMode.cudaStreamCaptureModeThreadLocal
            check_cuda(ticker.cuda.cudaStreamBeginCapture(ticker.cuda_stream, mode))
            self._enqueue()
            self._graph = check_cuda(
                ticker.cuda.cudaGraphInstantiate(check_cuda(ticker.cuda.cudaStreamEndCapture(ticker.cuda_stream)), 0)
            )
            return
        check_cuda(ticker.cuda.cudaGraphLaunch(self._graph, ticker.cuda_stream))

    def _enqueue(self) -> None:
        ticker = self._ticker
        context = ticker.context(self._count)
        bound = (
            self._device | self.identity | self.state_in | {f"next_{name}": b for name, b in self.state_out.items()}
        )
        for name, buffer in bound.items():
            context.set_tensor_address(name, buffer.address)
        for name, value in self.frames.items():
            ticker.copy(self._device[name].address, value.ctypes.data, value.nbytes, "HostToDevice")
        if not context.execute_async_v3(int(ticker.cuda_stream)):
            raise EngineUnavailable("TensorRT failed to run the plan")
        source = self._device["residual"]
        ticker.copy(self.residual.ctypes.data, source.address, self.residual.nbytes, "DeviceToHost")

    def _pinned(self, name: str) -> npt.NDArray[Any]:
        """A page-locked host array, which the device can copy from and to asynchronously."""
        cuda, dtype = self._ticker.cuda, self._ticker.types[name]
        size = self._count * self._ticker.size(name)
        address = int(check_cuda(cuda.cudaMallocHost(size)))
        array = np.ctypeslib.as_array((ctypes.c_uint8 * size).from_address(address)).view(dtype)
        weakref.finalize(self, cuda.cudaFreeHost, address)
        return array.reshape(self._count, *self._ticker.shapes[name])
