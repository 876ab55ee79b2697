"""Where networks execute: one small protocol, and OpenVINO, onnxruntime and TensorRT behind it.

Owns devices, batching and compiled engines. Arrays go in and come out: what they mean is unknown here.
"""
