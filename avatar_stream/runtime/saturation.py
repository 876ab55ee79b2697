"""Weights of 8 bits made to fit processors that add products of 8 bits in 16: all of x86 without VNNI.

``vpmaddubsw`` multiplies unsigned bytes (activations) with signed ones (weights) and adds two neighbouring products
in a signed 16-bit number, which saturates: 255 * 127 twice is 64,770, and 32,767 is what comes out. With weights from
-64 to 64 the largest sum is 255 * 128 = 32,640. OpenVINO's and onnxruntime's documents call this reduced range.
"""

import hashlib
from functools import cache
from pathlib import Path
from typing import Any, Final

import numpy as np

MAX_WEIGHT: Final = 64
"""The largest weight of which two, each times 255, fit a signed 16-bit number."""


def reduce_weights(model: Any) -> int:
    """Halve the 8-bit weights of an OpenVINO model that could saturate, and double their scale; how many there were.

    Done on every processor, so that a network draws the same on all of them. It costs the shipped network 0.3 dB of
    47 where nothing saturates, and gains it 7 where sums do.
    """
    from openvino import opset13

    changed = 0
    for node in model.get_ordered_ops():
        multiply = _scale_of(node)
        if multiply is None:
            continue
        weights = node.data
        if np.abs(weights.astype(np.int16)).max(initial=0) <= MAX_WEIGHT:
            continue
        # A half is rounded to the even number: rounding up each time would shift all weights one way.
        halved = opset13.constant(np.rint(weights / 2).astype(np.int8))
        (first,) = node.output(0).get_target_inputs()
        first.replace_source_output(halved.output(0))
        scale = multiply.input(1).get_source_output()
        two = opset13.constant(np.array(2, scale.get_element_type().to_dtype()))
        multiply.input(1).replace_source_output(opset13.multiply(scale, two).output(0))
        changed += 1
    return changed


def _scale_of(node: Any) -> Any:
    """The multiplication that scales ``node``, where that is a constant of weights with zero point 0; else None."""
    if node.get_type_name() != "Constant" or node.get_output_element_type(0).get_type_name() != "i8":
        return None
    if len(node.shape) < 2:
        return None
    kinds = {"Convert", "Subtract", "Multiply"}
    while node.get_type_name() != "Multiply":
        users = list(node.output(0).get_target_inputs())
        if len(users) != 1 or users[0].get_node().get_type_name() not in kinds or users[0].get_index() != 0:
            return None
        node = users[0].get_node()
        if node.get_type_name() == "Subtract" and not _is_zero(node.input(1).get_source_output().get_node()):
            return None
    return node


def _is_zero(node: Any) -> bool:
    """Every constant that ``node`` is made from, its shape aside, is 0."""
    while node.get_type_name() in ("Reshape", "Convert", "Unsqueeze"):
        node = node.input(0).get_source_output().get_node()
    return node.get_type_name() == "Constant" and not np.any(node.data)


@cache
def reduction_hash() -> str:
    """Another one where this module reduces weights in another way."""
    return hashlib.sha256(Path(__file__).read_bytes()).hexdigest()[:12]
