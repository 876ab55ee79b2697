"""Where networks execute: one small protocol, and OpenVINO, onnxruntime and TensorRT behind it.

Owns devices, batching and compiled engines. Arrays go in and come out: what they mean is unknown here.
"""

import sys

# OpenVINO tells Google Analytics of every import, from a process that it forks beside running threads: nothing may
# leave this machine unasked, and such a fork can hang and hold up whoever waits for its parent's pipes. Without this
# package OpenVINO uses a stub.
sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]
