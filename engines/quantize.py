"""Quantise the tick network to int8: ``python -m engines.quantize WEIGHTS --packs runs/packs``.

Static quantisation (int8 weights a channel, uint8 activations) of the convolutions, calibrated on ticks recorded from
rolled-out windows of training clips. Writes ``tick.int8.onnx`` beside ``tick.onnx``.
"""

import argparse
import tempfile
from pathlib import Path

import numpy as np
from onnxruntime.quantization import CalibrationDataReader, CalibrationMethod, QuantFormat, QuantType, quantize_static
from onnxruntime.quantization.shape_inference import quant_pre_process

from avatar_stream.portrait.engine import PortraitEngine
from avatar_stream.portrait.portrait import prepare_tracked
from avatar_stream.portrait.window import Networks
from avatar_stream.runtime.network import Arrays, Network
from engines.data.packs import load_packs
from engines.export import store_as_half

CLIPS, TICKS, STRIDE = 12, 5, 9


class Recorder:
    """A network that remembers what it was given."""

    def __init__(self, network: Network) -> None:
        self.network = network
        self.name, self.shapes = network.name, network.shapes
        self.seen: list[Arrays] = []

    def run(self, inputs: Arrays) -> Arrays:
        """Run and remember."""
        self.seen.append({name: np.array(value) for name, value in inputs.items()})
        return self.network.run(inputs)


class Ticks(CalibrationDataReader):  # type: ignore[misc]
    """Recorded ticks, one after the other."""

    def __init__(self, ticks: list[Arrays]) -> None:
        self._ticks = iter(ticks)

    def get_next(self) -> Arrays | None:
        """The next tick's inputs, or None at the end."""
        return next(self._ticks, None)


def recorded_ticks(weights: Path, packs: Path) -> list[Arrays]:
    """Inputs of fp32 ticks on training clips, every window well past its start."""
    networks = Networks(folder=weights, precision="fp32")
    kept = []
    for clip in load_packs(packs, "train", "clip")[:CLIPS]:
        recorder = Recorder(networks.tick)
        networks.tick = recorder
        first = int(np.argmin(np.where(clip.good, clip.mouth, np.inf)))
        portrait = prepare_tracked(clip.picture(first), clip.landmarks[first], 512)
        engine = PortraitEngine(portrait, networks)
        usable = clip.good.nonzero()[0]
        order = usable[np.argsort(clip.mouth[usable])][:: max(1, len(usable) // 24)]  # from closed to wide open
        for k in order:
            engine(clip.landmarks[k] - np.array([*portrait.box[:2], 0], np.float32))
        kept += recorder.seen[3::STRIDE][:TICKS] + recorder.seen[-2:]
        networks.tick = recorder.network
    return kept


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("weights", type=Path)
    parser.add_argument("--packs", type=Path, required=True)
    arguments = parser.parse_args()
    ticks = recorded_ticks(arguments.weights, arguments.packs)
    out = arguments.weights / "tick.int8.onnx"
    with tempfile.TemporaryDirectory() as folder:
        prepared = Path(folder) / "prepared.onnx"
        quant_pre_process(str(arguments.weights / "tick.onnx"), str(prepared), skip_symbolic_shape=True)
        quantize_static(
            str(prepared),
            str(out),
            Ticks(ticks),
            quant_format=QuantFormat.QDQ,
            op_types_to_quantize=["Conv"],
            per_channel=True,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
            calibrate_method=CalibrationMethod.MinMax,
        )
    store_as_half(out)  # what stayed in fp32
    print(out, f"{out.stat().st_size / 1e6:.1f} MB, from {len(ticks)} ticks")


if __name__ == "__main__":
    main()
