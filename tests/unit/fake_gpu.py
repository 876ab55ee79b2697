"""A simulated GPU in host memory: enough of CUDA and TensorRT to run the TensorRT module through onnxruntime."""

import ctypes
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import onnxruntime

from avatar_stream.runtime.onnx_runtime import NUMPY_TYPES


class FakeCuda:
    """Device memory is host memory; work enqueued during a graph's capture runs when the graph is launched."""

    cudaMemcpyKind = SimpleNamespace(
        cudaMemcpyHostToDevice="in", cudaMemcpyDeviceToHost="out", cudaMemcpyDeviceToDevice="within"
    )
    cudaStreamCaptureMode = SimpleNamespace(cudaStreamCaptureModeThreadLocal=1)

    def __init__(self) -> None:
        self.memory: dict[int, Any] = {}
        self.captured: list[Callable[[], object]] | None = None
        self.launches = 0

    def cudaMalloc(self, size: int) -> tuple[int, int]:
        block = (ctypes.c_uint8 * size)()
        address = ctypes.addressof(block)
        self.memory[address] = block
        return 0, address

    cudaMallocHost = cudaMalloc

    def cudaFree(self, address: int) -> tuple[int]:
        del self.memory[address]
        return (0,)

    cudaFreeHost = cudaFree

    def cudaMemset(self, address: int, value: int, size: int) -> tuple[int]:
        ctypes.memset(address, value, size)
        return (0,)

    def enqueue(self, work: Callable[[], object]) -> None:
        if self.captured is None:
            work()
        else:
            self.captured.append(work)

    def cudaMemcpyAsync(self, target: int, source: int, size: int, kind: str, stream: int) -> tuple[int]:
        self.enqueue(lambda: ctypes.memmove(target, source, size))
        return (0,)

    def cudaStreamCreate(self) -> tuple[int, int]:
        return 0, 7

    def cudaStreamSynchronize(self, stream: int) -> tuple[int]:
        assert self.captured is None, "a stream must not be synchronised while it is captured"
        return (0,)

    def cudaStreamBeginCapture(self, stream: int, mode: int) -> tuple[int]:
        self.captured = []
        return (0,)

    def cudaStreamEndCapture(self, stream: int) -> tuple[int, list[Callable[[], object]]]:
        graph, self.captured = self.captured, None
        assert graph is not None
        return 0, graph

    def cudaGraphInstantiate(self, graph: Any, flags: int) -> tuple[int, Any]:
        return 0, graph

    def cudaGraphLaunch(self, graph: list[Callable[[], object]], stream: int) -> tuple[int]:
        self.launches += 1
        for work in graph:
            work()
        return (0,)


class FakeTensorRt:
    """Plans are ONNX files, which onnxruntime executes on the given addresses."""

    __name__ = "tensorrt_fake"

    class ILogger:
        class Severity:
            ERROR = 1

    def __init__(self, network: Path, cuda: FakeCuda) -> None:
        self._session = onnxruntime.InferenceSession(str(network))
        self._cuda = cuda

    def nptype(self, dtype: Any) -> Any:
        return dtype

    def Runtime(self, logger: Any) -> Any:
        return SimpleNamespace(deserialize_cuda_engine=lambda plan: self._engine() if plan else None)

    def _engine(self) -> Any:
        inputs, outputs = self._session.get_inputs(), self._session.get_outputs()
        ports = {node.name: node for node in [*inputs, *outputs]}
        shapes = {name: (-1, *node.shape[1:]) for name, node in ports.items()}
        given = {node.name: shapes[node.name] for node in inputs}
        shapes |= {f"next_{name}": shape for name, shape in given.items() if f"next_{name}" in ports}
        shapes["residual"] = given["shown"]
        names = list(ports)
        types = {name: NUMPY_TYPES[node.type] for name, node in ports.items()}

        def context() -> Any:
            sizes: dict[str, tuple[int, ...]] = {}
            addresses: dict[str, int] = {}

            def execute(stream: int) -> bool:
                bound = dict(addresses)

                def work() -> None:
                    def view(name: str) -> Any:
                        shape = (sizes["shown"][0], *shapes[name][1:])
                        size = int(np.prod(shape)) * np.dtype(types[name]).itemsize
                        block = (ctypes.c_uint8 * size).from_address(bound[name])
                        return np.ctypeslib.as_array(block).view(types[name]).reshape(shape)

                    found = self._session.run(None, {node.name: view(node.name) for node in inputs})
                    for node, value in zip(outputs, found, strict=True):
                        view(node.name)[:] = value

                self._cuda.enqueue(work)
                return True

            return SimpleNamespace(
                set_input_shape=sizes.__setitem__,
                set_tensor_address=addresses.__setitem__,
                execute_async_v3=execute,
            )

        return SimpleNamespace(
            num_io_tensors=len(names),
            get_tensor_name=names.__getitem__,
            get_tensor_shape=shapes.__getitem__,
            get_tensor_dtype=types.__getitem__,
            create_execution_context=context,
        )
