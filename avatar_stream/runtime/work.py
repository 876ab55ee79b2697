"""The arithmetic work of a network, and the arithmetic throughput of this machine."""

import time
from pathlib import Path
from typing import Any

import numpy as np

from avatar_stream.runtime.openvino_cpu import openvino_core, read_model


def multiply_adds(path: Path) -> int:
    """Number of multiply-adds in one run of an ONNX network: its convolutions and matrix products."""
    total = 0
    for node in read_model(path).get_ordered_ops():
        kind = node.get_type_name()
        if kind in ("Convolution", "GroupConvolution"):
            weights = node.input(1).get_shape()
            skip = 2 if kind == "GroupConvolution" else 1
            total += int(np.prod(node.output(0).get_shape())) * int(np.prod(weights[skip:]))
        elif kind == "MatMul":
            inner = node.input(0).get_shape()[-2 if node.get_attributes()["transpose_a"] else -1]
            total += int(np.prod(node.output(0).get_shape())) * int(inner)
    return total


class MatrixProduct:
    """A matrix product on OpenVINO, in the precision of ``engine``, to measure this machine's peak throughput."""

    def __init__(self, threads: int, engine: str, side: int = 1536) -> None:
        from openvino import Model, Type, opset13

        first = opset13.parameter([side, side], Type.f32)
        left: Any = first
        right: Any = opset13.constant(np.random.default_rng(0).uniform(-1, 1, (side, side)).astype(np.float32))
        if engine.endswith("int8"):
            low, high = np.float32(-1), np.float32(1)
            left = opset13.fake_quantize(left, np.float32(0), high, np.float32(0), high, 256)
            right = opset13.fake_quantize(right, low, high, low, high, 255)
        model = Model([opset13.matmul(left, right, False, False)], [first])
        settings: dict[str, Any] = {
            "INFERENCE_PRECISION_HINT": "bf16" if engine.endswith("bf16") else "f32",
            "INFERENCE_NUM_THREADS": threads,
            "PERFORMANCE_HINT": "LATENCY",
        }
        self._request = openvino_core().compile_model(model, "CPU", settings).create_infer_request()
        self._values = [np.zeros((side, side), np.float32)]
        self._operations = 2 * side**3
        self._request.infer(self._values)

    def rate(self) -> float:
        """Run one product; returns operations per second."""
        began = time.perf_counter()
        self._request.infer(self._values)
        return self._operations / (time.perf_counter() - began)
