"""Quantise the tick network to int8: ``python -m engines.quantize CHECKPOINT WEIGHTS --packs runs/packs``.

Quantises the convolutions statically (7-bit weights per channel, uint8 activations), calibrated on ticks recorded
from running windows on training clips. Writes an int8 graph beside each tick graph.
"""

import argparse
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
from onnxruntime.quantization import CalibrationDataReader, CalibrationMethod, QuantFormat, QuantType, quantize_static
from onnxruntime.quantization.shape_inference import quant_pre_process

from avatar_stream.face.mouth_view import read_mouth
from avatar_stream.portrait.portrait import prepare_tracked
from avatar_stream.portrait.renderer import PortraitRenderer
from avatar_stream.runtime.network import WINDOW_SLOTS, Arrays, HostStream, Job, batched, tick_path
from avatar_stream.runtime.networks import Networks
from avatar_stream.runtime.openvino_cpu import OpenVinoNetwork, OpenVinoTicker
from engines.checkpoint import load_model
from engines.data.packs import load_packs
from engines.export import export, share_weights, store_weights_as_fp16

CLIP_COUNT, TICKS_PER_CLIP, TICK_STRIDE = 12, 5, 9


class RecordingTicker:
    """A ticker that records the inputs of its runs."""

    def __init__(self, ticker: OpenVinoTicker) -> None:
        self._ticker = ticker
        self.name, self.slots, self.batches = ticker.name, ticker.slots, ticker.batches
        self.recorded: list[Arrays] = []

    def open(self, identity: Arrays) -> HostStream:
        """See ``Ticker``."""
        return self._ticker.open(identity)

    def run(self, jobs: Sequence[Job]) -> list[npt.NDArray[np.float32]]:
        """Record the inputs and run."""
        self.recorded.append(batched(jobs))
        return self._ticker.run(jobs)


class TickReader(CalibrationDataReader):  # type: ignore[misc]
    """Feeds recorded ticks to the calibration."""

    def __init__(self, ticks: list[Arrays]) -> None:
        self._ticks = iter(ticks)

    def get_next(self) -> Arrays | None:
        """The next tick's inputs, or None at the end."""
        return next(self._ticks, None)


def recorded_ticks(weights: Path, packs: Path, slots: int) -> list[Arrays]:
    """Inputs of fp32 ticks on training clips, without the start of each window."""
    reference = OpenVinoNetwork(weights / "reference.onnx", 2, full_precision=True)
    ticker = OpenVinoTicker(tick_path(weights, slots), 2, full_precision=True)
    kept = []
    for clip in load_packs(packs, "train", "clip")[:CLIP_COUNT]:
        recorder = RecordingTicker(ticker)
        first = int(np.argmin(np.where(clip.has_face, clip.mouth, np.inf)))
        portrait = prepare_tracked(clip.picture(first), clip.landmarks[first], 512)
        renderer = PortraitRenderer(portrait, Networks.of(reference, {slots: recorder}))
        usable = clip.has_face.nonzero()[0]
        order = usable[np.argsort(clip.mouth[usable])][:: max(1, len(usable) // 24)]  # from closed to wide open
        for k in order:
            face = clip.landmarks[k]
            view = read_mouth(clip.picture(int(k)), face)
            renderer(face - np.array([*portrait.box[:2], 0], np.float32), view=view)
        kept += recorder.recorded[3::TICK_STRIDE][:TICKS_PER_CLIP] + recorder.recorded[-2:]
    return kept


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("weights", type=Path)
    parser.add_argument("--packs", type=Path, required=True)
    arguments = parser.parse_args()
    outs = [tick_path(arguments.weights, slots, "int8") for slots in WINDOW_SLOTS]
    with tempfile.TemporaryDirectory() as folder:
        exact, prepared = Path(folder), Path(folder) / "prepared.onnx"
        export(load_model(arguments.checkpoint), exact, half=False)
        for slots, out in zip(WINDOW_SLOTS, outs, strict=True):
            quant_pre_process(str(tick_path(exact, slots)), str(prepared), skip_symbolic_shape=True)
            quantize_static(
                str(prepared),
                str(out),
                TickReader(recorded_ticks(exact, arguments.packs, slots)),
                quant_format=QuantFormat.QDQ,
                op_types_to_quantize=["Conv"],
                per_channel=True,
                activation_type=QuantType.QUInt8,
                weight_type=QuantType.QInt8,
                reduce_range=True,  # of weights: see avatar_stream.runtime.saturation
                calibrate_method=CalibrationMethod.MinMax,
            )
            store_weights_as_fp16(out)  # for the weights that stayed in fp32
    graphs = [path for path in arguments.weights.glob("*.onnx") if path not in outs]
    share_weights([*graphs, *outs])
    for path in sorted(arguments.weights.iterdir()):
        print(path, f"{path.stat().st_size / 1e6:.2f} MB")


if __name__ == "__main__":
    main()
