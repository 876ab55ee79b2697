"""Executes networks: one small protocol, implemented with OpenVINO, onnxruntime and TensorRT.

Owns devices, batching and compiled networks. It takes and returns arrays, and does not know what they mean.
"""

import sys

# OpenVINO reports every import to Google Analytics, from a process that it forks while threads run. Nothing may leave
# this machine unasked, and such a fork can hang and block a process that reads its parent's pipes. Without this
# package OpenVINO uses a stub.
sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]
