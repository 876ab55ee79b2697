"""Export a checkpoint to ONNX: ``python -m engines.export runs/slide/last.pt avatar_stream/weights``.

``reference.onnx`` runs once per portrait. The tick graphs, one for each length of the window, run once per frame.
Their state is input and output, so that a runtime can bind the outputs of one tick as the inputs of the next.
"""

import argparse
import hashlib
from pathlib import Path

import numpy as np
import onnx
import onnx.checker
import onnx.helper
import onnx.numpy_helper
import torch
from onnxruntime.transformers.float16 import convert_float_to_float16
from torch import Tensor, nn

from avatar_stream.runtime.network import WEIGHTS_FILE, WINDOW_SLOTS, state_names, tick_path
from engines.checkpoint import load_model
from engines.networks.model import Model, add_noise

ONNX_OPSET = 17
REFERENCE_OUTPUTS = ["code", "sink", "modulation", "z_id"]


class ReferenceGraph(nn.Module):
    """``reference`` uint8 [B, 192, 192, 3] -> ``code``, ``sink``, ``modulation`` [B, N, m] of a window, ``z_id``."""

    def __init__(self, model: Model, slots: int) -> None:
        super().__init__()
        self.model = model
        self.register_buffer("levels", slot_levels(slots))

    def forward(self, reference: Tensor) -> tuple[Tensor, ...]:
        code, sink, z_id = self.model.encode_portrait(_pixels(reference))
        levels = self.levels.expand(reference.shape[0], -1)
        return code, sink, self.model.denoiser.modulations(levels, z_id), z_id


class TickGraph(nn.Module):
    """One tick of a window of ``N`` slots: a new frame enters as pure noise, the oldest leaves clean.

    Slot k, counted from the oldest, is denoised from level (k + 1) / N. Every frame starts from the same noise, so
    that frames differ by motion and not by noise (StreamDiffusion).
    """

    def __init__(self, model: Model, slots: int) -> None:
        super().__init__()
        self.model, self.slots = model, slots
        tier = model.tier
        generator = torch.Generator().manual_seed(1)
        shape = (1, 1, tier.latent, tier.grid, tier.grid)
        self.register_buffer("noise", torch.randn(shape, generator=generator))
        self.register_buffer("levels", slot_levels(slots))

    def forward(
        self,
        shown: Tensor,
        raster: Tensor,
        code: Tensor,
        sink: Tensor,
        modulation: Tensor,
        *state: Tensor,
    ) -> tuple[Tensor, ...]:
        """Shapes for a batch of ``B`` sessions.

        ``shown`` uint8 [B, 192, 192, 3]; ``raster`` uint8 [B, 7, 96, 96]; ``state``: if there are older slots, their
        ``latents`` [B, N-1, 108, 32, 32], ``conditioning`` [B, N-1, low, 32, 32] and ``guide`` [B, N-1, 19, 96, 96]
        (warp and landmarks for the decoder); then ``landmarks_*``, the state of the landmark encoder.
        Returns ``residual`` float [B, 192, 192, 3] of the oldest slot in steps of 1/255, and the next states.
        """
        model = self.model
        picture, drawn = _pixels(shown), raster.float() / 255
        landmarks, following = model.landmarks(drawn, list(state[-2:]))
        newest = model.conditioning(picture, landmarks, code)[:, None]
        noise = self.noise.expand(shown.shape[0], -1, -1, -1, -1)
        x, c, g = noise, newest, model.decoder.guide(picture, drawn)[:, None]
        if self.slots > 1:
            latents, conditioning, guide = state[:3]
            x, c, g = torch.cat([latents, x], 1), torch.cat([conditioning, c], 1), torch.cat([guide, g], 1)
        clean = model.denoiser.denoise(x, c, modulation, sink)
        residual = model.decoder.decode(clean[:, 0], g[:, 0]).permute(0, 2, 3, 1) * 127.5
        if self.slots == 1:
            return residual, *following
        lower = self.levels[:, :-1, None, None, None]
        return residual, add_noise(clean[:, 1:], noise, lower), c[:, 1:], g[:, 1:], *following


def slot_levels(slots: int) -> Tensor:
    """Noise levels ``[1, N]`` of a window's slots, the oldest first."""
    return (torch.arange(slots) + 1)[None] / slots


def _pixels(image: Tensor) -> Tensor:
    # Cast first: a cast is the only operation that TensorRT has for bytes.
    return image.float().permute(0, 3, 1, 2) / 127.5 - 1


def export(model: Model, folder: Path, *, half: bool = True) -> None:
    """Write the graphs of ``model`` into ``folder``, in fp16 or (to quantise from) in fp32.

    Writes ``reference.onnx`` and a tick graph for every number of slots in ``WINDOW_SLOTS``. The weights of fp16
    graphs go into one file beside them.
    """
    folder.mkdir(parents=True, exist_ok=True)
    paths = [folder / "reference.onnx", *(tick_path(folder, slots) for slots in WINDOW_SLOTS)]
    export_reference(model, paths[0])
    for slots, path in zip(WINDOW_SLOTS, paths[1:], strict=True):
        export_tick(model, path, slots)
    if half:
        for path in paths:
            convert_to_fp16(path)
        share_weights(paths)


def export_reference(model: Model, path: Path) -> None:
    """Export the reference graph with the modulation of the longest window; shorter windows use its last part."""
    tier = model.tier
    model = model.to(memory_format=torch.contiguous_format).eval()
    picture = torch.zeros(1, tier.size, tier.size, 3, dtype=torch.uint8)
    torch.onnx.export(
        ReferenceGraph(model, max(WINDOW_SLOTS)),
        (picture,),
        str(path),
        input_names=["reference"],
        output_names=REFERENCE_OUTPUTS,
        dynamic_axes={name: {0: "sessions"} for name in ("reference", *REFERENCE_OUTPUTS)},
        opset_version=ONNX_OPSET,
        dynamo=False,
    )


def export_tick(model: Model, path: Path, slots: int) -> None:
    """Export the tick graph of a window of ``slots``."""
    model = model.to(memory_format=torch.contiguous_format).eval()
    tier = model.tier
    grid, state = tier.grid, model.landmarks.state_channels
    picture = torch.zeros(1, tier.size, tier.size, 3, dtype=torch.uint8)
    inputs = {
        "shown": picture,
        "raster": torch.zeros(1, tier.raster, tier.size // 2, tier.size // 2, dtype=torch.uint8),
        "code": torch.zeros(1, tier.reference, grid, grid),
        "sink": torch.zeros(1, (grid // 4) ** 2, tier.widths[2]),
        "modulation": model.denoiser.modulations(slot_levels(slots), torch.zeros(1, tier.identity)).detach(),
        "latents": torch.zeros(1, slots - 1, tier.latent, grid, grid),
        "conditioning": torch.zeros(1, slots - 1, tier.widths[0], grid, grid),
        "guide": torch.zeros(1, slots - 1, 12 + tier.raster, tier.size // 2, tier.size // 2),
        "landmarks_0": torch.zeros(1, state[0], grid, grid),
        "landmarks_1": torch.zeros(1, state[1], grid, grid),
    }
    if slots == 1:
        inputs = {name: value for name, value in inputs.items() if value.numel()}
    outputs = ["residual"] + [f"next_{name}" for name in state_names(inputs)]
    torch.onnx.export(
        TickGraph(model, slots),
        tuple(inputs.values()),
        str(path),
        input_names=list(inputs),
        output_names=outputs,
        dynamic_axes={name: {0: "sessions"} for name in (*inputs, *outputs)},
        opset_version=ONNX_OPSET,
        dynamo=False,
    )


def convert_to_fp16(path: Path) -> None:
    """Convert a graph with its state to fp16; the residual and ``z_id`` stay fp32.

    TensorRT computes in the types of the graph. CPU runtimes choose their own types for such a graph, without loss of
    speed.
    """
    graph = onnx.load(str(path))
    exact = [port.name for port in graph.graph.output if port.name in ("residual", "z_id")]
    model = convert_float_to_float16(graph, keep_io_types=exact, disable_shape_infer=True)
    onnx.checker.check_model(model)
    onnx.save(model, str(path))


def store_weights_as_fp16(path: Path) -> None:
    """Store the large weights of an fp32 graph as fp16, with a cast before their use."""
    model = onnx.load(str(path))
    casts = []
    for weight in model.graph.initializer:
        if weight.data_type == onnx.TensorProto.FLOAT and np.prod(weight.dims) > 1024:
            value = onnx.numpy_helper.to_array(weight).astype(np.float16)
            name = weight.name
            weight.CopyFrom(onnx.numpy_helper.from_array(value, f"{name}_half"))
            casts.append(onnx.helper.make_node("Cast", [f"{name}_half"], [name], to=onnx.TensorProto.FLOAT))
    for cast in reversed(casts):
        model.graph.node.insert(0, cast)
    onnx.checker.check_model(model)
    onnx.save(model, str(path))


def share_weights(paths: list[Path]) -> None:
    """Move the weights of several graphs in one folder into one file beside them; equal weights are stored once."""
    kept: dict[bytes, tuple[int, int]] = {}
    blob = bytearray()
    for path in paths:
        model = onnx.load(str(path))
        for weight in model.graph.initializer:
            raw = onnx.numpy_helper.to_array(weight).tobytes()
            if len(raw) < 1024:
                continue
            digest = hashlib.sha256(raw).digest()
            if digest not in kept:
                blob += bytes(-len(blob) % 64)
                kept[digest] = (len(blob), len(raw))
                blob += raw
            for field in ("raw_data", "float_data", "int32_data", "int64_data"):
                weight.ClearField(field)
            weight.data_location = onnx.TensorProto.EXTERNAL
            del weight.external_data[:]
            offset, length = kept[digest]
            for key, value in (("location", WEIGHTS_FILE), ("offset", str(offset)), ("length", str(length))):
                weight.external_data.add(key=key, value=value)
        path.write_bytes(model.SerializeToString())
    (paths[0].parent / WEIGHTS_FILE).write_bytes(blob)


def main(given: list[str] | None = None) -> None:
    """Export a checkpoint."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("folder", type=Path)
    arguments = parser.parse_args(given)
    export(load_model(arguments.checkpoint), arguments.folder)
    for path in sorted(arguments.folder.iterdir()):
        print(path, f"{path.stat().st_size / 1e6:.1f} MB")


if __name__ == "__main__":
    main()
